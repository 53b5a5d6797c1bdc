// SPDX-License-Identifier: GPL-2.0

//! Interrupts of PCI devices.
//!
//! Real: vectors and who has them, who may share one, that a handler must not sleep, that one
//! handler does not run twice at once, that what comes while it runs is not lost, handlers with a
//! thread, who waits for whom when one is freed. Each interrupt comes on a CPU of its own, which is
//! a thread here, so that it interrupts nobody: that a lock is taken with interrupts enabled which
//! a handler takes as well is not found. Not simulated: levels (all are edges), what comes while
//! nobody has asked for it (it is lost), masking, affinity, storms.

use std::collections::BTreeMap;

use ffi::*;

use crate::{
    alloc::might_alloc,
    errno::*,
    machine::{atomic, might_sleep, spawn_kernel_thread, with, Locked},
    pci::pci_dev,
    report::report,
};

// 7.3 asks bindgen for a type of its own, and nothing of 7.2 that is here uses it.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct irqreturn(pub c_uint);

impl irqreturn {
    pub const IRQ_NONE: Self = Self(0);
    pub const IRQ_HANDLED: Self = Self(1);
    pub const IRQ_WAKE_THREAD: Self = Self(2);
}

pub use self::irqreturn as irqreturn_t;

pub type irq_handler_t =
    Option<unsafe extern "C" fn(irq: c_int, dev_id: *mut c_void) -> irqreturn_t>;

pub const PCI_IRQ_INTX: u32 = 1 << 0;
pub const PCI_IRQ_MSI: u32 = 1 << 1;
pub const PCI_IRQ_MSIX: u32 = 1 << 2;
pub const PCI_IRQ_ALL_TYPES: u32 = PCI_IRQ_INTX | PCI_IRQ_MSI | PCI_IRQ_MSIX;

pub const IRQF_TRIGGER_NONE: u32 = 0;
pub const IRQF_TRIGGER_RISING: u32 = 1 << 0;
pub const IRQF_TRIGGER_FALLING: u32 = 1 << 1;
pub const IRQF_TRIGGER_HIGH: u32 = 1 << 2;
pub const IRQF_TRIGGER_LOW: u32 = 1 << 3;
pub const IRQF_SHARED: u32 = 1 << 7;
pub const IRQF_PROBE_SHARED: u32 = 1 << 8;
pub const __IRQF_TIMER: u32 = 1 << 9;
pub const IRQF_PERCPU: u32 = 1 << 10;
pub const IRQF_NOBALANCING: u32 = 1 << 11;
pub const IRQF_IRQPOLL: u32 = 1 << 12;
pub const IRQF_ONESHOT: u32 = 1 << 13;
pub const IRQF_NO_SUSPEND: u32 = 1 << 14;
pub const IRQF_FORCE_RESUME: u32 = 1 << 15;
pub const IRQF_NO_THREAD: u32 = 1 << 16;
pub const IRQF_EARLY_RESUME: u32 = 1 << 17;
pub const IRQF_COND_SUSPEND: u32 = 1 << 18;
pub const IRQF_NO_AUTOEN: u32 = 1 << 19;
pub const IRQF_NO_DEBUG: u32 = 1 << 20;
pub const IRQF_TIMER: u32 = __IRQF_TIMER | IRQF_NO_SUSPEND | IRQF_NO_THREAD;

/// Somebody who is told.
#[derive(Clone, Copy)]
struct Action {
    /// What it is told with, and known by.
    cookie: usize,
    handler: irq_handler_t,
    thread: irq_handler_t,
    shared: bool,
}

/// A vector of a device.
struct Line {
    pdev: *mut pci_dev,
    vector: usize,
    kind: c_uint,
    actions: Vec<Action>,
    /// Whether there is something to tell, and whether somebody is being told.
    raised: bool,
    running: bool,
}

/// The thread of a handler.
#[derive(Default)]
struct Thread {
    woken: bool,
    running: bool,
}

/// What is known of interrupts on a machine.
#[derive(Default)]
pub(crate) struct Irqs {
    lines: BTreeMap<c_uint, Line>,
    /// Those that have something to do, by line and cookie.
    threads: BTreeMap<(c_uint, usize), Thread>,
    /// The number of the last line that there was.
    last: c_uint,
}

