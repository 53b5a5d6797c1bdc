// SPDX-License-Identifier: GPL-2.0

//! `drm_pagemap`: device memory that DRM drivers put processes' pages into.
//!
//! Real: references and when they end, what is called when, by whom and in which order, the data of
//! device pages, which data they have when a folio is split; in `to_device.rs`, `to_ram.rs` and
//! `util.rs` the rest. What a driver has handed over must not be freed before it is given back. Not
//! simulated: debug messages, modules, and that the last reference to a DRM device is given up in a
//! work item: it is given up at once.

use std::ptr::null_mut;

use ffi::*;

use super::{
    drm_dev_get, drm_dev_put, drm_device, fence::dma_fence, map::number_of, to_ram::migrate_to_ram,
    types::*, util,
};
use crate::{
    alloc::{free_object, new_object},
    buddy::INIT_LIST_HEAD,
    device_private::{dev_pagemap, dev_pagemap_ops},
    devices::device,
    dma::{dma_addr_t, dma_data_direction},
    errno::*,
    locks::{
        complete_all, init_completion, kref, kref_get, kref_get_unless_zero, kref_init, kref_put,
    },
    machine::{atomic, might_sleep, with},
    mm::{mm_struct, mmap_read_lock, mmap_read_unlock, mmget_not_zero, mmput},
    pages::{
        folio, page, page_zone_device_data, set_page_zone_device_data, zone_device_folio_inherit,
    },
    process::err_ptr,
    report::{fatal, report},
};

/// The bit beside the address of a page's data that says that it has been migrated to system
/// memory.
pub(super) const MIGRATED: usize = 1;

/// What the pages of one allocation of device memory have in common.
pub(crate) struct drm_pagemap_zdd {
    refcount: kref,
    pub(super) devmem_allocation: *mut drm_pagemap_devmem,
    pub(super) dpagemap: *mut drm_pagemap,
}

/// The data of pages that are going to be of `devmem`, with one reference; or null.
pub(super) unsafe fn zdd_new(
    dpagemap: *mut drm_pagemap,
    devmem: *mut drm_pagemap_devmem,
) -> *mut drm_pagemap_zdd {
    let zdd = new_object(drm_pagemap_zdd {
        refcount: kref::default(),
        devmem_allocation: devmem,
        dpagemap,
    });
    if zdd.is_null() {
        return zdd;
    }
    unsafe { kref_init(&raw mut (*zdd).refcount) };
    unsafe { drm_pagemap_get(dpagemap) };
    with(|m| {
        m.drm.zdds.insert(zdd as usize);
        if !m.drm.lend(devmem, "device memory that pages may be in") {
            report("something is migrated to device memory that has pages in it");
        }
    });
    zdd
}

pub(super) unsafe fn zdd_get(zdd: *mut drm_pagemap_zdd) -> *mut drm_pagemap_zdd {
    unsafe { kref_get(&raw mut (*zdd).refcount) };
    zdd
}

pub(super) unsafe fn zdd_put(zdd: *mut drm_pagemap_zdd) {
    if !unsafe { kref_put(&raw mut (*zdd).refcount) } {
        return;
    }
    let (devmem, dpagemap) = unsafe { ((*zdd).devmem_allocation, (*zdd).dpagemap) };
    unsafe { complete_all(&raw mut (*devmem).detached) };
    // It is the driver's again.
    with(|m| m.drm.give_back(devmem));
    if let Some(release) = unsafe { (*(*devmem).ops).devmem_release } {
        unsafe { release(devmem) };
    }
    with(|m| m.drm.zdds.remove(&(zdd as usize)));
    unsafe { free_object(zdd) };
    unsafe { drm_pagemap_put(dpagemap) };
}

/// The data of a page, if it is a page of a drm_pagemap.
unsafe fn try_zdd_of(page: *mut page) -> Option<*mut drm_pagemap_zdd> {
    let first = unsafe { crate::pages::page_folio(page) };
    let data = unsafe { page_zone_device_data(first.cast()) };
    let zdd = data.map_addr(|addr| addr & !MIGRATED);
    let known = with(|m| m.drm.zdds.contains(&(zdd as usize)));
    known.then(|| zdd.cast())
}

