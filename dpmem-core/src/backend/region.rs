// SPDX-License-Identifier: GPL-2.0

//! The backend for device memory that has a place in physical address space.
//!
//! Coherent memory has one of its own, which the driver names. On an unmodified kernel, private
//! memory has a page frame number as well, and so its pagemap needs a piece of physical address
//! space that nothing else uses. This file asks for that piece, and keeps it to itself.
//!
//! C headers: [`include/linux/ioport.h`](srctree/include/linux/ioport.h),
//! [`include/linux/memremap.h`](srctree/include/linux/memremap.h)

use core::{
    ops::Range,
    ptr::NonNull, //
};

use kernel::{
    bindings,
    error::from_err_ptr,
    io::resource,
    page::PAGE_SHIFT,
    prelude::*, //
};

#[cfg(not(dpmem_offset))]
use kernel::str::CStr;

use super::claims::Claims;
use crate::{
    folio::{
        begins_large,
        large_order, //
    },
    number::{
        NrPages,
        Order,
        PageOffset,
        PhysRange, //
    }, //
};

/// A pagemap must begin and end at multiples of this: the kernel hotplugs memory in subsections of
/// 2 MiB on every architecture, see `SUBSECTION_SHIFT`.
const SUBSECTION_SIZE: usize = 1 << 21;

/// A piece of physical address space for private memory, which belongs to us.
///
/// # Invariants
///
/// `res` points to a resource that `request_free_mem_region()` made. It is released when the value
/// is dropped, and not before.
#[cfg(not(dpmem_offset))]
struct Region {
    res: NonNull<bindings::resource>,
}

// SAFETY: A resource is not bound to a thread, and the functions on it take the resource lock.
#[cfg(not(dpmem_offset))]
unsafe impl Send for Region {}
// SAFETY: Nothing changes the resource through a shared reference.
#[cfg(not(dpmem_offset))]
unsafe impl Sync for Region {}

#[cfg(not(dpmem_offset))]
impl Region {
    /// Takes `size` bytes of unused physical address space. May sleep.
    ///
    /// # Errors
    ///
    /// [`ERANGE`] if there is none, which depends on the machine and on chance; [`ENOMEM`].
    fn request(name: &'static CStr, size: usize) -> Result<Self> {
        let base = &raw mut bindings::iomem_resource;
        // SAFETY: `base` is the root of the resource tree. The name is static, so it outlives the
        // resource, which keeps the pointer.
        let res = unsafe { bindings::request_free_mem_region(base, size, name.as_char_ptr()) };
        let res = NonNull::new(from_err_ptr(res)?).ok_or(ENOMEM)?;
        // INVARIANT: Just made.
        Ok(Self { res })
    }

    /// The physical address of the first byte.
    fn start(&self) -> bindings::resource_size_t {
        // SAFETY: The resource lives as long as `self`, by the type invariant, and nobody changes
        // the bounds of a resource that is somebody's.
        unsafe { (*self.res.as_ptr()).start }
    }

    /// The physical address of the last byte.
    fn end(&self) -> bindings::resource_size_t {
        // SAFETY: As in `start()`.
        unsafe { (*self.res.as_ptr()).end }
    }
}

#[cfg(not(dpmem_offset))]
impl Drop for Region {
    fn drop(&mut self) {
        let start = self.start();
        // OVERFLOW: The end is not below the start, and the whole address space is never free.
        let size = self.end() - start + 1;
        let base = &raw mut bindings::iomem_resource;
        // SAFETY: The region is ours, by the type invariant, and `self` is not used again.
        unsafe { bindings::__release_region(base, start, size) };
    }
}

/// What keeps the addresses of private memory ours. Those of coherent memory are the driver's, who
/// requested them.
#[cfg(not(dpmem_offset))]
type Ours = Option<Region>;
#[cfg(dpmem_offset)]
type Ours = ();

/// The `struct page`s of one pagemap.
///
/// # Invariants
///
/// `pgmap` is the C structure beside which this backend lies, pinned with it. Between
/// [`Backend::register`] and [`Backend::unregister`] it is registered.
#[pin_data]
pub(crate) struct Backend {
    pgmap: NonNull<bindings::dev_pagemap>,
    start: bindings::resource_size_t,
    nr: NrPages,
    coherent: bool,
    #[pin]
    claims: Claims,
    _ours: Ours,
    _requested: Option<resource::Region>,
}

// SAFETY: The pagemap is not bound to a thread, and the rest is `Send` itself.
unsafe impl Send for Backend {}
// SAFETY: The C functions that take the pagemap lock what they change; the rest is `Sync` itself.
unsafe impl Sync for Backend {}

