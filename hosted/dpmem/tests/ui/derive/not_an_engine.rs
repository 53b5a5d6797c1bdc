// SPDX-License-Identifier: GPL-2.0

//! What is marked as the engine is none.

use dpmem::{BitmapOffsets, DevPagemapOps};

struct Ring;

#[derive(DevPagemapOps)]
struct Vram {
    #[offsets]
    offsets: BitmapOffsets,
    #[engine]
    ring: Ring,
}

fn main() {}