impl Irqs {
    /// How many vectors a device has, or all have together.
    pub(crate) fn in_use(&self, pdev: Option<*mut pci_dev>) -> usize {
        let lines = self.lines.values();
        let lines = lines.filter(|line| pdev.is_none_or(|pdev| pdev == line.pdev));
        lines.count()
    }

    /// Whether a handler is told with what is in this memory.
    pub(crate) fn lent(&self, addr: usize, size: usize) -> bool {
        let mut actions = self.lines.values().flat_map(|line| &line.actions);
        actions.any(|action| (addr..addr + size).contains(&action.cookie))
    }

    /// Whether somebody is being told by this line, or the thread of one of its handlers runs, or
    /// will.
    fn is_busy(&self, irq: c_uint, cookie: Option<usize>) -> bool {
        let running = self.lines.get(&irq).is_some_and(|line| line.running);
        let mut threads = self.threads.keys();
        let is_it =
            |key: &(c_uint, usize)| key.0 == irq && cookie.is_none_or(|cookie| cookie == key.1);
        running || threads.any(is_it)
    }
}

/// Tells whoever has asked for this vector.
pub(crate) fn raise(pdev: *mut pci_dev, vector: usize) {
    let irq = with(|m| {
        let mut lines = m.irqs.lines.iter_mut();
        let (irq, line) = lines.find(|(_, line)| line.pdev == pdev && line.vector == vector)?;
        if line.actions.is_empty() {
            return None;
        }
        let known = std::mem::replace(&mut line.raised, true);
        // Who runs looks once more.
        (!known && !line.running).then_some(*irq)
    });
    if let Some(irq) = irq {
        spawn_kernel_thread(move || handle(irq));
    }
}

/// What a CPU does that is interrupted.
fn handle(irq: c_uint) {
    let begin = |m: &mut Locked<'_>| {
        let line = m.irqs.lines.get_mut(&irq)?;
        if line.running || !std::mem::take(&mut line.raised) {
            return None;
        }
        line.running = true;
        Some(line.actions.clone())
    };
    while let Some(actions) = with(begin) {
        let mut handled = actions.is_empty();
        atomic(true);
        for action in actions {
            let result = match action.handler {
                Some(handler) => unsafe { handler(irq as c_int, pointer(action.cookie)) },
                None => irqreturn::IRQ_WAKE_THREAD,
            };
            handled |= result != irqreturn::IRQ_NONE;
            if result == irqreturn::IRQ_WAKE_THREAD {
                wake(irq, action);
            }
        }
        atomic(false);
        if !handled {
            report("an interrupt that nobody cares about");
        }
        with(|m| {
            if let Some(line) = m.irqs.lines.get_mut(&irq) {
                line.running = false;
            }
            m.changed();
        });
    }
}

/// What a handler is told with.
fn pointer(cookie: usize) -> *mut c_void {
    std::ptr::with_exposed_provenance_mut(cookie)
}

/// Wakes the thread of a handler.
fn wake(irq: c_uint, action: Action) {
    let Some(function) = action.thread else {
        return report("a handler wakes its thread, and has none");
    };
    let key = (irq, action.cookie);
    let starts = with(|m| {
        let thread = m.irqs.threads.entry(key).or_default();
        let known = std::mem::replace(&mut thread.woken, true);
        !known && !thread.running
    });
    if !starts {
        return;
    }
    spawn_kernel_thread(move || loop {
        let goes_on = with(|m| {
            let thread = m.irqs.threads.get_mut(&key);
            let goes_on = thread.is_some_and(|thread| {
                thread.running = std::mem::take(&mut thread.woken);
                thread.running
            });
            if !goes_on {
                m.irqs.threads.remove(&key);
                m.changed();
            }
            goes_on
        });
        if !goes_on {
            return;
        }
        if unsafe { function(irq as c_int, pointer(key.1)) } == irqreturn::IRQ_NONE {
            report("an interrupt that nobody cares about");
        }
    });
}

