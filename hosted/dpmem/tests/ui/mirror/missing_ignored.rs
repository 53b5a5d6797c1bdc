// SPDX-License-Identifier: GPL-2.0

//! Where there is no translation, nothing was written.

#![deny(unused_must_use)]

use dpmem::{DevPagemap, DevPagemapOps, Mirror, UserRange};
use kernel::prelude::*;

fn wrong<T: DevPagemapOps>(mirror: &Mirror, range: UserRange, device: &DevPagemap<T>) -> Result {
    mirror.write(range, Some(device), |_, _| Ok(()))?;
    Ok(())
}

fn main() {}
