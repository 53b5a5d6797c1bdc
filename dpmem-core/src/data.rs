// SPDX-License-Identifier: GPL-2.0

//! What a driver keeps with each of its folios, in `page::zone_device_data`.
//!
//! C header: [`include/linux/mm_types.h`](srctree/include/linux/mm_types.h)

use core::ptr::{
    null_mut,
    NonNull, //
};

use kernel::{
    bindings,
    prelude::*,
    sync::Arc,
    types::ForeignOwnable, //
};

/// What a driver keeps with each of its folios: the object that the memory belongs to, say. `()` is
/// nothing, and costs nothing.
///
/// A folio owns its data from [`Collected::fill_with`](crate::Collected::fill_with) on, until it is
/// freed. When a folio is split, each part has a clone.
///
/// # Context
///
/// Cloned with interrupts off, and dropped when the last reference to a folio goes away, with any
/// lock of the kernel held, and for coherent memory also in an interrupt: neither may sleep. What
/// has to sleep to go away must leave that to a work item.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be kept with a folio",
    label = "a folio has room for a pointer, which is cloned and dropped anywhere",
    note = "keep an `Arc` of it, or `()` for nothing at all"
)]
pub trait FolioData: ForeignOwnable + Clone + Send + Sync + 'static {}

impl FolioData for () {}

impl<T: Send + Sync + 'static> FolioData for Arc<T> {}

/// Whether `D` is anything at all.
pub(crate) const fn is_kept<D: FolioData>() -> bool {
    size_of::<D>() != 0
}

/// The data of a folio, as a pointer that [`ForeignOwnable::into_foreign`] made, or null.
///
/// # Safety
///
/// `folio` must be the first page of a folio of device memory, which is not freed meanwhile, and is
/// that of a pagemap whose data is not `()`.
#[inline]
unsafe fn get(folio: NonNull<bindings::page>) -> *mut c_void {
    // SAFETY: The page is there, as the caller promises.
    unsafe { bindings::page_zone_device_data(folio.as_ptr()) }
}

/// Says that the folio has no data. Nothing is dropped.
///
/// # Safety
///
/// `folio` must be the first page of a folio of device memory that nobody but the caller knows.
pub(crate) unsafe fn init<D: FolioData>(folio: NonNull<bindings::page>) {
    if is_kept::<D>() {
        // SAFETY: The page is the caller's.
        unsafe { bindings::set_page_zone_device_data(folio.as_ptr(), null_mut()) };
    }
}

/// Takes the data of the folio out of it. What the folio says of it is not changed.
///
/// # Safety
///
/// `folio` must be the first page of a folio of a pagemap whose data is `D`, on which [`init`] was
/// called, and nobody but the caller may use it. Before anybody asks for its data again, there must
/// have been another [`init`] or [`put`].
pub(crate) unsafe fn take<D: FolioData>(folio: NonNull<bindings::page>) -> Option<D> {
    if !is_kept::<D>() {
        return None;
    }
    // SAFETY: The caller promises it.
    let data = unsafe { get(folio) };
    // SAFETY: What is not null was made of a `D` by `put()`, and is nobody's any more.
    unsafe { D::try_from_foreign(data) }
}

/// Gives data to the folio, which has none, or whose data was taken.
///
/// # Safety
///
/// `folio` must be the first page of a folio of a pagemap whose data is `D`, and nobody but the
/// caller may use it.
pub(crate) unsafe fn put<D: FolioData>(folio: NonNull<bindings::page>, data: D) {
    if is_kept::<D>() {
        // SAFETY: The caller promises it.
        unsafe { bindings::set_page_zone_device_data(folio.as_ptr(), data.into_foreign()) };
    }
}

/// Lends the data of the folio that `page` is in.
///
/// # Safety
///
/// `page` must be a page of a pagemap whose data is `D`, and there must be a reference to its folio
/// during the lifetime that the caller chooses.
pub(crate) unsafe fn borrow<'a, D: FolioData>(
    page: NonNull<bindings::page>,
) -> Option<D::Borrowed<'a>> {
    if !is_kept::<D>() {
        return None;
    }
    // SAFETY: The page has a folio, to which there is a reference.
    let folio = unsafe { bindings::page_folio(page.as_ptr()) };
    // SAFETY: A folio begins with its first page. It is one of the same pagemap, and there is a
    // reference to it during `'a`, as the caller promises.
    unsafe { borrow_from::<D>(NonNull::new(folio)?.cast()) }
}

/// As [`borrow`], for a page that is known to be the first of its folio.
///
/// # Safety
///
/// That of [`borrow`], and `first` must be the first page of its folio.
pub(crate) unsafe fn borrow_from<'a, D: FolioData>(
    first: NonNull<bindings::page>,
) -> Option<D::Borrowed<'a>> {
    if !is_kept::<D>() {
        return None;
    }
    // SAFETY: The caller promises it.
    let data = unsafe { get(first) };
    if data.is_null() {
        return None;
    }
    // SAFETY: What is not null was made of a `D` by `put()`. It stays until the folio is freed:
    // what was requested gets its data before anybody else knows it.
    Some(unsafe { D::borrow(data) })
}

/// Gives a clone of the data of the folio `head` to `tail`, which was a part of it.
///
/// # Safety
///
/// Both must be the first pages of folios of a pagemap whose data is `D`, and the kernel must be
/// splitting the one into the other.
pub(crate) unsafe fn share<D: FolioData>(
    head: NonNull<bindings::page>,
    tail: NonNull<bindings::page>,
) {
    // SAFETY: Nobody knows the new folio yet.
    unsafe { init::<D>(tail) };
    // SAFETY: The kernel has frozen the references to the folio, so nobody else uses it. What it
    // had is put back below.
    let Some(data) = (unsafe { take::<D>(head) }) else {
        return;
    };
    let clone = data.clone();
    // SAFETY: As above.
    unsafe { put(head, data) };
    // SAFETY: Nobody knows the new folio yet.
    unsafe { put(tail, clone) };
}