pub unsafe extern "C" fn request_threaded_irq(
    irq: c_uint,
    handler: irq_handler_t,
    thread_fn: irq_handler_t,
    flags: c_ulong,
    _name: *const c_char,
    dev_id: *mut c_void,
) -> c_int {
    might_alloc("request_irq");
    let shared = flags & IRQF_SHARED as c_ulong != 0;
    if shared && dev_id.is_null() || handler.is_none() && thread_fn.is_none() {
        return -(EINVAL as c_int);
    }
    with(|m| {
        if m.fails("request_irq") {
            return -(ENOMEM as c_int);
        }
        let Some(line) = m.irqs.lines.get_mut(&irq) else {
            return -(EINVAL as c_int);
        };
        let mut others = line.actions.iter();
        if others.any(|other| !shared || !other.shared) {
            return -(EBUSY as c_int);
        }
        line.actions.push(Action {
            cookie: dev_id.expose_provenance(),
            handler,
            thread: thread_fn,
            shared,
        });
        0
    })
}

pub unsafe extern "C" fn request_irq(
    irq: c_uint,
    handler: irq_handler_t,
    flags: c_ulong,
    name: *const c_char,
    dev: *mut c_void,
) -> c_int {
    unsafe { request_threaded_irq(irq, handler, None, flags, name, dev) }
}

pub unsafe extern "C" fn free_irq(irq: c_uint, dev_id: *mut c_void) -> *const c_void {
    might_sleep("free_irq");
    let cookie = dev_id as usize;
    with(|m| {
        let found = m.irqs.lines.get_mut(&irq).and_then(|line| {
            let actions = &mut line.actions;
            let at = actions.iter().position(|action| action.cookie == cookie)?;
            let action = actions.remove(at);
            // What has come for the last of them is lost, and not for the next.
            line.raised &= !line.actions.is_empty();
            Some(action)
        });
        if found.is_none() {
            report("an interrupt handler is freed that is not there");
        }
        while m.irqs.is_busy(irq, Some(cookie)) {
            m.wait("an interrupt handler");
        }
    });
    std::ptr::null()
}

pub unsafe extern "C" fn synchronize_irq(irq: c_uint) {
    might_sleep("synchronize_irq");
    with(|m| {
        while m.irqs.is_busy(irq, None) {
            m.wait("an interrupt handler");
        }
    });
}

/// A device here has one vector.
pub unsafe extern "C" fn pci_alloc_irq_vectors(
    dev: *mut pci_dev,
    min_vecs: c_uint,
    max_vecs: c_uint,
    flags: c_uint,
) -> c_int {
    might_alloc("pci_alloc_irq_vectors");
    with(|m| {
        if m.irqs.in_use(Some(dev)) > 0 {
            report("a device is given interrupts that has some");
        }
        let mut kinds = [PCI_IRQ_MSI, PCI_IRQ_INTX].into_iter();
        let kind = kinds.find(|kind| flags & kind != 0);
        let kind = kind.filter(|_| (min_vecs..=max_vecs).contains(&1));
        if m.fails("pci_alloc_irq_vectors") {
            return -(ENOSPC as c_int);
        }
        let Some(kind) = kind else {
            return -(ENOSPC as c_int);
        };
        m.irqs.last += 1;
        let line = Line {
            pdev: dev,
            vector: 0,
            kind,
            actions: Vec::new(),
            raised: false,
            running: false,
        };
        let irq = m.irqs.last;
        m.irqs.lines.insert(irq, line);
        1
    })
}

pub unsafe extern "C" fn pci_free_irq_vectors(dev: *mut pci_dev) {
    might_sleep("pci_free_irq_vectors");
    with(|m| {
        let lines = &mut m.irqs.lines;
        let its = lines.values().filter(|line| line.pdev == dev);
        let handlers: usize = its.map(|line| line.actions.len()).sum();
        if handlers > 0 {
            report("interrupts are given back that have a handler");
        }
        lines.retain(|_, line| line.pdev != dev);
    });
}

pub unsafe extern "C" fn pci_irq_type(pdev: *mut pci_dev) -> c_uint {
    with(|m| {
        let mut lines = m.irqs.lines.values();
        let found = lines.find(|line| line.pdev == pdev);
        found.map_or(PCI_IRQ_INTX, |line| line.kind)
    })
}

pub unsafe extern "C" fn pci_irq_vector(dev: *mut pci_dev, nr: c_uint) -> c_int {
    with(|m| {
        let mut lines = m.irqs.lines.iter();
        let found = lines.find(|(_, line)| line.pdev == dev && line.vector == nr as usize);
        found.map_or(-(EINVAL as c_int), |(irq, _)| *irq as c_int)
    })
}
