// SPDX-License-Identifier: GPL-2.0

//! A mirror stays where it was made.

use dpmem::Mirror;
use kernel::prelude::*;

fn wrong(mirror: Pin<KBox<Mirror>>) -> Mirror {
    *mirror
}

fn main() {}