impl Backend {
    /// Reserves room for `nr` pages of private memory. May sleep.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] for no page, or 2^34 or more; [`ERANGE`] if the machine has no room; [`ENOMEM`].
    ///
    /// # Safety
    ///
    /// `pgmap` must be pinned beside this backend, and live as long.
    #[cfg(not(dpmem_offset))]
    pub(super) unsafe fn private(
        name: &'static CStr,
        nr: NrPages,
        pgmap: NonNull<bindings::dev_pagemap>,
    ) -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(move || {
            if nr == NrPages::ZERO {
                return Err(EINVAL);
            }
            // A machine has no room for so many.
            if nr >= Claims::LIMIT {
                return Err(ERANGE);
            }
            let bytes = nr.to_bytes().ok_or(ERANGE)?;
            let size = bytes
                .checked_next_multiple_of(SUBSECTION_SIZE)
                .ok_or(ERANGE)?;
            let region = Region::request(name, size)?;
            // INVARIANT: The caller promises the first half; it is not registered yet.
            Ok(try_pin_init!(Self {
                pgmap,
                start: region.start(),
                claims <- Claims::new(nr),
                nr,
                coherent: false,
                _ours: Some(region),
                _requested: None,
            }))
        })
    }

    /// A backend for the coherent memory at `region`. May sleep.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] for 2^34 pages or more, or if the range does not begin and end at a subsection;
    /// [`ENOMEM`].
    ///
    /// # Safety
    ///
    /// `pgmap` must be pinned beside this backend, and live as long.
    pub(super) unsafe fn coherent(
        region: resource::Region,
        pgmap: NonNull<bindings::dev_pagemap>,
    ) -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(move || {
            let range = PhysRange::of(&region)?;
            let nr = range.nr_pages();
            let bytes = nr.to_bytes().ok_or(EINVAL)?;
            // CAST: Smaller than what `u64` has.
            if range.start() % SUBSECTION_SIZE as u64 != 0 || bytes % SUBSECTION_SIZE != 0 {
                return Err(EINVAL);
            }
            // INVARIANT: The caller promises the first half; it is not registered yet.
            Ok(try_pin_init!(Self {
                pgmap,
                start: range.start(),
                claims <- Claims::new(nr),
                nr,
                coherent: true,
                _ours: Ours::default(),
                _requested: Some(region),
            }))
        })
    }

    /// Whether a CPU can address the memory.
    pub(super) fn is_coherent(&self) -> bool {
        self.coherent
    }

    /// How many pages there are.
    pub(crate) fn nr_pages(&self) -> NrPages {
        self.nr
    }

    /// Registers the pagemap, whose type, owner and operations are set. May sleep, for as long as
    /// it takes to make a `struct page` for every page.
    ///
    /// # Errors
    ///
    /// Those of `memremap_pages()`.
    ///
    /// # Safety
    ///
    /// The pagemap must be all zeroes but for the fields named above, and not be registered.
    pub(crate) unsafe fn register(&self, nid: i32) -> Result {
        let pgmap = self.pgmap.as_ptr();
        let start = self.start;
        // OVERFLOW: What lies at `start` is at least as long as the pagemap, rounded up to a
        // subsection if it is private.
        let len = self
            .nr
            .get()
            .next_multiple_of(SUBSECTION_SIZE >> PAGE_SHIFT)
            << PAGE_SHIFT;
        // CAST: `resource_size_t` is `u64`, and `usize` is not wider.
        let end = start + len as u64 - 1;
        // SAFETY: The caller lets us write to `pgmap`. Zeroes are a valid union, and `range` is
        // the member that `nr_range` of 1 selects.
        let range = unsafe { (*pgmap).__bindgen_anon_1.range.as_mut() };
        range.start = start;
        range.end = end;
        // SAFETY: The caller lets us write to `pgmap`.
        unsafe { (*pgmap).nr_range = 1 };
        // SAFETY: All that the function reads is set, here or by the caller. The range is ours.
        from_err_ptr(unsafe { bindings::memremap_pages(pgmap, nid) })?;
        Ok(())
    }

    /// Undoes [`Backend::register`]. Sleeps until no page is out.
    ///
    /// # Safety
    ///
    /// The pagemap must be registered, and nothing may request a folio any more.
    pub(crate) unsafe fn unregister(&self) {
        // SAFETY: The caller promises a registered pagemap.
        unsafe { bindings::memunmap_pages(self.pgmap.as_ptr()) };
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
        let possible = order == Order::ZERO || large_order().is_some_and(|large| order <= large);
        if !possible || !offset.is_aligned(order) || end.get() > self.nr.get() {
            return Err(EINVAL);
        }

        // SAFETY: The caller promises a valid pagemap; the field is not read here.
        let live = unsafe { &raw mut (*pgmap).ref_ };
        // SAFETY: A registered pagemap has its reference initialised.
        if !unsafe { bindings::percpu_ref_tryget_live(live) } {
            return Err(ENODEV);
        }
        let claimed = self.claims.claim(offset.get()..end.get());
        // CAST: An idle page is the beginning of nothing but itself, whatever it was when it was
        // last in service. Hence not `page_folio()`, which would believe what is left of that.
        let folio = self.page(offset).cast::<bindings::folio>();
        if claimed.is_ok() {
            // SAFETY: The pages belong to `pgmap`. They are idle: nobody had claimed them, and a
            // claim is given back when `folio_free()` is done with the folio. We hold a
            // reference to the pagemap, so it is not being unmapped. That a folio of this order may
            // begin here was checked.
            unsafe { bindings::zone_device_folio_init(folio, pgmap, order.get()) };
        }
        // SAFETY: The reference is the one taken above; a folio now has its own.
        unsafe { bindings::percpu_ref_put(live) };
        claimed?;
        NonNull::new(folio).ok_or(EINVAL)
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
        if offset.get() >= self.nr.get() {
            return None;
        }
        let page = NonNull::new(self.page(offset))?;
        // SAFETY: A `struct page` that is there stays until the pagemap is unregistered.
        unsafe { begins_large(page) }.then_some(page)
    }

    /// The page frame number of the first page.
    fn first_pfn(&self) -> usize {
        // CAST: A page frame number fits in an `unsigned long`, which is what `usize` is.
        (self.start >> PAGE_SHIFT) as usize
    }

    /// The `struct page` at `offset`, which must lie in the pagemap.
    fn page(&self, offset: PageOffset) -> *mut bindings::page {
        // SAFETY: Arithmetic on a number; that the page exists is up to whoever looks at it.
        unsafe { bindings::pfn_to_page(self.first_pfn().wrapping_add(offset.get())) }
    }

    /// The number by which functions of the kernel know the page at `offset`, which must be one of
    /// the pagemap.
    pub(crate) fn number_of(&self, offset: PageOffset) -> Option<usize> {
        self.first_pfn().checked_add(offset.get())
    }

    /// The offset of `page`, or `None` if it lies in no page of this pagemap.
    ///
    /// # Safety
    ///
    /// The caller must hold a reference to `page`, or be the one who gives up the last.
    pub(crate) unsafe fn offset_of(&self, page: NonNull<bindings::page>) -> Option<PageOffset> {
        // SAFETY: Arithmetic on a pointer.
        let pfn = unsafe { bindings::page_to_pfn(page.as_ptr()) };
        let offset = pfn.checked_sub(self.first_pfn())?;
        (offset < self.nr.get()).then_some(PageOffset::new(offset))
    }

    /// As [`Backend::offset_of`], for a page that is known to be one of the pagemap.
    ///
    /// # Safety
    ///
    /// `page` must be one of the pagemap, and the caller must hold a reference to it, or be the one
    /// who gives up the last.
    #[inline]
    pub(crate) unsafe fn own_offset(&self, page: NonNull<bindings::page>) -> PageOffset {
        // SAFETY: Arithmetic on a pointer.
        let pfn = unsafe { bindings::page_to_pfn(page.as_ptr()) };
        // OVERFLOW: It is one of the pagemap's pages, whose first has this number.
        PageOffset::new(pfn.wrapping_sub(self.first_pfn()))
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
        // OVERFLOW: The caller promises that the pages exist.
        let end = offset.get() + nr.get();
        let mut next = offset.get();
        // Only what is out: an idle page looks like what it last was, for instance the beginning of
        // a large folio, and the function would skip all that is in service behind it.
        while let Some(run) = self.claims.next_run(next..end) {
            // SAFETY: The run begins in the range, for which there is room.
            let src = unsafe { src.add(run.start - offset.get()) };
            // SAFETY: The caller promises that the pages exist and that there is room.
            unsafe { self.migrate_device_run(src, run.clone()) };
            next = run.end;
        }
    }

    /// As [`Backend::migrate_device_range`], for pages that were out just now.
    ///
    /// # Safety
    ///
    /// That of [`Backend::migrate_device_range`].
    #[cfg(dpmem_offset)]
    unsafe fn migrate_device_run(&self, src: *mut c_ulong, run: Range<usize>) {
        let pgmap = self.pgmap.as_ptr();
        // SAFETY: The caller promises a registered pagemap that has the pages, and the room. The
        // function always returns 0.
        unsafe { bindings::migrate_device_range(src, pgmap, run.start, run.len()) };
    }

    /// As [`Backend::migrate_device_range`], for pages that were out just now.
    ///
    /// # Safety
    ///
    /// That of [`Backend::migrate_device_range`].
    #[cfg(not(dpmem_offset))]
    unsafe fn migrate_device_run(&self, src: *mut c_ulong, run: Range<usize>) {
        let start = self.first_pfn().wrapping_add(run.start);
        // SAFETY: The caller promises that the pages exist, and the room. The function always
        // returns 0.
        unsafe { bindings::migrate_device_range(src, start, run.len()) };
    }
}
