// SPDX-License-Identifier: GPL-2.0

//! The arrays of a migration, and what is mapped of them for a device.
//!
//! Real: who maps what, for whom and in which direction, large folios as a whole; what fails on the
//! way is unmapped. Not simulated: that the arrays are one allocation, in which one begins where
//! another ends; debug messages.

use ffi::*;

use super::{pagemap::*, types::*};
use crate::{
    alloc::might_alloc,
    devices::device,
    dma::*,
    errno::*,
    machine::with,
    migrate::*,
    mm::PAGE_SIZE,
    pages::*,
    report::{fatal, report},
};
use std::ptr::null_mut;

#[cfg(newtype_enums)]
pub(super) const DMA_TO_DEVICE: dma_data_direction = dma_data_direction::DMA_TO_DEVICE;
#[cfg(newtype_enums)]
pub(super) const DMA_FROM_DEVICE: dma_data_direction = dma_data_direction::DMA_FROM_DEVICE;
#[cfg(not(newtype_enums))]
pub(super) const DMA_TO_DEVICE: dma_data_direction = dma_data_direction_DMA_TO_DEVICE;
#[cfg(not(newtype_enums))]
pub(super) const DMA_FROM_DEVICE: dma_data_direction = dma_data_direction_DMA_FROM_DEVICE;

pub(super) const MIGRATE: usize = MIGRATE_PFN_MIGRATE as usize;
pub(super) const COMPOUND: usize = MIGRATE_PFN_COMPOUND as usize;

/// An error as C has it.
pub(super) type Result<T = ()> = std::result::Result<T, c_int>;

pub(super) const fn error<T>(err: u32) -> Result<T> {
    Err(-(err as c_int))
}

pub(super) fn check(err: c_int) -> Result {
    match err {
        0 => Ok(()),
        err => Err(err),
    }
}

/// Where a driver says which device memory an allocation is: as offsets, or on a stock kernel as
/// page frame numbers.
pub(super) fn populate(
    ops: &drm_pagemap_devmem_ops,
) -> Option<unsafe extern "C" fn(*mut drm_pagemap_devmem, c_ulong, *mut c_ulong) -> c_int> {
    #[cfg(dpmem_offset)]
    return ops.populate_devmem_offsets;
    #[cfg(not(dpmem_offset))]
    ops.populate_devmem_pfn
}

/// More pages than any machine here has room for.
pub(super) const TOO_MANY: usize = 1 << 24;

/// The arrays of a migration.
pub(super) struct Arrays {
    pub(super) src: Vec<usize>,
    pub(super) dst: Vec<usize>,
    pub(super) addrs: Vec<drm_pagemap_addr>,
    pub(super) pages: Vec<*mut page>,
}

impl Arrays {
    /// Room for `nr` pages, all zeroes. In C it is one allocation.
    pub(super) fn new(nr: usize) -> Result<Self> {
        might_alloc("kvmalloc");
        if nr > TOO_MANY || with(|m| m.fails("kvmalloc")) {
            return error(ENOMEM);
        }
        Ok(Self {
            src: vec![0; nr],
            dst: vec![0; nr],
            addrs: vec![pin_init::zeroed(); nr],
            pages: vec![null_mut(); nr],
        })
    }
}

/// How many pages the folio of `page` has, and its order.
pub(super) unsafe fn size_of_folio(page: *mut page) -> (usize, u32) {
    let order = unsafe { folio_order(page_folio(page)) };
    (1 << order, order)
}

/// How many pages the entry of an array is about, if it has a page.
pub(super) unsafe fn step(entry: usize) -> usize {
    let page = unsafe { migrate_pfn_to_page(entry) };
    match page.is_null() {
        true => 1,
        false => unsafe { size_of_folio(page) }.0,
    }
}

/// Unlocks the destinations, and gives them up.
pub(super) unsafe fn unlock_and_put(entries: &mut [usize]) {
    let mut i = 0;
    while i < entries.len() {
        let entry = entries[i];
        let nr = unsafe { step(entry) };
        if entry != 0 {
            let folio = unsafe { page_folio(migrate_pfn_to_page(entry)) };
            unsafe { folio_unlock(folio) };
            unsafe { folio_put(folio) };
            entries[i] = 0;
        }
        i += nr;
    }
}

