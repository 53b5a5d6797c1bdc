// SPDX-License-Identifier: GPL-2.0

//! An address that is not that of a page.

use dpmem::UserAddr;

fn wrong() -> UserAddr {
    UserAddr(5)
}

fn main() {}