/// The data of a page of a drm_pagemap.
pub(super) unsafe fn zdd_of(page: *mut page) -> *mut drm_pagemap_zdd {
    let zdd = unsafe { try_zdd_of(page) };
    zdd.unwrap_or_else(|| fatal("a page of a device is not one of a drm_pagemap"))
}

/// A reference to the device of `dpagemap`, or an error.
unsafe fn hold(dpagemap: *mut drm_pagemap) -> *mut drm_pagemap_dev_hold {
    let drm = unsafe { (*dpagemap).drm };
    let hold = new_object(drm_pagemap_dev_hold { drm });
    if hold.is_null() {
        return err_ptr(ENOMEM);
    }
    unsafe { drm_dev_get(drm) };
    hold
}

pub unsafe extern "C" fn drm_pagemap_reinit(dpagemap: *mut drm_pagemap) -> c_int {
    let hold = unsafe { hold(dpagemap) };
    unsafe { (*dpagemap).dev_hold = hold };
    if unsafe { crate::rest::IS_ERR(hold.cast()) } {
        return -(ENOMEM as c_int);
    }
    unsafe { kref_init(&raw mut (*dpagemap).ref_) };
    with(|m| m.drm.lend(dpagemap, "a `drm_pagemap` in use"));
    0
}

pub unsafe extern "C" fn drm_pagemap_init(
    dpagemap: *mut drm_pagemap,
    pagemap: *mut dev_pagemap,
    drm: *mut drm_device,
    ops: *const drm_pagemap_ops,
) -> c_int {
    if with(|m| m.drm.lent(dpagemap as usize, 1)).is_some() {
        report("a `drm_pagemap` is initialised that is in use");
    }
    unsafe {
        kref_init(&raw mut (*dpagemap).ref_);
        (*dpagemap).ops = ops;
        (*dpagemap).pagemap = pagemap;
        (*dpagemap).drm = drm;
        (*dpagemap).cache = null_mut();
        INIT_LIST_HEAD(&raw mut (*dpagemap).shrink_link);
        drm_pagemap_reinit(dpagemap)
    }
}

pub unsafe extern "C" fn drm_pagemap_get(dpagemap: *mut drm_pagemap) -> *mut drm_pagemap {
    if !dpagemap.is_null() {
        unsafe { kref_get(&raw mut (*dpagemap).ref_) };
    }
    dpagemap
}

pub unsafe extern "C" fn drm_pagemap_get_unless_zero(
    dpagemap: *mut drm_pagemap,
) -> *mut drm_pagemap {
    match !dpagemap.is_null() && unsafe { kref_get_unless_zero(&raw mut (*dpagemap).ref_) } {
        true => dpagemap,
        false => null_mut(),
    }
}

pub unsafe extern "C" fn drm_pagemap_put(dpagemap: *mut drm_pagemap) {
    if dpagemap.is_null() {
        return;
    }
    unsafe { util::might_lock(dpagemap) };
    if !unsafe { kref_put(&raw mut (*dpagemap).ref_) } {
        return;
    }
    let hold = std::mem::replace(unsafe { &mut (*dpagemap).dev_hold }, null_mut());
    unsafe { util::idle(dpagemap) };
    // The pagemap may be gone; its device is not.
    let drm = unsafe { (*hold).drm };
    unsafe { free_object(hold) };
    unsafe { drm_dev_put(drm) };
}

pub unsafe extern "C" fn drm_pagemap_destroy(
    dpagemap: *mut drm_pagemap,
    is_atomic_or_reclaim: bool,
) {
    with(|m| m.drm.give_back(dpagemap));
    let Some(destroy) = (unsafe { (*(*dpagemap).ops).destroy }) else {
        unsafe { free_object(dpagemap) };
        return;
    };
    if is_atomic_or_reclaim {
        // It may be so, whether it is now or not.
        atomic(true);
        unsafe { destroy(dpagemap, true) };
        atomic(false);
    } else {
        might_sleep("drm_pagemap_destroy");
        unsafe { destroy(dpagemap, false) };
    }
}

