// SPDX-License-Identifier: GPL-2.0

//! Nothing moves the bytes.

use dpmem::{BitmapOffsets, DevPagemapOps};

#[derive(DevPagemapOps)]
struct Vram {
    #[offsets]
    offsets: BitmapOffsets,
}

fn main() {}
