// SPDX-License-Identifier: GPL-2.0

//! A fake that is what `abi.rs` says.

#![allow(unexpected_cfgs, non_camel_case_types)]

#[path = "../../../../dpmem-core/src/abi.rs"]
mod abi;
mod missing;

mod bindings {
    pub use super::missing::{migrate_device_range, request_free_mem_region};
    pub use kernel::bindings::*;

    // Shadows the simulation's, and is the same.
    #[allow(dead_code)]
    pub unsafe extern "C" fn migrate_vma_setup(_: *mut migrate_vma) -> kernel::ffi::c_int {
        0
    }
}

fn main() {}
