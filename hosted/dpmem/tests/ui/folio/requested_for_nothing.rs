// SPDX-License-Identifier: GPL-2.0

//! The folio goes back at once.

#![deny(unused_must_use)]

use dpmem::{DevPagemap, DevPagemapOps, Order};
use kernel::prelude::*;

fn wrong<T: DevPagemapOps>(pagemap: &DevPagemap<T>) -> Result {
    pagemap.request_folio(Order::ZERO)?;
    Ok(())
}

fn main() {}
