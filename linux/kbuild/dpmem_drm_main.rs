// SPDX-License-Identifier: GPL-2.0

//! The module that the crate `dpmem_drm` is.

use kernel::prelude::*;

// What drivers use of it is generic, or exported.
use dpmem_drm as _;

module! {
    type: DpmemDrm,
    name: "dpmem_drm",
    authors: ["dpmem"],
    description: "DRM's pagemaps for Rust drivers",
    license: "GPL",
}

/// There is nothing to be kept.
struct DpmemDrm;

impl kernel::Module for DpmemDrm {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        Ok(Self)
    }
}
