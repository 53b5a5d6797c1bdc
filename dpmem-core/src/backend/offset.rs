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
    prelude::*, //
};

use super::claims::Claims;
use crate::{
    folio::begins_large,
    number::{
        NrPages,
        Order,
        PageOffset, //
    }, //
};

/// The `struct page`s of one pagemap.
///
/// # Invariants
///
/// `pgmap` is the C structure beside which this backend lies, pinned with it. Between
/// [`Backend::register`] and [`Backend::unregister`] it is registered.
#[pin_data]
pub(crate) struct Backend {
    pgmap: NonNull<bindings::dev_pagemap>,
    nr: NrPages,
    #[pin]
    claims: Claims,
}

// SAFETY: The pagemap is not bound to a thread, and the rest is `Send` itself.
unsafe impl Send for Backend {}
// SAFETY: The C functions that take the pagemap lock what they change; the rest is `Sync` itself.
unsafe impl Sync for Backend {}

impl Backend {
    /// A backend for `nr` pages. May sleep.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] for no page; [`ERANGE`] for 2^34 or more; [`ENOMEM`].
    ///
    /// # Safety
    ///
    /// `pgmap` must be pinned beside this backend, and live as long.
    pub(super) unsafe fn new(
        nr: NrPages,
        pgmap: NonNull<bindings::dev_pagemap>,
    ) -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(move || {
            // A machine has no room for so many.
            if nr >= Claims::LIMIT {
                return Err(ERANGE);
            }
            // INVARIANT: The caller promises the first half; it is not registered yet.
            Ok(try_pin_init!(Self {
                pgmap,
                claims <- Claims::new(nr),
                nr,
            }))
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
        let pgmap = self.pgmap.as_ptr();
        let end = offset.checked_add(order.nr_pages()).ok_or(EINVAL)?;
        let pages = offset.get()..end.get();
        // The function knows a page that is in service, and not one that is being freed.
        self.claims.claim(pages.clone())?;
        // SAFETY: The caller promises a registered pagemap. Nobody looks at the pages as a folio of
        // the past: nobody had claimed them, and a claim is given back when `folio_free()` is done.
        // The function checks the rest.
        let folio = unsafe { bindings::pgmap_request_folio(pgmap, offset.get(), order.get()) };
        from_err_ptr(folio)
            .and_then(|folio| NonNull::new(folio).ok_or(ENOMEM))
            .inspect_err(|_| self.claims.unclaim(pages))
    }

    /// Notes that the pages of a folio are idle again. Does not sleep.
    ///
    /// # Safety
    ///
    /// The folio must have come from [`Backend::request_folio`], or be a part of one that was
    /// split, the last reference to it must be gone, and nobody may look at it any more.
    pub(crate) unsafe fn release(&self, offset: PageOffset, order: Order) {
        // OVERFLOW: The folio lies in the pagemap.
        let end = offset.get() + order.nr_pages().get();
        self.claims.unclaim(offset.get()..end);
    }

    /// How many pages are out.
    pub(crate) fn nr_out(&self) -> NrPages {
        self.claims.nr_out()
    }

    /// The first page at `from` or above that is out.
    pub(crate) fn next_out(&self, from: PageOffset) -> Option<PageOffset> {
        self.claims.next_out(from.get()).map(PageOffset::new)
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
        // SAFETY: As above, and it is one of the pagemap.
        Some(unsafe { self.own_offset(page) })
    }

    /// As [`Backend::offset_of`], for a page that is known to be one of the pagemap.
    ///
    /// # Safety
    ///
    /// `page` must be one of the pagemap, and the caller must hold a reference to it, or be the one
    /// who gives up the last.
    #[inline]
    pub(crate) unsafe fn own_offset(&self, page: NonNull<bindings::page>) -> PageOffset {
        // SAFETY: The page is one of device-private memory, and in use, as the caller promises, so
        // that its pagemap is registered.
        let offset = unsafe { bindings::device_private_page_to_offset(page.as_ptr()) };
        PageOffset::new(offset)
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
