// SPDX-License-Identifier: GPL-2.0

//! Threads, and what they wait with: those of the host. With the feature `shuttle` a scheduler
//! chooses which of them runs, at each call of C that locks the machine, and at each atomic
//! operation, and tries other choices each time: see [`explore`].
//!
//! Real: that any of them may run at these points. Not simulated: CPUs, priorities; and with the
//! feature, what memory looks like to another CPU,
//! and a thread that is interrupted between two such points.

use std::{
    cell::{Cell, RefCell},
    ptr::null_mut,
    sync::{
        atomic::{AtomicUsize, Ordering},
        Arc,
    },
};

#[cfg(not(feature = "shuttle"))]
pub(crate) use std::{
    sync::{Condvar, Mutex, MutexGuard},
    thread::{sleep, spawn, yield_now, JoinHandle},
    thread_local,
};

#[cfg(feature = "shuttle")]
pub(crate) use shuttle::{
    sync::{Condvar, Mutex, MutexGuard},
    thread::{sleep, spawn, yield_now, JoinHandle},
    thread_local,
};

use crate::{lockdep::Class, machine::Machine, task::task_struct, wait::Waiting};

/// What a thread knows of itself.
pub(crate) struct ThisThread {
    /// Which it is; not zero.
    pub(crate) id: usize,
    pub(crate) machine: RefCell<Option<Arc<Machine>>>,
    /// How many locks it holds under which it must not sleep.
    pub(crate) atomic: Cell<usize>,
    /// What it holds, in the order in which it was taken.
    pub(crate) held: RefCell<Vec<Class>>,
    /// Reports that were made while the machine was locked.
    pub(crate) late: RefCell<Vec<String>>,
    pub(crate) current: Cell<*mut task_struct>,
    pub(crate) waiting: Cell<Waiting>,
}

impl ThisThread {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            machine: RefCell::new(None),
            atomic: Cell::new(0),
            held: RefCell::new(Vec::new()),
            late: RefCell::new(Vec::new()),
            current: Cell::new(null_mut()),
            waiting: Cell::new(None),
        }
    }
}

thread_local! {
    static THIS: ThisThread = ThisThread::new();
}

/// Calls `f` with what this thread knows of itself.
pub(crate) fn this_thread<R>(f: impl FnOnce(&ThisThread) -> R) -> R {
    THIS.with(f)
}

/// Calls `f`, which runs machines with several threads: once, or with the feature `shuttle` so
/// often, with other choices of who runs when. They are the same choices each time that this is
/// called.
///
/// # Panics
///
/// If `f` does, with any choice.
#[cfg(not(feature = "shuttle"))]
pub fn explore(_times: usize, f: impl Fn() + Send + Sync + 'static) {
    f();
}

/// Calls `f`, which runs machines with several threads: once, or with the feature `shuttle` so
/// often, with other choices of who runs when. They are the same choices each time that this is
/// called.
///
/// # Panics
///
/// If `f` does, with any choice.
#[cfg(feature = "shuttle")]
pub fn explore(times: usize, f: impl Fn() + Send + Sync + 'static) {
    use shuttle::{scheduler::RandomScheduler, Config, MaxSteps, Runner};

    let mut config = Config::new();
    // Drivers are not written for small stacks.
    config.stack_size = 1 << 20;
    config.max_steps = MaxSteps::FailAfter(10_000_000);
    // Any thread at any point. A scheduler with few changes of thread is unfair to who sleeps until
    // another has done something.
    Runner::new(
        RandomScheduler::new_from_seed(0x6d70_6d65_6d00, times),
        config,
    )
    .run(f);
}

/// Somebody else may run here: something is about to be done that does not lock the machine.
pub(crate) fn point() {
    // A load of shuttle's is such a point, whatever is loaded.
    #[cfg(feature = "shuttle")]
    shuttle::sync::atomic::AtomicBool::new(false).load(Ordering::SeqCst);
}
