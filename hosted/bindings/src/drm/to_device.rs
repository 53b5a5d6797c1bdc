// SPDX-License-Identifier: GPL-2.0

//! Moving pages to device memory.
//!
//! Real: all or nothing; which device copies, its own or that which has a page; large folios; what
//! is released, and when. Not simulated: debug messages.

use ffi::*;

use super::{fence::dma_fence_put, map::*, pagemap::*, types::*};
use crate::{
    consts::*,
    devices::device,
    errno::*,
    machine::might_sleep,
    migrate::*,
    mm::{assert_locked, mm_struct, vm_area_struct, vma_lookup},
    pages::*,
    report::{fatal, report},
    time::{__msecs_to_jiffies, jiffies},
};
use std::ptr::null_mut;

/// From where on somebody copies, and who.
#[derive(Clone, Copy)]
struct Place {
    start: usize,
    device: *mut device,
    /// Of the pages that are copied from, if they are another device's.
    dpagemap: *mut drm_pagemap,
    ops: *const drm_pagemap_devmem_ops,
}

/// What a migration to a device is about.
struct ToDevice<'a> {
    devmem: *mut drm_pagemap_devmem,
    dpagemap: *mut drm_pagemap,
    zdd: *mut drm_pagemap_zdd,
    same: bool,
    arrays: &'a mut Arrays,
    last: Place,
}

impl ToDevice<'_> {
    /// Copies what lies before `now`, if it is somebody else who copies from there on.
    unsafe fn copy_until(&mut self, now: Place) -> Result {
        let last = self.last;
        if now.start == 0 {
            self.last = now;
            return Ok(());
        }
        let other = now.dpagemap != last.dpagemap || now.ops != last.ops;
        if now.start <= last.start || !other {
            return Ok(());
        }
        let range = last.start..now.start;
        let nr = range.len();
        let addrs = &mut self.arrays.addrs[range.clone()];
        let pages = &mut self.arrays.pages[range.clone()];
        let fence = unsafe { (*self.devmem).pre_migrate_fence };
        let mut iova = Iova::default();
        let result = unsafe {
            if last.dpagemap.is_null() {
                let (dev, src) = ((*self.devmem).dev, &self.arrays.src[range]);
                let mapped = map_system_pages(dev, addrs, src, DMA_TO_DEVICE, &mut iova);
                let result = mapped.and_then(|()| match (*last.ops).copy_to_devmem {
                    Some(copy) => check(copy(pages.as_mut_ptr(), addrs.as_mut_ptr(), nr, fence)),
                    None => fatal("there is no `copy_to_devmem`"),
                });
                unmap_pages(dev, addrs, src, DMA_TO_DEVICE, &mut iova);
                result
            } else {
                let (dev, dst) = (last.device, &self.arrays.dst[range]);
                let from = DMA_FROM_DEVICE;
                let mapped = map_device_pages(dev, last.dpagemap, addrs, dst, from, self.same);
                let result = mapped.and_then(|()| match (*last.ops).copy_to_ram {
                    Some(copy) => check(copy(pages.as_mut_ptr(), addrs.as_mut_ptr(), nr, fence)),
                    None => fatal("there is no `copy_to_ram`"),
                });
                unmap_pages(dev, addrs, dst, from, &mut iova);
                result
            }
        };
        self.last = now;
        result
    }

    /// Puts the memory of entry `i` of the destinations into service.
    unsafe fn take(&mut self, i: usize, order: u32) -> Result<*mut page> {
        let pagemap = unsafe { (*self.dpagemap).pagemap };
        let there = self.arrays.dst[i];
        #[cfg(dpmem_offset)]
        let folio = unsafe { crate::device_private::pgmap_request_folio(pagemap, there, order) };
        #[cfg(dpmem_offset)]
        if unsafe { crate::rest::IS_ERR(folio.cast()) } {
            return Err(folio as isize as c_int);
        }
        #[cfg(not(dpmem_offset))]
        let folio = unsafe { pfn_to_page(there) }.cast();
        #[cfg(not(dpmem_offset))]
        unsafe {
            crate::device_private::zone_device_folio_init(folio, pagemap, order)
        };
        let data = unsafe { zdd_get(self.zdd) };
        unsafe { set_page_zone_device_data(folio.cast(), data.cast()) };
        Ok(folio.cast())
    }

    /// Takes device memory for all pages, and copies them. If that fails, tells how many
    /// destinations there are.
    unsafe fn fill(&mut self) -> std::result::Result<(), (c_int, usize)> {
        let pagemap = unsafe { (*self.dpagemap).pagemap };
        let own = unsafe { (*(*self.dpagemap).drm).dev };
        let ops = unsafe { (*self.devmem).ops };
        let nr = self.arrays.src.len();
        let mut i = 0;
        while i < nr {
            let src = self.arrays.src[i];
            let from = unsafe { migrate_pfn_to_page(src) };
            let mut now = Place {
                start: i,
                device: own,
                dpagemap: null_mut(),
                ops,
            };
            let remote = !from.is_null() && unsafe { is_device_private_page(from) };
            if remote {
                let zdd = unsafe { zdd_of(from) };
                if unsafe { page_pgmap(from) } == pagemap && !self.same {
                    report("a page of the device is where there was none");
                }
                now.dpagemap = unsafe { (*zdd).dpagemap };
                now.ops = unsafe { (*(*zdd).devmem_allocation).ops };
                now.device = unsafe { (*(*now.dpagemap).drm).dev };
            }
            let order = if src & COMPOUND != 0 { PMD_ORDER } else { 0 };
            if order > 0 && !from.is_null() && unsafe { size_of_folio(from) }.1 != order {
                report("a large folio is of another order than is known");
            }
            let to = unsafe { self.take(i, order) }.map_err(|err| (err, i))?;
            self.arrays.pages[i] = if remote { from } else { to };
            self.arrays.dst[i] = unsafe { page_to_migrate_pfn(to) };
            let next = nr.min(i + (1 << order));
            if order > 0 {
                self.arrays.dst[i] |= COMPOUND;
                self.arrays.dst[i + 1..next].fill(0);
            }
            unsafe { self.copy_until(now) }.map_err(|err| (err, i + 1))?;
            i += 1 << order;
        }
        let end = Place {
            start: nr,
            ops: std::ptr::null(),
            ..self.last
        };
        unsafe { self.copy_until(end) }.map_err(|err| (err, nr))
    }
}

