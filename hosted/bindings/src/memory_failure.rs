// SPDX-License-Identifier: GPL-2.0

//! `memory_failure()`: what becomes of a page whose memory has failed.
//!
//! Real: anonymous pages in system memory, splitting large folios, hwpoison entries in all address
//! spaces, that nobody gets the page again, `memory_failure` of a pagemap whose memory CPUs can
//! reach. Not simulated: signals before anybody touches the page, so that what cannot be split
//! stays as it is; pages of files, free pages, soft offlining, unpoisoning.
//!
//! Device-private memory does not get there: with the series it has no physical address, and
//! `MADV_HWPOISON` brings it home first. What its own device finds out is for the driver to tell.

use ffi::*;

use crate::{
    errno::*,
    machine::{might_sleep, with, Locked},
    migrate,
    pages::{
        info, lock, nr_pages, page, page_info, page_to_pfn, put, split_huge_page, unlock, Kind,
    },
    pgtable::Pte,
};

/// `MF_COUNT_INCREASED | MF_ACTION_REQUIRED | MF_SW_SIMULATED`, which is what `MADV_HWPOISON` says.
const FLAGS: c_int = 1 << 0 | 1 << 1 | 1 << 5;

/// What the driver says about coherent memory that has failed. The caller's reference is given up
/// before it is asked.
unsafe fn of_device(page: *mut page) -> u32 {
    let (pgmap, pfn) = (with(|m| unsafe { info(m, page) }.pgmap), unsafe {
        page_to_pfn(page)
    });
    unsafe { put(page) };
    let call = unsafe { (*pgmap).ops.as_ref() }.and_then(|ops| ops.memory_failure);
    let result = call.map(|call| unsafe { call(pgmap, pfn, 1, FLAGS) });
    match result {
        None => ENXIO,
        Some(result) if result == -(EOPNOTSUPP as c_int) => ENXIO,
        Some(result) => result.unsigned_abs(),
    }
}

/// Marks the page, if that can be done. Gives an error if not.
unsafe fn mark(m: &mut Locked<'_>, page: *mut page) -> u32 {
    let folio = *unsafe { info(m, page) };
    if folio.kind != Kind::System || !folio.anon {
        return EBUSY;
    }
    match std::mem::replace(unsafe { &mut page_info(m, page).poisoned }, true) {
        true => EHWPOISON,
        false => 0,
    }
}

/// As [`memory_failure`], of system memory.
unsafe fn of_system(page: *mut page) -> u32 {
    let error = with(|m| unsafe { mark(m, page) });
    if error != 0 {
        unsafe { put(page) };
        return error;
    }
    unsafe { lock(page) };
    let large = with(|m| unsafe { nr_pages(m, page) }) > 1;
    if large && unsafe { split_huge_page(page) } != 0 {
        with(|m| unsafe {
            page_info(m, page).poisoned = false;
            unlock(m, page);
        });
        unsafe { put(page) };
        return EHWPOISON;
    }
    unsafe { migrate::unmap(page, false) };
    with(|m| unsafe {
        migrate::end_as(m, page, Pte::Poison { page });
        unlock(m, page);
        m.frames.poisoned.push(page);
    });
    0
}

/// Takes `page`, to which the caller has a reference, from everybody, and keeps the reference.
/// Gives an error, or zero.
pub(crate) unsafe fn memory_failure(page: *mut page) -> u32 {
    might_sleep("memory_failure");
    // One at a time: who finds that it is known finds all of it done.
    with(|m| {
        while m.frames.failing {
            m.wait("another page that fails");
        }
        m.frames.failing = true;
    });
    let error = match with(|m| unsafe { info(m, page) }.kind) {
        Kind::Coherent => unsafe { of_device(page) },
        _ => unsafe { of_system(page) },
    };
    with(|m| {
        m.frames.failing = false;
        m.changed();
    });
    error
}
