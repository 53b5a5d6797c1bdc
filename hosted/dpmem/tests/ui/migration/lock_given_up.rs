// SPDX-License-Identifier: GPL-2.0

//! The lock is given up while pages are on their way.

use dpmem::{DevPagemap, DevPagemapOps, MigrateBuffer, MigrateVma, UserRange};
use kernel::{mm::MmWithUser, prelude::*};

fn wrong<T: DevPagemapOps>(
    pagemap: &DevPagemap<T>,
    mm: &MmWithUser,
    range: UserRange,
    buffer: &mut MigrateBuffer,
) -> Result {
    let mmap = mm.mmap_read_lock();
    let pages = MigrateVma::to_device(pagemap, &mmap, range, buffer)?;
    drop(mmap);
    pages.migrate()?;
    Ok(())
}

fn main() {}
