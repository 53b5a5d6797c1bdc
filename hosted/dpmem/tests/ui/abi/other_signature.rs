// SPDX-License-Identifier: GPL-2.0

//! A function of C that is not what `abi.rs` says: a simulation that lies, or a kernel that has changed.

use kernel::{bindings, ffi::*};

const _: unsafe extern "C" fn(*mut bindings::migrate_vma) -> c_ulong = bindings::migrate_vma_setup;

fn main() {}
