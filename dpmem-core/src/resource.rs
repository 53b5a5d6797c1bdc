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
    /// Requests these addresses, in the name of `name`: for a driver that knows them from its
    /// device's own tables, or from the one who loads it. One that has a resource of its device's,
    /// requests a part of that.
    ///
    /// That nobody else has the addresses does not say that there is memory, nor that firmware
    /// leaves it alone: who names them vouches for it. As with other parameters of that kind, the
    /// kernel is marked as one that a user has interfered with (`TAINT_USER`).
    ///
    /// # Context
    ///
    /// May sleep.
    ///
    /// # Errors
    ///
    /// [`EBUSY`] if they belong to somebody else, if only in part, or if there is no memory to take
    /// note of it.
    pub fn request(self, name: CString) -> Result<Region> {
        // It can be expressed, by the type invariants.
        let bytes = self.nr_pages().to_bytes().ok_or(EINVAL)?;
        let root = (&raw mut bindings::iomem_resource).cast::<Resource>();
        // SAFETY: The root of all resources is always there, and `Resource` is transparent. It has
        // no method that changes it but by C functions that lock.
        let root = unsafe { &*root };
        // CAST: `usize` is not wider than `u64`.
        let region = root.request_region(self.start(), bytes as u64, name, Flags::IORESOURCE_MEM);
        let region = region.ok_or(EBUSY)?;
        // SAFETY: Always safe to call.
        unsafe { bindings::add_taint(bindings::TAINT_USER, bindings::lockdep_ok_LOCKDEP_STILL_OK) };
        Ok(region)
    }

    /// The addresses of `region`; [`EINVAL`] if they are not whole pages.
    pub(crate) fn of(region: &Region) -> Result<Self> {
        // CAST: This crate is only built where `usize` has 64 bits.
        let nr = NrPages::from_bytes(region.size() as usize)?;
        Self::new(region.start(), nr)
    }
}
