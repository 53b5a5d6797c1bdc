// SPDX-License-Identifier: GPL-2.0

//! The pages go back at once.

#![deny(unused_must_use)]

use dpmem::{DevPagemap, DevPagemapOps, MigrateBuffer, MigrateVma, UserRange};
use kernel::{mm::MmapReadGuard, prelude::*};

fn wrong<T: DevPagemapOps>(
    pagemap: &DevPagemap<T>,
    mmap: &MmapReadGuard<'_>,
    range: UserRange,
    buffer: &mut MigrateBuffer,
) -> Result {
    MigrateVma::to_device(pagemap, mmap, range, buffer)?;
    Ok(())
}

fn main() {}
