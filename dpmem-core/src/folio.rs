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
    error::to_result,
    page::PAGE_SHIFT,
    prelude::*,
    types::ForeignOwnable, //
};

use crate::{
    data,
    migrate_pfn::MigratePfn,
    number::{
        Order,
        PageOffset, //
    },
    ops::DevPagemapOps,
    pagemap::DevPagemap, //
};

impl Order {
    /// The order of what an entry of the page middle directory maps.
    pub fn of_pmd() -> Self {
        // SAFETY: The function asks for nothing.
        let shift = unsafe { bindings::pmd_shift() };
        Self::of_shift(shift)
    }

    /// The order of what an entry of the page upper directory maps.
    pub fn of_pud() -> Self {
        // SAFETY: The function asks for nothing.
        let shift = unsafe { bindings::pud_shift() };
        Self::of_shift(shift)
    }

    fn of_shift(shift: u32) -> Self {
        // CAST: A shift is smaller than the number of bits of an address.
        Self::new(shift.saturating_sub(PAGE_SHIFT as u32)).unwrap_or(Self::MAX)
    }
}

/// The order of the large folios that this kernel migrates, which is [`Order::of_pmd`]. `None` if
/// it migrates none.
pub(crate) fn large_order() -> Option<Order> {
    // SAFETY: The function asks for nothing.
    unsafe { bindings::thp_migration_supported() }.then(Order::of_pmd)
}

/// The order of the folio `folio`.
///
/// # Safety
///
/// The caller must hold a reference to the folio, or be the one who gives up the last.
#[inline]
pub(crate) unsafe fn order_of(folio: NonNull<bindings::folio>) -> Order {
    // SAFETY: The folio is valid, as the caller promises.
    let order = unsafe { bindings::folio_order(folio.as_ptr()) };
    // The kernel has no folios that large.
    Order::new(order).unwrap_or(Order::ZERO)
}

/// The page `n` pages behind `page`.
///
/// # Safety
///
/// Both must exist, and their numbers follow each other, as those of the pages of a folio do.
#[inline]
pub(crate) unsafe fn nth_page(page: NonNull<bindings::page>, n: usize) -> *mut bindings::page {
    if n == 0 {
        return page.as_ptr();
    }
    // SAFETY: The caller promises that the page exists.
    let pfn = unsafe { bindings::page_to_pfn(page.as_ptr()) };
    // SAFETY: Arithmetic on a number, which is that of a page, as the caller promises.
    unsafe { bindings::pfn_to_page(pfn.wrapping_add(n)) }
}

/// Whether a large folio that is in service begins at `page`, as it is at this moment.
///
/// # Safety
///
/// `page` must exist for as long as this takes.
pub(crate) unsafe fn begins_large(page: NonNull<bindings::page>) -> bool {
    // SAFETY: The page exists, as the caller promises.
    if !unsafe { bindings::get_page_unless_zero(page.as_ptr()) } {
        return false;
    }
    // Only the first page of a folio has references of its own, so this is one.
    let folio = page.cast::<bindings::folio>();
    // SAFETY: The reference was just taken.
    let order = unsafe { order_of(folio) };
    // SAFETY: The reference is ours, and not used again.
    unsafe { bindings::folio_put(folio.as_ptr()) };
    order > Order::ZERO
}

