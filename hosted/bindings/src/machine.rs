// SPDX-License-Identifier: GPL-2.0

//! The machine that a test runs on: what all its processes share.
//!
//! One lock protects all of it, and is never held while a driver's code runs. Whoever waits for
//! something waits for any change at all; if all threads of a machine do that, it is a deadlock,
//! and reported as one.
//!
//! Real: that what is left over is somebody's mistake. Not simulated: CPUs and nodes, of which
//! there is one that nobody asks for; memory that ends. An allocation fails because a test wants it
//! to: see [`for_each_failure`].

use std::{
    any::Any,
    backtrace::Backtrace,
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::{Deref, DerefMut},
    panic::{catch_unwind, resume_unwind, AssertUnwindSafe},
    sync::{
        atomic::{AtomicBool, Ordering},
        Arc,
    },
    time::Instant,
};

use crate::host::{
    spawn as spawn_thread, this_thread, yield_now, Condvar, JoinHandle, Mutex, MutexGuard,
};
use crate::{
    alloc::Allocation,
    consts::PAGE_SHIFT,
    debugfs::Entries,
    device_private::{Pages, Physical},
    dma::Dma,
    driver::Users,
    drm::Drm,
    files::miscdevice,
    irq::Irqs,
    lockdep::Orders,
    mm::mm,
    mm::mm_struct,
    mmio::Mmio,
    pages::Frames,
    pci::Pci,
    pgtable::Pte,
    process::Mapped,
    regions::Resources,
    report::{fatal, is_traced, left_over, report, Traced, HINT},
    trace::Event,
    workqueue::Item,
};

/// What the machine knows. Pointers in it are to what the machine keeps alive, or checks before it
/// believes them.
#[derive(Default)]
pub(crate) struct State {
    /// Pages of system memory.
    pub(crate) frames: Frames,
    /// Pages of devices, by their pagemaps.
    pub(crate) pagemaps: BTreeMap<usize, Pages>,
    /// Address spaces that have users.
    pub(crate) mms: Vec<*mut mm_struct>,
    /// All address spaces that somebody has a reference to, with users or without.
    pub(crate) known_mms: BTreeSet<usize>,
    /// What belongs to DRM.
    pub(crate) drm: Drm,
    /// Devices that can be opened.
    pub(crate) devices: HashMap<String, Traced<*mut miscdevice>>,
    /// Who has the lock of misc devices.
    pub(crate) misc_owner: usize,
    /// Whether what was told of an address space is never true any more.
    pub(crate) restless: bool,
    /// Who uses the driver that is loaded.
    pub(crate) module: Users,
    /// What is in debugfs.
    pub(crate) debugfs: Entries,
    /// Physical memory of devices.
    pub(crate) physical: Vec<Physical>,
    /// Physical addresses that somebody has.
    pub(crate) resources: Resources,
    /// Which locks were taken in which order.
    pub(crate) orders: Orders,
    /// When folios were split.
    pub(crate) splits: Vec<Instant>,
    /// What the tracepoints have said.
    pub(crate) events: Vec<(Instant, Event)>,
    /// What has changed in page tables, if somebody wants to know.
    pub(crate) changes_of_tables: Option<Vec<Change>>,
    /// What was allocated, by its address.
    pub(crate) allocations: HashMap<usize, Allocation>,
    /// How many devices there are that are on no bus.
    pub(crate) faux_devices: usize,
    /// Who reads under RCU: since when, for each section that it is in; and how many sections there
    /// were.
    pub(crate) rcu_readers: HashMap<usize, Vec<u64>>,
    pub(crate) rcu_nr: u64,
    /// How many things have been asked for that may fail.
    fallible: usize,
    /// Which of them count, if not all.
    only: Option<&'static [&'static str]>,
    /// Which one of them fails.
    fails: Option<usize>,
    /// What the one that failed was, and where it was asked for.
    failed: Option<(&'static str, String)>,
    reports: Vec<String>,
    /// How many threads there are, and how many of them wait.
    threads: usize,
    waiting: usize,
    /// Counts changes that somebody may be waiting for.
    changes: u64,
    pub(crate) next_pid: i32,
    /// Work items that are queued or run.
    pub(crate) works: HashMap<usize, Item>,
    /// How many items the queues of tests have that are queued or run.
    pub(crate) queues: HashMap<usize, usize>,
    /// What devices can reach.
    pub(crate) dma: Dma,
    /// The bus, which registers are mapped, and who is told of interrupts.
    pub(crate) pci: Pci,
    pub(crate) mmio: Mmio,
    pub(crate) irqs: Irqs,
    /// What was printed.
    pub(crate) messages: Vec<String>,
    /// How long nothing has happened but that the only thread slept, in times and in nanoseconds.
    naps: usize,
    pub(crate) slept: i64,
}

