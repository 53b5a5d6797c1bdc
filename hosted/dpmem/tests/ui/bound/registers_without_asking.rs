// SPDX-License-Identifier: GPL-2.0

//! When pages come home, the driver may be losing what it got from the device.

use dpmem::{Batch, CopyEngine};
use kernel::{devres::Devres, prelude::*};

struct Registers;

struct Ring {
    registers: Devres<Registers>,
}

impl CopyEngine for Ring {
    type Fence<'a> = ();
    type Data = ();

    fn submit<'a>(&'a self, batch: &mut Batch<'a, Self>) -> Result {
        let device = batch.device().ok_or(ENODEV)?;
        let _ = self.registers.access(&device)?;
        batch.for_each(drop);
        Ok(())
    }
}

fn main() {}
