// SPDX-License-Identifier: GPL-2.0

//! A structure of C's with a field of another type.

#![allow(unexpected_cfgs, non_camel_case_types)]

#[path = "../../../../../dpmem-core/src/abi.rs"]
mod abi;
#[path = "../../abi/missing.rs"]
mod missing;

mod bindings {
    pub use super::missing::{migrate_device_range, request_free_mem_region};
    pub use kernel::bindings::*;

    pub struct vm_fault {
        pub page: *mut folio,
        pub pte: *mut pte_t,
    }
}

fn main() {}
