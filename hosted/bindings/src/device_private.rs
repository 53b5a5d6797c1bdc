// SPDX-License-Identifier: GPL-2.0

//! Pagemaps of device memory: private as `linux/series` has them, registered by size, with pages on
//! demand; and `memremap_pages()`, which coherent memory needs, and private memory on a stock
//! kernel.
//!
//! Real: who owns an offset, what is refused and how, that a chunk has no `struct page` before its
//! first request, and that unregistering waits for the last page. Not simulated: altmaps, nodes. A
//! physical address is 64 times that of the `struct page`, as numbers of pages are arithmetic here.

use std::{
    backtrace::Backtrace,
    sync::{Mutex, PoisonError},
};

use ffi::*;
use pin_init::Zeroable;

use crate::{
    alloc::{host_free, host_zeroed, krealloc_node_align, might_alloc},
    consts::*,
    errno::*,
    machine::{might_sleep, with, Locked},
    mm::PAGE_SIZE,
    pages::{
        folio, free_device_pages, info, init_device_folio, live, new_device_pages, page,
        set_content, PMD_ORDER,
    },
    process::{err_ptr, Errno},
    report::{report, whose},
    task::vm_fault,
};

pub type memory_type = c_uint;
pub const memory_type_MEMORY_DEVICE_PRIVATE: memory_type = 1;
pub const memory_type_MEMORY_DEVICE_COHERENT: memory_type = 2;
pub const memory_type_MEMORY_DEVICE_FS_DAX: memory_type = 3;
pub const memory_type_MEMORY_DEVICE_GENERIC: memory_type = 4;
pub const memory_type_MEMORY_DEVICE_PCI_P2PDMA: memory_type = 5;

#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct percpu_ref {
    pub percpu_count_ptr: c_ulong,
    pub data: *mut c_void,
}

#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct range {
    pub start: u64,
    pub end: u64,
}

/// A member of a union, as bindgen writes it where one of them cannot be copied.
#[repr(C)]
pub struct __BindgenUnionField<T>(std::marker::PhantomData<T>);

impl<T> __BindgenUnionField<T> {
    pub unsafe fn as_ref(&self) -> &T {
        unsafe { &*std::ptr::from_ref(self).cast() }
    }

    pub unsafe fn as_mut(&mut self) -> &mut T {
        unsafe { &mut *std::ptr::from_mut(self).cast() }
    }
}

#[repr(C)]
pub struct dev_pagemap__bindgen_ty_1 {
    pub range: __BindgenUnionField<range>,
    pub bindgen_union_field: [u64; 2],
}

#[repr(C)]
pub struct device_private_map {
    _opaque: *mut c_void,
}

#[repr(C)]
pub struct dev_pagemap {
    pub ref_: percpu_ref,
    pub type_: memory_type,
    pub flags: c_uint,
    pub vmemmap_shift: c_ulong,
    pub ops: *const dev_pagemap_ops,
    pub owner: *mut c_void,
    pub nr_pages: c_ulong,
    pub private: *mut device_private_map,
    pub nr_range: c_int,
    pub __bindgen_anon_1: dev_pagemap__bindgen_ty_1,
}

#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct dev_pagemap_ops {
    pub folio_free: Option<unsafe extern "C" fn(folio: *mut folio)>,
    pub migrate_to_ram: Option<unsafe extern "C" fn(vmf: *mut vm_fault) -> vm_fault_t>,
    pub memory_failure: Option<
        unsafe extern "C" fn(
            pgmap: *mut dev_pagemap,
            pfn: c_ulong,
            nr_pages: c_ulong,
            mf_flags: c_int,
        ) -> c_int,
    >,
    pub folio_split: Option<unsafe extern "C" fn(head: *mut folio, tail: *mut folio)>,
}

/// How many pages get their `struct page` at a time.
const CHUNK: usize = 1024;

/// More pages than any machine here has room for.
const TOO_MANY: usize = 1 << 24;

/// The pages of a pagemap.
pub(crate) struct Pages {
    first: *mut page,
    nr: usize,
    /// Whether they go away with the pagemap.
    ours: bool,
    /// Which chunks have their pages.
    populated: Vec<bool>,
    /// Which pages are in service.
    claimed: Vec<bool>,
    /// How many are, and who keeps the pagemap besides.
    refs: usize,
    dying: bool,
    /// Where it was registered.
    pub(crate) by: Option<Backtrace>,
}

impl Pages {
    fn new(first: *mut page, nr: usize, ours: bool) -> Self {
        Self {
            first,
            nr,
            ours,
            populated: vec![!ours; nr.div_ceil(CHUNK)],
            claimed: vec![false; nr],
            refs: 0,
            dying: false,
            by: whose(),
        }
    }