/// Maps the pages of devices in `entries` for `dev`, which is to copy from its memory, or to it.
pub(super) unsafe fn map_device_pages(
    dev: *mut device,
    local: *mut drm_pagemap,
    addrs: &mut [drm_pagemap_addr],
    entries: &[usize],
    direction: dma_data_direction,
    same: bool,
) -> Result {
    let mut i = 0;
    while i < entries.len() {
        let page = unsafe { migrate_pfn_to_page(entries[i]) };
        if page.is_null() {
            i += 1;
            continue;
        }
        if !unsafe { is_device_private_page(page) } {
            report("a page of the system is to be mapped as one of a device");
        }
        let (nr, order) = unsafe { size_of_folio(page) };
        let dpagemap = unsafe { (*zdd_of(page)).dpagemap };
        if dpagemap != local || same {
            let Some(map) = (unsafe { (*(*dpagemap).ops).device_map }) else {
                fatal("a `drm_pagemap` has no `device_map`");
            };
            let addr = unsafe { map(dpagemap, dev, page, order, direction) };
            if unsafe { dma_mapping_error(dev, addr.addr) } != 0 {
                return error(EFAULT);
            }
            if addr.order() != u64::from(order) {
                report("`device_map` gives an address of another order");
            }
            addrs[i] = addr;
        }
        i += nr;
    }
    Ok(())
}

/// The addresses of an IOMMU that are in use, and how far.
#[derive(Default)]
pub(super) struct Iova {
    state: dma_iova_state,
    offset: usize,
}

impl Iova {
    fn is_used(&mut self) -> bool {
        unsafe { dma_use_iova(&raw mut self.state) }
    }
}

/// Maps the pages of the system in `entries` for `dev`.
pub(super) unsafe fn map_system_pages(
    dev: *mut device,
    addrs: &mut [drm_pagemap_addr],
    entries: &[usize],
    direction: dma_data_direction,
    iova: &mut Iova,
) -> Result {
    let mut tried = false;
    let mut i = 0;
    while i < entries.len() {
        let page = unsafe { migrate_pfn_to_page(entries[i]) };
        if page.is_null() {
            i += 1;
            continue;
        }
        if unsafe { is_device_private_page(page) } {
            report("a page of a device is to be mapped as one of the system");
        }
        let (nr, order) = unsafe { size_of_folio(page) };
        let size = nr * PAGE_SIZE;
        if !tried {
            let all = entries.len() * PAGE_SIZE;
            unsafe { dma_iova_try_alloc(dev, &raw mut iova.state, 0, all) };
            tried = true;
        }
        let addr = if iova.is_used() {
            let (state, phys) = (&raw mut iova.state, unsafe { page_to_phys(page) });
            let offset = iova.offset;
            check(unsafe { dma_iova_link(dev, state, phys, offset, size, direction, 0) })?;
            iova.offset += size;
            iova.state.addr + offset as u64
        } else {
            let addr = unsafe { dma_map_page_attrs(dev, page, 0, size, direction, 0) };
            if unsafe { dma_mapping_error(dev, addr) } != 0 {
                return error(EFAULT);
            }
            addr
        };
        let system = drm_interconnect_protocol_DRM_INTERCONNECT_SYSTEM;
        addrs[i] = unsafe { drm_pagemap_addr_encode(addr, system, order, direction) };
        i += nr;
    }
    if iova.is_used() {
        let state = &raw mut iova.state;
        return check(unsafe { dma_iova_sync(dev, state, 0, iova.offset) });
    }
    Ok(())
}

/// The number that C has for a direction.
pub(super) fn number_of(direction: dma_data_direction) -> u64 {
    #[cfg(newtype_enums)]
    return u64::from(direction.0);
    #[cfg(not(newtype_enums))]
    u64::from(direction)
}

/// Unmaps what was mapped of `entries`.
pub(super) unsafe fn unmap_pages(
    dev: *mut device,
    addrs: &[drm_pagemap_addr],
    entries: &[usize],
    direction: dma_data_direction,
    iova: &mut Iova,
) {
    if iova.is_used() {
        let (state, offset) = (&raw mut iova.state, iova.offset);
        unsafe { dma_iova_destroy(dev, state, offset, direction, 0) };
        return;
    }
    let mut i = 0;
    while i < entries.len() {
        let page = unsafe { migrate_pfn_to_page(entries[i]) };
        let addr = &addrs[i];
        i += 1 << addr.order();
        if page.is_null() || addr.addr == 0 || unsafe { dma_mapping_error(dev, addr.addr) } != 0 {
            continue;
        }
        if unsafe { is_zone_device_page(page) } {
            let dpagemap = unsafe { (*zdd_of(page)).dpagemap };
            let Some(unmap) = (unsafe { (*(*dpagemap).ops).device_unmap }) else {
                fatal("a `drm_pagemap` has no `device_unmap`");
            };
            unsafe { unmap(dpagemap, dev, addr) };
        } else {
            let size = PAGE_SIZE << addr.order();
            unsafe { dma_unmap_page_attrs(dev, addr.addr, size, direction, 0) };
        }
    }
}
