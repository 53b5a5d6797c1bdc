// SPDX-License-Identifier: GPL-2.0

//! Says what `drivers/nouveau-rs/src/Kbuild` says.

use std::path::Path;

fn main() {
    source::no_cfg("MODULE");
    println!("cargo::rustc-env=RUST_MODFILE=drivers/gpu/drm/nouveau/nouveau");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../drivers/nouveau-rs/src/nouveau_dmem_rust.rs");
    source::Root::at(&root).write();
}
