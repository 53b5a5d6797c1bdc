// SPDX-License-Identifier: GPL-2.0

//! The buddy allocator of GPUs, and blocks of it that are lost.

// What is allocated is given back to the allocator that it is of, but where that is tested.
#![allow(clippy::undocumented_unsafe_blocks)]

mod support;

use bindings::{sim::run, *};
use std::mem::{offset_of, zeroed, MaybeUninit};
use support::reported;

/// Says to AddressSanitizer that what is left over is left on purpose.
#[no_mangle]
extern "C" fn __lsan_is_turned_off() -> std::ffi::c_int {
    1
}

const CHUNK: u64 = 4096;

/// An allocator of so many chunks. Dropping it takes it away.
struct Buddy(Box<gpu_buddy>);

impl Buddy {
    fn new(chunks: u64) -> Self {
        let mut buddy = Box::new(MaybeUninit::<gpu_buddy>::uninit());
        unsafe {
            assert_eq!(gpu_buddy_init(buddy.as_mut_ptr(), chunks * CHUNK, CHUNK), 0);
            Self(Box::from_raw(Box::into_raw(buddy).cast()))
        }
    }

    /// Calls `f` with the blocks that it gets, and with an error.
    fn alloc(&mut self, request: Request, f: impl FnOnce(&mut Self, *mut list_head, i32)) {
        unsafe {
            let mut blocks: list_head = zeroed();
            INIT_LIST_HEAD(&raw mut blocks);
            let (start, end) = request.range;
            let err = gpu_buddy_alloc_blocks(
                &raw mut *self.0,
                start,
                end,
                request.size,
                request.least,
                &raw mut blocks,
                request.flags,
            );
            f(self, &raw mut blocks, err);
        }
    }

    /// Asks for blocks, gives them back, and tells where they were and how large, in chunks; or
    /// the error.
    fn places(&mut self, request: Request) -> Result<Vec<(u64, u64)>, u32> {
        let mut result = Ok(Vec::new());
        self.alloc(request, |this, blocks, err| {
            result = match err {
                0 => Ok(places(blocks)),
                err => Err(err.unsigned_abs()),
            };
            this.free(blocks);
        });
        result
    }

    fn free(&mut self, blocks: *mut list_head) {
        unsafe { gpu_buddy_free_list(&raw mut *self.0, blocks, 0) };
    }
}

impl Drop for Buddy {
    fn drop(&mut self) {
        unsafe { gpu_buddy_fini(&raw mut *self.0) };
    }
}

/// Where blocks are, and how large, in chunks.
fn places(blocks: *mut list_head) -> Vec<(u64, u64)> {
    let mut places = Vec::new();
    unsafe {
        let mut link = (*blocks).next;
        while link != blocks {
            let offset = offset_of!(gpu_buddy_block, __bindgen_anon_1);
            let block = link.byte_sub(offset).cast::<gpu_buddy_block>();
            let order = gpu_buddy_block_order(block);
            places.push((gpu_buddy_block_offset(block) / CHUNK, 1 << order));
            link = (*link).next;
        }
    }
    places
}

/// What is asked for.
#[derive(Clone, Copy)]
struct Request {
    range: (u64, u64),
    size: u64,
    least: u64,
    flags: usize,
}

impl Request {
    /// From these chunks only.
    fn among(self, start: u64, end: u64) -> Self {
        Self {
            range: (start * CHUNK, end * CHUNK),
            flags: self.flags | GPU_BUDDY_RANGE_ALLOCATION,
            ..self
        }
    }

    /// In blocks that have so many chunks, and are aligned to that.
    fn least(self, chunks: u64) -> Self {
        Self {
            least: chunks * CHUNK,
            ..self
        }
    }

    fn flags(self, flags: usize) -> Self {
        Self {
            flags: self.flags | flags,
            ..self
        }
    }
}

/// So many chunks, from anywhere.
fn chunks(size: u64) -> Request {
    Request {
        range: (0, 0),
        size: size * CHUNK,
        least: CHUNK,
        flags: 0,
    }
}

#[test]
fn blocks_that_come_back() {
    run(|| {
        let mut buddy = Buddy::new(16);
        buddy.alloc(chunks(5), |buddy, blocks, err| {
            assert_eq!((err, buddy.0.avail), (0, 11 * CHUNK));
            buddy.free(blocks);
            assert_eq!(buddy.0.avail, 16 * CHUNK);
        });
    });
}

#[test]
fn a_block_left_over() {
    let words = "a buddy allocator goes away, and not all blocks have come back";
    reported(words, || {
        Buddy::new(16).alloc(chunks(1), |_, _, err| assert_eq!(err, 0));
    });
}

