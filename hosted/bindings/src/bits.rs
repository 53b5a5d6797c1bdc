// SPDX-License-Identifier: GPL-2.0

//! Bitmaps. All of it is real: `set_bit()` and `clear_bit()` are atomic, and the rest is not, as in
//! C.

use std::sync::atomic::{AtomicUsize, Ordering};

use ffi::*;

use crate::{alloc::krealloc_node_align, consts::gfp_t, consts::__GFP_ZERO};

const BITS: usize = 64;

unsafe fn test(addr: *const c_ulong, nr: usize) -> bool {
    unsafe { *addr.add(nr / BITS) >> (nr % BITS) & 1 != 0 }
}

pub unsafe extern "C" fn bitmap_zalloc(nbits: c_uint, flags: gfp_t) -> *mut c_ulong {
    let size = (nbits as usize).div_ceil(BITS) * 8;
    unsafe { krealloc_node_align(std::ptr::null(), size, 8, flags | __GFP_ZERO, -1) }.cast()
}

pub unsafe extern "C" fn bitmap_free(bitmap: *const c_ulong) {
    unsafe { krealloc_node_align(bitmap.cast(), 0, 8, 0, -1) };
}

pub unsafe extern "C" fn __set_bit(nr: c_ulong, addr: *mut c_ulong) {
    unsafe { *addr.add(nr / BITS) |= 1 << (nr % BITS) };
}

pub unsafe extern "C" fn __clear_bit(nr: c_ulong, addr: *mut c_ulong) {
    unsafe { *addr.add(nr / BITS) &= !(1 << (nr % BITS)) };
}

pub unsafe extern "C" fn __bitmap_set(map: *mut c_ulong, start: c_uint, len: c_int) {
    for nr in (start as usize..).take(len as usize) {
        unsafe { __set_bit(nr, map) };
    }
}

pub unsafe extern "C" fn __bitmap_clear(map: *mut c_ulong, start: c_uint, len: c_int) {
    for nr in (start as usize..).take(len as usize) {
        unsafe { __clear_bit(nr, map) };
    }
}

pub unsafe extern "C" fn set_bit(nr: c_ulong, addr: *mut c_ulong) {
    unsafe { AtomicUsize::from_ptr(addr.add(nr / BITS)) }
        .fetch_or(1 << (nr % BITS), Ordering::Relaxed);
}

pub unsafe extern "C" fn clear_bit(nr: c_ulong, addr: *mut c_ulong) {
    unsafe { AtomicUsize::from_ptr(addr.add(nr / BITS)) }
        .fetch_and(!(1 << (nr % BITS)), Ordering::Relaxed);
}

unsafe fn find(addr: *const c_ulong, nbits: usize, start: usize, value: bool) -> usize {
    let skip = if value { 0 } else { usize::MAX };
    let mut i = start;
    while i < nbits {
        if i % BITS == 0 && unsafe { *addr.add(i / BITS) } == skip {
            i += BITS;
        } else if unsafe { test(addr, i) } == value {
            return i;
        } else {
            i += 1;
        }
    }
    nbits
}

pub unsafe extern "C" fn _find_next_bit(
    addr: *const c_ulong,
    nbits: c_ulong,
    start: c_ulong,
) -> c_ulong {
    unsafe { find(addr, nbits, start, true) }
}

pub unsafe extern "C" fn _find_next_zero_bit(
    addr: *const c_ulong,
    nbits: c_ulong,
    start: c_ulong,
) -> c_ulong {
    unsafe { find(addr, nbits, start, false) }
}

pub unsafe extern "C" fn _find_last_bit(addr: *const c_ulong, size: c_ulong) -> c_ulong {
    (0..size)
        .rev()
        .find(|i| unsafe { test(addr, *i) })
        .unwrap_or(size)
}

pub unsafe extern "C" fn bitmap_copy_and_extend(
    to: *mut c_ulong,
    from: *const c_ulong,
    count: c_uint,
    size: c_uint,
) {
    for i in 0..size as usize {
        let bit = i < count as usize && unsafe { test(from, i) };
        match bit {
            true => unsafe { __set_bit(i, to) },
            false => unsafe { __clear_bit(i, to) },
        }
    }
}
