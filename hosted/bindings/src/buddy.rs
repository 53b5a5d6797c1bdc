// SPDX-License-Identifier: GPL-2.0

//! The buddy allocator of GPUs.
//!
//! Real: blocks are powers of two, aligned to their size, nobody's twice, and to be given back. Not
//! simulated: which of the free blocks one gets (here, the lowest), memory that is known to be
//! clear, trimming.

use std::collections::BTreeMap;

use ffi::*;
use pin_init::Zeroable;

use crate::{
    errno::*,
    machine::{might_sleep, with},
    rbtree::rb_node,
    report::report,
};

pub const GPU_BUDDY_RANGE_ALLOCATION: c_ulong = 1 << 0;
pub const GPU_BUDDY_TOPDOWN_ALLOCATION: c_ulong = 1 << 1;
pub const GPU_BUDDY_CONTIGUOUS_ALLOCATION: c_ulong = 1 << 2;
pub const GPU_BUDDY_CLEAR_ALLOCATION: c_ulong = 1 << 3;
pub const GPU_BUDDY_CLEARED: c_ulong = 1 << 4;
pub const GPU_BUDDY_TRIM_DISABLE: c_ulong = 1 << 5;

#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct list_head {
    pub next: *mut list_head,
    pub prev: *mut list_head,
}

pub unsafe extern "C" fn INIT_LIST_HEAD(list: *mut list_head) {
    unsafe {
        list.write(list_head {
            next: list,
            prev: list,
        })
    };
}

/// Puts `new` before `head`.
pub(crate) unsafe fn list_add_tail(new: *mut list_head, head: *mut list_head) {
    unsafe {
        let prev = (*head).prev;
        new.write(list_head { next: head, prev });
        (*prev).next = new;
        (*head).prev = new;
    }
}

#[repr(C)]
#[derive(Clone, Copy)]
pub union gpu_buddy_block__bindgen_ty_1 {
    pub rb: rb_node,
    pub link: list_head,
}

#[repr(C)]
pub struct gpu_buddy_block {
    pub header: u64,
    pub private: *mut c_void,
    pub __bindgen_anon_1: gpu_buddy_block__bindgen_ty_1,
}

#[repr(C)]
pub struct gpu_buddy {
    pub chunk_size: u64,
    pub size: u64,
    pub avail: u64,
    pub clear_avail: u64,
    /// The blocks that are out, by their offsets, with their sizes.
    out: *mut BTreeMap<u64, u64>,
}

pub unsafe extern "C" fn gpu_buddy_init(mm: *mut gpu_buddy, size: u64, chunk_size: u64) -> c_int {
    might_sleep("gpu_buddy_init");
    if size < chunk_size || !chunk_size.is_power_of_two() || chunk_size < 4096 {
        return -(EINVAL as c_int);
    }
    if with(|m| m.fails("gpu_buddy_init")) {
        return -(ENOMEM as c_int);
    }
    let size = size / chunk_size * chunk_size;
    unsafe {
        mm.write(gpu_buddy {
            chunk_size,
            size,
            avail: size,
            clear_avail: 0,
            out: Box::into_raw(Box::default()),
        })
    };
    0
}

pub unsafe extern "C" fn gpu_buddy_fini(mm: *mut gpu_buddy) {
    let out = unsafe { Box::from_raw((*mm).out) };
    if !out.is_empty() {
        report("a buddy allocator goes away, and not all blocks have come back");
    }
}

/// The lowest free block of `size` bytes that lies in the range.
fn find(out: &BTreeMap<u64, u64>, size: u64, (start, end): (u64, u64)) -> Option<u64> {
    let mut at = start.next_multiple_of(size);
    while at.checked_add(size)? <= end {
        match out.range(..at + size).next_back() {
            Some((offset, len)) if offset + len > at => at = (offset + len).next_multiple_of(size),
            _ => return Some(at),
        }
    }
    None
}

pub unsafe extern "C" fn gpu_buddy_alloc_blocks(
    mm: *mut gpu_buddy,
    start: u64,
    end: u64,
    size: u64,
    min_page_size: u64,
    blocks: *mut list_head,
    flags: c_ulong,
) -> c_int {
    might_sleep("gpu_buddy_alloc_blocks");
    let buddy = unsafe { &mut *mm };
    let chunk = buddy.chunk_size;
    if size < chunk
        || size % chunk != 0
        || min_page_size < chunk
        || !min_page_size.is_power_of_two()
    {
        return -(EINVAL as c_int);
    }
    let range = match flags & GPU_BUDDY_RANGE_ALLOCATION {
        0 => (0, buddy.size),
        _ => (start, end.min(buddy.size)),
    };
    let out = unsafe { &mut *buddy.out };
    let mut left = match flags & GPU_BUDDY_CONTIGUOUS_ALLOCATION {
        0 => size.next_multiple_of(min_page_size),
        _ => size.next_power_of_two(),
    };
    let mut taken = Vec::new();
    while left > 0 {
        let most = 1 << left.ilog2();
        let sizes = std::iter::successors(Some(most), |size| Some(size / 2));
        let least = if flags & GPU_BUDDY_CONTIGUOUS_ALLOCATION != 0 {
            most
        } else {
            min_page_size
        };
        let found = sizes
            .take_while(|size| *size >= least)
            .find_map(|size| Some((find(out, size, range)?, size)));
        let found = found.filter(|_| !with(|m| m.fails("gpu_buddy_alloc_blocks")));
        let Some((offset, size)) = found else {
            out.retain(|offset, _| !taken.iter().any(|(other, _)| other == offset));
            return -(ENOSPC as c_int);
        };
        out.insert(offset, size);
        taken.push((offset, size));
        left -= size;
    }
    for (offset, size) in taken {
        buddy.avail -= size;
        let block = Box::into_raw(Box::new(gpu_buddy_block {
            header: offset | u64::from((size / chunk).ilog2()),
            private: std::ptr::null_mut(),
            __bindgen_anon_1: gpu_buddy_block__bindgen_ty_1 {
                rb: rb_node::default(),
            },
        }));
        unsafe { list_add_tail(&raw mut (*block).__bindgen_anon_1.link, blocks) };
    }
    0
}

pub unsafe extern "C" fn gpu_buddy_free_list(
    mm: *mut gpu_buddy,
    objects: *mut list_head,
    _flags: c_uint,
) {
    might_sleep("gpu_buddy_free_list");
    let buddy = unsafe { &mut *mm };
    let mut link = unsafe { (*objects).next };
    while link != objects {
        let next = unsafe { (*link).next };
        let offset = std::mem::offset_of!(gpu_buddy_block, __bindgen_anon_1);
        let block = unsafe { Box::from_raw(link.byte_sub(offset).cast::<gpu_buddy_block>()) };
        let start = unsafe { gpu_buddy_block_offset(&raw const *block) };
        match unsafe { (*buddy.out).remove(&start) } {
            Some(size) => buddy.avail += size,
            None => report("a block is given back that is not out"),
        }
        link = next;
    }
    unsafe { INIT_LIST_HEAD(objects) };
}

pub unsafe extern "C" fn gpu_buddy_block_offset(block: *const gpu_buddy_block) -> u64 {
    unsafe { (*block).header & !0xfff }
}

pub unsafe extern "C" fn gpu_buddy_block_order(block: *mut gpu_buddy_block) -> c_uint {
    unsafe { ((*block).header & 0x3f) as c_uint }
}
