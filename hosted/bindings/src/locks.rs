// SPDX-License-Identifier: GPL-2.0

//! Mutexes, spinlocks, completions, RCU, reference counts.
//!
//! Real: that they exclude each other, and who may sleep; their order is in `lockdep.rs`; a grace
//! period, which waits for those who read. Not simulated: priorities, queues; whether interrupts are
//! off; callbacks of RCU, so that `rcu_barrier()` has nothing to wait for.

use std::{
    ffi::CStr,
    sync::atomic::{AtomicI32, Ordering},
};

use ffi::*;
use pin_init::Zeroable;

use crate::{
    errno::*,
    host::point,
    lockdep,
    machine::{atomic, might_sleep, with},
    report::{fatal, report},
    task::thread_id,
};

/// Who has a lock; zero is nobody. Read and written under the lock of the machine.
#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct mutex {
    owner: usize,
    class: *mut lock_class_key,
}

#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct spinlock {
    owner: usize,
    class: *mut lock_class_key,
}
pub type spinlock_t = spinlock;

#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct lock_class_key {
    _not_send: *mut c_void,
}

pub unsafe extern "C" fn lockdep_register_key(_key: *mut lock_class_key) {}
pub unsafe extern "C" fn lockdep_unregister_key(_key: *mut lock_class_key) {}
pub unsafe extern "C" fn lockdep_assert_irqs_disabled() {}

/// Takes a lock of which this is the owner. `what` is for people.
pub(crate) unsafe fn acquire(owner: *mut usize, what: &str) {
    let me = thread_id();
    with(|m| loop {
        match unsafe { *owner } {
            0 => {
                unsafe { *owner = me };
                return;
            }
            other if other == me => fatal(format!("deadlock: this thread has the {what} already")),
            _ => m.wait(what),
        }
    });
}

unsafe fn try_acquire(owner: *mut usize) -> bool {
    with(|_| unsafe {
        let free = *owner == 0;
        if free {
            *owner = thread_id();
        }
        free
    })
}

/// Gives it up. Tells whether this thread had it.
pub(crate) unsafe fn release(owner: *mut usize, what: &str) -> bool {
    with(|m| {
        let mine = unsafe { *owner } == thread_id();
        if !mine {
            report(format!(
                "a {what} is unlocked by somebody who has not locked it"
            ));
        }
        unsafe { *owner = 0 };
        m.changed();
        mine
    })
}

impl mutex {
    /// One of C's own, whose class has a name.
    pub(crate) fn of_class(class: lockdep::Class) -> Self {
        Self {
            owner: 0,
            class: std::ptr::without_provenance_mut(class),
        }
    }
}

impl spinlock {
    /// One of C's own, whose class has a name.
    pub(crate) fn of_class(class: lockdep::Class) -> Self {
        Self {
            owner: 0,
            class: std::ptr::without_provenance_mut(class),
        }
    }
}

/// Remembers what the locks of a class are called.
unsafe fn new_lock(name: *const c_char, key: *mut lock_class_key) {
    let name = unsafe { CStr::from_ptr(name.cast()) };
    lockdep::name(key as usize, &name.to_string_lossy());
}

pub unsafe extern "C" fn __mutex_init(
    lock: *mut mutex,
    name: *const c_char,
    class: *mut lock_class_key,
) {
    unsafe { new_lock(name, class) };
    unsafe { lock.write(mutex { owner: 0, class }) };
}

pub unsafe extern "C" fn mutex_lock(lock: *mut mutex) {
    might_sleep("mutex_lock");
    lockdep::acquire(unsafe { (*lock).class } as usize);
    unsafe { acquire(&raw mut (*lock).owner, "mutex") };
}

/// There are no signals, but it may be made to fail.
pub unsafe extern "C" fn mutex_lock_interruptible(lock: *mut mutex) -> c_int {
    if with(|m| m.fails("mutex_lock_interruptible")) {
        return -(EINTR as c_int);
    }
    unsafe { mutex_lock(lock) };
    0
}

pub unsafe extern "C" fn mutex_trylock(lock: *mut mutex) -> c_int {
    if with(|m| m.fails("mutex_trylock")) {
        return 0;
    }
    let got = unsafe { try_acquire(&raw mut (*lock).owner) };
    if got {
        lockdep::acquired(unsafe { (*lock).class } as usize);
    }
    c_int::from(got)
}

