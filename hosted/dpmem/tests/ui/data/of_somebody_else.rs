// SPDX-License-Identifier: GPL-2.0

//! A page may be there longer than the process that moved it, and what is kept with it as well.

use dpmem::{Batch, CopyEngine};
use kernel::prelude::*;

struct Process;

struct Ring;

impl CopyEngine for Ring {
    type Fence<'a> = ();
    type Data = &'static Process;

    fn submit<'a>(&'a self, batch: &mut Batch<'a, Self>) -> Result {
        batch.for_each(drop);
        Ok(())
    }
}

fn main() {}
