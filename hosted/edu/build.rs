// SPDX-License-Identifier: GPL-2.0

//! Says what `samples/edu/src/Makefile` says, if the kernel is one that the sample is for.

use std::path::Path;

fn main() {
    source::no_cfg("MODULE");
    source::no_cfg("CONFIG_HAVE_ARCH_PREL32_RELOCATIONS");
    source::pci_cfg();
    println!("cargo::rustc-env=RUST_MODFILE=samples/rust/edu/edu");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples/edu/src/edu.rs");
    source::Root::at(&root).write();
}
