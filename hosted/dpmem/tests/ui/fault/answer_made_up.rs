// SPDX-License-Identifier: GPL-2.0

//! Only the fault itself can answer.

use dpmem::{Batch, BitmapOffsets, CopyEngine, DevPagemapOps, Fault, FaultAnswer};
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

struct Vram {
    offsets: BitmapOffsets,
    ring: Ring,
}

impl DevPagemapOps for Vram {
    type Offsets = BitmapOffsets;
    type Data = ();
    type Engine = Ring;

    fn offsets(&self) -> &BitmapOffsets {
        &self.offsets
    }

    fn engine(&self) -> &Ring {
        &self.ring
    }

    fn migrate_to_ram(_fault: Fault<'_, Self>) -> FaultAnswer<'_> {
        FaultAnswer(0)
    }
}

fn main() {}
