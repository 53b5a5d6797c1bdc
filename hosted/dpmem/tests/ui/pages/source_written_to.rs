// SPDX-License-Identifier: GPL-2.0

//! What is copied from a device is not written to.

use dpmem::Transfer;

fn wrong<E>(transfer: Transfer<'_, E>) {
    if let Transfer::ToRam { mut src, .. } = transfer {
        let _ = src.mapped_mut();
    }
}

fn main() {}
