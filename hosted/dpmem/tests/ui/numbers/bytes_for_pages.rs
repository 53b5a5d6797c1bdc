// SPDX-License-Identifier: GPL-2.0

//! Bytes are no pages.

use dpmem::{DevPagemap, DevPagemapOps, PageOffset};
use kernel::prelude::*;

fn wrong<T: DevPagemapOps>(pagemap: &DevPagemap<T>, bytes: usize) -> Result {
    pagemap.evict(PageOffset::ZERO, bytes)?;
    Ok(())
}

fn main() {}
