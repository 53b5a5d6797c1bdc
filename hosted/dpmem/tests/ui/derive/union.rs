// SPDX-License-Identifier: GPL-2.0

//! The fields of a union are not there together.

use dpmem::DevPagemapOps;

#[derive(DevPagemapOps)]
union Vram {
    offsets: u32,
    engine: u32,
}

fn main() {}
