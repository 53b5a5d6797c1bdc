// SPDX-License-Identifier: GPL-2.0

//! `struct page` and folios.
//!
//! Real: references, locks, content, what a page belongs to, when it is freed. Not simulated: folios of more than one
//! page, the LRU, memory cgroups. The number of a page is its address divided by its size, so that `page_to_pfn()` is
//! arithmetic here as well.

use std::{cell::UnsafeCell, ptr::null_mut};

use ffi::*;

use crate::{
    alloc::{host_free, host_zeroed},
    consts::{gfp_t, ___GFP_DIRECT_RECLAIM, PAGE_SHIFT},
    device_private::dev_pagemap,
    machine::{atomic, might_sleep, with, Locked},
    mm::{vm_area_struct, PAGE_SIZE},
    report::{fatal, report},
};

/// What a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Of system memory. A page that has never been in service says so too, and has no reference.
    System,
    /// The page of zeroes that everybody shares.
    Zero,
    /// Of device-private memory.
    Device,
}

/// What is known of a page. Read and written under the lock of the machine.
#[derive(Clone, Copy)]
pub(crate) struct Info {
    pub(crate) kind: Kind,
    pub(crate) locked: bool,
    pub(crate) dirty: bool,
    /// The memory of a process, as opposed to what a driver has allocated.
    pub(crate) anon: bool,
    /// The last reference is gone, and the driver is being told.
    pub(crate) freeing: bool,
    pub(crate) refs: i32,
    /// How many page tables have it.
    pub(crate) maps: i32,
    /// Which page of an address space it is, if it is mapped; a page is at the same address everywhere.
    pub(crate) index: usize,
    /// Whose device memory it is.
    pub(crate) pgmap: *mut dev_pagemap,
    /// What the driver keeps with a folio of device memory.
    zone_device_data: *mut c_void,
    /// The content, if a CPU can reach it.
    pub(crate) data: *mut u8,
}

#[repr(C, align(64))]
pub struct page {
    info: UnsafeCell<Info>,
}

/// A folio is its first page.
#[repr(C, align(64))]
pub struct folio {
    page: page,
}

const _: () = assert!(size_of::<page>() == 64 && size_of::<folio>() == 64);

/// What is known of `page`.
///
/// The pointer must be to memory that is, or was, a page of a machine that still runs.
pub(crate) unsafe fn info<'a>(_m: &'a mut Locked<'_>, page: *mut page) -> &'a mut Info {
    if page.is_null() {
        fatal("there is no page at NULL");
    }
    unsafe { &mut *(*page).info.get() }
}

/// As [`info`], of a page that somebody has a reference to.
pub(crate) unsafe fn live<'a>(m: &'a mut Locked<'_>, page: *mut page, what: &str) -> &'a mut Info {
    let info = unsafe { info(m, page) };
    if info.refs <= 0 && !info.freeing {
        report(format!(
            "`{what}()` on a page that nobody has a reference to"
        ));
    }
    info
}

/// The pages of system memory. They stay until the end of the machine, so that one which is used after it was freed is
/// found out.
#[derive(Default)]
pub(crate) struct Frames(Vec<*mut page>, Option<*mut page>);

impl Frames {
    fn add(&mut self, kind: Kind, anon: bool) -> *mut page {
        let page = host_zeroed(size_of::<page>(), align_of::<page>()).cast::<page>();
        let info = Info {
            kind,
            locked: false,
            dirty: false,
            anon,
            freeing: false,
            refs: 1,
            maps: 0,
            index: 0,
            pgmap: null_mut(),
            zone_device_data: null_mut(),
            data: host_zeroed(PAGE_SIZE, PAGE_SIZE),
        };
        unsafe { page.cast::<Info>().write(info) };
        page
    }

    /// A new page of zeroes.
    pub(crate) fn allocate(&mut self, anon: bool) -> *mut page {
        let page = self.add(Kind::System, anon);
        self.0.push(page);
        page
    }

    /// The page of zeroes.
    pub(crate) fn zero(&mut self) -> *mut page {
        if self.1.is_none() {
            self.1 = Some(self.add(Kind::Zero, false));
        }
        self.1.unwrap_or(null_mut())
    }

