// SPDX-License-Identifier: GPL-2.0

//! The copies are thrown away.

#![deny(unused_must_use)]

use dpmem::{DevPagemapOps, Filled};
use kernel::prelude::*;

fn wrong<T: DevPagemapOps>(pages: Filled<'_, T>) -> Result {
    pages.copy()?;
    Ok(())
}

fn main() {}
