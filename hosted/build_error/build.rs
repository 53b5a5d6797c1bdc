// SPDX-License-Identifier: GPL-2.0

//! Finds the kernel's file.

fn main() {
    source::Root::of_linux("rust/build_error.rs").write();
}
