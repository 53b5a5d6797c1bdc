// SPDX-License-Identifier: GPL-2.0

//! Says what `linux/kbuild/Kbuild.rust` says.

fn main() {
    source::cfg("CONFIG_RUST");
    source::cfg("CONFIG_RUST_DPMEM_KUNIT_TEST");
    source::backend_cfg();
}