    fn get(&self, offset: usize) -> *mut page {
        match self.populated.get(offset / CHUNK) {
            Some(true) if offset < self.nr => self.first.wrapping_add(offset),
            _ => std::ptr::null_mut(),
        }
    }

    fn offset_of(&self, page: *const page) -> usize {
        (page as usize).wrapping_sub(self.first as usize) / size_of::<page>()
    }

    /// Puts the `nr` pages at `offset` into service; false if one of them is.
    fn claim(&mut self, offset: usize, nr: usize) -> bool {
        let Some(claimed) = self.claimed.get_mut(offset..offset + nr) else {
            return false;
        };
        if claimed.contains(&true) {
            return false;
        }
        claimed.fill(true);
        self.refs += nr;
        true
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if self.ours {
            unsafe { free_device_pages(self.first, self.nr) };
        }
    }
}

fn pages<'a>(
    m: &'a mut Locked<'_>,
    pgmap: *const dev_pagemap,
    what: &str,
) -> Option<&'a mut Pages> {
    let pages = m.pagemaps.get_mut(&(pgmap as usize));
    if pages.is_none() {
        report(format!("`{what}()` on a pagemap that is not registered"));
    }
    pages
}

/// Makes `nr` pages of `pgmap` idle, so that they can be requested again. They keep the pagemap
/// until [`came_back`].
pub(crate) fn make_idle(m: &mut Locked<'_>, pgmap: *mut dev_pagemap, first: *mut page, nr: usize) {
    if let Some(pages) = pages(m, pgmap, "folio_free") {
        let offset = pages.offset_of(first);
        match pages.claimed.get_mut(offset..offset + nr) {
            Some(claimed) => claimed.fill(false),
            None => report("a page is freed to a pagemap that it is not of"),
        }
    }
}

/// Notes that the driver has taken `nr` pages of `pgmap` back. Tells whether they are still idle.
pub(crate) fn came_back(
    m: &mut Locked<'_>,
    pgmap: *mut dev_pagemap,
    first: *mut page,
    nr: usize,
) -> bool {
    let Some(pages) = pages(m, pgmap, "folio_free") else {
        return true;
    };
    pages.refs -= nr;
    let offset = pages.offset_of(first);
    pages.claimed.get(offset) == Some(&false)
}

/// Registers `pages`, unless that fails.
fn register(pgmap: *mut dev_pagemap, pages: Pages) {
    with(|m| {
        if m.pagemaps.insert(pgmap as usize, pages).is_some() {
            report("a pagemap is registered twice");
        }
    });
}

/// Waits until no page of `pgmap` is in service, and unregisters it.
fn unregister(pgmap: *mut dev_pagemap, what: &str) {
    might_sleep(what);
    with(|m| loop {
        match pages(m, pgmap, what) {
            Some(pages) if pages.refs > 0 => {
                pages.dying = true;
                m.wait("the pages of a pagemap to come back");
            }
            _ => break,
        }
    });
    with(|m| m.pagemaps.remove(&(pgmap as usize)));
}

pub unsafe extern "C" fn memremap_device_private_pagemap(
    pgmap: *mut dev_pagemap,
    _nid: c_int,
) -> c_int {
    might_sleep("memremap_device_private_pagemap");
    let (kind, nr) = unsafe { ((*pgmap).type_, (*pgmap).nr_pages) };
    if kind != memory_type_MEMORY_DEVICE_PRIVATE || nr == 0 {
        return -(EINVAL as c_int);
    }
    if nr > TOO_MANY {
        return -(ENOSPC as c_int);
    }
    // What the kernel keeps for it, which may not be had.
    let map = unsafe { krealloc_node_align(std::ptr::null(), 64, 8, GFP_KERNEL, NUMA_NO_NODE) };
    if map.is_null() {
        return -(ENOMEM as c_int);
    }
    unsafe { (*pgmap).private = map.cast() };
    register(pgmap, Pages::new(new_device_pages(nr), nr, true));
    0
}

pub unsafe extern "C" fn memunmap_device_private_pagemap(pgmap: *mut dev_pagemap) {
    unregister(pgmap, "memunmap_device_private_pagemap");
    unsafe { krealloc_node_align((*pgmap).private.cast(), 0, 8, 0, NUMA_NO_NODE) };
    unsafe { (*pgmap).private = std::ptr::null_mut() };
}

pub unsafe extern "C" fn pgmap_request_folio(
    pgmap: *mut dev_pagemap,
    offset: c_ulong,
    order: c_uint,
) -> *mut folio {
    might_alloc("pgmap_request_folio");
    let page = with(|m| unsafe { request(m, pgmap, offset, order) });
    page.map_or_else(|Errno(err)| err_ptr(err), |page| page.cast())
}

