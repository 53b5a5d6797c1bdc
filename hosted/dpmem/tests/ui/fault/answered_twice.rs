// SPDX-License-Identifier: GPL-2.0

//! There is one answer.

use dpmem::{Batch, BitmapOffsets, CopyEngine, DevPagemapOps, Fault, FaultAnswer, FaultError};
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

    fn migrate_to_ram(fault: Fault<'_, Self>) -> FaultAnswer<'_> {
        let answer = fault.migrate();
        let _ = fault.fail(FaultError::Bus);
        answer
    }
}

fn main() {}
