// SPDX-License-Identifier: GPL-2.0

//! Finds the kernel's file.

fn main() {
    source::compiler_cfgs();
    source::cfg("kernel");
    source::Root::of_linux("rust/pin-init/src/lib.rs").write();
}
