// SPDX-License-Identifier: GPL-2.0

//! `hmm_range_fault()`, and exclusive access of a device.
//!
//! Real: what is told of each page, faults, the sequence number, huge pages. Not simulated: P2PDMA,
//! the `pfn_flags_mask` of single pages, userfaultfd, faults that give up the mmap lock.

use std::time::Duration;

use ffi::*;
use pin_init::Zeroable;

use crate::{
    consts::*,
    errno::*,
    machine::{might_sleep, with, Locked},
    mm::{assert_locked, mm, mm_struct, read_locked, vma_at, PAGE_SIZE},
    mmu_notifier::*,
    pages::{
        folio, get, head, info, lock, page, page_to_pfn, pfn_to_page, put, unlock, PMD_NR,
        PMD_ORDER,
    },
    pgtable::{self, Found, Pte},
    process::{err_ptr, Errno},
    time::{ktime_get, ktime_to_ms, pass},
};

pub type hmm_pfn_flags = c_ulong;
pub const hmm_pfn_flags_HMM_PFN_VALID: hmm_pfn_flags = 1 << 63;
pub const hmm_pfn_flags_HMM_PFN_WRITE: hmm_pfn_flags = 1 << 62;
pub const hmm_pfn_flags_HMM_PFN_ERROR: hmm_pfn_flags = 1 << 61;
pub const hmm_pfn_flags_HMM_PFN_ORDER_SHIFT: hmm_pfn_flags = 53;
pub const hmm_pfn_flags_HMM_PFN_REQ_FAULT: hmm_pfn_flags = hmm_pfn_flags_HMM_PFN_VALID;
pub const hmm_pfn_flags_HMM_PFN_REQ_WRITE: hmm_pfn_flags = hmm_pfn_flags_HMM_PFN_WRITE;
pub const hmm_pfn_flags_HMM_PFN_FLAGS: hmm_pfn_flags = !((1 << 53) - 1);
/// In milliseconds. Five times as much as in the kernel: the threads of the host may have to wait
/// for each other.
pub const HMM_RANGE_DEFAULT_TIMEOUT: u32 = 5000;

#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct hmm_range {
    pub notifier: *mut mmu_interval_notifier,
    pub notifier_seq: c_ulong,
    pub start: c_ulong,
    pub end: c_ulong,
    pub hmm_pfns: *mut c_ulong,
    pub default_flags: c_ulong,
    pub pfn_flags_mask: c_ulong,
    pub dev_private_owner: *mut c_void,
}

pub unsafe extern "C" fn hmm_pfn_to_page(hmm_pfn: c_ulong) -> *mut page {
    unsafe { pfn_to_page(hmm_pfn & !hmm_pfn_flags_HMM_PFN_FLAGS) }
}

pub unsafe extern "C" fn hmm_pfn_to_map_order(hmm_pfn: c_ulong) -> c_uint {
    (hmm_pfn >> hmm_pfn_flags_HMM_PFN_ORDER_SHIFT & 0x1f) as c_uint
}

/// Why nothing can be told of a page yet.
enum Untold {
    /// A fault is needed first, for writing or not.
    Fault(bool),
    /// No fault helps.
    Error,
}

