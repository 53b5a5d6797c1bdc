// SPDX-License-Identifier: GPL-2.0

//! The driver may be about to be unbound: one has to ask each time.

use dpmem::{BoundPagemap, DevPagemapOps, MigrateBuffer, MigrateVma, UserRange};
use kernel::{mm::MmapReadGuard, prelude::*};

fn wrong<T: DevPagemapOps + 'static>(
    bound: &BoundPagemap<T>,
    mmap: &MmapReadGuard<'_>,
    range: UserRange,
    buffer: &mut MigrateBuffer,
) -> Result {
    MigrateVma::to_device(bound, mmap, range, buffer)?.migrate()?;
    Ok(())
}

fn main() {}
