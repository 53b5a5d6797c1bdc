// SPDX-License-Identifier: GPL-2.0

//! A number of pages is no address.

use dpmem::{NrPages, UserAddr};
use kernel::prelude::*;

fn wrong(nr: NrPages) -> Result<UserAddr> {
    UserAddr::new(nr)
}

fn main() {}
