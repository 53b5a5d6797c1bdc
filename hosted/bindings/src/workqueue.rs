// SPDX-License-Identifier: GPL-2.0

//! Workqueues.
//!
//! Real: an item is queued once at a time, runs in a thread of the kernel's, never in two at once,
//! and can be cancelled; a queue of a test's is empty when it is destroyed. Not simulated: on which
//! CPU and in which order items run: each has a thread of its own. Nor delayed work.

use ffi::*;
use pin_init::Zeroable;

use crate::{
    locks::lock_class_key,
    machine::{might_sleep, spawn_kernel_thread, with},
    report::fatal,
};

#[repr(C)]
pub struct workqueue_struct {
    _not_send: *mut c_void,
}

pub type work_func_t = Option<unsafe extern "C" fn(work: *mut work_struct)>;

#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct work_struct {
    pub func: work_func_t,
    _not_send: *mut c_void,
}

#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct timer_list {
    _not_send: *mut c_void,
}

#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct delayed_work {
    pub work: work_struct,
    pub timer: timer_list,
}

/// What is known of an item that is queued or runs.
#[derive(Default)]
pub(crate) struct Item {
    pending: bool,
    running: bool,
    /// How many are cancelling it: it cannot be queued meanwhile.
    cancelling: usize,
}

impl Item {
    pub(crate) fn is_queued(&self) -> bool {
        self.pending
    }
}

/// Where an item is, and its queue, to be handed to the thread that runs it.
struct Work(*mut work_struct, usize);

// SAFETY: Whoever queues an item keeps it until it runs, or is cancelled.
unsafe impl Send for Work {}

pub type wq_misc_consts = c_uint;
pub const wq_misc_consts_WORK_CPU_UNBOUND: wq_misc_consts = 64;
pub const TIMER_IRQSAFE: u32 = 0x20_0000;

macro_rules! queues {
    ($($name:ident)*) => {$(
        pub static mut $name: *mut workqueue_struct = (&raw const ANY.0).cast_mut();
    )*};
}

/// Which queue it is does not matter, but that there is one.
struct Any(workqueue_struct);

// SAFETY: Nobody looks at it.
unsafe impl Sync for Any {}

static ANY: Any = Any(workqueue_struct {
    _not_send: std::ptr::null_mut(),
});

queues! {
    system_wq system_highpri_wq system_long_wq system_unbound_wq system_freezable_wq
    system_power_efficient_wq system_freezable_power_efficient_wq system_bh_wq system_bh_highpri_wq
    system_percpu_wq system_dfl_wq
}

/// A queue of a test's. Dropping it is `destroy_workqueue()`: what is queued is done first.
pub struct Workqueue(*mut workqueue_struct);

// SAFETY: It is an address, by which the machine knows it.
unsafe impl Send for Workqueue {}
// SAFETY: As above.
unsafe impl Sync for Workqueue {}

impl Default for Workqueue {
    fn default() -> Self {
        Self::new()
    }
}

impl Workqueue {
    /// One that is empty.
    pub fn new() -> Self {
        let wq = Box::into_raw(Box::new(workqueue_struct {
            _not_send: std::ptr::null_mut(),
        }));
        with(|m| m.queues.insert(wq as usize, 0));
        Self(wq)
    }

    /// For the driver.
    pub fn as_ptr(&self) -> *mut workqueue_struct {
        self.0
    }
}

impl Drop for Workqueue {
    fn drop(&mut self) {
        might_sleep("destroy_workqueue");
        let key = self.0 as usize;
        with(|m| {
            while m.queues.get(&key).is_some_and(|items| *items > 0) {
                m.wait("what is queued");
            }
            m.queues.remove(&key);
        });
        drop(unsafe { Box::from_raw(self.0) });
    }
}

pub unsafe extern "C" fn init_work_with_key(
    work: *mut work_struct,
    func: work_func_t,
    _onstack: bool,
    _name: *const c_char,
    _key: *mut lock_class_key,
) {
    let mut new: work_struct = pin_init::zeroed();
    new.func = func;
    unsafe { work.write(new) };
}

pub unsafe extern "C" fn queue_work_on(
    _cpu: c_int,
    wq: *mut workqueue_struct,
    work: *mut work_struct,
) -> bool {
    let wq = wq as usize;
    let queued = with(|m| {
        let item = m.works.entry(work as usize).or_default();
        let queued = item.cancelling == 0 && !std::mem::replace(&mut item.pending, true);
        match m.queues.get_mut(&wq) {
            Some(items) => *items += usize::from(queued),
            None if wq == &raw const ANY.0 as usize => {}
            None => fatal("`queue_work()` on a queue that is gone"),
        }
        queued
    });
    if queued {
        let work = Work(work, wq);
        spawn_kernel_thread(move || unsafe { run(work) });
    }
    queued
}

unsafe fn run(Work(work, wq): Work) {
    unsafe { run_item(work) };
    with(|m| {
        m.queues.entry(wq).and_modify(|items| *items -= 1);
        m.changed();
    });
}

unsafe fn run_item(work: *mut work_struct) {
    let key = work as usize;
    let begins = with(|m| loop {
        match m.works.get_mut(&key) {
            // It is not run by two at once, however often it is queued.
            Some(item) if item.pending && item.running => m.wait("a work item that runs"),
            Some(item) if item.pending => {
                item.pending = false;
                item.running = true;
                return true;
            }
            // It was cancelled.
            _ => return false,
        }
    });
    if !begins {
        return;
    }
    if let Some(func) = unsafe { (*work).func } {
        unsafe { func(work) };
    }
    // The item may be gone by now.
    with(|m| {
        if let Some(item) = m.works.get_mut(&key) {
            item.running = false;
            if !item.pending && item.cancelling == 0 {
                m.works.remove(&key);
            }
        }
        m.changed();
    });
}

pub unsafe extern "C" fn cancel_work_sync(work: *mut work_struct) -> bool {
    might_sleep("cancel_work_sync");
    let key = work as usize;
    with(|m| {
        let item = m.works.entry(key).or_default();
        let pending = std::mem::take(&mut item.pending);
        item.cancelling += 1;
        while m.works.get(&key).is_some_and(|item| item.running) {
            m.wait("a work item that runs");
        }
        if let Some(item) = m.works.get_mut(&key) {
            item.cancelling -= 1;
            if item.cancelling == 0 && !item.pending {
                m.works.remove(&key);
            }
        }
        pending
    })
}

pub unsafe extern "C" fn delayed_work_timer_fn(_t: *mut timer_list) {
    crate::report::fatal("`delayed_work_timer_fn()` is not simulated")
}

not_simulated! {
    fn queue_delayed_work_on(c_int, *mut workqueue_struct, *mut delayed_work, c_ulong) -> bool;
    fn timer_init_key(
        *mut timer_list,
        Option<unsafe extern "C" fn(*mut timer_list)>,
        c_uint,
        *const c_char,
        *mut lock_class_key,
    );
}
