// SPDX-License-Identifier: GPL-2.0

//! What is mapped after the device was told is not seen by it.

use dpmem::{DmaMap, RamPages};
use kernel::prelude::*;

fn wrong<'a>(mut map: DmaMap<'a, RamPages<'a>>, src: RamPages<'a>) -> Result {
    let _mapped = map.sync()?;
    map.map(src)?;
    Ok(())
}

fn main() {}
