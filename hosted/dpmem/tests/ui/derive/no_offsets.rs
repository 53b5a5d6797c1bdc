// SPDX-License-Identifier: GPL-2.0

//! Nobody says which page is handed out.

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
    #[engine]
    ring: Ring,
}

fn main() {}
