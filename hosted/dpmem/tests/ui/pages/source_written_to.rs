// SPDX-License-Identifier: GPL-2.0

//! What is copied from a device is not written to.

use dpmem::{CopyEngine, Transfer};

fn wrong<E: CopyEngine>(transfer: Transfer<'_, E>) {
    if let Transfer::ToRam { mut src, .. } = transfer {
        let _ = src.mapped_mut();
    }
}

fn main() {}
