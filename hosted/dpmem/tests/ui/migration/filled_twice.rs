// SPDX-License-Identifier: GPL-2.0

//! Each step takes the one before.

use dpmem::{Collected, DevPagemapOps};
use kernel::prelude::*;

fn wrong<T: DevPagemapOps>(pages: Collected<'_, T>) -> Result {
    let first = pages.fill();
    let second = pages.fill();
    first.copy()?.commit();
    second.copy()?.commit();
    Ok(())
}

fn main() {}
