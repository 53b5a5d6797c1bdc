// SPDX-License-Identifier: GPL-2.0

//! Pagemaps of device-private memory, as `linux/series` has them: registered by size, with pages on demand.
//!
//! Real: who owns an offset, what is refused and how, that a chunk has no `struct page` before its first request, and
//! that unregistering waits for the last page. Not simulated: `memremap_pages()`, and so coherent memory and the stock
//! kernel; altmaps, nodes, memory failure.

use ffi::*;
use pin_init::Zeroable;

use crate::{
    alloc::krealloc_node_align,
    consts::*,
    errno::*,
    machine::{might_sleep, with, Locked},
    pages::{folio, free_device_pages, info, init_device_page, live, new_device_pages, page},
    process::{err_ptr, Errno},
    report::report,
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
    /// Which chunks have their pages.
    populated: Vec<bool>,
    /// How many pages are in service.
    out: usize,
    dying: bool,
}

impl Pages {
    fn get(&self, offset: usize) -> *mut page {
        match self.populated.get(offset / CHUNK) {
            Some(true) if offset < self.nr => self.first.wrapping_add(offset),
            _ => std::ptr::null_mut(),
        }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        unsafe { free_device_pages(self.first, self.nr) };
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

/// Notes that a page of `pgmap` has come back.
pub(crate) fn came_back(m: &mut Locked<'_>, pgmap: *mut dev_pagemap) {
    if let Some(pages) = pages(m, pgmap, "folio_free") {
        pages.out -= 1;
    }
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
    let pages = Pages {
        first: new_device_pages(nr),
        nr,
        populated: vec![false; nr.div_ceil(CHUNK)],
        out: 0,
        dying: false,
    };
    with(|m| {
        if m.pagemaps.insert(pgmap as usize, pages).is_some() {
            report("a pagemap is registered twice");
        }
    });
    0
}

pub unsafe extern "C" fn memunmap_device_private_pagemap(pgmap: *mut dev_pagemap) {
    might_sleep("memunmap_device_private_pagemap");
    with(|m| loop {
        match pages(m, pgmap, "memunmap_device_private_pagemap") {
            Some(pages) if pages.out > 0 => {
                pages.dying = true;
                m.wait("the pages of a pagemap to come back");
            }
            _ => break,
        }
    });
    with(|m| m.pagemaps.remove(&(pgmap as usize)));
    unsafe { krealloc_node_align((*pgmap).private.cast(), 0, 8, 0, NUMA_NO_NODE) };
    unsafe { (*pgmap).private = std::ptr::null_mut() };
}

pub unsafe extern "C" fn pgmap_request_folio(
    pgmap: *mut dev_pagemap,
    offset: c_ulong,
    order: c_uint,
) -> *mut folio {
    might_sleep("pgmap_request_folio");
    let page = with(|m| unsafe { request(m, pgmap, offset, order) });
    page.map_or_else(|Errno(err)| err_ptr(err), |page| page.cast())
}

unsafe fn request(
    m: &mut Locked<'_>,
    pgmap: *mut dev_pagemap,
    offset: usize,
    order: u32,
) -> Result<*mut page, Errno> {
    let Some(pages) = pages(m, pgmap, "pgmap_request_folio") else {
        return Err(Errno(EINVAL));
    };
    if order != 0 || offset >= pages.nr {
        return Err(Errno(EINVAL));
    }
    if pages.dying {
        return Err(Errno(ENODEV));
    }
    // The `struct page`s are made now.
    if m.fails("pgmap_request_folio") {
        return Err(Errno(ENOMEM));
    }
    let Some(pages) = m.pagemaps.get_mut(&(pgmap as usize)) else {
        return Err(Errno(EINVAL));
    };
    if let Some(populated) = pages.populated.get_mut(offset / CHUNK) {
        *populated = true;
    }
    let page = pages.get(offset);
    let info = unsafe { info(m, page) };
    if info.refs != 0 || info.freeing {
        return Err(Errno(EBUSY));
    }
    unsafe { init_device_page(page, pgmap) };
    if let Some(pages) = m.pagemaps.get_mut(&(pgmap as usize)) {
        pages.out += 1;
    }
    Ok(page)
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
        let first = pages(m, pgmap, "device_private_page_to_offset").map(|pages| pages.first);
        first.map_or(0, |first| {
            (page as usize - first as usize) / size_of::<page>()
        })
    })
}

not_simulated! {
    fn memremap_pages(*mut dev_pagemap, c_int) -> *mut c_void;
    fn memunmap_pages(*mut dev_pagemap);
    fn zone_device_folio_init(*mut folio, *mut dev_pagemap, c_uint);
    fn percpu_ref_tryget_live(*mut percpu_ref) -> bool;
    fn percpu_ref_put(*mut percpu_ref);
}
