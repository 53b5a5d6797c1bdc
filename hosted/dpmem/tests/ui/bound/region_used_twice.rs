// SPDX-License-Identifier: GPL-2.0

//! Addresses are those of one pagemap.

use dpmem::{DevPagemap, DevPagemapOps, NumaNode};
use kernel::{io::resource::Region, prelude::*};

fn wrong<T: DevPagemapOps>(region: Region, one: T, other: T) -> Result {
    let one = DevPagemap::coherent(c"one", region, NumaNode::LOCAL, one);
    let other = DevPagemap::coherent(c"other", region, NumaNode::LOCAL, other);
    KBox::pin_init(one, GFP_KERNEL)?;
    KBox::pin_init(other, GFP_KERNEL)?;
    Ok(())
}

fn main() {}