    /// What is still in use, in words.
    pub(crate) fn in_use(&self) -> Option<String> {
        let in_use = self
            .0
            .iter()
            .filter(|page| unsafe { (*(***page).info.get()).refs } != 0);
        let nr = in_use.count();
        (nr > 0).then(|| format!("{nr} pages of system memory"))
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        for page in self.0.iter().chain(self.1.iter()) {
            let data = unsafe { (*(**page).info.get()).data };
            unsafe { host_free(data, PAGE_SIZE, PAGE_SIZE) };
            unsafe { host_free(page.cast(), size_of::<page>(), align_of::<page>()) };
        }
    }
}

/// Memory for the `struct page`s of a device.
pub(crate) fn new_device_pages(nr: usize) -> *mut page {
    host_zeroed(nr * size_of::<page>(), align_of::<page>()).cast()
}

/// Frees what [`new_device_pages`] gave.
pub(crate) unsafe fn free_device_pages(pages: *mut page, nr: usize) {
    unsafe { host_free(pages.cast(), nr * size_of::<page>(), align_of::<page>()) };
}

/// Makes the idle page `page` of a device one in service: locked, with a reference.
pub(crate) unsafe fn init_device_page(page: *mut page, pgmap: *mut dev_pagemap) {
    let info = Info {
        kind: Kind::Device,
        locked: true,
        dirty: false,
        anon: true,
        freeing: false,
        refs: 1,
        maps: 0,
        index: 0,
        pgmap,
        zone_device_data: std::ptr::without_provenance_mut(0x6b6b_6b6b),
        data: null_mut(),
    };
    unsafe { page.cast::<Info>().write(info) };
}

/// Takes a reference to a page that has one.
pub(crate) unsafe fn get(m: &mut Locked<'_>, page: *mut page) {
    unsafe { live(m, page, "get_page") }.refs += 1;
}

/// Gives a reference up. The machine must not be locked: the driver may be told.
pub(crate) unsafe fn put(page: *mut page) {
    let freed = with(|m| {
        let info = unsafe { live(m, page, "put_page") };
        info.refs -= 1;
        if info.refs != 0 {
            // Somebody may wait for others to let go.
            m.changed();
            return None;
        }
        if info.locked {
            report("a page is freed that is locked");
        }
        if info.maps != 0 {
            report("a page is freed that is mapped");
        }
        if info.kind == Kind::Zero {
            report("the page of zeroes is freed");
        }
        info.freeing = info.kind == Kind::Device;
        info.freeing.then_some(info.pgmap)
    });
    let Some(pgmap) = freed else { return };
    let free = unsafe { (*pgmap).ops.as_ref() }.and_then(|ops| ops.folio_free);
    // It may be called with any lock held.
    atomic(true);
    match free {
        Some(free) => unsafe { free(page.cast()) },
        None => report("device memory has no `folio_free`"),
    }
    atomic(false);
    with(|m| {
        unsafe { info(m, page) }.freeing = false;
        crate::device_private::came_back(m, pgmap);
        m.changed();
    });
}

/// Waits for the lock of a page that the caller has a reference to.
pub(crate) unsafe fn lock(page: *mut page) {
    might_sleep("folio_lock");
    with(|m| {
        while unsafe { live(m, page, "folio_lock") }.locked {
            m.wait("the lock of a page");
        }
        unsafe { info(m, page) }.locked = true;
    });
}

/// The lock of a page, if nobody has it, and if it is not to fail now.
pub(crate) unsafe fn trylock(m: &mut Locked<'_>, page: *mut page) -> bool {
    if m.fails("folio_trylock") {
        return false;
    }
    let info = unsafe { live(m, page, "folio_trylock") };
    !std::mem::replace(&mut info.locked, true)
}

/// Unlocks a page.
pub(crate) unsafe fn unlock(m: &mut Locked<'_>, page: *mut page) {
    let info = unsafe { live(m, page, "folio_unlock") };
    if !info.locked {
        report("a page is unlocked that is not locked");
    }
    info.locked = false;
    m.changed();
}

/// The content of a page, for a CPU.
pub(crate) unsafe fn data(m: &mut Locked<'_>, page: *mut page, what: &str) -> *mut u8 {
    let info = unsafe { live(m, page, what) };
    if info.data.is_null() {
        fatal(format!(
            "`{what}()`: a CPU cannot reach device-private memory"
        ));
    }
    info.data
}

