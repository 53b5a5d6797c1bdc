// SPDX-License-Identifier: GPL-2.0

//! Finds the kernel's files.

fn main() {
    source::compiler_cfgs();
    source::Root::of_linux("rust/macros/lib.rs")
        // `lib.rs` has its own.
        .replace("pub fn kunit_tests(", "pub fn kernel_kunit_tests(")
        .write();
}