// SAFETY: The pointers are used under the lock of the machine only, or by the thread that owns what
// they point to.
unsafe impl Send for State {}

/// How often the only thread of a machine may sleep. Something that failed once is there the next
/// time.
const MAX_NAPS: usize = 64;

/// A machine.
#[derive(Default)]
pub(crate) struct Machine {
    state: Mutex<State>,
    changed: Condvar,
    /// Whether there was ever more than one thread, so that what happens in which order is chance.
    concurrent: AtomicBool,
}

/// The machine locked.
pub(crate) struct Locked<'a> {
    machine: &'a Machine,
    state: Option<MutexGuard<'a, State>>,
}

impl Deref for Locked<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        self.state
            .as_ref()
            .expect("the state is there but while waiting")
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut State {
        self.state
            .as_mut()
            .expect("the state is there but while waiting")
    }
}

impl Locked<'_> {
    /// Waits until something has changed. Others run meanwhile. `what` is for people.
    pub(crate) fn wait(&mut self, what: &str) {
        let before = self.changes;
        self.waiting += 1;
        if self.waiting == self.threads {
            fatal(format!(
                "deadlock: this thread waits for {what}, and all others wait as well"
            ));
        }
        while self.changes == before {
            let guard = self
                .state
                .take()
                .expect("the state is there but while waiting");
            let guard = self.machine.changed.wait(guard);
            self.state = Some(guard.unwrap_or_else(|poisoned| poisoned.into_inner()));
        }
    }

    /// Wakes whoever waits.
    pub(crate) fn changed(&mut self) {
        self.changes += 1;
        self.waiting = 0;
        self.machine.changed.notify_all();
    }

    /// Sleeps for a while. If nobody else runs, that takes no time, and cannot go on for ever.
    /// False if somebody does.
    pub(crate) fn nap(&mut self, nanoseconds: i64) -> bool {
        if self.threads > self.waiting + 1 {
            self.naps = 0;
            return false;
        }
        self.naps += 1;
        if self.naps > MAX_NAPS {
            fatal("this thread sleeps again and again, and there is nobody who could end that");
        }
        self.slept += nanoseconds;
        true
    }

    /// Notes what the `nr` pages from `vpn` on are now.
    pub(crate) fn log(&mut self, space: *mut mm_struct, vpn: usize, nr: usize, pte: Option<Pte>) {
        if self.changes_of_tables.is_none() {
            return;
        }
        let at = Instant::now();
        let to = pte.map_or(Mapped::None, |pte| unsafe { Mapped::of(self, pte) });
        let process = unsafe { mm(space) }.id;
        let addr = vpn << PAGE_SHIFT;
        let change = Change {
            at,
            process,
            addr,
            nr,
            to,
        };
        self.changes_of_tables
            .iter_mut()
            .for_each(|log| log.push(change));
    }

    /// Whether `what`, which is asked for now, is to fail.
    pub(crate) fn fails(&mut self, what: &'static str) -> bool {
        if self.only.is_some_and(|only| !only.contains(&what)) {
            return false;
        }
        let number = self.fallible;
        self.fallible += 1;
        let fails = self.fails == Some(number);
        if fails {
            self.failed = Some((what, Backtrace::force_capture().to_string()));
        }
        fails
    }
}

