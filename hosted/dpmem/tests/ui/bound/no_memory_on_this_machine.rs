// SPDX-License-Identifier: GPL-2.0

//! A machine may have no place for the memory of a device.

use dpmem::{DevPagemap, DevPagemapOps, DeviceMemory, MigrateBuffer, MigrateVma, UserRange};
use kernel::{mm::MmapReadGuard, prelude::*, sync::Arc};

fn wrong<T: DevPagemapOps>(
    memory: &DeviceMemory<Arc<DevPagemap<T>>>,
    mmap: &MmapReadGuard<'_>,
    range: UserRange,
    buffer: &mut MigrateBuffer,
) -> Result {
    MigrateVma::to_device(memory, mmap, range, buffer)?.migrate()?;
    Ok(())
}

fn main() {}