/// How many pages are in `entries`. As in C, holes of single pages are none.
unsafe fn pages_in(entries: &[usize]) -> usize {
    let (mut pages, mut i) = (0, 0);
    while i < entries.len() {
        let page = unsafe { migrate_pfn_to_page(entries[i]) };
        let nr = match page.is_null() {
            false => unsafe { size_of_folio(page) }.0,
            true if entries[i] & COMPOUND != 0 => PMD_NR,
            true => {
                i += 1;
                continue;
            }
        };
        pages += nr;
        i += nr;
    }
    pages
}

/// How many pages of `entries` are such that `is`.
unsafe fn count(entries: &[usize], is: impl Fn(*mut page, usize) -> bool) -> usize {
    let (mut pages, mut i) = (0, 0);
    while i < entries.len() {
        let page = unsafe { migrate_pfn_to_page(entries[i]) };
        let nr = unsafe { step(entries[i]) };
        pages += if is(page, entries[i]) { nr } else { 0 };
        i += nr;
    }
    pages
}

/// Moves the pages of `migrate`, which are collected. What is not moved goes back.
unsafe fn move_to_device(
    devmem: *mut drm_pagemap_devmem,
    zdd: *mut drm_pagemap_zdd,
    migrate: &mut migrate_vma,
    arrays: &mut Arrays,
    details: &drm_pagemap_migrate_details,
) -> Result {
    let nr = arrays.src.len();
    let dpagemap = unsafe { (*devmem).dpagemap };
    let pagemap = unsafe { (*dpagemap).pagemap };
    let same = details.can_migrate_same_pagemap() != 0;
    let is_own = |page: *mut page, _| {
        !page.is_null() && unsafe { is_zone_device_page(page) && page_pgmap(page) == pagemap }
    };
    // It is all or nothing.
    if migrate.cpages != nr && unsafe { pages_in(&arrays.src) } != nr {
        unsafe { migrate_vma_pages(migrate) };
        unsafe { migrate_vma_finalize(migrate) };
        return error(EBUSY);
    }
    let own = unsafe { count(&arrays.src, is_own) };
    if own == nr || (own > 0 && !same) {
        unsafe { migrate_vma_pages(migrate) };
        unsafe { migrate_vma_finalize(migrate) };
        return if own == nr { Ok(()) } else { error(EBUSY) };
    }
    let ops = unsafe { (*devmem).ops };
    let place = arrays.dst.as_mut_ptr();
    let populated = match populate(unsafe { &*ops }) {
        Some(populate) => check(unsafe { populate(devmem, nr, place) }),
        None => error(EOPNOTSUPP),
    };
    let filled = match populated {
        Err(err) => Err((err, 0)),
        Ok(()) => {
            let last = Place {
                start: 0,
                device: unsafe { (*(*dpagemap).drm).dev },
                dpagemap: null_mut(),
                ops,
            };
            let mut to_device = ToDevice {
                devmem,
                dpagemap,
                zdd,
                same,
                arrays,
                last,
            };
            unsafe { to_device.fill() }
        }
    };
    let mut result = Ok(());
    match filled {
        Ok(()) => unsafe {
            dma_fence_put((*devmem).pre_migrate_fence);
            (*devmem).pre_migrate_fence = null_mut();
            let slice = jiffies() + __msecs_to_jiffies(details.timeslice_ms as c_uint) as u64;
            (*devmem).timeslice_expiration = slice;
        },
        Err((err, have)) => {
            unsafe { unlock_and_put(&mut arrays.dst[..have]) };
            arrays.dst[have..].fill(0);
            result = Err(err);
        }
    }
    // From here on the arrays are the migration's.
    migrate.src = arrays.src.as_mut_ptr();
    migrate.dst = arrays.dst.as_mut_ptr();
    unsafe { migrate_vma_pages(migrate) };
    let moved = |_, entry: usize| entry & MIGRATE != 0;
    if result.is_ok() && unsafe { count(&arrays.src, moved) } < nr {
        result = error(EBUSY);
    }
    unsafe { migrate_vma_finalize(migrate) };
    result
}

