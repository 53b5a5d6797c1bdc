// SPDX-License-Identifier: GPL-2.0

//! The process may not write to this page, and so neither may its device.

use dpmem::{DevPagemap, DevPagemapOps, Location, Mirror, UserRange};
use kernel::prelude::*;

fn wrong<T: DevPagemapOps>(mirror: &Mirror, device: &DevPagemap<T>, range: UserRange, bytes: &[u8]) -> Result {
    mirror.read(range, Some(device), |_, location| match location {
        Location::Ram(page) => page.write(bytes),
        _ => Ok(()),
    })?;
    Ok(())
}

fn main() {}
