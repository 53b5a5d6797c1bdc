// SPDX-License-Identifier: GPL-2.0

//! The module that the crate `dpmem` is: what is there once for all pagemaps, from its loading on.

use dpmem::DebugfsRoot;
use kernel::prelude::*;

module! {
    type: DpmemCore,
    name: "dpmem_core",
    authors: ["dpmem"],
    description: "Device-private memory for Rust drivers",
    license: "GPL",
}

/// What the module has when it is loaded.
struct DpmemCore {
    _debugfs: DebugfsRoot,
}

impl kernel::Module for DpmemCore {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        Ok(Self {
            _debugfs: DebugfsRoot::new()?,
        })
    }
}
