// SPDX-License-Identifier: GPL-2.0

//! The backend for a kernel in which device memory has an index space of its own.
//!
//! There, a pagemap is registered by its size, and the kernel makes the `struct page`s of a folio
//! when it is requested. What has never been requested has none.
//!
//! C header: [`include/linux/memremap.h`](srctree/include/linux/memremap.h)

use core::ptr::NonNull;

use kernel::{
    bindings,
    error::{
        from_err_ptr,
        to_result, //
    },
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};

use crate::{
    folio::begins_large,
    number::{
        NrPages,
        Order,
        PageOffset, //
    }, //
};

/// Where there is no `struct page`, there is none up to the next multiple of this: the kernel makes
/// them in runs that are no smaller than this on any architecture, and aligned to their size.
const HOLE: usize = 256;

/// The `struct page`s of one pagemap.
///
/// # Invariants
///
/// `pgmap` is the C structure beside which this backend lies, pinned with it. Between
/// [`Backend::register`] and [`Backend::unregister`] it is registered.
pub(crate) struct Backend {
    pgmap: NonNull<bindings::dev_pagemap>,
    nr: NrPages,
    /// How many pages are out: requested, or in service.
    out: Atomic<usize>,
}

// SAFETY: The pagemap is not bound to a thread.
unsafe impl Send for Backend {}
// SAFETY: The C functions that take the pagemap lock what they change.
unsafe impl Sync for Backend {}

impl Backend {
    /// A backend for `nr` pages.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] for no page.
    ///
    /// # Safety
    ///
    /// `pgmap` must be pinned beside this backend, and live as long.
    pub(crate) unsafe fn new(nr: NrPages, pgmap: NonNull<bindings::dev_pagemap>) -> Result<Self> {
        if nr == NrPages::ZERO {
            return Err(EINVAL);
        }
        // INVARIANT: The caller promises the first half; it is not registered yet.
        Ok(Self {
            pgmap,
            nr,
            out: Atomic::new(0),
        })
    }

    /// How many pages there are.
    pub(crate) fn nr_pages(&self) -> NrPages {
        self.nr
    }

    /// Registers the pagemap, whose type, owner and operations are set. May sleep. Takes the same
    /// time for any number of pages.
    ///
    /// # Errors
    ///
    /// [`ERANGE`] if not as many offsets are left; [`EOPNOTSUPP`] if the machine's page tables
    /// cannot name such memory; [`ENOMEM`].
    ///
    /// # Safety
    ///
    /// The pagemap must be all zeroes but for the fields named above, and not be registered.
    pub(crate) unsafe fn register(&self, nid: i32) -> Result {
        let pgmap = self.pgmap.as_ptr();
        // SAFETY: The pagemap is there, by the type invariants, and nobody else knows it yet.
        unsafe { (*pgmap).nr_pages = self.nr.get() };
        // SAFETY: All that the function reads is set, here or by the caller.
        let registered = unsafe { bindings::memremap_device_private_pagemap(pgmap, nid) };
        // A driver knows one error for a machine without room, whichever room that is.
        to_result(registered).map_err(|err| if err == ENOSPC { ERANGE } else { err })
    }

    /// Undoes [`Backend::register`]. Sleeps until no page is out.
    ///
    /// # Safety
    ///
    /// The pagemap must be registered, and nothing may request a folio any more.
    pub(crate) unsafe fn unregister(&self) {
        // SAFETY: The caller promises a registered pagemap.
        unsafe { bindings::memunmap_device_private_pagemap(self.pgmap.as_ptr()) };
    }