unsafe fn request(
    m: &mut Locked<'_>,
    pgmap: *mut dev_pagemap,
    offset: usize,
    order: u32,
) -> Result<*mut page, Errno> {
    // The `struct page`s are made now.
    let fails = m.fails("pgmap_request_folio");
    let Some(pages) = pages(m, pgmap, "pgmap_request_folio") else {
        return Err(Errno(EINVAL));
    };
    let nr = 1 << order.min(PMD_ORDER);
    if order > PMD_ORDER || offset % nr != 0 || offset >= pages.nr || nr > pages.nr - offset {
        return Err(Errno(EINVAL));
    }
    if pages.dying {
        return Err(Errno(ENODEV));
    }
    if fails {
        return Err(Errno(ENOMEM));
    }
    // A folio lies in one chunk.
    if let Some(populated) = pages.populated.get_mut(offset / CHUNK) {
        *populated = true;
    }
    if !pages.claim(offset, nr) {
        return Err(Errno(EBUSY));
    }
    let page = pages.get(offset);
    unsafe { init_device_folio(page, pgmap, order) };
    Ok(page)
}

/// Where in its pagemap a page of a device is.
pub(crate) fn offset_of(m: &mut Locked<'_>, page: *mut page) -> usize {
    let pgmap = unsafe { info(m, page) }.pgmap;
    pages(m, pgmap, "offset_of").map_or(0, |pages| pages.offset_of(page))
}

/// The page at `offset`, or null.
pub(crate) fn page_at(
    m: &mut Locked<'_>,
    pgmap: *const dev_pagemap,
    offset: usize,
    what: &str,
) -> *mut page {
    pages(m, pgmap, what).map_or(std::ptr::null_mut(), |pages| pages.get(offset))
}

pub unsafe extern "C" fn device_private_offset_to_page(
    pgmap: *const dev_pagemap,
    offset: c_ulong,
) -> *mut page {
    with(|m| page_at(m, pgmap, offset, "device_private_offset_to_page"))
}

pub unsafe extern "C" fn device_private_page_to_offset(page: *const page) -> c_ulong {
    with(|m| {
        let pgmap = unsafe { live(m, page.cast_mut(), "device_private_page_to_offset") }.pgmap;
        let pages = pages(m, pgmap, "device_private_page_to_offset");
        pages.map_or(0, |pages| pages.offset_of(page))
    })
}

/// Physical memory that a device has.
pub(crate) struct Physical {
    first: *mut page,
    nr: usize,
    /// Its content, if CPUs can reach it.
    data: *mut u8,
}

/// The number of the first page of what physical memory is at.
fn pfn_of(first: *mut page) -> usize {
    first.expose_provenance() / size_of::<page>()
}

impl Physical {
    /// `nr` pages; with content, if CPUs can reach them. They stay until they are dropped.
    fn new(nr: usize, coherent: bool) -> Self {
        let first = new_device_pages(nr);
        let data = match coherent {
            true => host_zeroed(nr * PAGE_SIZE, PAGE_SIZE),
            false => std::ptr::null_mut(),
        };
        let mut this = Self { first, nr, data };
        if coherent {
            this.power_on();
        }
        this
    }

    /// Makes all pages idle. Their content is whatever it is.
    fn power_on(&mut self) {
        for i in 0..self.nr {
            unsafe { set_content(self.first.add(i), self.data.add(i * PAGE_SIZE)) };
        }
    }

    /// Where it begins.
    pub(crate) fn start(&self) -> u64 {
        (pfn_of(self.first) << PAGE_SHIFT) as u64
    }
}

impl Drop for Physical {
    fn drop(&mut self) {
        if !self.data.is_null() {
            unsafe { host_free(self.data, self.nr * PAGE_SIZE, PAGE_SIZE) };
        }
        unsafe { free_device_pages(self.first, self.nr) };
    }
}

/// Physical memory of devices that no machine has. What is known of its pages is that of another
/// machine.
static UNPLUGGED: Mutex<Vec<Physical>> = Mutex::new(Vec::new());

// SAFETY: It is used under the lock of the machine that has it.
unsafe impl Send for Physical {}

/// Gives the machine a device with `nr` pages of memory that CPUs can reach, and tells at which
/// physical address. One machine after another has the same addresses for devices of the same
/// sizes.
pub fn coherent_memory(nr: usize) -> u64 {
    let mut unplugged = UNPLUGGED.lock().unwrap_or_else(PoisonError::into_inner);
    let memory = match unplugged.iter().position(|memory| memory.nr == nr) {
        Some(found) => {
            let mut memory = unplugged.remove(found);
            memory.power_on();
            memory
        }
        None => Physical::new(nr, true),
    };
    let start = memory.start();
    with(|m| m.physical.push(memory));
    start
}

