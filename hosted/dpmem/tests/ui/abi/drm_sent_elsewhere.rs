// SPDX-License-Identifier: GPL-2.0

//! A structure that threads may share, and that `abi.rs` says they may not.

#![allow(unexpected_cfgs, non_camel_case_types)]

#[path = "../../../../../dpmem-drm/src/abi.rs"]
mod abi;

mod bindings {
    pub use kernel::bindings::*;

    pub struct drm_pagemap_devmem {
        pub dpagemap: *mut drm_pagemap,
    }

    unsafe impl Sync for drm_pagemap_devmem {}
}

fn main() {}
