// SPDX-License-Identifier: GPL-2.0

//! A pagemap that is leaked stays registered, so that its engine must not borrow anything.

use dpmem::{Batch, CopyEngine};
use kernel::prelude::*;

struct Registers;

struct Ring<'a>(&'a Registers);

impl<'a> CopyEngine for Ring<'a> {
    type Fence<'b>
        = ()
    where
        Self: 'b;
    type Data = ();

    fn submit<'b>(&'b self, _batch: &mut Batch<'b, Self>) -> Result {
        Err(ENODEV)
    }
}

fn main() {}
