// SPDX-License-Identifier: GPL-2.0

//! The function that answers has to be named.

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
#[migrate_to_ram]
struct Vram {
    #[offsets]
    offsets: BitmapOffsets,
    #[engine]
    ring: Ring,
}

fn main() {}
