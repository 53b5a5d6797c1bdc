// SPDX-License-Identifier: GPL-2.0

//! What the device was told to use is unmapped at once.

#![deny(unused_must_use)]

use dpmem::{Batch, CopyEngine, DmaMap, Transfer};
use kernel::prelude::*;

fn wrong<E: CopyEngine>(batch: &mut Batch<'_, E>) -> Result {
    let device = batch.device().ok_or(ENODEV)?;
    let mut map = DmaMap::new(device, batch.nr_pages())?;
    for transfer in batch {
        if let Transfer::ToDevice { src, .. } = transfer {
            map.map(src)?;
        }
    }
    map.sync()?;
    Ok(())
}

fn main() {}
