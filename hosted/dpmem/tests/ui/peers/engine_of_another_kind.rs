// SPDX-License-Identifier: GPL-2.0

//! The engine of a peer is that of the same driver, and no other.

use dpmem::{CopyEngine, Transfer};

struct Link;

fn wrong<E: CopyEngine>(transfer: Transfer<'_, E>) -> Option<&Link> {
    match transfer {
        Transfer::FromPeer { peer, .. } => Some(peer),
        _ => None,
    }
}

fn main() {}
