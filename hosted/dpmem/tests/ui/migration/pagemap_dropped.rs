// SPDX-License-Identifier: GPL-2.0

//! The device's memory is given up while pages move to it.

use dpmem::{DevPagemap, DevPagemapOps, MigrateBuffer, MigrateVma, UserRange};
use kernel::{mm::MmapReadGuard, prelude::*, sync::Arc};

fn wrong<T: DevPagemapOps>(
    pagemap: Arc<DevPagemap<T>>,
    mmap: &MmapReadGuard<'_>,
    range: UserRange,
    buffer: &mut MigrateBuffer,
) -> Result {
    let pages = MigrateVma::to_device(&pagemap, mmap, range, buffer)?;
    drop(pagemap);
    pages.migrate()?;
    Ok(())
}

fn main() {}
