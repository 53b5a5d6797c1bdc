// SPDX-License-Identifier: GPL-2.0

//! Memory that is freed with a work item in it that is queued.
//!
//! An item is queued until its thread runs, which is soon. Here new threads get no further than to
//! the first thing that they allocate.

mod support;

use bindings::{sim::run, *};
use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    ptr::null_mut,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
};
use support::ends;

/// Whether threads wait that are not the one which has said so.
static HELD: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// Whether this is the thread which has said so.
    static HOLDS: Cell<bool> = const { Cell::new(false) };
}

/// The host's allocator, in which threads can be held up.
struct Gate;

// SAFETY: It is the system's, after a while.
unsafe impl GlobalAlloc for Gate {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        while HELD.load(SeqCst) && !HOLDS.get() {
            thread::yield_now();
        }
        // SAFETY: The caller promises what is asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: As above.
        unsafe { System.dealloc(ptr, layout) };
    }
}

#[global_allocator]
static GATE: Gate = Gate;

/// Runs `f` while no other thread begins.
fn alone(f: impl FnOnce()) {
    HOLDS.set(true);
    HELD.store(true, SeqCst);
    f();
    HELD.store(false, SeqCst);
}

/// # Safety
///
/// Always safe to call.
unsafe extern "C" fn nothing(_work: *mut work_struct) {}

/// Memory of the kernel with a work item in it, which does nothing.
fn new_work() -> *mut work_struct {
    // SAFETY: What is allocated is large enough, and the name and the key are not looked at.
    unsafe {
        let size = size_of::<work_struct>();
        let memory = krealloc_node_align(null_mut(), size, 8, GFP_KERNEL, NUMA_NO_NODE);
        let work = memory.cast::<work_struct>();
        init_work_with_key(
            work,
            Some(nothing),
            false,
            c"work".as_ptr().cast(),
            null_mut(),
        );
        work
    }
}

fn queue(work: *mut work_struct) {
    // SAFETY: The item was initialised, and the queue is the system's.
    assert!(unsafe { queue_work_on(0, system_wq, work) });
}

fn free(work: *mut work_struct) {
    // SAFETY: It was allocated.
    unsafe { krealloc_node_align(work.cast(), 0, 8, 0, NUMA_NO_NODE) };
}

#[test]
fn an_item_freed_that_is_queued() {
    let name = "an_item_freed_that_is_queued";
    ends(name, "has a work item that is queued in it", || {
        alone(|| {
            let work = new_work();
            queue(work);
            free(work);
        });
    });
}

#[test]
fn an_item_freed_that_was_cancelled() {
    run(|| {
        let work = new_work();
        queue(work);
        // SAFETY: It was initialised.
        unsafe { cancel_work_sync(work) };
        free(work);
    });
}

/// # Safety
///
/// `work` must be what was allocated.
unsafe extern "C" fn free_oneself(work: *mut work_struct) {
    free(work);
}

#[test]
fn an_item_that_frees_itself() {
    run(|| {
        let work = new_work();
        // SAFETY: It is there.
        unsafe { (*work).func = Some(free_oneself) };
        queue(work);
    });
}
