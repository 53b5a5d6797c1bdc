// SPDX-License-Identifier: GPL-2.0

//! A size is an order, and not any number.

use dpmem::{DevPagemap, DevPagemapOps};
use kernel::prelude::*;

fn wrong<T: DevPagemapOps>(pagemap: &DevPagemap<T>) -> Result {
    let _folio = pagemap.request_folio(9)?;
    Ok(())
}

fn main() {}
