// SPDX-License-Identifier: GPL-2.0

//! Says what `samples/dmirror/src/Makefile` says.

use std::path::Path;

fn main() {
    source::no_cfg("MODULE");
    source::no_cfg("CONFIG_HAVE_ARCH_PREL32_RELOCATIONS");
    println!("cargo::rustc-env=RUST_MODFILE=samples/rust/dmirror/dmirror");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples/dmirror/src/dmirror.rs");
    source::Root::at(&root).write();
}
