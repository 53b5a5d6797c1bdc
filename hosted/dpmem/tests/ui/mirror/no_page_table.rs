// SPDX-License-Identifier: GPL-2.0

//! What a device is told of has to be taken away from it again.

use dpmem::BoundMirrors;

struct Entries;

fn wrong() -> Option<BoundMirrors<Entries>> {
    None
}

fn main() {}
