// SPDX-License-Identifier: GPL-2.0

//! What an engine returns must be something to wait for.

use dpmem::{Batch, CopyEngine};
use kernel::prelude::*;

struct Ring;

impl CopyEngine for Ring {
    type Fence<'a> = u64;
    type Data = ();

    fn submit<'a>(&'a self, _batch: &mut Batch<'a, Self>) -> Result<u64> {
        Ok(1)
    }
}

fn main() {}
