// SPDX-License-Identifier: GPL-2.0

//! Interval notifiers.
//!
//! Real: what is called before which change, sequence numbers, waiting. Not simulated: the interval
//! tree (a list will do), notifiers of other kinds, `invalidate_start()`; who is inserted while
//! something changes may be told of that.

use ffi::*;
use pin_init::Zeroable;

use crate::{
    errno::*,
    lockdep,
    machine::{atomic, might_sleep, with},
    mm::{mm, mm_struct},
    report::{fatal, report},
};

pub type mmu_notifier_event = c_uint;
pub const mmu_notifier_event_MMU_NOTIFY_UNMAP: mmu_notifier_event = 0;
pub const mmu_notifier_event_MMU_NOTIFY_CLEAR: mmu_notifier_event = 1;
pub const mmu_notifier_event_MMU_NOTIFY_PROTECTION_VMA: mmu_notifier_event = 2;
pub const mmu_notifier_event_MMU_NOTIFY_PROTECTION_PAGE: mmu_notifier_event = 3;
pub const mmu_notifier_event_MMU_NOTIFY_SOFT_DIRTY: mmu_notifier_event = 4;
pub const mmu_notifier_event_MMU_NOTIFY_RELEASE: mmu_notifier_event = 5;
pub const mmu_notifier_event_MMU_NOTIFY_MIGRATE: mmu_notifier_event = 6;
pub const mmu_notifier_event_MMU_NOTIFY_EXCLUSIVE: mmu_notifier_event = 7;

pub const MMU_NOTIFIER_RANGE_BLOCKABLE: u32 = 1;

#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct mmu_notifier_range {
    pub mm: *mut mm_struct,
    pub start: c_ulong,
    pub end: c_ulong,
    pub flags: c_uint,
    pub event: mmu_notifier_event,
    pub owner: *mut c_void,
}

#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct mmu_interval_notifier {
    pub start: c_ulong,
    pub last: c_ulong,
    pub ops: *const mmu_interval_notifier_ops,
    pub mm: *mut mm_struct,
    pub invalidate_seq: c_ulong,
}

#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct mmu_interval_notifier_ops {
    pub invalidate: Option<
        unsafe extern "C" fn(
            interval_sub: *mut mmu_interval_notifier,
            range: *const mmu_notifier_range,
            cur_seq: c_ulong,
        ) -> bool,
    >,
    pub invalidate_start: Option<unsafe extern "C" fn()>,
    pub invalidate_finish: Option<unsafe extern "C" fn()>,
}

/// What an address space knows of its notifiers.
pub(crate) struct Subscriptions {
    list: Vec<*mut mmu_interval_notifier>,
    /// Odd while something that somebody has subscribed to is being invalidated.
    seq: usize,
    /// How many invalidations are going on.
    active: usize,
}