/// From some time on, the `nr` pages of a process from `addr` on are somewhere else.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    pub at: Instant,
    /// What [`Process::id`](crate::process::Process::id) says.
    pub process: i32,
    pub addr: usize,
    pub nr: usize,
    /// Where the first of them is.
    pub to: Mapped,
}

/// Takes what has changed in all page tables since the last call, in order. The first call is where
/// this begins.
pub fn changes() -> Vec<Change> {
    with(|m| m.changes_of_tables.replace(Vec::new())).unwrap_or_default()
}

/// The machine that this thread runs on.
fn current() -> Option<Arc<Machine>> {
    this_thread(|this| this.machine.borrow().clone())
}

fn set_current(machine: Option<Arc<Machine>>) {
    // What was there is dropped when nobody looks at it any more.
    let before = this_thread(|this| this.machine.replace(machine));
    drop(before);
}

/// Calls `f` with the machine locked.
pub(crate) fn with<R>(f: impl FnOnce(&mut Locked<'_>) -> R) -> R {
    let Some(machine) = current() else {
        fatal("the kernel is called outside of `sim::run()`");
    };
    if cfg!(not(feature = "shuttle")) && machine.concurrent.load(Ordering::Relaxed) {
        // Between any two things that C does, somebody else may run. A scheduler sees to that by
        // itself, and would take this for a wish.
        yield_now();
    }
    let state = machine
        .state
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let mut locked = Locked {
        machine: &machine,
        state: Some(state),
    };
    f(&mut locked)
}

/// Notes that a test is to fail.
pub(crate) fn note_report(what: &str) {
    let Some(machine) = current() else { return };
    // The lock may be held by the one who reports.
    if let Ok(mut state) = machine.state.try_lock() {
        state.reports.push(what.to_owned());
    } else {
        this_thread(|this| this.late.borrow_mut().push(what.to_owned()));
    };
}

/// Keeps what was printed, if it was on a machine.
pub(crate) fn note_message(text: String) {
    if current().is_some() {
        with(|m| m.messages.push(text));
    }
}

/// Enters or leaves a part of the code that must not sleep.
pub(crate) fn atomic(enter: bool) {
    this_thread(|this| {
        let now = this.atomic.get();
        this.atomic.set(match enter {
            true => now + 1,
            false => now.saturating_sub(1),
        });
        if !enter && now == 0 {
            report("this thread is not in atomic context, and leaves it");
        }
    });
}

/// A thread ends, or its machine does: whether it is still in atomic context, in words.
fn end_of_atomic() -> Option<String> {
    let left = this_thread(|this| this.atomic.replace(0));
    (left > 0).then(|| "a thread ends in atomic context".to_owned())
}

/// Says that `what` may sleep, which it must not under a spinlock or in a read section of RCU.
pub(crate) fn might_sleep(what: &str) {
    if this_thread(|this| this.atomic.get()) > 0 {
        report(format!(
            "`{what}()` may sleep, and is called in atomic context"
        ));
    }
}

/// What came of a run.
struct Outcome {
    fallible: usize,
    failed: Option<(&'static str, String)>,
    concurrent: bool,
}

fn run_once<R>(
    fails: Option<usize>,
    only: Option<&'static [&'static str]>,
    f: impl FnOnce() -> R,
) -> (R, Outcome) {
    assert!(current().is_none(), "a machine cannot run on a machine");
    let machine = Arc::new(Machine::default());
    {
        let mut state = machine.state.lock().expect("nobody has the lock yet");
        state.fails = fails;
        state.only = only;
        state.threads = 1;
        state.next_pid = 1;
    }
    set_current(Some(machine.clone()));
    crate::task::enter_kernel_thread();
    let result = catch_unwind(AssertUnwindSafe(f));
    // What was queued is done before a machine is switched off.
    if result.is_ok() {
        with(|m| {
            while m.threads > 1 {
                m.wait("the other threads");
            }
        });
    }
    crate::task::leave();
    let held = crate::lockdep::end().into_iter().chain(end_of_atomic());
    let held: Vec<_> = held.filter(|_| result.is_ok()).collect();
    let outcome = with(|m| {
        if result.is_ok() {
            m.look_for_leftovers();
            m.reports.extend(held);
        }
        m.reports.extend(this_thread(|this| this.late.take()));
        Outcome {
            fallible: m.fallible,
            failed: m.failed.take(),
            concurrent: m.machine.concurrent.load(Ordering::Relaxed),
        }
    });
    let reports = with(|m| {
        crate::device_private::unplug(m);
        std::mem::take(&mut m.reports)
    });
    set_current(None);
    match result {
        Err(panic) => resume_unwind(panic),
        Ok(_) if !reports.is_empty() => {
            let failed = match &outcome.failed {
                Some((what, place)) => format!("the failure was of {what}, here:\n{place}"),
                None => "nothing was made to fail".to_owned(),
            };
            panic!("{}; {failed}", reports.join("; "))
        }
        Ok(result) => (result, outcome),
    }
}

impl State {
    /// What C has a pointer to in the `size` bytes at `addr`, and still uses.
    pub(crate) fn lent(&self, addr: usize, size: usize) -> Option<&'static str> {
        let is_inside = |other: usize| (addr..addr + size).contains(&other);
        let mut spaces = self.known_mms.iter();
        if spaces.any(|space| {
            let space = std::ptr::with_exposed_provenance_mut(*space);
            unsafe { mm(space) }.subscriptions.has(is_inside)
        }) {
            return Some("a notifier that was not removed");
        }
        if self.pagemaps.keys().any(|pgmap| is_inside(*pgmap)) {
            return Some("a registered pagemap");
        }
        // One that runs may free itself.
        let mut works = self.works.iter();
        if works.any(|(work, item)| item.is_queued() && is_inside(*work)) {
            return Some("a work item that is queued");
        }
        let mut devices = self.devices.values();
        if devices.any(|misc| is_inside(**misc as usize)) {
            return Some("a registered misc device");
        }
        None
    }

    /// Reports what a test has left behind.
    fn look_for_leftovers(&mut self) {
        let mut left = Vec::new();
        left.extend(self.mms.iter().map(|_| "an address space".to_owned()));
        let used = self.mms.iter().map(|space| *space as usize);
        match self.known_mms.len() - used.len() {
            0 => {}
            nr => left.push(format!("{nr} references to address spaces without users")),
        }
        left.extend(self.queues.keys().map(|_| "a workqueue".to_owned()));
        left.extend(self.drm.in_use());
        left.extend(self.pci.in_use());
        for (nr, what) in [
            (
                self.faux_devices,
                "devices that somebody has a reference to",
            ),
            (self.mmio.in_use(None), "mapped BARs"),
            (self.irqs.in_use(None), "interrupts"),
        ] {
            if nr > 0 {
                left.push(format!("{nr} {what}"));
            }
        }
        match self.resources.in_use() {
            0 => {}
            nr => left.push(format!("{nr} requested ranges of physical addresses")),
        }
        match self.debugfs.len() {
            0 => {}
            nr => left.push(format!("{nr} files and directories of debugfs")),
        }
        // And what may be known to come from somewhere.
        let mut traced = Vec::new();
        for (name, misc) in &self.devices {
            traced.push((format!("the device {name}"), misc.by.as_ref()));
        }
        for pages in self.pagemaps.values() {
            traced.push(("a registered pagemap".to_owned(), pages.by.as_ref()));
        }
        traced.extend(self.dma.in_use());
        if let Some(one) = self.allocations.values().next() {
            let nr = self.allocations.len();
            let sizes: usize = self.allocations.values().map(|one| one.size).sum();
            let what = format!("{nr} allocations of {sizes} bytes");
            traced.push((what, one.by.as_ref()));
        }
        let mut found: Vec<_> = traced
            .iter()
            .map(|(what, by)| left_over(what, *by))
            .collect();
        found.extend(self.frames.in_use());
        if !found.is_empty() && !is_traced() {
            found.push(HINT.to_owned());
        }
        let left = left.iter().map(|what| left_over(what, None));
        self.reports.extend(left.chain(found));
    }
}

