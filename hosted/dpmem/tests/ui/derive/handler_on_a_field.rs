// SPDX-License-Identifier: GPL-2.0

//! The attribute belongs to the struct: here it would be forgotten.

use dpmem::{BitmapOffsets, DevPagemapOps};

#[derive(DevPagemapOps)]
struct Vram {
    #[migrate_to_ram(Self::fault)]
    #[offsets]
    offsets: BitmapOffsets,
}

fn main() {}
