// SPDX-License-Identifier: GPL-2.0

//! A fake that is what `abi.rs` says.

#![allow(unexpected_cfgs, non_camel_case_types)]

#[path = "../../../../dpmem-drm/src/abi.rs"]
mod abi;

mod bindings {
    pub use kernel::bindings::*;

    // Shadows the simulation's, and is the same.
    #[allow(dead_code)]
    pub unsafe extern "C" fn dma_fence_get_status(_: *mut dma_fence) -> kernel::ffi::c_int {
        0
    }
}

fn main() {}
