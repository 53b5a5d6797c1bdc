// SPDX-License-Identifier: GPL-2.0

//! Where the `struct page`s of device memory come from.
//!
//! A backend registers a range of device memory with the kernel, puts folios of it into service,
//! and converts between pages and offsets. Nothing outside of it knows more of a page than its
//! offset.
//!
//! Coherent memory lies in physical address space. Private memory needs none where the kernel has
//! an index space for it, for which `Kbuild.rust` sets `dpmem_offset`; elsewhere it must take some.

mod claims;
#[cfg(dpmem_offset)]
mod offset;
mod region;

use core::ptr::NonNull;

use kernel::{
    bindings,
    io::resource::Region,
    prelude::*,
    str::CStr, //
};

use crate::number::{
    NrPages,
    Order,
    PageOffset, //
};

/// The `struct page`s of one pagemap.
pub(crate) enum Backend {
    #[cfg(dpmem_offset)]
    Offset(Pin<KBox<offset::Backend>>),
    Region(Pin<KBox<region::Backend>>),
}

/// Calls a method of whichever backend it is.
macro_rules! dispatch {
    ($self:ident, $backend:ident => $call:expr) => {
        match $self {
            #[cfg(dpmem_offset)]
            Backend::Offset($backend) => $call,
            Backend::Region($backend) => $call,
        }
    };
}

impl Backend {
    /// A backend for `nr` pages of private memory. May sleep.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] for no page, or more than can be; [`ERANGE`] if the machine has no room;
    /// [`ENOMEM`].
    ///
    /// # Safety
    ///
    /// `pgmap` must be pinned beside this backend, and live as long.
    pub(crate) unsafe fn private(
        name: &'static CStr,
        nr: NrPages,
        pgmap: NonNull<bindings::dev_pagemap>,
    ) -> Result<Self> {
        #[cfg(dpmem_offset)]
        {
            let _ = name;
            // SAFETY: The caller promises it.
            let backend = unsafe { offset::Backend::new(nr, pgmap) };
            Ok(Self::Offset(KBox::pin_init(backend, GFP_KERNEL)?))
        }
        #[cfg(not(dpmem_offset))]
        {
            // SAFETY: The caller promises it.
            let backend = unsafe { region::Backend::private(name, nr, pgmap) };
            Ok(Self::Region(KBox::pin_init(backend, GFP_KERNEL)?))
        }
    }

    /// A backend for coherent memory at `region`. May sleep.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] for more than can be; [`ENOMEM`].
    ///
    /// # Safety
    ///
    /// As for [`Backend::private`].
    pub(crate) unsafe fn coherent(
        region: Region,
        pgmap: NonNull<bindings::dev_pagemap>,
    ) -> Result<Self> {
        // SAFETY: The caller promises it.
        let backend = unsafe { region::Backend::coherent(region, pgmap) };
        Ok(Self::Region(KBox::pin_init(backend, GFP_KERNEL)?))
    }

    /// How many pages there are.
    pub(crate) fn nr_pages(&self) -> NrPages {
        dispatch!(self, backend => backend.nr_pages())
    }

    /// Whether a CPU can address the memory.
    pub(crate) fn is_coherent(&self) -> bool {
        match self {
            #[cfg(dpmem_offset)]
            Self::Offset(_) => false,
            Self::Region(backend) => backend.is_coherent(),
        }
    }

    /// Registers the pagemap, whose type, owner and operations are set. May sleep: where it makes a
    /// `struct page` for every page, for as long as that takes.
    ///
    /// # Errors
    ///
    /// [`ERANGE`] if the machine has no room for as many pages; [`EOPNOTSUPP`] if its page tables
    /// cannot name such memory; [`ENOMEM`]; [`EBUSY`] or [`EINVAL`] if there is something else at
    /// the addresses of coherent memory.
    ///
    /// # Safety
    ///
    /// The pagemap must be all zeroes but for the fields named above, and not be registered.
    pub(crate) unsafe fn register(&self, nid: i32) -> Result {
        // SAFETY: The caller promises it.
        dispatch!(self, backend => unsafe { backend.register(nid) })
    }

