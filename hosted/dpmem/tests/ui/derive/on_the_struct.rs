// SPDX-License-Identifier: GPL-2.0

//! The attribute belongs to a field.

use dpmem::{BitmapOffsets, DevPagemapOps};

#[derive(DevPagemapOps)]
#[engine]
struct Vram {
    #[offsets]
    offsets: BitmapOffsets,
}

fn main() {}
