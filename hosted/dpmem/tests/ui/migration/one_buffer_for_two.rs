// SPDX-License-Identifier: GPL-2.0

//! The bookkeeping of one migration is not that of another.

use dpmem::{DevPagemap, DevPagemapOps, MigrateBuffer, MigrateVma, UserRange};
use kernel::{mm::MmapReadGuard, prelude::*};

fn wrong<T: DevPagemapOps>(
    pagemap: &DevPagemap<T>,
    mmap: &MmapReadGuard<'_>,
    (here, there): (UserRange, UserRange),
    buffer: &mut MigrateBuffer,
) -> Result {
    let first = MigrateVma::to_device(pagemap, mmap, here, buffer)?;
    let second = MigrateVma::to_ram(pagemap, mmap, there, buffer)?;
    first.migrate()?;
    second.migrate()?;
    Ok(())
}

fn main() {}
