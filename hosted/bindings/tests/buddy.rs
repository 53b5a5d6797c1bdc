// SPDX-License-Identifier: GPL-2.0

//! The buddy allocator of GPUs, and blocks of it that are lost.

// What is allocated is given back to the allocator that it is of, but where that is tested.
#![allow(clippy::undocumented_unsafe_blocks)]

mod support;

use bindings::{sim::run, *};
use std::mem::{zeroed, MaybeUninit};
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
                start * CHUNK,
                end * CHUNK,
                request.size * CHUNK,
                request.least * CHUNK,
                &raw mut blocks,
                request.flags,
            );
            f(self, &raw mut blocks, err);
        }
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

/// What is asked for, in chunks.
#[derive(Clone, Copy)]
struct Request {
    range: (u64, u64),
    size: u64,
    least: u64,
    flags: usize,
}

/// So many chunks, from anywhere.
fn chunks(size: u64) -> Request {
    Request {
        range: (0, 0),
        size,
        least: 1,
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
