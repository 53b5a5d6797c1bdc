// SPDX-License-Identifier: GPL-2.0

//! Moving pages from device memory to that of the system: for a CPU, or all of an allocation.
//!
//! Real: large folios, and single pages where there are none; what is done again, and how often;
//! pages that have been moved and are still in use; what `lab install` inserts, for a device that
//! is gone. A CPU that wants a page before its time slice is over takes a millisecond to come
//! again. Not simulated: what is printed when there is no memory, and from which node it comes.

use ffi::*;

use super::{is_unplugged, map::*, pagemap::*, types::*};
use crate::{
    consts::*,
    devices::device,
    errno::*,
    host::yield_now,
    locks::completion_done,
    machine::{might_sleep, with},
    migrate::*,
    mm::{mmget_not_zero, mmput_async, vm_area_struct, PAGE_SIZE},
    pages::*,
    report::{fatal, report},
    task::vm_fault,
    time::{jiffies, NSEC_PER_MSEC},
};
use std::ptr::null_mut;

/// A page of system memory, locked, or null.
unsafe fn new_ram(vma: *mut vm_area_struct, addr: usize, order: u32) -> *mut page {
    let folio = match vma.is_null() {
        true => unsafe { folio_alloc_movable(order) },
        false => unsafe { vma_alloc_folio_movable(vma, addr, order) },
    };
    if !folio.is_null() {
        // Nobody else knows it.
        with(|m| unsafe { info(m, folio.cast()) }.locked = true);
    }
    folio.cast()
}

/// Gets system memory for all sources that are moved: those of the allocation of `fault_page`, if
/// there is one. Large folios get single pages if there is no large one. Gives how many pages that
/// are.
unsafe fn populate_ram(
    vma: *mut vm_area_struct,
    fault_page: *mut page,
    arrays: &mut Arrays,
    mut addr: usize,
) -> Result<usize> {
    let nr = arrays.src.len();
    let ours =
        |page: *mut page| fault_page.is_null() || unsafe { zdd_of(page) == zdd_of(fault_page) };
    let entry = |page: *mut page| unsafe { page_to_migrate_pfn(page) };
    let (mut pages, mut i) = (0, 0);
    while i < nr {
        let src = arrays.src[i];
        let from = unsafe { migrate_pfn_to_page(src) };
        if src & MIGRATE == 0 || from.is_null() || !ours(from) {
            i += 1;
            addr += PAGE_SIZE;
            continue;
        }
        let (len, order) = unsafe { size_of_folio(from) };
        let whole = from.cast() == unsafe { page_folio(from) } && src & COMPOUND != 0;
        if order > 0 && !whole {
            report("a large folio is moved that was not collected as a whole");
        }
        let large = unsafe { new_ram(vma, addr, order) };
        if !large.is_null() {
            let compound = if order > 0 { COMPOUND } else { 0 };
            arrays.dst[i] = entry(large) | compound;
        } else {
            let end = if order > 0 { nr.min(i + len) } else { i };
            let done = (i..end).take_while(|at| {
                let page = unsafe { new_ram(vma, addr + (at - i) * PAGE_SIZE, 0) };
                if !page.is_null() {
                    arrays.dst[*at] = entry(page);
                }
                !page.is_null()
            });
            if order == 0 || done.count() < end - i {
                unsafe { unlock_and_put(&mut arrays.dst) };
                return error(ENOMEM);
            }
        }
        pages += len;
        i += len;
        addr += len * PAGE_SIZE;
    }
    Ok(pages)
}

/// Tells the driver which pages to copy from: the first of each folio, but all of one that gets
/// single pages.
unsafe fn populate_src(arrays: &mut Arrays) {
    let nr = arrays.src.len();
    let mut i = 0;
    while i < nr {
        let page = unsafe { migrate_pfn_to_page(arrays.src[i]) };
        if page.is_null() {
            i += 1;
            continue;
        }
        let (len, order) = unsafe { size_of_folio(page) };
        if order > 0 && arrays.dst[i] & COMPOUND == 0 {
            let folio = unsafe { page_folio(page) };
            for j in 0..len.min(nr - i) {
                arrays.pages[i + j] = unsafe { folio_page(folio, j) };
            }
        } else {
            arrays.pages[i] = page;
        }
        i += len;
    }
}