    /// Puts the idle pages from `offset` on into service, as a folio of `order`: locked, with one
    /// reference, which are the caller's. May sleep.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if there are no such pages in the pagemap, or if a folio cannot begin there, or be
    /// so large; [`EBUSY`] if one of them is out; [`ENODEV`] if the pagemap is going away;
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
        let pgmap = self.pgmap.as_ptr();
        // SAFETY: The caller promises a registered pagemap; the function checks the rest.
        let folio = unsafe { bindings::pgmap_request_folio(pgmap, offset.get(), order.get()) };
        let folio = NonNull::new(from_err_ptr(folio)?).ok_or(ENOMEM)?;
        self.out.add(order.nr_pages().get(), Relaxed);
        Ok(folio)
    }

    /// Notes that the pages of a folio are idle again. Does not sleep.
    ///
    /// # Safety
    ///
    /// The folio must have come from [`Backend::request_folio`], or be a part of one that was split,
    /// and the last reference to it must be gone.
    pub(crate) unsafe fn release(&self, _offset: PageOffset, order: Order) {
        self.out.fetch_sub(order.nr_pages().get(), Relaxed);
    }

    /// How many pages are out.
    pub(crate) fn nr_out(&self) -> NrPages {
        NrPages::new(self.out.load(Relaxed))
    }

    /// The first page at `from` or above that is out.
    ///
    /// # Safety
    ///
    /// The pagemap must be registered.
    pub(crate) unsafe fn next_out(&self, from: PageOffset) -> Option<PageOffset> {
        if self.nr_out() == NrPages::ZERO {
            return None;
        }
        let mut next = from.get();
        while next < self.nr.get() {
            // SAFETY: The caller promises a registered pagemap.
            let page = unsafe { self.page(PageOffset::new(next)) };
            match NonNull::new(page) {
                // SAFETY: A `struct page` that is there stays until the pagemap is unregistered.
                Some(page) if unsafe { bindings::page_ref_count(page.as_ptr()) } != 0 => {
                    return Some(PageOffset::new(next));
                }
                Some(_) => next = next.checked_add(1)?,
                None => next = next.checked_add(1)?.checked_next_multiple_of(HOLE)?,
            }
        }
        None
    }

    /// The first page of the large folio in service that begins at `offset`, as it is at this moment.
    ///
    /// # Safety
    ///
    /// The pagemap must be registered.
    pub(crate) unsafe fn large_folio_at(
        &self,
        offset: PageOffset,
    ) -> Option<NonNull<bindings::page>> {
        // SAFETY: The caller promises a registered pagemap.
        let page = NonNull::new(unsafe { self.page(offset) })?;
        // SAFETY: A `struct page` that is there stays until the pagemap is unregistered.
        unsafe { begins_large(page) }.then_some(page)
    }

    /// The `struct page` at `offset`, or null where none has been made.
    ///
    /// # Safety
    ///
    /// The pagemap must be registered.
    unsafe fn page(&self, offset: PageOffset) -> *mut bindings::page {
        // SAFETY: The caller promises a registered pagemap.
        unsafe { bindings::device_private_offset_to_page(self.pgmap.as_ptr(), offset.get()) }
    }

    /// The number by which functions of the kernel know the page at `offset`.
    pub(crate) fn number_of(&self, offset: PageOffset) -> Option<usize> {
        Some(offset.get())
    }

    /// The offset of `page`, or `None` if it lies in no page of this pagemap.
    ///
    /// # Safety
    ///
    /// The caller must hold a reference to `page`, or be the one who gives up the last.
    pub(crate) unsafe fn offset_of(&self, page: NonNull<bindings::page>) -> Option<PageOffset> {
        // SAFETY: The page cannot go away, as the caller promises.
        if !unsafe { bindings::is_device_private_page(page.as_ptr()) } {
            return None;
        }
        // SAFETY: As above, and such a page has a pagemap.
        if unsafe { bindings::page_pgmap(page.as_ptr()) } != self.pgmap.as_ptr() {
            return None;
        }
        // SAFETY: As above. The page is in use, so its pagemap is registered.
        let offset = unsafe { bindings::device_private_page_to_offset(page.as_ptr()) };
        Some(PageOffset::new(offset))
    }

    /// Locks the pages that are in service among the `nr` from `offset` on, takes them out of the
    /// page tables of all processes, and writes them to `src`; idle and busy pages become empty
    /// entries. Sleeps.
    ///
    /// # Safety
    ///
    /// The pagemap must be registered, and have the pages, and `src` must have room for `nr`
    /// entries.
    pub(crate) unsafe fn migrate_device_range(
        &self,
        src: *mut c_ulong,
        offset: PageOffset,
        nr: NrPages,
    ) {
        let pgmap = self.pgmap.as_ptr();
        // SAFETY: The caller promises a registered pagemap and the room. A page that is not there
        // is an empty entry. The function always returns 0.
        unsafe { bindings::migrate_device_range(src, pgmap, offset.get(), nr.get()) };
    }
}
