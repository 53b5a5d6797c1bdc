// SPDX-License-Identifier: GPL-2.0

//! A function of DRM's that is not what `abi.rs` says.

#![allow(unexpected_cfgs, non_camel_case_types)]

#[path = "../../../../../dpmem-drm/src/abi.rs"]
mod abi;

mod bindings {
    pub use kernel::bindings::*;

    pub unsafe extern "C" fn drm_pagemap_put(_: *mut drm_pagemap, _: bool) {}
}

fn main() {}
