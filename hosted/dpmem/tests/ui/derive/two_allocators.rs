// SPDX-License-Identifier: GPL-2.0

//! There are two allocators, and nobody says which one hands out.

use dpmem::{Batch, BitmapOffsets, CopyEngine, DevPagemapOps};
use kernel::prelude::*;

struct Ring;

impl CopyEngine for Ring {
    type Fence<'a> = ();
    type Data = ();

    fn submit<'a>(&'a self, batch: &mut Batch<'a, Self>) -> Result {
        batch.for_each(drop);
        Ok(())
    }
}

#[derive(DevPagemapOps)]
struct Vram {
    #[offsets]
    low: BitmapOffsets,
    #[offsets]
    high: BitmapOffsets,
    #[engine]
    ring: Ring,
}

fn main() {}
