// SPDX-License-Identifier: GPL-2.0

//! The pages are somebody else's when the migration is over.

use dpmem::{Batch, CopyEngine, Transfer};
use kernel::prelude::*;
use kernel::sync::Mutex;

struct Later(Transfer<'static, Ring>);

struct Ring {
    later: Mutex<Later>,
}

impl CopyEngine for Ring {
    type Fence<'a> = ();
    type Data = ();

    fn submit<'a>(&'a self, batch: &mut Batch<'a, Self>) -> Result {
        for transfer in batch {
            *self.later.lock() = Later(transfer);
        }
        Ok(())
    }
}

fn main() {}