/// What is told of the page at `vpn`.
unsafe fn ask(
    m: &mut Locked<'_>,
    space: *mut mm_struct,
    vpn: usize,
    range: &hmm_range,
) -> Result<usize, Untold> {
    let write = range.default_flags & hmm_pfn_flags_HMM_PFN_REQ_WRITE != 0;
    let required = range.default_flags & hmm_pfn_flags_HMM_PFN_REQ_FAULT != 0;
    let huge = unsafe { mm(space) }
        .huge
        .contains_key(&pgtable::huge_base(vpn));
    let valid = |page: *mut page, writable: bool| {
        let flag = if writable {
            hmm_pfn_flags_HMM_PFN_WRITE
        } else {
            0
        };
        let order = match huge {
            true => (PMD_ORDER as usize) << hmm_pfn_flags_HMM_PFN_ORDER_SHIFT,
            false => 0,
        };
        unsafe { page_to_pfn(page) | hmm_pfn_flags_HMM_PFN_VALID | order | flag }
    };
    let pte = unsafe { pgtable::entry(m, space, vpn) };
    if let Some(Pte::Device { page, write }) = pte {
        let owner = unsafe { (*info(m, page).pgmap).owner };
        if owner == range.dev_private_owner {
            return Ok(valid(page, write));
        }
    }
    match (
        pte,
        pgtable::look_up(m, space, vpn << PAGE_SHIFT, write && required),
    ) {
        (Some(Pte::Poison { .. }), _) if required => Err(Untold::Error),
        (Some(Pte::Migration { .. }), _) if required => Err(Untold::Fault(write)),
        // Of what is mapped as a whole, that is an error, and of a single page it is nothing.
        (Some(Pte::Device { .. } | Pte::Migration { .. }), _) if huge && !required => {
            Ok(hmm_pfn_flags_HMM_PFN_ERROR)
        }
        (Some(pte), Found::Page(page)) => Ok(valid(page, pte.is_writable())),
        _ if required => Err(Untold::Fault(write)),
        _ => Ok(0),
    }
}

pub unsafe extern "C" fn hmm_range_fault(range: *mut hmm_range) -> c_int {
    might_sleep("hmm_range_fault");
    let range = unsafe { &*range };
    let space = unsafe { (*range.notifier).mm };
    assert_locked(space, "hmm_range_fault");
    let required = range.default_flags & hmm_pfn_flags_HMM_PFN_REQ_FAULT != 0;
    let first = range.start >> PAGE_SHIFT;
    for vpn in first..range.end >> PAGE_SHIFT {
        let told = loop {
            if unsafe { mmu_interval_read_retry(range.notifier, range.notifier_seq) } {
                return -(EBUSY as c_int);
            }
            let vma = with(|_| unsafe { vma_at(space, vpn << PAGE_SHIFT) });
            let readable = with(|_| {
                let vma = unsafe { vma.as_ref() };
                vma.map(|vma| (vma.may(VM_READ), vma.may(VM_WRITE)))
            });
            let Some((true, writable)) = readable else {
                if required {
                    return -(EFAULT as c_int);
                }
                break hmm_pfn_flags_HMM_PFN_ERROR;
            };
            match with(|m| unsafe { ask(m, space, vpn, range) }) {
                Ok(told) => break told,
                Err(Untold::Error) => return -(EFAULT as c_int),
                Err(Untold::Fault(true)) if !writable => return -(EPERM as c_int),
                Err(Untold::Fault(write)) => {
                    // All that is behind it is faulted in as well, as far as a page table goes,
                    // whatever it is.
                    let end = (range.end >> PAGE_SHIFT).min(pgtable::huge_base(vpn) + PMD_NR);
                    for vpn in vpn..end {
                        let addr = vpn << PAGE_SHIFT;
                        if with(|_| unsafe { vma_at(space, addr) }) != vma {
                            break;
                        }
                        if let Err(Errno(err)) = pgtable::fault(space, addr, write) {
                            return -(if err == ENOMEM { ENOMEM } else { EFAULT } as c_int);
                        }
                    }
                }
            }
        };
        unsafe { *range.hmm_pfns.add(vpn - first) = told };
    }
    if with(|m| m.restless) {
        pass(CHANGE);
        let (all, owner) = ((range.start, range.end), std::ptr::null_mut());
        invalidate(
            space,
            all,
            mmu_notifier_event_MMU_NOTIFY_CLEAR,
            owner,
            || (),
        );
    }
    0
}

/// How much time there is between two changes.
const CHANGE: Duration = Duration::from_millis(100);