/// The source entries that are moved, and pages of a device: where they are, and how to find their
/// data.
unsafe fn moving(src: &[usize]) -> Vec<(usize, *mut page)> {
    let (mut found, mut i) = (Vec::new(), 0);
    while i < src.len() {
        let page = unsafe { migrate_pfn_to_page(src[i]) };
        let mut nr = 1;
        if !page.is_null() {
            let first = unsafe { page_folio(page) }.cast::<page>();
            if src[i] & COMPOUND != 0 {
                nr = unsafe { size_of_folio(page) }.0;
            }
            if src[i] & MIGRATE != 0 && unsafe { is_device_private_page(page) } {
                found.push((i, first));
            }
        }
        i += nr;
    }
    found
}

/// Notes of what was moved that it was: somebody may still have a reference to it.
unsafe fn note_moved(src: &[usize]) {
    for (_, page) in unsafe { moving(src) } {
        let data = unsafe { page_zone_device_data(page) };
        unsafe { set_page_zone_device_data(page, data.map_addr(|addr| addr | MIGRATED)) };
    }
}

/// Leaves what was moved before.
unsafe fn skip_moved(src: &mut [usize]) {
    for (i, page) in unsafe { moving(src) } {
        if unsafe { page_zone_device_data(page) } as usize & MIGRATED != 0 {
            src[i] &= !MIGRATE;
        }
    }
}

/// The destinations get zeroes: `linux/drm/drm_pagemap_lost.h`.
unsafe fn lose(dst: &[usize]) {
    let mut i = 0;
    while i < dst.len() {
        let page = unsafe { migrate_pfn_to_page(dst[i]) };
        let mut nr = 1;
        if !page.is_null() {
            nr = unsafe { size_of_folio(page) }.0;
            let folio = unsafe { page_folio(page) };
            for j in 0..nr {
                unsafe { clear_highpage(folio_page(folio, j)) };
            }
        }
        i += nr;
    }
}

/// Copies what has a destination to system memory. If that fails, there are no destinations, unless
/// the driver says that the device is gone and `unplugged` is true.
unsafe fn copy_to_ram(
    dev: *mut device,
    ops: *const drm_pagemap_devmem_ops,
    arrays: &mut Arrays,
    populated: Result<usize>,
    unplugged: bool,
) -> Result {
    let mut lost = false;
    let mut iova = Iova::default();
    let from = DMA_FROM_DEVICE;
    let result = populated.and_then(|pages| {
        if pages == 0 {
            return Ok(());
        }
        unsafe { map_system_pages(dev, &mut arrays.addrs, &arrays.dst, from, &mut iova) }?;
        unsafe { populate_src(arrays) };
        let Some(copy) = (unsafe { (*ops).copy_to_ram }) else {
            fatal("there is no `copy_to_ram`");
        };
        let (pages, addrs) = (arrays.pages.as_mut_ptr(), arrays.addrs.as_mut_ptr());
        let err = unsafe { copy(pages, addrs, arrays.src.len(), null_mut()) };
        lost = unplugged && err == -(ENODEV as c_int);
        check(err)
    });
    unsafe { unmap_pages(dev, &arrays.addrs, &arrays.dst, from, &mut iova) };
    if lost {
        unsafe { lose(&arrays.dst) };
        return Ok(());
    }
    if result.is_err() {
        unsafe { unlock_and_put(&mut arrays.dst) };
    }
    result
}

/// Moves all of `devmem` to system memory, once.
unsafe fn evict(devmem: *mut drm_pagemap_devmem) -> Result {
    let (ops, dev) = unsafe { ((*devmem).ops, (*devmem).dev) };
    let nr = unsafe { (*devmem).size } >> PAGE_SHIFT;
    let mut arrays = Arrays::new(nr)?;
    let src = arrays.src.as_mut_ptr();
    match populate(unsafe { &*ops }) {
        Some(populate) => check(unsafe { populate(devmem, nr, src) })?,
        None => fatal("the pages of device memory are not known"),
    }
    #[cfg(dpmem_offset)]
    let pagemap = unsafe { (*(*devmem).dpagemap).pagemap };
    #[cfg(dpmem_offset)]
    check(unsafe { migrate_device_offsets(src, pagemap, nr) })?;
    #[cfg(not(dpmem_offset))]
    check(unsafe { migrate_device_pfns(src, nr) })?;
    unsafe { skip_moved(&mut arrays.src) };
    let populated = unsafe { populate_ram(null_mut(), null_mut(), &mut arrays, 0) };
    let unplugged = unsafe { is_unplugged((*(*devmem).dpagemap).drm) };
    let result = unsafe { copy_to_ram(dev, ops, &mut arrays, populated, unplugged) };
    let (src, dst) = (arrays.src.as_mut_ptr(), arrays.dst.as_mut_ptr());
    unsafe { migrate_device_pages(src, dst, nr) };
    unsafe { note_moved(std::slice::from_raw_parts(src, nr)) };
    unsafe { migrate_device_finalize(src, dst, nr) };
    result
}

