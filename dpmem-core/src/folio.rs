// SPDX-License-Identifier: GPL-2.0

//! Folios that are ours: locked, with one reference, and not yet in service.
//!
//! An idle folio is nothing but an offset, which the driver's allocator owns. A folio in service is
//! the kernel's. What lies between is here. Such a folio can be made the destination of a
//! migration, which takes it; dropped, it goes back to where it came from.
//!
//! C header: [`include/linux/mm.h`](srctree/include/linux/mm.h)

use core::{
    mem::forget,
    ptr::NonNull, //
};

use kernel::{
    bindings,
    prelude::*, //
};

use crate::{
    migrate_pfn::MigratePfn,
    number::PageOffset,
    ops::DevPagemapOps,
    pagemap::DevPagemap, //
};

/// A locked folio with a reference.
///
/// # Invariants
///
/// The folio is locked, and the lock and one reference to the folio are this value's.
struct LockedFolio(NonNull<bindings::folio>);

impl LockedFolio {
    /// The first page.
    fn page(&self) -> Option<NonNull<bindings::page>> {
        // SAFETY: The folio is valid, by the type invariant, and has a first page.
        NonNull::new(unsafe { bindings::folio_page(self.0.as_ptr(), 0) })
    }

    /// Gives lock and reference to the entry of a migration.
    fn into_migrate_pfn(self) -> MigratePfn {
        let pfn = self.page().map_or(MigratePfn::NONE, |page| {
            // SAFETY: The page is valid.
            unsafe { MigratePfn::of_page(page.as_ptr()) }
        });
        if pfn.is_valid() {
            forget(self);
        }
        pfn
    }
}

impl Drop for LockedFolio {
    fn drop(&mut self) {
        // SAFETY: The lock is ours, by the type invariant.
        unsafe { bindings::folio_unlock(self.0.as_ptr()) };
        // SAFETY: The reference is ours, by the type invariant, and not used again.
        unsafe { bindings::folio_put(self.0.as_ptr()) };
    }
}

/// Takes back what [`RequestedFolio`] or [`RamFolio`] gave to an entry of a migration, and drops
/// it. An entry without a page is nothing to drop.
///
/// # Safety
///
/// The entry must own the lock and a reference to the folio that its page begins, and must not be
/// used again.
pub(crate) unsafe fn drop_destination(entry: MigratePfn) {
    if let Some(page) = entry.page() {
        // SAFETY: The entry names a valid page.
        let folio = unsafe { bindings::page_folio(page.as_ptr()) };
        // INVARIANT: The caller promises that lock and reference are the entry's.
        drop(NonNull::new(folio).map(LockedFolio));
    }
}

/// A folio of device memory that was requested, and is not in service yet.
///
/// Dropping it gives it back to the allocator of its pagemap.
#[must_use = "the folio goes back to its allocator when this is dropped"]
pub struct RequestedFolio<'p, T: DevPagemapOps> {
    pagemap: &'p DevPagemap<T>,
    folio: LockedFolio,
}

impl<'p, T: DevPagemapOps> RequestedFolio<'p, T> {
    /// A folio that was just requested.
    ///
    /// # Safety
    ///
    /// `folio` must be a locked folio of `pagemap`, and the lock and a reference to it must be the
    /// caller's, who gives them away.
    pub(crate) unsafe fn from_raw(
        pagemap: &'p DevPagemap<T>,
        folio: NonNull<bindings::folio>,
    ) -> Self {
        Self {
            pagemap,
            // INVARIANT: The caller promises it.
            folio: LockedFolio(folio),
        }
    }

    /// Where the folio begins.
    pub fn offset(&self) -> Option<PageOffset> {
        let page = self.folio.page()?;
        // SAFETY: The reference to the folio is ours.
        unsafe { self.pagemap.offset_of(page) }
    }

    /// Makes the folio the destination of an entry of a migration.
    pub(crate) fn into_migrate_pfn(self) -> MigratePfn {
        self.folio.into_migrate_pfn()
    }
}

/// A page of system memory that was just allocated, to receive a page from the device.
#[must_use = "the page is freed when this is dropped"]
pub(crate) struct RamFolio(LockedFolio);

impl RamFolio {
    /// A page for the address `addr` of `vma`. Sleeps.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`].
    ///
    /// # Safety
    ///
    /// `vma` must be valid, its mmap lock must be held, and `addr` must lie in it.
    pub(crate) unsafe fn for_vma(vma: *mut bindings::vm_area_struct, addr: usize) -> Result<Self> {
        // SAFETY: The caller promises what the function asks for.
        Self::lock(unsafe { bindings::vma_alloc_folio_movable(vma, addr) })
    }

    /// A page for whoever it may be. Sleeps.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub(crate) fn for_anyone() -> Result<Self> {
        // SAFETY: The function asks for nothing but a context that may sleep.
        Self::lock(unsafe { bindings::folio_alloc_movable() })
    }

    /// Locks a new folio.
    fn lock(folio: *mut bindings::folio) -> Result<Self> {
        let folio = NonNull::new(folio).ok_or(ENOMEM)?;
        // SAFETY: The folio is valid. Nobody else knows it, so this does not wait.
        unsafe { bindings::folio_lock(folio.as_ptr()) };
        // INVARIANT: Just locked, and the reference is that of the allocation.
        Ok(Self(LockedFolio(folio)))
    }

    /// Makes the page the destination of an entry of a migration.
    pub(crate) fn into_migrate_pfn(self) -> MigratePfn {
        self.0.into_migrate_pfn()
    }
}
