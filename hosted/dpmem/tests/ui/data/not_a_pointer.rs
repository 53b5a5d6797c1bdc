// SPDX-License-Identifier: GPL-2.0

//! There is room for a pointer.

use dpmem::{Batch, CopyEngine};
use kernel::prelude::*;

struct Ring;

impl CopyEngine for Ring {
    type Fence<'a> = ();
    type Data = u64;

    fn submit<'a>(&'a self, batch: &mut Batch<'a, Self>) -> Result {
        batch.for_each(drop);
        Ok(())
    }
}

fn main() {}
