// SPDX-License-Identifier: GPL-2.0

//! A mapping ends with the fence of the batch: the pages are somebody else's then.

use dpmem::{Batch, CopyEngine, DmaMap, DmaMapped, RamPages, Transfer};
use kernel::prelude::*;

type Kept = DmaMapped<'static, RamPages<'static>>;

fn wrong<E: CopyEngine>(batch: &mut Batch<'_, E>, kept: &mut KVec<Kept>) -> Result {
    let device = batch.device().ok_or(ENODEV)?;
    let mut map = DmaMap::new(device, batch.nr_pages())?;
    for transfer in batch {
        if let Transfer::ToDevice { src, .. } = transfer {
            map.map(src)?;
        }
    }
    Ok(kept.push(map.sync()?, GFP_KERNEL)?)
}

fn main() {}
