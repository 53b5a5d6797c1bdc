// SPDX-License-Identifier: GPL-2.0

//! What is marked as the allocator is none.

use dpmem::{Batch, CopyEngine, DevPagemapOps};
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
    next: usize,
    #[engine]
    ring: Ring,
}

fn main() {}