/// The mapping that all of a range is in, if its pages can be moved to a device.
unsafe fn mapping_of(
    space: *mut mm_struct,
    (start, end): (usize, usize),
) -> Result<*mut vm_area_struct> {
    let vma = unsafe { vma_lookup(space, start) };
    match unsafe { vma.as_ref() } {
        None => error(ENOENT),
        Some(area) if end > area.bounds().1 => error(EINVAL),
        Some(area) if !area.anonymous => error(EBUSY),
        Some(_) => Ok(vma),
    }
}

pub unsafe extern "C" fn drm_pagemap_migrate_to_devmem(
    devmem_allocation: *mut drm_pagemap_devmem,
    mm: *mut mm_struct,
    start: c_ulong,
    end: c_ulong,
    mdetails: *const drm_pagemap_migrate_details,
) -> c_int {
    might_sleep("drm_pagemap_migrate_to_devmem");
    assert_locked(mm, "drm_pagemap_migrate_to_devmem");
    let devmem = devmem_allocation;
    let ops = unsafe { &*(*devmem).ops };
    if populate(ops).is_none() || ops.copy_to_devmem.is_none() || ops.copy_to_ram.is_none() {
        // The only end after which the memory is still the caller's.
        return -(EOPNOTSUPP as c_int);
    }
    let dpagemap = unsafe { (*devmem).dpagemap };
    let prepared = unsafe { mapping_of(mm, (start, end)) }.and_then(|vma| {
        let nr = end
            .checked_sub(start)
            .map_or(usize::MAX, |len| len >> PAGE_SHIFT);
        let arrays = Arrays::new(nr)?;
        let zdd = unsafe { zdd_new(dpagemap, devmem) };
        match zdd.is_null() {
            true => error(ENOMEM),
            false => Ok((vma, arrays, zdd)),
        }
    });
    let (vma, mut arrays, zdd) = match prepared {
        Ok(prepared) => prepared,
        Err(err) => {
            match ops.devmem_release {
                Some(release) => unsafe { release(devmem) },
                None => report("`drm_pagemap_migrate_to_devmem()` fails without `devmem_release`"),
            }
            return err;
        }
    };
    let mut migrate: migrate_vma = pin_init::zeroed();
    migrate.vma = vma;
    (migrate.start, migrate.end) = (start, end);
    migrate.pgmap_owner = unsafe { (*(*dpagemap).pagemap).owner };
    migrate.flags = (migrate_vma_direction_MIGRATE_VMA_SELECT_SYSTEM
        | migrate_vma_direction_MIGRATE_VMA_SELECT_DEVICE_COHERENT
        | migrate_vma_direction_MIGRATE_VMA_SELECT_DEVICE_PRIVATE
        | migrate_vma_direction_MIGRATE_VMA_SELECT_COMPOUND) as c_ulong;
    migrate.src = arrays.src.as_mut_ptr();
    migrate.dst = arrays.dst.as_mut_ptr();
    let mut result = check(unsafe { migrate_vma_setup(&raw mut migrate) });
    if result.is_ok() {
        result = match migrate.cpages {
            0 => error(EBUSY),
            _ => unsafe { move_to_device(devmem, zdd, &mut migrate, &mut arrays, &*mdetails) },
        };
    }
    unsafe { zdd_put(zdd) };
    result.err().unwrap_or(0)
}
