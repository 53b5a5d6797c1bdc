// SPDX-License-Identifier: GPL-2.0

//! Only a struct has fields that are always there.

use dpmem::DevPagemapOps;

#[derive(DevPagemapOps)]
enum Vram {
    Small,
    Large,
}

fn main() {}