/// A page of memory for a process, or null.
pub(crate) fn allocate(m: &mut Locked<'_>, anon: bool, what: &'static str) -> *mut page {
    if m.fails(what) {
        return null_mut();
    }
    m.frames.allocate(anon)
}

pub unsafe extern "C" fn alloc_pages(flags: gfp_t, order: c_uint) -> *mut page {
    if flags & ___GFP_DIRECT_RECLAIM != 0 {
        might_sleep("alloc_pages");
    }
    if order != 0 {
        fatal("`alloc_pages()` of more than one page is not simulated");
    }
    with(|m| allocate(m, false, "alloc_pages"))
}

pub unsafe extern "C" fn __free_pages(page: *mut page, _order: c_uint) {
    unsafe { put(page) };
}

pub unsafe extern "C" fn vma_alloc_folio_movable(
    vma: *mut vm_area_struct,
    addr: c_ulong,
    order: c_uint,
) -> *mut folio {
    let (start, end) = unsafe { (*vma).bounds() };
    if addr < start || addr >= end {
        report("`vma_alloc_folio()` for an address outside of the mapping");
    }
    unsafe { folio_alloc_movable(order) }
}

pub unsafe extern "C" fn folio_alloc_movable(order: c_uint) -> *mut folio {
    might_sleep("folio_alloc");
    if order != 0 {
        return null_mut();
    }
    with(|m| allocate(m, true, "folio_alloc")).cast()
}

/// There is one node.
pub unsafe extern "C" fn node_online(node: c_int) -> bool {
    node == 0
}

pub unsafe extern "C" fn page_to_nid(_page: *const page) -> c_int {
    0
}

pub unsafe extern "C" fn page_to_pfn(page: *const page) -> c_ulong {
    page.expose_provenance() / size_of::<page>()
}

pub unsafe extern "C" fn pfn_to_page(pfn: c_ulong) -> *mut page {
    std::ptr::with_exposed_provenance_mut(pfn.wrapping_mul(size_of::<page>()))
}

pub unsafe extern "C" fn page_folio(page: *mut page) -> *mut folio {
    page.cast()
}

pub unsafe extern "C" fn folio_page(folio: *mut folio, n: c_ulong) -> *mut page {
    if n != 0 {
        report("a folio has one page");
    }
    folio.cast()
}

pub unsafe extern "C" fn folio_order(folio: *const folio) -> c_uint {
    with(|m| unsafe { live(m, folio.cast_mut().cast(), "folio_order") }.refs);
    0
}

pub unsafe extern "C" fn page_ref_count(page: *const page) -> c_int {
    with(|m| unsafe { info(m, page.cast_mut()) }.refs)
}

pub unsafe extern "C" fn get_page_unless_zero(page: *mut page) -> bool {
    with(|m| {
        let info = unsafe { info(m, page) };
        if info.refs > 0 {
            info.refs += 1;
        }
        info.refs > 0
    })
}

pub unsafe extern "C" fn folio_lock(folio: *mut folio) {
    unsafe { lock(folio.cast()) };
}

pub unsafe extern "C" fn folio_trylock(folio: *mut folio) -> bool {
    with(|m| unsafe { trylock(m, folio.cast()) })
}

pub unsafe extern "C" fn folio_unlock(folio: *mut folio) {
    with(|m| unsafe { unlock(m, folio.cast()) });
}

pub unsafe extern "C" fn folio_put(folio: *mut folio) {
    unsafe { put(folio.cast()) };
}

pub unsafe extern "C" fn set_page_dirty(page: *mut page) -> bool {
    with(|m| {
        let info = unsafe { live(m, page, "set_page_dirty") };
        !std::mem::replace(&mut info.dirty, true)
    })
}

pub unsafe extern "C" fn is_zone_device_page(page: *const page) -> bool {
    with(|m| unsafe { live(m, page.cast_mut(), "is_zone_device_page") }.kind) == Kind::Device
}

pub unsafe extern "C" fn is_device_private_page(page: *const page) -> bool {
    with(|m| unsafe { live(m, page.cast_mut(), "is_device_private_page") }.kind) == Kind::Device
}