/// Has somebody change something each time that a driver has been told what is in a range, before
/// it can look whether anything has changed; or not any more. A tenth of a second passes each time.
pub fn restless(on: bool) {
    with(|m| m.restless = on);
}

pub unsafe extern "C" fn hmm_range_fault_unlocked_timeout(
    range: *mut hmm_range,
    timeout: c_ulong,
) -> c_int {
    let begun = unsafe { ktime_get() };
    let space = unsafe { (*(*range).notifier).mm };
    loop {
        unsafe { (*range).notifier_seq = mmu_interval_read_begin((*range).notifier) };
        if with(|m| m.fails("mmap_read_lock_killable")) {
            return -(EINTR as c_int);
        }
        let result = read_locked(space, || match with(|_| unsafe { mm(space) }.unstable) {
            true => -(EFAULT as c_int),
            false => unsafe { hmm_range_fault(range) },
        });
        // Without a limit, for ever.
        let late = timeout != 0 && unsafe { ktime_to_ms(ktime_get() - begun) } > timeout as i64;
        if result != -(EBUSY as c_int) || late {
            return result;
        }
    }
}

pub unsafe extern "C" fn make_device_exclusive(
    space: *mut mm_struct,
    addr: c_ulong,
    owner: *mut c_void,
    foliop: *mut *mut folio,
) -> *mut page {
    assert_locked(space, "make_device_exclusive");
    might_sleep("make_device_exclusive");
    let vpn = addr >> PAGE_SHIFT;
    let page = loop {
        match take_exclusive(space, vpn, owner) {
            Ok(Some(page)) => break page,
            // Somebody else has got at it in between.
            Ok(None) => {}
            Err(err) => return err_ptr(err),
        }
    };
    unsafe { *foliop = with(|m| head(m, page)).cast() };
    page
}

/// The page at `vpn`, exclusive now, with its lock and a reference; none, if it was not there any
/// more when it was locked.
fn take_exclusive(
    space: *mut mm_struct,
    vpn: usize,
    owner: *mut c_void,
) -> Result<Option<*mut page>, u32> {
    let addr = vpn << PAGE_SHIFT;
    // A page that may be written to, with a reference.
    let page = loop {
        let found = with(|m| {
            // `FOLL_SPLIT_PMD`, which comes before the question whether it may be written to.
            unsafe { pgtable::split_present_pmd(m, space, pgtable::huge_base(vpn)) };
            match pgtable::look_up(m, space, addr, true) {
                Found::Page(page) => {
                    unsafe { get(m, page) };
                    Some(page)
                }
                Found::Fault => None,
            }
        });
        match found {
            Some(page) => break page,
            None => {
                if let Err(Errno(err)) = pgtable::fault(space, addr, true) {
                    return Err(if err == ENOMEM { ENOMEM } else { EFAULT });
                }
            }
        }
    };
    let wrong = with(|m| {
        let anon = unsafe { info(m, page) }.anon;
        let killed = anon && m.fails("folio_lock_killable");
        match (anon, killed) {
            (false, _) => Some(EOPNOTSUPP),
            (true, true) => Some(EINTR),
            (true, false) => None,
        }
    });
    if let Some(err) = wrong {
        unsafe { put(page) };
        return Err(err);
    }
    unsafe { lock(page) };
    let range = (addr, addr + PAGE_SIZE);
    let event = mmu_notifier_event_MMU_NOTIFY_EXCLUSIVE;
    let taken = invalidate(space, range, event, owner, || {
        with(|m| {
            let there = Some(Pte::Page { page, write: true });
            let there = unsafe { pgtable::entry(m, space, vpn) } == there;
            if there {
                unsafe { pgtable::set(m, space, vpn, Some(Pte::Exclusive { page })) };
            }
            there
        })
    });
    if !taken {
        with(|m| unsafe { unlock(m, page) });
        unsafe { put(page) };
        return Ok(None);
    }
    Ok(Some(page))
}
