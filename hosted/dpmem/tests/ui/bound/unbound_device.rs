// SPDX-License-Identifier: GPL-2.0

//! Memory belongs to a device that has its driver.

use dpmem::{BoundPagemap, DevPagemap, DevPagemapOps};
use kernel::{device::Device, prelude::*};

fn wrong<T: DevPagemapOps + 'static>(
    device: &Device,
    pagemap: impl PinInit<DevPagemap<T>, Error>,
) -> Result<BoundPagemap<T>> {
    BoundPagemap::new(device, pagemap)
}

fn main() {}
