// SPDX-License-Identifier: GPL-2.0

//! Wait queues.
//!
//! Real: who has prepared to wait misses nothing, and only what comes after that wakes him up. Not
//! simulated: order, and that only so many wake up; each wakes up, as may happen. A time limit
//! never ends.

use ffi::*;
use pin_init::Zeroable;

use crate::{
    host::this_thread,
    locks::lock_class_key,
    machine::{might_sleep, with},
};

#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct wait_queue_head {
    /// How often somebody was woken up here.
    wakes: usize,
    _not_send: *mut c_void,
}

#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct wait_queue_entry {
    _not_send: *mut c_void,
}

/// What a thread waits for: a queue, and how often somebody had been woken up there before.
pub(crate) type Waiting = Option<(*mut wait_queue_head, usize)>;

pub unsafe extern "C" fn __init_waitqueue_head(
    wq_head: *mut wait_queue_head,
    _name: *const c_char,
    _key: *mut lock_class_key,
) {
    unsafe { wq_head.write(pin_init::zeroed()) };
}

pub unsafe extern "C" fn init_wait(wq_entry: *mut wait_queue_entry) {
    unsafe { wq_entry.write(pin_init::zeroed()) };
}

pub unsafe extern "C" fn prepare_to_wait_exclusive(
    wq_head: *mut wait_queue_head,
    _wq_entry: *mut wait_queue_entry,
    _state: c_int,
) {
    with(|_| {
        let wakes = unsafe { (*wq_head).wakes };
        this_thread(|this| this.waiting.set(Some((wq_head, wakes))));
    });
}

pub unsafe extern "C" fn schedule_timeout(timeout: c_long) -> c_long {
    might_sleep("schedule_timeout");
    if let Some((head, before)) = this_thread(|this| this.waiting.get()) {
        with(|m| {
            while unsafe { (&raw const (*head).wakes).read_volatile() } == before {
                m.wait("a wait queue");
            }
        });
    }
    timeout
}

pub unsafe extern "C" fn finish_wait(
    _wq_head: *mut wait_queue_head,
    _wq_entry: *mut wait_queue_entry,
) {
    this_thread(|this| this.waiting.set(None));
}

pub unsafe extern "C" fn __wake_up(
    wq_head: *mut wait_queue_head,
    _mode: c_uint,
    _nr_exclusive: c_int,
    _key: *mut c_void,
) -> c_int {
    with(|m| {
        unsafe { (*wq_head).wakes += 1 };
        m.changed();
    });
    0
}

pub unsafe extern "C" fn __wake_up_sync(wq_head: *mut wait_queue_head, mode: c_uint) {
    unsafe { __wake_up(wq_head, mode, 1, std::ptr::null_mut()) };
}
