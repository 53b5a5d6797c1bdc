// SPDX-License-Identifier: GPL-2.0

//! Where, and how many, are not the same.

use dpmem::{DevPagemap, DevPagemapOps, NrPages, PageOffset};
use kernel::prelude::*;

fn wrong<T: DevPagemapOps>(pagemap: &DevPagemap<T>) -> Result<NrPages> {
    pagemap.evict(NrPages::new(8), PageOffset::ZERO)
}

fn main() {}