/// Splits the large folio that `page` begins into single pages. Sleeps.
///
/// # Errors
///
/// [`EBUSY`] if it is not in service any more, or not large; [`EAGAIN`] if somebody is looking at
/// it just now.
///
/// # Safety
///
/// `page` must exist for as long as this takes.
pub(crate) unsafe fn split(page: NonNull<bindings::page>) -> Result {
    // SAFETY: The page exists, as the caller promises.
    if !unsafe { bindings::get_page_unless_zero(page.as_ptr()) } {
        return Err(EBUSY);
    }
    // A page with a reference of its own is the first of its folio.
    let folio = page.cast::<bindings::folio>();
    // Not more than a try: the one who has the lock may be waiting for us.
    //
    // SAFETY: The reference was just taken.
    if !unsafe { bindings::folio_trylock(folio.as_ptr()) } {
        // SAFETY: The reference is ours, and not used again.
        unsafe { bindings::folio_put(folio.as_ptr()) };
        return Err(EAGAIN);
    }
    // INVARIANT: Both are ours.
    let folio = LockedFolio(folio);
    if folio.order() == Order::ZERO {
        return Err(EBUSY);
    }
    // SAFETY: The folio is large, locked, and has a reference for us.
    to_result(unsafe { bindings::split_folio(folio.0.as_ptr()) })
}

/// A locked folio with a reference.
///
/// # Invariants
///
/// The folio is locked, and the lock and one reference to the folio are this value's.
pub(crate) struct LockedFolio(NonNull<bindings::folio>);

impl LockedFolio {
    /// The folio `folio`.
    ///
    /// # Safety
    ///
    /// The folio must be locked, and the lock and one reference to it must be the caller's, who
    /// gives them away.
    pub(crate) unsafe fn from_raw(folio: NonNull<bindings::folio>) -> Self {
        // INVARIANT: The caller promises it.
        Self(folio)
    }

    /// The first page, which a folio begins with.
    #[inline]
    fn page(&self) -> NonNull<bindings::page> {
        self.0.cast()
    }

    /// How large it is.
    fn order(&self) -> Order {
        // SAFETY: The reference is ours, by the type invariant.
        unsafe { order_of(self.0) }
    }

    /// Gives lock and reference to the entry of a migration.
    ///
    /// # Safety
    ///
    /// The folio must be of `order`.
    #[inline]
    unsafe fn into_migrate_pfn(self, order: Order) -> MigratePfn {
        // SAFETY: The page is that of a valid folio, by the type invariant.
        let pfn = unsafe { MigratePfn::of_page(self.page().as_ptr()) };
        forget(self);
        pfn.with_order(order)
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

/// A folio of device memory that was requested, and that no process has yet.
///
/// Dropping it gives it back to the allocator of its pagemap, and drops what is kept with it, as
/// the kernel does when it frees one: neither sleeps.
///
/// # Invariants
///
/// `folio` is a folio of `pagemap`, of `order`, whose data was initialised, and nobody uses it but
/// through this value. It has data only if `has_data` says so.
#[must_use = "the folio goes back to its allocator when this is dropped: keep it for as long as the device uses it"]
pub struct RequestedFolio<'p, T: DevPagemapOps> {
    pagemap: &'p DevPagemap<T>,
    folio: LockedFolio,
    order: Order,
    has_data: bool,
}

impl<'p, T: DevPagemapOps> RequestedFolio<'p, T> {
    /// A folio that was just requested.
    ///
    /// # Safety
    ///
    /// `folio` must be a locked folio of `pagemap`, of `order`, that nobody else knows, and on which
    /// [`data::init`] was called. The lock and the reference to it must be the caller's, who gives
    /// them away.
    pub(crate) unsafe fn from_raw(
        pagemap: &'p DevPagemap<T>,
        folio: NonNull<bindings::folio>,
        order: Order,
    ) -> Self {
        // INVARIANT: The caller promises it, and it has no data yet.
        Self {
            pagemap,
            // INVARIANT: As above.
            folio: LockedFolio(folio),
            order,
            has_data: false,
        }
    }

    /// Where the folio begins.
    pub fn offset(&self) -> Option<PageOffset> {
        // SAFETY: The reference to the folio is that of `self.folio`, by its type invariants.
        unsafe { self.pagemap.offset_of(self.folio.page()) }
    }

    /// How large the folio is.
    #[inline]
    pub fn order(&self) -> Order {
        self.order
    }

