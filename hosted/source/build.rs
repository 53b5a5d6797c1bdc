// SPDX-License-Identifier: GPL-2.0

//! Looks for the source of the kernel before anything that needs it is built, so that it is missed
//! once, and not by each crate.

#[path = "src/lib.rs"]
#[expect(dead_code)]
mod source;

fn main() {
    source::linux();
}
