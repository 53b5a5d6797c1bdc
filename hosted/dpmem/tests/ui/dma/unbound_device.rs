// SPDX-License-Identifier: GPL-2.0

//! A device without a driver may be without power, or gone.

use dpmem::{DmaMap, NrPages, RamPages};
use kernel::device::Device;

fn wrong<'a>(device: &'a Device, nr: NrPages) -> kernel::error::Result<DmaMap<'a, RamPages<'a>>> {
    DmaMap::new(device, nr)
}

fn main() {}