    /// What is kept with the folio, if anything.
    pub fn data(&self) -> Option<<T::Data as ForeignOwnable>::Borrowed<'_>> {
        // SAFETY: It is a folio of the pagemap, by the type invariants, and `self.folio`, which is
        // borrowed, has a reference to it.
        unsafe { data::borrow_from::<T::Data>(self.folio.page()) }
    }

    /// Keeps `data` with the folio; what it had is dropped. Does not sleep.
    pub fn set_data(&mut self, data: T::Data) {
        let folio = self.folio.page();
        let old = if self.has_data {
            // SAFETY: The first page of a folio of the pagemap, whose data was initialised, and
            // nobody uses it but us, by the type invariants. It gets other data below.
            unsafe { data::take::<T::Data>(folio) }
        } else {
            None
        };
        // SAFETY: As above. It has no data, by the type invariants, or what it had was taken.
        unsafe { data::put(folio, data) };
        // INVARIANT: It was just put.
        self.has_data = true;
        drop(old);
    }

    /// Makes the folio the destination of an entry of a migration.
    pub(crate) fn into_migrate_pfn(self) -> MigratePfn {
        // SAFETY: By the type invariants.
        unsafe { self.folio.into_migrate_pfn(self.order) }
    }
}

/// A folio of system memory that was just allocated, to receive one from the device. It is dirty:
/// what the device has may be newer than any copy of it, and the page table entries that are about
/// to be made do not say so.
///
/// # Invariants
///
/// `folio` is of `order`, and nobody knows it but this value.
#[must_use = "the folio is freed when this is dropped"]
pub(crate) struct RamFolio {
    folio: LockedFolio,
    order: Order,
}

impl RamFolio {
    /// A folio of `order` for the address `addr` of `vma`. Sleeps; for a large one not for long, as
    /// small ones will do as well.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`].
    ///
    /// # Safety
    ///
    /// `vma` must be valid, its mmap lock must be held, and `addr` must lie in it.
    pub(crate) unsafe fn for_vma(
        vma: *mut bindings::vm_area_struct,
        addr: usize,
        order: Order,
    ) -> Result<Self> {
        // SAFETY: The caller promises what the function asks for.
        let folio = unsafe { bindings::vma_alloc_folio_movable(vma, addr, order.get()) };
        // SAFETY: What is not null was just allocated with this order, for us.
        unsafe { Self::of_new(folio, order) }
    }

    /// A folio of `order` for whoever it may be. Sleeps, as above.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub(crate) fn for_anyone(order: Order) -> Result<Self> {
        // SAFETY: The function asks for nothing but a context that may sleep.
        let folio = unsafe { bindings::folio_alloc_movable(order.get()) };
        // SAFETY: As above.
        unsafe { Self::of_new(folio, order) }
    }

    /// A new folio, or [`ENOMEM`] if there is none.
    ///
    /// # Safety
    ///
    /// What is not null must be a folio of `order` that was just allocated, with the caller's
    /// reference, who gives it away.
    unsafe fn of_new(folio: *mut bindings::folio, order: Order) -> Result<Self> {
        let folio = NonNull::new(folio).ok_or(ENOMEM)?;
        // SAFETY: The folio is valid, and nobody else knows it, so that a write to its flags that
        // is not atomic loses nothing. It was never in a mapping, which would count dirty pages.
        unsafe { bindings::folio_init_locked_dirty(folio.as_ptr()) };
        // INVARIANT: The caller promises the order, and that nobody knows the folio.
        Ok(Self {
            // INVARIANT: Just locked, and the reference is that of the allocation.
            folio: LockedFolio(folio),
            order,
        })
    }

    /// Makes the folio the destination of an entry of a migration.
    #[inline]
    pub(crate) fn into_migrate_pfn(self) -> MigratePfn {
        // SAFETY: By the type invariants.
        unsafe { self.folio.into_migrate_pfn(self.order) }
    }
}
