// SPDX-License-Identifier: GPL-2.0

//! An offset and an address have no order.

use dpmem::{PageOffset, UserAddr};

fn wrong(offset: PageOffset, addr: UserAddr) -> bool {
    offset < addr
}

fn main() {}
