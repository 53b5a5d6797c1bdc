// SPDX-License-Identifier: GPL-2.0

//! Where memory comes from another device, so must the bytes.

use dpmem::{CopyEngine, RamPages, Transfer};

fn wrong<'a, E: CopyEngine>(transfer: Transfer<'a, E>) -> Option<RamPages<'a>> {
    match transfer {
        Transfer::ToDevice { src, .. } => Some(src),
        Transfer::Zero { .. } | Transfer::ToRam { .. } => None,
    }
}

fn main() {}