    /// Undoes [`Backend::register`]. Sleeps until no page is out.
    ///
    /// # Safety
    ///
    /// The pagemap must be registered, and nothing may request a folio any more.
    pub(crate) unsafe fn unregister(&self) {
        // SAFETY: The caller promises it.
        dispatch!(self, backend => unsafe { backend.unregister() })
    }

    /// Puts the idle pages from `offset` on into service, as a folio of `order`: locked, with one
    /// reference, which are the caller's. May sleep.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if there are no such pages in the pagemap, or if a folio cannot begin there, or
    /// be so large; [`EBUSY`] if one of them is out; [`ENODEV`] if the pagemap is going away;
    /// [`ENOMEM`].
    ///
    /// # Safety
    ///
    /// The pagemap must be registered.
    pub(crate) unsafe fn request_folio(
        &self,
        offset: PageOffset,
        order: Order,
    ) -> Result<NonNull<bindings::folio>> {
        // SAFETY: The caller promises it.
        dispatch!(self, backend => unsafe { backend.request_folio(offset, order) })
    }

    /// Notes that the pages of a folio are idle again. Does not sleep.
    ///
    /// # Safety
    ///
    /// The folio must have come from [`Backend::request_folio`], or be a part of one that was
    /// split, the last reference to it must be gone, and nobody may look at it any more.
    pub(crate) unsafe fn release(&self, offset: PageOffset, order: Order) {
        // SAFETY: The caller promises it.
        dispatch!(self, backend => unsafe { backend.release(offset, order) })
    }

    /// How many pages are out.
    pub(crate) fn nr_out(&self) -> NrPages {
        dispatch!(self, backend => backend.nr_out())
    }

    /// The first page at `from` or above that is out.
    pub(crate) fn next_out(&self, from: PageOffset) -> Option<PageOffset> {
        dispatch!(self, backend => backend.next_out(from))
    }

    /// The first page of the large folio in service that begins at `offset`, as it is at this
    /// moment.
    ///
    /// # Safety
    ///
    /// The pagemap must be registered.
    pub(crate) unsafe fn large_folio_at(
        &self,
        offset: PageOffset,
    ) -> Option<NonNull<bindings::page>> {
        // SAFETY: The caller promises it.
        dispatch!(self, backend => unsafe { backend.large_folio_at(offset) })
    }

    /// The number by which functions of the kernel know the page at `offset`, which must be one of
    /// the pagemap; `None` if they cannot.
    pub(crate) fn number_of(&self, offset: PageOffset) -> Option<usize> {
        dispatch!(self, backend => backend.number_of(offset))
    }

    /// The offset of `page`, or `None` if it lies in no page of this pagemap.
    ///
    /// # Safety
    ///
    /// The caller must hold a reference to `page`, or be the one who gives up the last.
    pub(crate) unsafe fn offset_of(&self, page: NonNull<bindings::page>) -> Option<PageOffset> {
        // SAFETY: The caller promises it.
        dispatch!(self, backend => unsafe { backend.offset_of(page) })
    }

    /// As [`Backend::offset_of`], for a page that is known to be one of the pagemap.
    ///
    /// # Safety
    ///
    /// `page` must be one of the pagemap, and the caller must hold a reference to it, or be the one
    /// who gives up the last.
    #[inline]
    pub(crate) unsafe fn own_offset(&self, page: NonNull<bindings::page>) -> PageOffset {
        // SAFETY: The caller promises it.
        dispatch!(self, backend => unsafe { backend.own_offset(page) })
    }

    /// Locks the pages that are in service among the `nr` from `offset` on, takes them out of the
    /// page tables of all processes, and writes them to `src`; idle and busy pages become empty
    /// entries. Sleeps.
    ///
    /// # Safety
    ///
    /// The pagemap must be registered, and have the pages, and `src` must have room for `nr`
    /// entries, all of them empty.
    pub(crate) unsafe fn migrate_device_range(
        &self,
        src: *mut c_ulong,
        offset: PageOffset,
        nr: NrPages,
    ) {
        // SAFETY: The caller promises it.
        dispatch!(self, backend => unsafe { backend.migrate_device_range(src, offset, nr) })
    }
}
