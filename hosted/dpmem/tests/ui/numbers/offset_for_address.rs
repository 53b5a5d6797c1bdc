// SPDX-License-Identifier: GPL-2.0

//! A page of a device is not at an address of a process.

use dpmem::{NrPages, PageOffset, UserRange};
use kernel::prelude::*;

fn wrong(offset: PageOffset) -> Result<UserRange> {
    UserRange::new(offset, NrPages::new(1))
}

fn main() {}
