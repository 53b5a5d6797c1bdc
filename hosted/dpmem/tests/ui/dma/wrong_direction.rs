// SPDX-License-Identifier: GPL-2.0

//! What is mapped for the device to read is not what it writes.

use dpmem::{DmaMap, RamPages, RamPagesMut};

fn wrong<'a>(map: &mut DmaMap<'a, RamPages<'a>>, dst: RamPagesMut<'a>) {
    let _ = map.map(dst);
}

fn main() {}