#[test]
fn a_block_of_another_allocator() {
    reported("a block is given back that is not out", || {
        let (mut one, mut two) = (Buddy::new(16), Buddy::new(16));
        one.alloc(chunks(1), |_, blocks, err| {
            assert_eq!(err, 0);
            two.free(blocks);
        });
    });
}

#[test]
fn what_makes_no_sense_is_refused() {
    run(|| {
        let mut buddy = Buddy::new(16);
        let some = chunks(2);
        for (what, request) in [
            ("less than a chunk", Request { size: 1, ..some }),
            (
                "half a chunk",
                Request {
                    size: CHUNK * 3 / 2,
                    ..some
                },
            ),
            (
                "blocks smaller than a chunk",
                Request {
                    least: 2048,
                    ..some
                },
            ),
            ("blocks that are no power of two", some.least(3)),
            ("more than there is", chunks(17)),
            (
                "more than there is, in one",
                chunks(17).flags(GPU_BUDDY_CONTIGUOUS_ALLOCATION),
            ),
            ("more than there is from there on", chunks(5).among(12, 16)),
            ("a range beyond the end", some.among(8, 17)),
            ("a range behind the end", some.among(16, 16)),
            (
                "an unaligned start",
                Request {
                    range: (1, 8 * CHUNK),
                    ..some.among(0, 8)
                },
            ),
            (
                "an unaligned end",
                Request {
                    range: (0, 8 * CHUNK - 1),
                    ..some.among(0, 8)
                },
            ),
            (
                "an unaligned range, without the flag",
                Request {
                    range: (1, 0),
                    ..some
                },
            ),
            (
                "all of a range that begins in a block",
                chunks(4).among(2, 6).least(4),
            ),
            ("more than there is, as it is rounded", chunks(3).least(32)),
        ] {
            assert_eq!(buddy.places(request), Err(EINVAL), "{what}");
        }
        assert_eq!(buddy.0.avail, buddy.0.size);
    });
}

#[test]
fn what_is_taken_is_not_there() {
    run(|| {
        let mut buddy = Buddy::new(16);
        buddy.alloc(chunks(1).among(5, 6), |buddy, taken, err| {
            assert_eq!((err, places(taken)), (0, vec![(5, 1)]));
            for request in [chunks(16), chunks(2).among(4, 6), chunks(4).among(4, 8)] {
                assert_eq!(buddy.places(request), Err(ENOSPC));
            }
            assert_eq!(
                buddy.places(chunks(3).among(4, 8)).map(|got| got.len()),
                Ok(2)
            );
            buddy.free(taken);
        });
    });
}

#[test]
fn all_of_a_range() {
    run(|| {
        let mut buddy = Buddy::new(16);
        let blocks = vec![(3, 1), (4, 4), (8, 1)];
        assert_eq!(buddy.places(chunks(6).among(3, 9)), Ok(blocks));
    });
}

#[test]
fn what_was_rounded_up_is_given_back() {
    run(|| {
        let mut buddy = Buddy::new(16);
        let five = chunks(5).least(4);
        let sizes = |got: Vec<(u64, u64)>| got.into_iter().map(|(_, size)| size).collect();
        assert_eq!(buddy.places(five).map(sizes), Ok(vec![4, 1]));
        let untrimmed = five.flags(GPU_BUDDY_TRIM_DISABLE);
        assert_eq!(buddy.places(untrimmed).map(sizes), Ok(vec![8]));
        let one = chunks(3).flags(GPU_BUDDY_CONTIGUOUS_ALLOCATION);
        assert_eq!(buddy.places(one).map(sizes), Ok(vec![2, 1]));
    });
}

#[test]
fn a_small_block_with_a_large_alignment() {
    run(|| {
        let mut buddy = Buddy::new(16);
        buddy.alloc(chunks(1), |buddy, taken, err| {
            assert_eq!((err, places(taken)), (0, vec![(0, 1)]));
            assert_eq!(buddy.places(chunks(2).least(8)), Ok(vec![(8, 2)]));
            buddy.free(taken);
        });
    });
}

#[test]
fn several_blocks_in_a_row() {
    run(|| {
        // No block has eight chunks, so that they are looked for side by side.
        let mut buddy = Buddy::new(6);
        let row = chunks(5).flags(GPU_BUDDY_CONTIGUOUS_ALLOCATION);
        assert_eq!(buddy.places(row), Ok(vec![(0, 4), (4, 1)]));
        assert_eq!(buddy.places(row.among(0, 6)), Err(EINVAL));
        buddy.alloc(chunks(1).among(2, 3), |buddy, taken, err| {
            assert_eq!(err, 0);
            assert_eq!(buddy.places(row), Err(ENOSPC));
            buddy.free(taken);
        });
    });
}
