// SPDX-License-Identifier: GPL-2.0

//! The tracepoints, for the counters alone. One that is off costs an instruction that does nothing.
//! A method that calls one of these must not be inlined into another crate: only this one's module
//! refers to what C defines.
//!
//! C header: [`include/trace/events/dpmem.h`](srctree/include/trace/events/dpmem.h)

use kernel::{
    prelude::*,
    str::CStr,
    tracepoint::declare_trace, //
};

use crate::number::{
    NrPages,
    Order,
    PageOffset,
    UserAddr, //
};

declare_trace! {
    /// # Safety
    ///
    /// Always safe to call.
    unsafe fn dpmem_request(pagemap: u64, offset: c_ulong, order: c_uint);
    /// # Safety
    ///
    /// Always safe to call.
    unsafe fn dpmem_free(pagemap: u64, offset: c_ulong, order: c_uint);
    /// # Safety
    ///
    /// Always safe to call.
    unsafe fn dpmem_migrate(pagemap: u64, to_device: bool, copied: c_ulong, moved: c_ulong);
    /// # Safety
    ///
    /// Always safe to call.
    unsafe fn dpmem_fault(pagemap: u64, address: c_ulong, offset: c_ulong, answer: c_uint);
    /// # Safety
    ///
    /// Always safe to call.
    unsafe fn dpmem_split(pagemap: u64, folios: c_ulong);
    /// # Safety
    ///
    /// Always safe to call.
    unsafe fn dpmem_evict(pagemap: u64, offset: c_ulong, nr: c_ulong, moved: c_ulong);
    /// # Safety
    ///
    /// `cause` must point to a string of C.
    unsafe fn dpmem_failure(pagemap: u64, cause: *const c_char, nr: c_ulong);
}

/// A folio was taken out of the allocator.
#[inline]
pub(super) fn request(pagemap: u64, offset: PageOffset, order: Order) {
    // SAFETY: Always safe to call.
    unsafe { dpmem_request(pagemap, offset.get(), order.get()) };
}

/// A folio went back to the allocator.
#[inline]
pub(super) fn free(pagemap: u64, offset: PageOffset, order: Order) {
    // SAFETY: Always safe to call.
    unsafe { dpmem_free(pagemap, offset.get(), order.get()) };
}

/// Of `copied` pages, `moved` have moved.
#[inline]
pub(super) fn migrate(pagemap: u64, to_device: bool, copied: NrPages, moved: NrPages) {
    // SAFETY: Always safe to call.
    unsafe { dpmem_migrate(pagemap, to_device, copied.get(), moved.get()) };
}

/// A CPU touched the page at `offset`, and this is the answer.
#[inline]
pub(super) fn fault(pagemap: u64, address: UserAddr, offset: PageOffset, answer: c_uint) {
    // SAFETY: Always safe to call.
    unsafe { dpmem_fault(pagemap, address.get(), offset.get(), answer) };
}

/// So many large folios were split.
#[inline]
pub(super) fn split(pagemap: u64, folios: usize) {
    // SAFETY: Always safe to call.
    unsafe { dpmem_split(pagemap, folios) };
}

/// Of the `nr` pages from `offset` on, `moved` came home.
#[inline]
pub(super) fn evict(pagemap: u64, offset: PageOffset, nr: NrPages, moved: NrPages) {
    // SAFETY: Always safe to call.
    unsafe { dpmem_evict(pagemap, offset.get(), nr.get(), moved.get()) };
}

/// `cause` is why something did not work, `nr` times.
#[inline]
pub(super) fn failure(pagemap: u64, cause: &'static CStr, nr: usize) {
    // SAFETY: A `CStr` is a string of C.
    unsafe { dpmem_failure(pagemap, cause.as_char_ptr(), nr) };
}
