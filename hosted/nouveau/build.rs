// SPDX-License-Identifier: GPL-2.0

//! Says what `drivers/nouveau-rs/src/Kbuild` says.

fn main() {
    source::no_cfg("MODULE");
    println!("cargo::rustc-env=RUST_MODFILE=drivers/gpu/drm/nouveau/nouveau");
}
