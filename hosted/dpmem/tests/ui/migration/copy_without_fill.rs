// SPDX-License-Identifier: GPL-2.0

//! There is nowhere to copy to yet.

use dpmem::{Collected, DevPagemapOps};
use kernel::prelude::*;

fn wrong<T: DevPagemapOps>(pages: Collected<'_, T>) -> Result {
    pages.copy()?.commit();
    Ok(())
}

fn main() {}
