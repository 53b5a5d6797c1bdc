// SPDX-License-Identifier: GPL-2.0

//! What an engine returns must be something to wait for.

use dpmem::{Batch, CopyEngine};
use kernel::prelude::*;

struct Ring;

impl CopyEngine for Ring {
    type Fence = u64;

    fn submit(&self, _batch: &mut Batch<'_, Self>) -> Result<u64> {
        Ok(1)
    }
}

fn main() {}