pub unsafe extern "C" fn mutex_unlock(lock: *mut mutex) {
    lockdep::release(unsafe { (*lock).class } as usize);
    unsafe { release(&raw mut (*lock).owner, "mutex") };
}

pub unsafe extern "C" fn mutex_assert_is_held(lock: *mut mutex) {
    if with(|_| unsafe { (*lock).owner }) != thread_id() {
        report("a mutex is not held that must be");
    }
}

pub unsafe extern "C" fn __spin_lock_init(
    lock: *mut spinlock_t,
    name: *const c_char,
    class: *mut lock_class_key,
) {
    unsafe { new_lock(name, class) };
    unsafe { lock.write(spinlock { owner: 0, class }) };
}

pub unsafe extern "C" fn spin_lock(lock: *mut spinlock_t) {
    lockdep::acquire(unsafe { (*lock).class } as usize);
    unsafe { acquire(&raw mut (*lock).owner, "spinlock") };
    atomic(true);
}

pub unsafe extern "C" fn spin_trylock(lock: *mut spinlock_t) -> c_int {
    if with(|m| m.fails("spin_trylock")) {
        return 0;
    }
    let got = unsafe { try_acquire(&raw mut (*lock).owner) };
    if got {
        lockdep::acquired(unsafe { (*lock).class } as usize);
        atomic(true);
    }
    c_int::from(got)
}

pub unsafe extern "C" fn spin_unlock(lock: *mut spinlock_t) {
    lockdep::release(unsafe { (*lock).class } as usize);
    if unsafe { release(&raw mut (*lock).owner, "spinlock") } {
        atomic(false);
    }
}

pub unsafe extern "C" fn spin_assert_is_held(lock: *mut spinlock_t) {
    if with(|_| unsafe { (*lock).owner }) != thread_id() {
        report("a spinlock is not held that must be");
    }
}

// Handlers of interrupts are threads (`irq.rs`), and take no spinlock from the one that they
// interrupt.
pub unsafe extern "C" fn spin_lock_irqsave(lock: *mut spinlock_t) -> c_ulong {
    unsafe { spin_lock(lock) };
    0
}

pub unsafe extern "C" fn spin_trylock_irqsave(lock: *mut spinlock_t, _flags: *mut c_ulong) -> bool {
    unsafe { spin_trylock(lock) != 0 }
}

pub unsafe extern "C" fn spin_unlock_irqrestore(lock: *mut spinlock_t, _flags: c_ulong) {
    unsafe { spin_unlock(lock) }
}

pub unsafe extern "C" fn spin_lock_irq_disable(lock: *mut spinlock_t) {
    unsafe { spin_lock(lock) }
}

pub unsafe extern "C" fn spin_trylock_irq_disable(lock: *mut spinlock_t) -> c_int {
    unsafe { spin_trylock(lock) }
}

pub unsafe extern "C" fn spin_unlock_irq_enable(lock: *mut spinlock_t) {
    unsafe { spin_unlock(lock) }
}

pub unsafe extern "C" fn rcu_read_lock() {
    let me = thread_id();
    with(|m| {
        m.rcu_nr += 1;
        let nr = m.rcu_nr;
        m.rcu_readers.entry(me).or_default().push(nr);
    });
    atomic(true);
}

pub unsafe extern "C" fn rcu_read_unlock() {
    let me = thread_id();
    let left = with(|m| {
        let sections = m.rcu_readers.get_mut(&me);
        let left = sections.and_then(Vec::pop).is_some();
        m.rcu_readers.retain(|_, sections| !sections.is_empty());
        m.changed();
        left
    });
    match left {
        true => atomic(false),
        false => report("`rcu_read_unlock()` by somebody who does not read"),
    }
}

/// Waits until nobody is in a read section any more who is in one now.
pub unsafe extern "C" fn synchronize_rcu() {
    might_sleep("synchronize_rcu");
    let me = thread_id();
    with(|m| {
        let last = m.rcu_nr;
        let is_before = |nr: &u64| *nr <= last;
        // Who waits for itself was reported just now.
        while m
            .rcu_readers
            .iter()
            .any(|(reader, sections)| *reader != me && sections.first().is_some_and(is_before))
        {
            m.wait("readers of RCU");
        }
    });
}

pub unsafe extern "C" fn rcu_barrier() {
    might_sleep("rcu_barrier");
}

