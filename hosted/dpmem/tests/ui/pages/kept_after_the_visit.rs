// SPDX-License-Identifier: GPL-2.0

//! The page may be freed when the lock of the mirror is given up.

use dpmem::{DevPagemap, DevPagemapOps, Location, Mirror, UserRange};
use kernel::prelude::*;

fn wrong<T: DevPagemapOps>(mirror: &Mirror, device: &DevPagemap<T>, range: UserRange, bytes: &mut [u8]) -> Result {
    let mut kept = None;
    mirror.read(range, Some(device), |_, location| {
        if let Location::Ram(page) = location {
            kept = Some(page);
        }
        Ok(())
    })?;
    kept.ok_or(EFAULT)?.read(bytes)
}

fn main() {}
