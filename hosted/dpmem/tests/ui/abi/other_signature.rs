// SPDX-License-Identifier: GPL-2.0

//! A function of C that is not what `abi.rs` says: a simulation that lies, or a kernel that has changed.

#![allow(unexpected_cfgs, non_camel_case_types)]

#[path = "../../../../../dpmem-core/src/abi.rs"]
mod abi;
#[path = "../../abi/missing.rs"]
mod missing;

mod bindings {
    pub use super::missing::{migrate_device_range, request_free_mem_region};
    pub use kernel::bindings::*;

    pub unsafe extern "C" fn migrate_vma_setup(_: *mut migrate_vma) -> kernel::ffi::c_ulong {
        0
    }
}

fn main() {}
