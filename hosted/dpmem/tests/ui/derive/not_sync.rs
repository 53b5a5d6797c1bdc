// SPDX-License-Identifier: GPL-2.0

//! Faults come on all CPUs at once.

use core::cell::Cell;
use dpmem::{Batch, BitmapOffsets, CopyEngine, DevPagemapOps};
use kernel::prelude::*;

struct Ring;

impl CopyEngine for Ring {
    type Fence = ();

    fn submit(&self, batch: &mut Batch<'_, Self>) -> Result {
        batch.for_each(drop);
        Ok(())
    }
}

#[derive(DevPagemapOps)]
struct Vram {
    #[offsets]
    offsets: BitmapOffsets,
    #[engine]
    ring: Ring,
    faults: Cell<usize>,
}

fn main() {}
