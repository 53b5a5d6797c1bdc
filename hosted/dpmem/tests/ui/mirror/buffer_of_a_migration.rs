// SPDX-License-Identifier: GPL-2.0

//! The room for one is not the room for the other.

use dpmem::{Access, DevPagemap, DevPagemapOps, MigrateBuffer, Mirror, UserRange};
use kernel::prelude::*;

fn wrong<T: DevPagemapOps>(
    mirror: &Mirror,
    device: &DevPagemap<T>,
    range: UserRange,
    buffer: &mut MigrateBuffer,
) -> Result {
    mirror.fault(range, Access::Read, Some(device), buffer)
}

fn main() {}