/// Runs `f` on a machine of its own.
///
/// # Panics
///
/// If something was reported, or is left over.
pub fn run<R>(f: impl FnOnce() -> R) -> R {
    run_once(None, None, f).0
}

/// Runs `f`, each time on a new machine: without a failure, and then with each thing that may fail
/// failing in turn: allocations, copies from and to user space, pages that cannot be locked. Gives
/// the number of failures.
///
/// # Panics
///
/// If `f` does, or if something was reported, or is left over, whatever fails.
pub fn for_each_failure(f: impl FnMut()) -> usize {
    each_failure(None, f)
}

/// As [`for_each_failure`], but only what has one of these names fails, which are those of the
/// functions that fail.
///
/// # Panics
///
/// As [`for_each_failure`], and if none of them is ever asked for.
pub fn for_each_failure_of(names: &'static [&'static str], f: impl FnMut()) -> usize {
    let nr = each_failure(Some(names), f);
    assert!(nr > 0, "nothing that is called {names:?} can fail here");
    nr
}

fn each_failure(only: Option<&'static [&'static str]>, mut f: impl FnMut()) -> usize {
    let (_, outcome) = run_once(None, only, &mut f);
    for number in 0..outcome.fallible {
        let now = run_once(Some(number), only, &mut f).1;
        // With several threads, what comes when is chance.
        assert!(
            now.failed.is_some() || now.concurrent,
            "failure {number} of {} did not happen",
            outcome.fallible
        );
    }
    outcome.fallible
}

