// SPDX-License-Identifier: GPL-2.0

//! The function that is named does not answer.

use dpmem::{Batch, BitmapOffsets, CopyEngine, DevPagemapOps, Fault};
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
struct Vram {
    #[offsets]
    offsets: BitmapOffsets,
    #[engine]
    ring: Ring,
}

impl Vram {
    fn fault(_: Fault<'_, Self>) {}
}

fn main() {}
