// SPDX-License-Identifier: GPL-2.0

//! Physical addresses that a driver has for itself.
//!
//! C header: [`include/linux/ioport.h`](srctree/include/linux/ioport.h)

use kernel::{
    bindings,
    io::resource::{
        Flags,
        Region,
        Resource, //
    },
    prelude::*,
    str::CString, //
};

use crate::number::{
    NrPages,
    PhysRange, //
};

impl PhysRange {
    /// Requests these addresses, in the name of `name`: for a driver that knows them from its device's own tables, or
    /// from the one who loads it. One that has a resource of its device's, requests a part of that.
    ///
    /// # Context
    ///
    /// May sleep.
    ///
    /// # Errors
    ///
    /// [`EBUSY`] if they belong to somebody else, if only in part.
    pub fn request(self, name: CString) -> Result<Region> {
        let bytes = self.nr_pages().to_bytes().ok_or(EINVAL)?;
        let root = (&raw mut bindings::iomem_resource).cast::<Resource>();
        // SAFETY: The root of all resources is always there, and `Resource` is transparent. It has no method that
        // changes it but by C functions that lock.
        let root = unsafe { &*root };
        // CAST: `usize` is not wider than `u64`.
        root.request_region(self.start(), bytes as u64, name, Flags::IORESOURCE_MEM)
            .ok_or(EBUSY)
    }

    /// The addresses of `region`; [`EINVAL`] if they are not whole pages.
    pub(crate) fn of(region: &Region) -> Result<Self> {
        // CAST: This crate is only built where `usize` has 64 bits.
        let nr = NrPages::from_bytes(region.size() as usize)?;
        Self::new(region.start(), nr)
    }
}
