// SPDX-License-Identifier: GPL-2.0

//! An address space changes, unless its lock is held.

use dpmem::{DevPagemap, DevPagemapOps, MigrateBuffer, MigrateVma, UserRange};
use kernel::{mm::MmWithUser, prelude::*};

fn wrong<T: DevPagemapOps>(
    pagemap: &DevPagemap<T>,
    mm: &MmWithUser,
    range: UserRange,
    buffer: &mut MigrateBuffer,
) -> Result {
    MigrateVma::to_device(pagemap, mm, range, buffer)?.migrate()?;
    Ok(())
}

fn main() {}
