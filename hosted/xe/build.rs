// SPDX-License-Identifier: GPL-2.0

//! Says what `drivers/xe-glue/src/Kbuild` says.

use std::path::Path;

fn main() {
    source::no_cfg("MODULE");
    println!("cargo::rustc-env=RUST_MODFILE=drivers/gpu/drm/xe/xe");
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../drivers/xe-glue/src/xe_pagemap_rust.rs");
    source::Root::at(&root).write();
}