pub unsafe extern "C" fn drm_pagemap_devmem_init(
    devmem_allocation: *mut drm_pagemap_devmem,
    dev: *mut device,
    mm: *mut mm_struct,
    ops: *const drm_pagemap_devmem_ops,
    dpagemap: *mut drm_pagemap,
    size: usize,
    pre_migrate_fence: *mut dma_fence,
) {
    if with(|m| m.drm.lent(devmem_allocation as usize, 1)).is_some() {
        report("device memory is initialised that has pages in it");
    }
    unsafe {
        init_completion(&raw mut (*devmem_allocation).detached);
        (*devmem_allocation).dev = dev;
        (*devmem_allocation).mm = mm;
        (*devmem_allocation).ops = ops;
        (*devmem_allocation).dpagemap = dpagemap;
        (*devmem_allocation).size = size;
        (*devmem_allocation).pre_migrate_fence = pre_migrate_fence;
    }
}

pub unsafe extern "C" fn drm_pagemap_page_to_dpagemap(page: *mut page) -> *mut drm_pagemap {
    match unsafe { try_zdd_of(page) } {
        Some(zdd) => unsafe { (*(*zdd).devmem_allocation).dpagemap },
        None => {
            report("`drm_pagemap_page_to_dpagemap()` of a page that is not one of a drm_pagemap");
            null_mut()
        }
    }
}

pub unsafe extern "C" fn drm_pagemap_addr_encode(
    addr: dma_addr_t,
    proto: drm_interconnect_protocol,
    order: c_uint,
    dir: dma_data_direction,
) -> drm_pagemap_addr {
    let (proto, order, dir) = (proto.into(), order.into(), number_of(dir));
    drm_pagemap_addr {
        addr,
        _bitfield_align_1: [],
        _bitfield_1: drm_pagemap_addr::new_bitfield_1(proto, order, dir),
    }
}

/// A helper of `linux/helpers/dpmem_drm.c`.
pub unsafe extern "C" fn drm_pagemap_addr_dir(addr: *const drm_pagemap_addr) -> dma_data_direction {
    let dir = unsafe { (*addr).dir() } as c_uint;
    #[cfg(newtype_enums)]
    return dma_data_direction(dir);
    #[cfg(not(newtype_enums))]
    dir
}

pub unsafe extern "C" fn drm_pagemap_populate_mm(
    dpagemap: *mut drm_pagemap,
    start: c_ulong,
    end: c_ulong,
    mm: *mut mm_struct,
    timeslice_ms: c_ulong,
) -> c_int {
    might_sleep("drm_pagemap_populate_mm");
    if !unsafe { mmget_not_zero(mm) } {
        return -(EFAULT as c_int);
    }
    let Some(populate) = (unsafe { (*(*dpagemap).ops).populate_mm }) else {
        fatal("a `drm_pagemap` has no `populate_mm`");
    };
    unsafe { mmap_read_lock(mm) };
    let result = unsafe { populate(dpagemap, start, end, mm, timeslice_ms) };
    unsafe { mmap_read_unlock(mm) };
    unsafe { mmput(mm) };
    result
}

unsafe extern "C" fn folio_free(folio: *mut folio) {
    unsafe { zdd_put(zdd_of(folio.cast())) };
}

unsafe extern "C" fn folio_split(head: *mut folio, tail: *mut folio) {
    if tail.is_null() {
        return;
    }
    unsafe { zone_device_folio_inherit(tail, head) };
    let zdd = unsafe { zdd_get(zdd_of(head.cast())) };
    let flags = unsafe { page_zone_device_data(head.cast()) } as usize & MIGRATED;
    let data = zdd.map_addr(|addr| addr | flags);
    unsafe { set_page_zone_device_data(tail.cast(), data.cast()) };
}

static OPS: dev_pagemap_ops = dev_pagemap_ops {
    folio_free: Some(folio_free),
    migrate_to_ram: Some(migrate_to_ram),
    memory_failure: None,
    folio_split: Some(folio_split),
};

pub unsafe extern "C" fn drm_pagemap_pagemap_ops_get() -> *const dev_pagemap_ops {
    &OPS
}
