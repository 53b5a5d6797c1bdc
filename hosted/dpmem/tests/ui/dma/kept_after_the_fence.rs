// SPDX-License-Identifier: GPL-2.0

//! A mapping ends with the fence of the batch: the pages are somebody else's then.

use dpmem::{Batch, CopyEngine, DmaMap, DmaMapped, Fence, RamPages, Transfer};
use kernel::{prelude::*, sync::Mutex};

struct Ring {
    mapped: Mutex<Option<DmaMapped<'static, RamPages<'static>>>>,
}

struct Done;

impl Fence for Done {
    fn wait(self) -> Result {
        Ok(())
    }
}

impl CopyEngine for Ring {
    type Fence<'a> = Done;
    type Data = ();

    fn submit<'a>(&'a self, batch: &mut Batch<'a, Self>) -> Result<Done> {
        let device = batch.device().ok_or(ENODEV)?;
        let mut map = DmaMap::new(device, batch.nr_pages())?;
        for transfer in batch {
            if let Transfer::ToDevice { src, .. } = transfer {
                map.map(src)?;
            }
        }
        *self.mapped.lock() = Some(map.sync()?);
        Ok(Done)
    }
}

fn main() {}
