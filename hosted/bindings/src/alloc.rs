// SPDX-License-Identifier: GPL-2.0

//! `kmalloc()`, `vmalloc()` and relatives.
//!
//! Real: each allocation is one of the host's, may be made to fail, and is to be freed. Not
//! simulated: caches, nodes, limits, and whether memory is physically contiguous, so that
//! `is_vmalloc_addr()` is always false.

use std::{
    alloc::{alloc_zeroed, dealloc, Layout},
    backtrace::Backtrace,
};

use ffi::*;

use crate::{
    consts::{gfp_t, ___GFP_DIRECT_RECLAIM, GFP_KERNEL, NUMA_NO_NODE},
    lockdep,
    machine::{might_sleep, with},
    mm::PAGE_SIZE,
    pages::page,
    report::{fatal, report, whose},
};

/// What was allocated.
pub(crate) struct Allocation {
    pub(crate) size: usize,
    align: usize,
    pub(crate) by: Option<Backtrace>,
}

/// Says that `what` may sleep, and may have to reclaim memory first.
pub(crate) fn might_alloc(what: &str) {
    might_sleep(what);
    lockdep::might_acquire(lockdep::FS_RECLAIM);
}

/// What memory is full of that nobody has asked to be zero.
pub(crate) const RUBBISH: u8 = 0x6b;

unsafe fn reallocate(
    old: *const c_void,
    size: usize,
    align: usize,
    flags: gfp_t,
    what: &'static str,
) -> *mut c_void {
    if flags & ___GFP_DIRECT_RECLAIM != 0 && size > 0 {
        might_alloc(what);
    }
    let align = align.max(8);
    let new = if size == 0 {
        std::ptr::null_mut()
    } else {
        if with(|m| m.fails(what)) {
            return std::ptr::null_mut();
        }
        // What is not asked to be zero is not, lest somebody believe so.
        let layout = Layout::from_size_align(size, align)
            .unwrap_or_else(|_| fatal("a size that no memory has"));
        let new = unsafe { alloc_zeroed(layout) };
        if new.is_null() {
            return std::ptr::null_mut();
        }
        if flags & crate::consts::__GFP_ZERO == 0 {
            unsafe { new.write_bytes(RUBBISH, size) };
        }
        let allocation = Allocation {
            size,
            align,
            by: whose(),
        };
        with(|m| m.allocations.insert(new as usize, allocation));
        new
    };
    if !old.is_null() {
        let Some(Allocation {
            size: old_size,
            align: old_align,
            ..
        }) = with(|m| m.allocations.remove(&(old as usize)))
        else {
            fatal("memory is freed that was not allocated, or is freed twice");
        };
        if let Some(what) = with(|m| m.lent(old as usize, old_size)) {
            fatal(format!("memory is freed that has {what} in it"));
        }
        if let Some(what) = with(|m| m.drm.lent(old as usize, old_size)) {
            report(format!("memory is freed that has {what} in it"));
        }
        if with(|m| m.irqs.lent(old as usize, old_size)) {
            report("memory is freed that an interrupt handler is told with");
        }
        let old = old.cast_mut().cast::<u8>();
        if !new.is_null() {
            unsafe { new.copy_from_nonoverlapping(old, old_size.min(size)) };
        }
        // Whoever uses it still is not to find what was there.
        unsafe { old.write_bytes(0x6b, old_size) };
        unsafe { dealloc(old, Layout::from_size_align_unchecked(old_size, old_align)) };
    }
    new.cast()
}

pub unsafe extern "C" fn krealloc_node_align(
    objp: *const c_void,
    new_size: usize,
    align: c_ulong,
    flags: gfp_t,
    _nid: c_int,
) -> *mut c_void {
    unsafe { reallocate(objp, new_size, align, flags, "kmalloc") }
}

pub unsafe extern "C" fn vrealloc_node_align(
    p: *const c_void,
    size: usize,
    align: c_ulong,
    flags: gfp_t,
    _nid: c_int,
) -> *mut c_void {
    if size == 0 && !p.is_null() {
        might_sleep("vfree");
    }
    unsafe { reallocate(p, size, align, flags, "vmalloc") }
}

/// Up to here `kvmalloc()` never gives what `vmalloc()` has.
const KMALLOC_MAX_CACHE_SIZE: usize = 2 * PAGE_SIZE;

pub unsafe extern "C" fn kvrealloc_node_align(
    p: *const c_void,
    size: usize,
    align: c_ulong,
    flags: gfp_t,
    _nid: c_int,
) -> *mut c_void {
    // What is too large for `kmalloc()` is what `vmalloc()` has.
    let is_large = |allocation: &Allocation| allocation.size > KMALLOC_MAX_CACHE_SIZE;
    if size == 0 && with(|m| m.allocations.get(&(p as usize)).is_some_and(is_large)) {
        might_sleep("kvfree");
    }
    unsafe { reallocate(p, size, align, flags, "kvmalloc") }
}

/// An object of C's, or null.
pub(crate) fn new_object<T>(value: T) -> *mut T {
    let (size, align) = (size_of::<T>(), align_of::<T>());
    let none = std::ptr::null();
    let memory = unsafe { krealloc_node_align(none, size, align, GFP_KERNEL, NUMA_NO_NODE) };
    let object = memory.cast::<T>();
    if !object.is_null() {
        unsafe { object.write(value) };
    }
    object
}

/// Frees what [`new_object`] gave, or what a driver has allocated.
pub(crate) unsafe fn free_object<T>(object: *mut T) {
    unsafe { krealloc_node_align(object.cast(), 0, 8, 0, NUMA_NO_NODE) };
}

pub unsafe extern "C" fn is_vmalloc_addr(_x: *const c_void) -> bool {
    false
}

not_simulated! {
    fn vmalloc_to_page(*const c_void) -> *mut page;
}

/// Zeroed memory of the host that is not one of the kernel's allocations.
pub(crate) fn host_zeroed(size: usize, align: usize) -> *mut u8 {
    let layout =
        Layout::from_size_align(size, align).unwrap_or_else(|_| fatal("a size that no memory has"));
    let memory = unsafe { alloc_zeroed(layout) };
    if memory.is_null() {
        fatal("the host has no memory");
    }
    memory
}

/// Frees what [`host_zeroed`] gave.
pub(crate) unsafe fn host_free(memory: *mut u8, size: usize, align: usize) {
    unsafe { dealloc(memory, Layout::from_size_align_unchecked(size, align)) };
}