pub unsafe extern "C" fn is_device_coherent_page(page: *const page) -> bool {
    with(|m| unsafe { live(m, page.cast_mut(), "is_device_coherent_page") }.kind);
    false
}

pub unsafe extern "C" fn page_pgmap(page: *const page) -> *mut dev_pagemap {
    with(|m| {
        let info = unsafe { live(m, page.cast_mut(), "page_pgmap") };
        if info.kind != Kind::Device {
            report("`page_pgmap()` of a page that is not of a device");
        }
        info.pgmap
    })
}

/// Of a page that is being requested or freed too, which has no reference.
unsafe fn zone_device_data<'a>(
    m: &'a mut Locked<'_>,
    page: *mut page,
    what: &str,
) -> &'a mut *mut c_void {
    let info = unsafe { live(m, page, what) };
    if info.kind != Kind::Device {
        report(format!("`{what}()` of a page that is not of a device"));
    }
    &mut info.zone_device_data
}

pub unsafe extern "C" fn page_zone_device_data(page: *const page) -> *mut c_void {
    with(|m| unsafe { *zone_device_data(m, page.cast_mut(), "page_zone_device_data") })
}

pub unsafe extern "C" fn set_page_zone_device_data(page: *mut page, data: *mut c_void) {
    with(|m| unsafe { *zone_device_data(m, page, "set_page_zone_device_data") = data });
}

pub unsafe extern "C" fn zone_device_folio_inherit(folio: *mut folio, from: *const folio) {
    with(|m| unsafe {
        let pgmap = live(m, from.cast_mut().cast(), "zone_device_folio_inherit").pgmap;
        live(m, folio.cast(), "zone_device_folio_inherit").pgmap = pgmap;
    });
}

pub unsafe extern "C" fn is_zero_pfn(pfn: c_ulong) -> bool {
    let page = unsafe { pfn_to_page(pfn) };
    with(|m| m.frames.zero()) == page
}

pub unsafe extern "C" fn kmap_local_page(page: *mut page) -> *mut c_void {
    with(|m| unsafe { data(m, page, "kmap_local_page") }).cast()
}

pub unsafe extern "C" fn kunmap_local(_addr: *const c_void) {}

/// Where in a page `len` bytes at `offset` are.
unsafe fn span(page: *mut page, offset: usize, len: usize, what: &str) -> *mut u8 {
    if offset.checked_add(len).is_none_or(|end| end > PAGE_SIZE) {
        fatal(format!("`{what}()` beyond the end of a page"));
    }
    unsafe { with(|m| data(m, page, what)).add(offset) }
}

pub unsafe extern "C" fn memcpy_from_page(
    to: *mut c_char,
    page: *mut page,
    offset: usize,
    len: usize,
) {
    let from = unsafe { span(page, offset, len, "memcpy_from_page") };
    with(|_| unsafe { to.copy_from_nonoverlapping(from, len) });
}

pub unsafe extern "C" fn memcpy_to_page(
    page: *mut page,
    offset: usize,
    from: *const c_char,
    len: usize,
) {
    let to = unsafe { span(page, offset, len, "memcpy_to_page") };
    with(|_| unsafe { to.copy_from_nonoverlapping(from, len) });
}

pub unsafe extern "C" fn copy_highpage(to: *mut page, from: *mut page) {
    let to = unsafe { span(to, 0, PAGE_SIZE, "copy_highpage") };
    let from = unsafe { span(from, 0, PAGE_SIZE, "copy_highpage") };
    with(|_| unsafe { to.copy_from_nonoverlapping(from, PAGE_SIZE) });
}

pub unsafe extern "C" fn clear_highpage(page: *mut page) {
    let to = unsafe { span(page, 0, PAGE_SIZE, "clear_highpage") };
    with(|_| unsafe { to.write_bytes(0, PAGE_SIZE) });
}

pub unsafe extern "C" fn thp_migration_supported() -> bool {
    false
}

pub unsafe extern "C" fn pmd_shift() -> c_uint {
    PAGE_SHIFT + 9
}

pub unsafe extern "C" fn pud_shift() -> c_uint {
    PAGE_SHIFT + 18
}

not_simulated! {
    fn split_huge_page(*mut page) -> c_int;
    fn split_folio(*mut folio) -> c_int;
}
