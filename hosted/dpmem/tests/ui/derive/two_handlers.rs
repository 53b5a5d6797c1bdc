// SPDX-License-Identifier: GPL-2.0

//! There are two functions, and nobody says which one answers.

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

#[derive(DevPagemapOps)]
#[migrate_to_ram(Self::fault)]
#[migrate_to_ram(Self::other)]
struct Vram {
    #[offsets]
    offsets: BitmapOffsets,
    #[engine]
    ring: Ring,
}

impl Vram {
    fn fault(fault: Fault<'_, Self>) -> FaultAnswer<'_> {
        fault.migrate()
    }

    fn other(fault: Fault<'_, Self>) -> FaultAnswer<'_> {
        fault.migrate()
    }
}

fn main() {}