/// How often an eviction is tried.
const TRIES: usize = 3;

pub unsafe extern "C" fn drm_pagemap_evict_to_ram(
    devmem_allocation: *mut drm_pagemap_devmem,
) -> c_int {
    might_sleep("drm_pagemap_evict_to_ram");
    let devmem = devmem_allocation;
    let mut result = Ok(());
    for _ in 0..TRIES {
        let space = unsafe { (*devmem).mm };
        if !with(|m| m.known_mms.contains(&(space as usize))) {
            report("`drm_pagemap_evict_to_ram()` after the address space is gone: nobody kept it");
            return -(EFAULT as c_int);
        }
        if !unsafe { mmget_not_zero(space) } {
            return -(EFAULT as c_int);
        }
        result = unsafe { evict(devmem) };
        unsafe { mmput_async(space) };
        if unsafe { completion_done(&raw mut (*devmem).detached) } {
            return 0;
        }
        yield_now();
    }
    result.err().unwrap_or(-(EBUSY as c_int))
}

/// Moves what lies around `addr` to system memory: what is of the same allocation as `page`.
unsafe fn bring_home(
    vma: *mut vm_area_struct,
    page: *mut page,
    addr: usize,
    size: usize,
) -> Result {
    let devmem = unsafe { (*zdd_of(page)).devmem_allocation };
    if jiffies() < unsafe { (*devmem).timeslice_expiration } {
        with(|m| m.slept += i64::from(NSEC_PER_MSEC));
        return Ok(());
    }
    let (start, end) = unsafe { (*vma).bounds() };
    let mask = size - 1;
    let start = start.max(addr & !mask);
    let end = end.min((addr + 1 + mask) & !mask);
    let mut arrays = Arrays::new((end - start) >> PAGE_SHIFT)?;
    let mut migrate: migrate_vma = pin_init::zeroed();
    migrate.vma = vma;
    (migrate.start, migrate.end) = (start, end);
    migrate.pgmap_owner = unsafe { (*page_pgmap(page)).owner };
    migrate.flags = (migrate_vma_direction_MIGRATE_VMA_SELECT_DEVICE_PRIVATE
        | migrate_vma_direction_MIGRATE_VMA_SELECT_DEVICE_COHERENT
        | migrate_vma_direction_MIGRATE_VMA_SELECT_COMPOUND) as c_ulong;
    migrate.fault_page = page;
    migrate.src = arrays.src.as_mut_ptr();
    migrate.dst = arrays.dst.as_mut_ptr();
    check(unsafe { migrate_vma_setup(&raw mut migrate) })?;
    if migrate.cpages == 0 {
        return Ok(());
    }
    unsafe { skip_moved(&mut arrays.src) };
    let (ops, dev) = unsafe { ((*devmem).ops, (*devmem).dev) };
    let populated = unsafe { populate_ram(vma, page, &mut arrays, start) };
    let result = unsafe { copy_to_ram(dev, ops, &mut arrays, populated, false) };
    migrate.src = arrays.src.as_mut_ptr();
    migrate.dst = arrays.dst.as_mut_ptr();
    unsafe { migrate_vma_pages(&raw mut migrate) };
    unsafe { note_moved(&arrays.src) };
    unsafe { migrate_vma_finalize(&raw mut migrate) };
    result
}

pub(super) unsafe extern "C" fn migrate_to_ram(vmf: *mut vm_fault) -> vm_fault_t {
    let (page, at) = unsafe { ((*vmf).page, (*vmf).__bindgen_anon_1) };
    let size = unsafe { (*(*zdd_of(page)).devmem_allocation).size };
    match unsafe { bring_home(at.vma, page, at.address, size) } {
        Ok(()) => 0,
        Err(_) => vm_fault_reason_VM_FAULT_SIGBUS,
    }
}