/// A thread of the machine.
pub struct Thread<R>(JoinHandle<Result<R, Box<dyn Any + Send>>>);

/// Runs `f` in a thread of the same machine, and the same process.
pub fn spawn<R: Send + 'static>(f: impl FnOnce() -> R + Send + 'static) -> Thread<R> {
    Thread(spawn_as(crate::task::inherit(), f))
}

/// Runs `f` in a thread of the kernel's.
pub(crate) fn spawn_kernel_thread(f: impl FnOnce() + Send + 'static) {
    drop(spawn_as(crate::task::kernel_thread(), f));
}

fn spawn_as<R: Send + 'static>(
    task: crate::task::Task,
    f: impl FnOnce() -> R + Send + 'static,
) -> JoinHandle<Result<R, Box<dyn Any + Send>>> {
    let machine = current().unwrap_or_else(|| fatal("a thread belongs to a machine"));
    with(|m| {
        m.threads += 1;
        m.machine.concurrent.store(true, Ordering::Relaxed);
    });
    spawn_thread(move || {
        set_current(Some(machine));
        crate::task::enter(task);
        let result = catch_unwind(AssertUnwindSafe(f));
        crate::task::leave();
        let held = crate::lockdep::end().into_iter().chain(end_of_atomic());
        let held: Vec<_> = held.filter(|_| result.is_ok()).collect();
        with(|m| {
            let late = this_thread(|this| this.late.take());
            m.reports.extend(late);
            m.reports.extend(held);
            m.threads -= 1;
            m.changed();
        });
        set_current(None);
        result
    })
}

impl<R> Thread<R> {
    /// Waits for the end of the thread.
    pub fn join(self) -> R {
        // A machine whose other threads wait for this one is not deadlocked.
        with(|m| {
            m.threads -= 1;
            if m.threads > 0 && m.waiting == m.threads {
                fatal("deadlock: all threads wait, the last for the end of the others");
            }
        });
        let result = self.0.join();
        with(|m| m.threads += 1);
        match result {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) | Err(panic) => resume_unwind(panic),
        }
    }
}