pub unsafe extern "C" fn __might_sleep(_file: *const c_char, _line: c_int) {
    might_sleep("might_sleep");
}

pub unsafe extern "C" fn might_resched() {}

#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct completion {
    pub done: c_uint,
    _not_send: *mut c_void,
}

pub unsafe extern "C" fn init_completion(x: *mut completion) {
    unsafe { x.write(pin_init::zeroed()) };
}

pub unsafe extern "C" fn complete_all(x: *mut completion) {
    with(|m| {
        unsafe { (*x).done = c_uint::MAX };
        m.changed();
    });
}

pub unsafe extern "C" fn reinit_completion(x: *mut completion) {
    with(|_| unsafe { (*x).done = 0 });
}

pub unsafe extern "C" fn completion_done(x: *mut completion) -> bool {
    with(|_| unsafe { (*x).done != 0 })
}

pub unsafe extern "C" fn try_wait_for_completion(x: *mut completion) -> bool {
    with(|_| unsafe {
        // What was completed for all stays so.
        if !matches!((*x).done, 0 | c_uint::MAX) {
            (*x).done -= 1;
            return true;
        }
        (*x).done != 0
    })
}

/// There are no signals, but it may be made to fail.
pub unsafe extern "C" fn wait_for_completion_interruptible(x: *mut completion) -> c_int {
    if with(|m| m.fails("wait_for_completion_interruptible")) {
        return -(ERESTARTSYS as c_int);
    }
    unsafe { wait_for_completion(x) };
    0
}

pub unsafe extern "C" fn wait_for_completion(x: *mut completion) {
    might_sleep("wait_for_completion");
    with(|m| {
        let is_done = || unsafe { (&raw const (*x).done).read_volatile() } != 0;
        while !is_done() {
            m.wait("a completion");
        }
    });
}

#[repr(C)]
#[derive(Clone, Copy, Default, Zeroable)]
pub struct atomic_t {
    pub counter: c_int,
}

#[repr(C)]
#[derive(Clone, Copy, Default, Zeroable)]
pub struct refcount_struct {
    pub refs: atomic_t,
}
pub type refcount_t = refcount_struct;

unsafe fn counter<'a>(r: *mut refcount_t) -> &'a AtomicI32 {
    point();
    unsafe { AtomicI32::from_ptr(&raw mut (*r).refs.counter) }
}

pub unsafe extern "C" fn REFCOUNT_INIT(n: c_int) -> refcount_t {
    refcount_t {
        refs: atomic_t { counter: n },
    }
}

pub unsafe extern "C" fn refcount_set(r: *mut refcount_t, n: c_int) {
    unsafe { counter(r) }.store(n, Ordering::Relaxed);
}

pub unsafe extern "C" fn refcount_inc(r: *mut refcount_t) {
    if unsafe { counter(r) }.fetch_add(1, Ordering::Relaxed) <= 0 {
        report("a reference count is raised from zero");
    }
}

pub unsafe extern "C" fn refcount_dec(r: *mut refcount_t) {
    if unsafe { counter(r) }.fetch_sub(1, Ordering::Release) <= 1 {
        report("a reference count has fallen to zero, and nobody has noticed");
    }
}

pub unsafe extern "C" fn refcount_dec_and_test(r: *mut refcount_t) -> bool {
    let old = unsafe { counter(r) }.fetch_sub(1, Ordering::AcqRel);
    if old <= 0 {
        report("a reference count falls below zero");
    }
    old == 1
}

#[repr(C)]
#[derive(Clone, Copy, Default, Zeroable)]
pub struct kref {
    pub refcount: refcount_t,
}

pub(crate) unsafe fn kref_init(kref: *mut kref) {
    unsafe { refcount_set(&raw mut (*kref).refcount, 1) };
}

pub(crate) unsafe fn kref_get(kref: *mut kref) {
    unsafe { refcount_inc(&raw mut (*kref).refcount) };
}

pub(crate) unsafe fn kref_get_unless_zero(kref: *mut kref) -> bool {
    let counter = unsafe { counter(&raw mut (*kref).refcount) };
    let more = |n: i32| (n > 0).then_some(n + 1);
    let result = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    result.is_ok()
}

/// Gives a reference up. Tells whether it was the last one.
pub(crate) unsafe fn kref_put(kref: *mut kref) -> bool {
    unsafe { refcount_dec_and_test(&raw mut (*kref).refcount) }
}