impl Subscriptions {
    pub(crate) fn new() -> Self {
        Self {
            list: Vec::new(),
            seq: 2,
            active: 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether one of the notifiers is where `is_there` says.
    pub(crate) fn has(&self, is_there: impl Fn(usize) -> bool) -> bool {
        self.list.iter().any(|sub| is_there(*sub as usize))
    }
}

/// Tells all notifiers that `change` is about to happen to what is mapped from `start` to `end`,
/// and lets it happen.
pub(crate) fn invalidate<R>(
    address_space: *mut mm_struct,
    range: (usize, usize),
    event: mmu_notifier_event,
    owner: *mut c_void,
    change: impl FnOnce() -> R,
) -> R {
    begin(address_space, range, event, owner, true);
    let result = change();
    end(address_space);
    result
}

/// As [`invalidate`], in a context that must not wait for anybody: a notifier may refuse, and then
/// nothing happens. Whether it did.
pub(crate) fn try_invalidate(
    address_space: *mut mm_struct,
    range: (usize, usize),
    event: mmu_notifier_event,
    change: impl FnOnce(),
) -> bool {
    atomic(true);
    let agreed = begin(address_space, range, event, std::ptr::null_mut(), false);
    atomic(false);
    if agreed {
        change();
    }
    end(address_space);
    agreed
}

/// Tells the notifiers. False, if one of them refuses what may not block.
fn begin(
    address_space: *mut mm_struct,
    (start, end): (usize, usize),
    event: mmu_notifier_event,
    owner: *mut c_void,
    blockable: bool,
) -> bool {
    let (subs, seq) = with(|_| {
        let subs = unsafe { &mut mm(address_space).subscriptions };
        subs.active += 1;
        let concerns = |sub: &*mut mmu_interval_notifier| unsafe {
            (**sub).start < end && (**sub).last >= start
        };
        let list: Vec<_> = subs.list.iter().copied().filter(concerns).collect();
        if !list.is_empty() {
            subs.seq |= 1;
        }
        (list, subs.seq)
    });
    let range = mmu_notifier_range {
        mm: address_space,
        start,
        end,
        flags: if blockable {
            MMU_NOTIFIER_RANGE_BLOCKABLE
        } else {
            0
        },
        event,
        owner,
    };
    lockdep::acquire(lockdep::MMU_NOTIFIER);
    let mut agreed = true;
    for sub in subs {
        let ops = unsafe { (*sub).ops.as_ref() };
        let Some(call) = ops.and_then(|ops| ops.invalidate) else {
            continue;
        };
        if unsafe { call(sub, &range, seq) } {
            continue;
        }
        if !blockable {
            agreed = false;
            break;
        }
        report("a notifier refuses what may block");
    }
    lockdep::release(lockdep::MMU_NOTIFIER);
    agreed
}

/// The change is over.
fn end(address_space: *mut mm_struct) {
    with(|m| {
        let subs = unsafe { &mut mm(address_space).subscriptions };
        subs.active -= 1;
        if subs.active == 0 && subs.seq & 1 == 1 {
            subs.seq += 1;
        }
        m.changed();
    });
}

pub unsafe extern "C" fn mmu_interval_notifier_insert(
    interval_sub: *mut mmu_interval_notifier,
    address_space: *mut mm_struct,
    start: c_ulong,
    length: c_ulong,
    ops: *const mmu_interval_notifier_ops,
) -> c_int {
    might_sleep("mmu_interval_notifier_insert");
    if unsafe { (*ops).invalidate_start.is_some() || (*ops).invalidate_finish.is_some() } {
        fatal("`invalidate_start()` and `invalidate_finish()` are not simulated");
    }
    // The first one of an address space takes it for writing.
    lockdep::might_acquire(lockdep::MMAP_LOCK);
    if length == 0 || start.checked_add(length - 1).is_none() {
        return -(EOVERFLOW as c_int);
    }
    with(|m| {
        if m.fails("mmu_interval_notifier_insert") {
            return -(ENOMEM as c_int);
        }
        let space = unsafe { mm(address_space) };
        if space.users == 0 {
            report("a notifier is inserted into an address space without users");
            return -(EINVAL as c_int);
        }
        space.count += 1;
        let subs = &mut space.subscriptions;
        // Not valid before the changes that are going on are over.
        let seq = if subs.active > 0 {
            subs.seq |= 1;
            subs.seq
        } else {
            subs.seq - 1
        };
        unsafe {
            interval_sub.write(mmu_interval_notifier {
                start,
                last: start + length - 1,
                ops,
                mm: address_space,
                invalidate_seq: seq,
            })
        };
        subs.list.push(interval_sub);
        0
    })
}

pub unsafe extern "C" fn mmu_interval_notifier_remove(interval_sub: *mut mmu_interval_notifier) {
    might_sleep("mmu_interval_notifier_remove");
    let address_space = unsafe { (*interval_sub).mm };
    with(|_| {
        let subs = unsafe { &mut mm(address_space).subscriptions };
        let before = subs.list.len();
        subs.list.retain(|sub| *sub != interval_sub);
        if subs.list.len() + 1 != before {
            report("a notifier is removed that is not there");
        }
    });
    // It may have to wait for notifiers.
    lockdep::might_acquire(lockdep::MMU_NOTIFIER);
    with(|m| {
        // Until nobody is in its callback any more.
        let seq = unsafe { mm(address_space) }.subscriptions.seq;
        while seq & 1 == 1 && unsafe { mm(address_space) }.subscriptions.seq == seq {
            m.wait("notifiers that are being called");
        }
    });
    unsafe { crate::mm::mmdrop(address_space) };
}

pub unsafe extern "C" fn mmu_interval_read_begin(
    interval_sub: *mut mmu_interval_notifier,
) -> c_ulong {
    might_sleep("mmu_interval_read_begin");
    // It may have to wait for notifiers.
    lockdep::might_acquire(lockdep::MMU_NOTIFIER);
    with(|m| {
        let seq = unsafe { (*interval_sub).invalidate_seq };
        while seq == unsafe { &mm((*interval_sub).mm).subscriptions }.seq {
            m.wait("the end of an invalidation");
        }
        seq
    })
}

pub unsafe extern "C" fn mmu_interval_read_retry(
    interval_sub: *mut mmu_interval_notifier,
    seq: c_ulong,
) -> bool {
    with(|_| unsafe { (*interval_sub).invalidate_seq }) != seq
}

pub unsafe extern "C" fn mmu_interval_set_seq(
    interval_sub: *mut mmu_interval_notifier,
    cur_seq: c_ulong,
) {
    with(|_| unsafe { (*interval_sub).invalidate_seq = cur_seq });
}

pub unsafe extern "C" fn mmu_notifier_range_blockable(range: *const mmu_notifier_range) -> bool {
    unsafe { (*range).flags & MMU_NOTIFIER_RANGE_BLOCKABLE != 0 }
}
