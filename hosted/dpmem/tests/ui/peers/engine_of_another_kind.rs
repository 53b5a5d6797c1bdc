// SPDX-License-Identifier: GPL-2.0

//! The engine of a peer is that of the same driver, and no other.

use dpmem::{CopyEngine, Transfer};

struct Link;

fn copy_by(_: &Link) {}

fn wrong<E: CopyEngine>(transfer: Transfer<'_, E>) {
    if let Transfer::FromPeer { peer, .. } = transfer {
        copy_by(peer);
    }
}

fn main() {}
