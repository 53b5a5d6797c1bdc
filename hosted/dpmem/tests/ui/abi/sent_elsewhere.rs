// SPDX-License-Identifier: GPL-2.0

//! A structure that threads may share, and that `abi.rs` says they may not.

#![allow(unexpected_cfgs, non_camel_case_types)]

#[path = "../../../../../dpmem-core/src/abi.rs"]
mod abi;
#[path = "../../abi/missing.rs"]
mod missing;

mod bindings {
    pub use super::missing::{migrate_device_range, request_free_mem_region};
    pub use kernel::bindings::*;

    pub struct vm_fault {
        pub page: *mut page,
        pub pte: *mut pte_t,
    }

    unsafe impl Send for vm_fault {}
}

fn main() {}
