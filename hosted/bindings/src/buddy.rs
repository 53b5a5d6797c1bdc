// SPDX-License-Identifier: GPL-2.0

//! The buddy allocator of GPUs.
//!
//! Real: blocks are powers of two, aligned to their size, nobody's twice, and to be given back;
//! what is refused and how, ranges, how much one gets of what was rounded up. Not simulated: which
//! of the free blocks one gets (here, the lowest), and where C looks for blocks side by side, which
//! it refuses in more cases; memory that is known to be clear, trimming by a driver, the lock that
//! a driver says it has.

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

/// Where a block is, and how large.
type Block = (u64, u64);

/// Where the first `size` bytes are that are free and lie in the range, at a multiple of `align`.
fn find(out: &BTreeMap<u64, u64>, size: u64, align: u64, (start, end): (u64, u64)) -> Option<u64> {
    let mut at = start.checked_next_multiple_of(align)?;
    while at.checked_add(size)? <= end {
        match out.range(..at + size).next_back() {
            Some((offset, len)) if offset + len > at => {
                at = (offset + len).checked_next_multiple_of(align)?;
            }
            _ => return Some(at),
        }
    }
    None
}

/// The blocks that make up what lies between two places.
fn blocks_of(mut start: u64, end: u64) -> impl Iterator<Item = Block> {
    std::iter::from_fn(move || {
        let most = 1 << end.saturating_sub(start).checked_ilog2()?;
        let aligned = 1u64.checked_shl(start.trailing_zeros());
        let block = (start, aligned.unwrap_or(most).min(most));
        start += block.1;
        Some(block)
    })
}

/// What is asked for.
struct Request {
    range: (u64, u64),
    size: u64,
    /// No block is smaller, but one that is asked for alone, and each is aligned to it.
    least: u64,
    flags: c_ulong,
}

impl Request {
    fn has(&self, flag: c_ulong) -> bool {
        self.flags & flag != 0
    }

    /// Whether the arguments make sense.
    fn is_valid(&self, buddy: &gpu_buddy) -> bool {
        let (start, end) = self.range;
        let aligned = [start, end, self.size].map(|at| at % buddy.chunk_size == 0);
        self.size >= buddy.chunk_size
            && self.least >= buddy.chunk_size
            && self.least.is_power_of_two()
            && aligned == [true; 3]
            && end <= buddy.size
            && start < buddy.size
            && self.size <= buddy.size - start
    }

    /// The blocks for it, or an error.
    fn blocks(&self, buddy: &gpu_buddy, out: &BTreeMap<u64, u64>) -> Result<Vec<Block>, u32> {
        if !self.is_valid(buddy) {
            return Err(EINVAL);
        }
        let (start, end) = self.range;
        if start + self.size != end {
            return self.blocks_among(buddy, out);
        }
        // Exactly these, whatever the flags say.
        if (start | end) % self.least != 0 {
            return Err(EINVAL);
        }
        find(out, self.size, 1, self.range).ok_or(ENOSPC)?;
        Ok(blocks_of(start, end).collect())
    }

    /// The same, where there is a choice.
    fn blocks_among(&self, buddy: &gpu_buddy, out: &BTreeMap<u64, u64>) -> Result<Vec<Block>, u32> {
        let contiguous = self.has(GPU_BUDDY_CONTIGUOUS_ALLOCATION);
        let ranged = self.has(GPU_BUDDY_RANGE_ALLOCATION);
        let (mut least, mut align) = (self.least, 1);
        let size = if contiguous {
            least = self.size.checked_next_power_of_two().unwrap_or(u64::MAX);
            least
        } else if self.size < least && self.size.is_power_of_two() {
            // One block, which is only aligned to what is asked for.
            align = if ranged { 1 } else { least };
            least = self.size;
            self.size
        } else {
            let size = self.size.checked_next_multiple_of(least);
            size.unwrap_or(u64::MAX)
        };
        let several = contiguous && !ranged;
        let side_by_side = || several.then(|| self.run(buddy, out)).flatten();
        if size > buddy.size {
            return side_by_side().ok_or(if several { ENOSPC } else { EINVAL });
        }
        let range = match ranged {
            true => self.range,
            false => (0, buddy.size),
        };
        let mut out = out.clone();
        let mut taken = Vec::new();
        let mut left = size;
        while left > 0 {
            let sizes = std::iter::successors(Some(1 << left.ilog2()), |size| Some(size / 2));
            let mut sizes = sizes.take_while(|size| *size >= least);
            let found =
                sizes.find_map(|size| Some((find(&out, size, size.max(align), range)?, size)));
            let Some((offset, size)) = found else {
                return side_by_side().ok_or(ENOSPC);
            };
            out.insert(offset, size);
            taken.push((offset, size));
            left -= size;
        }
        // What was rounded up is not kept.
        if size != self.size && !self.has(GPU_BUDDY_TRIM_DISABLE) {
            if let Some((start, len)) = taken.pop() {
                taken.extend(blocks_of(start, start + len - (size - self.size)));
            }
        }
        Ok(taken)
    }

    /// Blocks that lie side by side, where there is no single one.
    fn run(&self, buddy: &gpu_buddy, out: &BTreeMap<u64, u64>) -> Option<Vec<Block>> {
        if self.size.ilog2() == buddy.chunk_size.ilog2() {
            return None;
        }
        let start = find(out, self.size, self.least, (0, buddy.size))?;
        Some(blocks_of(start, start + self.size).collect())
    }
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
    let out = unsafe { &mut *buddy.out };
    let request = Request {
        range: (start, end),
        size,
        least: min_page_size,
        flags,
    };
    let taken = match request.blocks(buddy, out) {
        Ok(taken) => taken,
        Err(err) => return -(err as c_int),
    };
    // Each block that is cut out of a larger one takes memory.
    if taken
        .iter()
        .any(|_| with(|m| m.fails("gpu_buddy_alloc_blocks")))
    {
        return -(ENOSPC as c_int);
    }
    for (offset, size) in taken {
        out.insert(offset, size);
        buddy.avail -= size;
        let block = Box::into_raw(Box::new(gpu_buddy_block {
            header: offset | u64::from((size / buddy.chunk_size).ilog2()),
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