/// Takes the memory of devices out of a machine that is switched off.
pub(crate) fn unplug(m: &mut Locked<'_>) {
    let devices = m.physical.drain(..).filter(|memory| !memory.data.is_null());
    let mut unplugged = UNPLUGGED.lock().unwrap_or_else(PoisonError::into_inner);
    unplugged.extend(devices);
}

/// Physical addresses for `size` bytes that nothing else has, or an error.
pub(crate) fn free_addresses(m: &mut Locked<'_>, size: usize) -> Result<u64, Errno> {
    let nr = size >> PAGE_SHIFT;
    if nr > TOO_MANY {
        return Err(Errno(ERANGE));
    }
    let memory = Physical::new(nr, false);
    let start = memory.start();
    m.physical.push(memory);
    Ok(start)
}

/// Nobody has the physical addresses from `start` on any more.
pub(crate) fn addresses_free(m: &mut Locked<'_>, start: u64) {
    // What has content is the device's, and stays.
    m.physical
        .retain(|memory| memory.start() != start || !memory.data.is_null());
}

pub unsafe extern "C" fn memremap_pages(pgmap: *mut dev_pagemap, _nid: c_int) -> *mut c_void {
    might_sleep("memremap_pages");
    let kind = unsafe { (*pgmap).type_ };
    let possible = match kind {
        memory_type_MEMORY_DEVICE_COHERENT => true,
        // Where there is the series, private memory has no physical addresses.
        memory_type_MEMORY_DEVICE_PRIVATE => cfg!(not(dpmem_offset)),
        _ => false,
    };
    if !possible {
        report("`memremap_pages()` for memory of a kind that it does not take");
        return err_ptr(EINVAL);
    }
    if with(|m| m.fails("memremap_pages")) {
        return err_ptr(ENOMEM);
    }
    let range = unsafe { *(*pgmap).__bindgen_anon_1.range.as_ref() };
    let nr = ((range.end + 1 - range.start) >> PAGE_SHIFT) as usize;
    let found = with(|m| {
        let mut physical = m.physical.iter();
        let found = physical.find(|memory| memory.start() == range.start && nr <= memory.nr)?;
        let coherent = !found.data.is_null();
        (coherent == (kind == memory_type_MEMORY_DEVICE_COHERENT)).then_some(found.first)
    });
    let Some(first) = found else {
        report("`memremap_pages()` where there is no such memory");
        return err_ptr(EINVAL);
    };
    register(pgmap, Pages::new(first, nr, false));
    // The address of the content, for those that have it; nobody here uses it.
    std::ptr::without_provenance_mut(PAGE_SIZE)
}

pub unsafe extern "C" fn memunmap_pages(pgmap: *mut dev_pagemap) {
    unregister(pgmap, "memunmap_pages");
}

pub unsafe extern "C" fn zone_device_folio_init(
    folio: *mut folio,
    pgmap: *mut dev_pagemap,
    order: c_uint,
) {
    with(|m| {
        let Some(pages) = pages(m, pgmap, "zone_device_folio_init") else {
            return;
        };
        let offset = pages.offset_of(folio.cast());
        if offset % (1 << order) != 0 || !pages.claim(offset, 1 << order) {
            report("pages become a folio that are in service, or no pages of the pagemap");
            return;
        }
        unsafe { init_device_folio(folio.cast(), pgmap, order) };
    });
}

/// The reference count is the first field of a pagemap.
fn pagemap_of(ref_: *mut percpu_ref) -> *mut dev_pagemap {
    ref_.cast()
}

pub unsafe extern "C" fn percpu_ref_tryget_live(ref_: *mut percpu_ref) -> bool {
    with(|m| {
        let pages = pages(m, pagemap_of(ref_), "percpu_ref_tryget_live");
        let pages = pages.filter(|pages| !pages.dying);
        pages.map(|pages| pages.refs += 1).is_some()
    })
}

pub unsafe extern "C" fn percpu_ref_put(ref_: *mut percpu_ref) {
    with(|m| {
        match pages(m, pagemap_of(ref_), "percpu_ref_put") {
            Some(pages) if pages.refs > 0 => pages.refs -= 1,
            _ => report("a reference to a pagemap is given up that nobody had"),
        }
        m.changed();
    });
}

const _: () = assert!(std::mem::offset_of!(dev_pagemap, ref_) == 0);

/// Whether there is registered memory of `owner`.
pub(crate) fn is_owner(m: &Locked<'_>, owner: *mut c_void) -> bool {
    let mut pagemaps = m.pagemaps.keys();
    pagemaps.any(|key| unsafe {
        (*std::ptr::with_exposed_provenance::<dev_pagemap>(*key)).owner == owner
    })
}

/// How many pagemaps are registered.
pub fn registered() -> usize {
    with(|m| m.pagemaps.len())
}
