// SPDX-License-Identifier: GPL-2.0

//! `struct page` and folios.
//!
//! Real: references, locks, content, large folios and how they are split, what a page belongs to,
//! when it is freed. Not simulated: the LRU, deferred splitting, memory cgroups, and that the
//! mapping of a page ends: `kunmap_local()` does nothing. The number of a page is its address
//! divided by its size, so that `page_to_pfn()` is arithmetic here as well.

use std::{
    backtrace::Backtrace, cell::UnsafeCell, collections::BTreeMap, ptr::null_mut, time::Instant,
};

use ffi::*;

use crate::{
    alloc::{host_free, host_zeroed, might_alloc, RUBBISH},
    consts::__GFP_ZERO,
    consts::{gfp_t, ___GFP_DIRECT_RECLAIM, PAGE_SHIFT},
    device_private::{came_back, dev_pagemap, make_idle, memory_type_MEMORY_DEVICE_COHERENT},
    errno::*,
    machine::{atomic, might_sleep, with, Locked},
    migrate,
    mm::{vm_area_struct, PAGE_SIZE},
    pgtable::Pte,
    report::{fatal, left_over, report, whose},
};

/// The order of what an entry of the page middle directory maps.
pub(crate) const PMD_ORDER: u32 = 9;

/// How many pages that are.
pub(crate) const PMD_NR: usize = 1 << PMD_ORDER;

/// What a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Of system memory. A page that has never been in service says so too, and has no reference.
    System,
    /// The page of zeroes that everybody shares, or the large folio of zeroes.
    Zero,
    /// Of device-private memory.
    Device,
    /// Of device memory that CPUs can reach.
    Coherent,
}

impl Kind {
    /// Whether it is of a device.
    pub(crate) fn is_zone_device(self) -> bool {
        matches!(self, Self::Device | Self::Coherent)
    }
}

/// What is known of a page. Read and written under the lock of the machine.
///
/// All but the last three is that of a folio, and is kept with its first page.
#[derive(Clone, Copy)]
pub(crate) struct Info {
    pub(crate) kind: Kind,
    pub(crate) order: u8,
    pub(crate) locked: bool,
    pub(crate) dirty: bool,
    /// `MADV_FREE`: it need not be kept for as long as it is not dirty.
    pub(crate) lazy: bool,
    /// The memory of a process, as opposed to what a driver has allocated.
    pub(crate) anon: bool,
    /// One address space has this page, and no fork has shared it since it was known to have it:
    /// `PageAnonExclusive`. Of a folio that is mapped as a whole, the first page says it.
    pub(crate) alone: bool,
    /// The memory of this page has failed: `PageHWPoison`.
    pub(crate) poisoned: bool,
    /// The last reference is gone, and the driver is being told; or it is being split.
    pub(crate) frozen: bool,
    pub(crate) refs: i32,
    /// How many page tables have it as a whole.
    pub(crate) huge_maps: i32,
    /// Which page of a mapping it is, if it is mapped: its address when it was first mapped, in
    /// pages.
    pub(crate) index: usize,
    /// Whose device memory it is.
    pub(crate) pgmap: *mut dev_pagemap,
    /// What the driver keeps with a folio of device memory.
    zone_device_data: *mut c_void,
    /// How many page tables have this page by itself.
    pub(crate) maps: i32,
    /// The first page of the folio, if it is another one.
    head: *mut page,
    /// The content, if a CPU can reach it.
    data: *mut u8,
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

/// What is known of `page` by itself.
///
/// The pointer must be to memory that is, or was, a page of a machine that still runs.
pub(crate) unsafe fn page_info<'a>(_m: &'a mut Locked<'_>, page: *mut page) -> &'a mut Info {
    if page.is_null() {
        fatal("there is no page at NULL");
    }
    unsafe { &mut *(*page).info.get() }
}

/// The first page of the folio that `page` is, or was, a part of.
pub(crate) unsafe fn head(m: &mut Locked<'_>, page: *mut page) -> *mut page {
    match unsafe { page_info(m, page) }.head {
        head if head.is_null() => page,
        head => head,
    }
}

/// What is known of the folio of `page`. The pointer is as for [`page_info`].
pub(crate) unsafe fn info<'a>(m: &'a mut Locked<'_>, page: *mut page) -> &'a mut Info {
    let head = unsafe { head(m, page) };
    unsafe { page_info(m, head) }
}

/// As [`info`], of a folio that somebody has a reference to.
pub(crate) unsafe fn live<'a>(m: &'a mut Locked<'_>, page: *mut page, what: &str) -> &'a mut Info {
    let info = unsafe { info(m, page) };
    if info.refs <= 0 && !info.frozen {
        report(format!(
            "`{what}()` on a page that nobody has a reference to"
        ));
    }
    info
}

/// How many pages the folio of `page` has.
pub(crate) unsafe fn nr_pages(m: &mut Locked<'_>, page: *mut page) -> usize {
    1 << unsafe { info(m, page) }.order
}

/// How many entries of page tables have the folio of `page`, or a page of it.
pub(crate) unsafe fn mapcount(m: &mut Locked<'_>, page: *mut page) -> i32 {
    let (head, nr) = unsafe { (head(m, page), nr_pages(m, page)) };
    let whole = unsafe { page_info(m, head) }.huge_maps;
    let single = (0..nr).map(|i| unsafe { page_info(m, head.add(i)) }.maps);
    whole + single.sum::<i32>()
}

/// Whether the memory of a page has failed, and no page table has it any more.
pub(crate) unsafe fn is_poisoned(m: &mut Locked<'_>, page: *mut page) -> bool {
    unsafe { page_info(m, page).poisoned && mapcount(m, page) == 0 }
}

/// What was allocated together.
struct Block {
    nr: usize,
    /// How many of the pages are not free.
    live: usize,
    data: *mut u8,
    by: Option<Backtrace>,
}

/// The pages of system memory. What is known of them stays until the end of the machine, so that
/// one which is used after it was freed is found out; their content goes when all of a block is
/// free.
#[derive(Default)]
pub(crate) struct Frames {
    blocks: BTreeMap<usize, Block>,
    zero: Option<*mut page>,
    huge_zero: Option<*mut page>,
    /// The pages whose memory has failed: each has one reference, for ever.
    pub(crate) poisoned: Vec<*mut page>,
    /// Somebody is about to add one: `mf_mutex`.
    pub(crate) failing: bool,
}

impl Frames {
    fn add(&mut self, kind: Kind, order: u32, anon: bool) -> *mut page {
        let nr = 1 << order;
        let size = nr * size_of::<page>();
        let first = host_zeroed(size, size).cast::<page>();
        let data = host_zeroed(nr * PAGE_SIZE, PAGE_SIZE);
        for i in 0..nr {
            let page = unsafe { first.add(i) };
            let data = unsafe { data.add(i * PAGE_SIZE) };
            unsafe { init_page(page, i, kind, order, data) };
        }
        unsafe { (*(*first).info.get()).anon = anon };
        let block = Block {
            nr,
            live: nr,
            data,
            by: whose(),
        };
        self.blocks.insert(first as usize, block);
        first
    }

    /// The page of zeroes.
    pub(crate) fn zero(&mut self) -> *mut page {
        match self.zero {
            Some(page) => page,
            None => {
                let page = self.add(Kind::Zero, 0, false);
                *self.zero.insert(page)
            }
        }
    }

    /// The large folio of zeroes.
    pub(crate) fn huge_zero(&mut self) -> *mut page {
        match self.huge_zero {
            Some(page) => page,
            None => {
                let page = self.add(Kind::Zero, PMD_ORDER, false);
                *self.huge_zero.insert(page)
            }
        }
    }

    /// `nr` pages from `page` on are free.
    fn freed(&mut self, page: *mut page, nr: usize) {
        let Some((first, block)) = self.blocks.range_mut(..=page as usize).next_back() else {
            return;
        };
        block.live = block.live.saturating_sub(nr);
        if block.live > 0 || block.data.is_null() {
            return;
        }
        let first = std::ptr::with_exposed_provenance_mut::<page>(*first);
        for i in 0..block.nr {
            unsafe { (*(*first.add(i)).info.get()).data = null_mut() };
        }
        unsafe { host_free(block.data, block.nr * PAGE_SIZE, PAGE_SIZE) };
        block.data = null_mut();
    }

    /// What is still in use, in words.
    pub(crate) fn in_use(&self) -> Option<String> {
        let mut nr: usize = self.blocks.values().map(|block| block.live).sum();
        nr -= usize::from(self.zero.is_some());
        nr -= if self.huge_zero.is_some() { PMD_NR } else { 0 };
        let kept = self.poisoned.iter();
        nr -= kept
            .filter(|page| unsafe { (*(***page).info.get()).refs } == 1)
            .count();
        let special = [self.zero, self.huge_zero].map(|page| page.map_or(0, |page| page as usize));
        let mut blocks = self.blocks.iter();
        let one = blocks.find(|(first, block)| block.live > 0 && !special.contains(first));
        let by = one.and_then(|(_, block)| block.by.as_ref());
        (nr > 0).then(|| left_over(&format!("{nr} pages of system memory"), by))
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        for (first, block) in &self.blocks {
            if !block.data.is_null() {
                unsafe { host_free(block.data, block.nr * PAGE_SIZE, PAGE_SIZE) };
            }
            let first = std::ptr::with_exposed_provenance_mut::<u8>(*first);
            let size = block.nr * size_of::<page>();
            unsafe { host_free(first, size, size) };
        }
    }
}

/// Makes `page` page `i` of a folio of `order` that has one reference.
unsafe fn init_page(page: *mut page, i: usize, kind: Kind, order: u32, data: *mut u8) {
    let first = i == 0;
    let info = Info {
        kind,
        order: if first { order as u8 } else { 0 },
        locked: false,
        dirty: false,
        lazy: false,
        anon: false,
        alone: false,
        poisoned: false,
        frozen: false,
        refs: i32::from(first),
        huge_maps: 0,
        index: 0,
        pgmap: null_mut(),
        zone_device_data: std::ptr::without_provenance_mut(0x6b6b_6b6b),
        maps: 0,
        head: if first {
            null_mut()
        } else {
            page.wrapping_sub(i)
        },
        data,
    };
    unsafe { page.cast::<Info>().write(info) };
}

/// Where the `struct page`s of a large folio begin, and so its pages.
const PAGES_ALIGN: usize = PMD_NR * size_of::<page>();

/// Memory for the `struct page`s of a device.
pub(crate) fn new_device_pages(nr: usize) -> *mut page {
    host_zeroed(nr * size_of::<page>(), PAGES_ALIGN).cast()
}

/// Frees what [`new_device_pages`] gave.
pub(crate) unsafe fn free_device_pages(pages: *mut page, nr: usize) {
    unsafe { host_free(pages.cast(), nr * size_of::<page>(), PAGES_ALIGN) };
}

/// Makes the idle pages from `first` on a folio of a device that is in service: locked, with a
/// reference.
pub(crate) unsafe fn init_device_folio(first: *mut page, pgmap: *mut dev_pagemap, order: u32) {
    let kind = match unsafe { (*pgmap).type_ } {
        memory_type_MEMORY_DEVICE_COHERENT => Kind::Coherent,
        _ => Kind::Device,
    };
    for i in 0..1 << order {
        let page = unsafe { first.add(i) };
        // What coherent memory has was there before the folio.
        let data = unsafe { (*(*page).info.get()).data };
        unsafe { init_page(page, i, kind, order, data) };
    }
    let info = unsafe { &mut *(*first).info.get() };
    info.locked = true;
    info.anon = true;
    info.pgmap = pgmap;
}

/// Lets CPUs reach the page of a device, which is idle, at `data`.
pub(crate) unsafe fn set_content(page: *mut page, data: *mut u8) {
    unsafe { init_page(page, 0, Kind::Coherent, 0, data) };
    unsafe { (*(*page).info.get()).refs = 0 };
}

/// Takes a reference to a folio that has one.
pub(crate) unsafe fn get(m: &mut Locked<'_>, page: *mut page) {
    unsafe { live(m, page, "get_page") }.refs += 1;
}

/// Gives a reference up. The machine must not be locked: the driver may be told.
pub(crate) unsafe fn put(page: *mut page) {
    unsafe { put_many(page, 1) };
}

/// Gives `nr` references up.
pub(crate) unsafe fn put_many(page: *mut page, nr: i32) {
    let freed = with(|m| {
        let first = unsafe { head(m, page) };
        let info = unsafe { live(m, first, "put_page") };
        info.refs -= nr;
        if info.refs > 0 {
            // Somebody may wait for others to let go.
            m.changed();
            return None;
        }
        let info = *info;
        if info.refs < 0 {
            report("a reference to a page is given up that nobody had");
            // Once is enough.
            return None;
        }
        if info.locked {
            report("a page is freed that is locked");
        }
        if unsafe { mapcount(m, first) } != 0 {
            report("a page is freed that is mapped");
        }
        if unsafe { page_info(m, first) }.poisoned {
            report("a page is freed whose memory has failed");
        }
        if info.kind == Kind::Zero {
            report("the page of zeroes is freed");
        }
        let (data, size) = (info.data as usize, PAGE_SIZE << info.order);
        if m.dma.reaches(data, size) {
            report("a page is freed that a device may still use: it is mapped for one");
        }
        if !info.kind.is_zone_device() {
            m.frames.freed(first, 1 << info.order);
            m.changed();
            return None;
        }
        unsafe { page_info(m, first) }.frozen = true;
        // Once the driver knows, somebody may request it again.
        make_idle(m, info.pgmap, first, 1 << info.order);
        Some((first, info))
    });
    let Some((first, Info { pgmap, order, .. })) = freed else {
        return;
    };
    let free = unsafe { (*pgmap).ops.as_ref() }.and_then(|ops| ops.folio_free);
    // It may be called with any lock held.
    atomic(true);
    match free {
        Some(free) => unsafe { free(first.cast()) },
        None => report("device memory has no `folio_free`"),
    }
    atomic(false);
    with(|m| {
        if came_back(m, pgmap, first, 1 << order) {
            unsafe { page_info(m, first) }.frozen = false;
        }
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
    unsafe { live(m, page, what) };
    if unsafe { is_poisoned(m, page) } {
        report(format!("`{what}()`: the memory of the page has failed"));
    }
    let data = unsafe { page_info(m, page) }.data;
    if data.is_null() {
        fatal(match unsafe { info(m, page) }.kind {
            Kind::Device => format!("`{what}()`: a CPU cannot reach device-private memory"),
            _ => format!("`{what}()`: the page was freed"),
        });
    }
    data
}

/// A folio of system memory, or null. It is not zero, lest somebody believe so.
pub(crate) fn allocate(
    m: &mut Locked<'_>,
    order: u32,
    anon: bool,
    what: &'static str,
) -> *mut page {
    let first = allocate_zeroed(m, order, anon, what);
    if !first.is_null() {
        let size = PAGE_SIZE << order;
        unsafe { data(m, first, what).write_bytes(RUBBISH, size) };
    }
    first
}

/// As [`allocate`], and zero.
pub(crate) fn allocate_zeroed(
    m: &mut Locked<'_>,
    order: u32,
    anon: bool,
    what: &'static str,
) -> *mut page {
    match m.fails(what) {
        true => null_mut(),
        false => m.frames.add(Kind::System, order, anon),
    }
}

pub unsafe extern "C" fn alloc_pages(flags: gfp_t, order: c_uint) -> *mut page {
    if flags & ___GFP_DIRECT_RECLAIM != 0 {
        might_alloc("alloc_pages");
    }
    with(|m| match flags & __GFP_ZERO {
        0 => allocate(m, order, false, "alloc_pages"),
        _ => allocate_zeroed(m, order, false, "alloc_pages"),
    })
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
    might_alloc("folio_alloc");
    if order > PMD_ORDER {
        report("there are no folios that large");
        return null_mut();
    }
    with(|m| allocate(m, order, true, "folio_alloc")).cast()
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
    with(|m| unsafe { head(m, page) }).cast()
}

pub unsafe extern "C" fn folio_page(folio: *mut folio, n: c_ulong) -> *mut page {
    if n >= with(|m| unsafe { nr_pages(m, folio.cast()) }) {
        report("`folio_page()` beyond the end of a folio");
    }
    folio.cast::<page>().wrapping_add(n)
}

pub unsafe extern "C" fn folio_order(folio: *const folio) -> c_uint {
    c_uint::from(with(
        |m| unsafe { live(m, folio.cast_mut().cast(), "folio_order") }.order,
    ))
}

pub unsafe extern "C" fn get_page_unless_zero(page: *mut page) -> bool {
    with(|m| {
        // Only the first page of a folio has references of its own.
        let info = unsafe { page_info(m, page) };
        if info.refs > 0 {
            info.refs += 1;
        }
        info.refs > 0
    })
}

pub unsafe extern "C" fn folio_init_locked_dirty(folio: *mut folio) {
    with(|m| {
        let info = unsafe { live(m, folio.cast(), "folio_init_locked_dirty") };
        if std::mem::replace(&mut info.locked, true) {
            report("`folio_init_locked_dirty()` of a folio that somebody has locked");
        }
        if info.refs != 1 {
            report("`folio_init_locked_dirty()` of a folio that somebody knows");
        }
        info.dirty = true;
    });
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
    with(|m| unsafe { live(m, page.cast_mut(), "is_zone_device_page") }.kind).is_zone_device()
}

pub unsafe extern "C" fn is_device_private_page(page: *const page) -> bool {
    with(|m| unsafe { live(m, page.cast_mut(), "is_device_private_page") }.kind) == Kind::Device
}

pub unsafe extern "C" fn is_device_coherent_page(page: *const page) -> bool {
    with(|m| unsafe { live(m, page.cast_mut(), "is_device_coherent_page") }.kind) == Kind::Coherent
}

pub unsafe extern "C" fn page_pgmap(page: *const page) -> *mut dev_pagemap {
    with(|m| {
        let info = unsafe { live(m, page.cast_mut(), "page_pgmap") };
        if !info.kind.is_zone_device() {
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
    if !info.kind.is_zone_device() {
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

pub unsafe extern "C" fn memcpy_from_whole_page(to: *mut c_char, page: *mut page) {
    with(|m| unsafe {
        let from = data(m, page, "memcpy_from_page");
        to.copy_from_nonoverlapping(from, PAGE_SIZE);
    });
}

pub unsafe extern "C" fn memcpy_to_whole_page(page: *mut page, from: *const c_char) {
    with(|m| unsafe {
        let to = data(m, page, "memcpy_to_page");
        to.copy_from_nonoverlapping(from, PAGE_SIZE);
    });
}

pub unsafe extern "C" fn copy_highpage(to: *mut page, from: *mut page) {
    with(|m| unsafe {
        let from = data(m, from, "copy_highpage");
        data(m, to, "copy_highpage").copy_from_nonoverlapping(from, PAGE_SIZE);
    });
}

pub unsafe extern "C" fn clear_highpage(page: *mut page) {
    with(|m| unsafe { data(m, page, "clear_highpage").write_bytes(0, PAGE_SIZE) });
}

pub unsafe extern "C" fn thp_migration_supported() -> bool {
    true
}

pub unsafe extern "C" fn pmd_shift() -> c_uint {
    PAGE_SHIFT + PMD_ORDER
}

pub unsafe extern "C" fn pud_shift() -> c_uint {
    PAGE_SHIFT + 2 * PMD_ORDER
}

/// Makes single pages of the large folio that `first` begins, which is locked, has one reference,
/// and is in no page table. All of them are locked then, and have one reference.
pub(crate) unsafe fn split_unmapped(first: *mut page) {
    let (pgmap, nr) = with(|m| {
        let nr = unsafe { nr_pages(m, first) };
        let info = unsafe { page_info(m, first) };
        info.order = 0;
        info.frozen = true;
        (info.pgmap, nr)
    });
    let ops = unsafe { pgmap.as_ref() }.and_then(|pgmap| unsafe { pgmap.ops.as_ref() });
    let call = ops.and_then(|ops| ops.folio_split);
    // Interrupts are off while nobody knows what is what.
    atomic(true);
    for i in 1..nr {
        let tail = unsafe { first.add(i) };
        with(|m| unsafe {
            let head = *page_info(m, first);
            let info = page_info(m, tail);
            *info = Info {
                index: head.index + i,
                data: info.data,
                alone: info.alone,
                poisoned: info.poisoned,
                // The driver has to say what these are.
                pgmap: null_mut(),
                zone_device_data: std::ptr::without_provenance_mut(0x6b6b_6b6b),
                maps: 0,
                huge_maps: 0,
                head: null_mut(),
                refs: 0,
                ..head
            };
        });
        match call {
            Some(call) => unsafe { call(first.cast(), tail.cast()) },
            None => with(|m| unsafe { page_info(m, tail) }.pgmap = pgmap),
        }
        with(|m| {
            let info = unsafe { page_info(m, tail) };
            if info.pgmap != pgmap {
                report("a part of a folio has no pagemap after `folio_split`");
                info.pgmap = pgmap;
            }
            info.refs = 1;
            info.frozen = false;
        });
    }
    if let Some(call) = call {
        unsafe { call(first.cast(), null_mut()) };
    }
    atomic(false);
    with(|m| {
        unsafe { page_info(m, first) }.frozen = false;
        m.splits.push(Instant::now());
        m.changed();
    });
}

/// Takes when large folios were split on this machine since the last call: what `/proc/vmstat`
/// counts as `thp_split_page`.
pub fn splits() -> Vec<Instant> {
    with(|m| std::mem::take(&mut m.splits))
}

/// Whether a page of system memory has nothing but zeroes: those that were a part of a large folio
/// do not stay.
unsafe fn is_unused(m: &mut Locked<'_>, page: *mut page) -> bool {
    let info = *unsafe { page_info(m, page) };
    if info.kind != Kind::System || !info.anon || info.poisoned {
        return false;
    }
    let bytes = unsafe { std::slice::from_raw_parts(info.data, PAGE_SIZE) };
    bytes.iter().all(|byte| *byte == 0)
}

/// Splits the large folio of `page`, which the caller has locked, and has a reference to. The lock
/// and the reference are those of the first page then.
pub(crate) unsafe fn split(page: *mut page) -> c_int {
    might_sleep("split_folio");
    let first = with(|m| unsafe { head(m, page) });
    let can = |maps: bool| {
        with(|m| unsafe {
            let maps = if maps { mapcount(m, first) } else { 0 };
            let info = live(m, first, "split_folio");
            if !info.locked {
                report("a folio is split that is not locked");
            }
            if info.order == 0 {
                report("a folio is split that is not large");
            }
            info.order > 0 && info.refs == maps + 1
        })
    };
    if !can(true) || with(|m| m.fails("split_folio")) {
        return -(EAGAIN as c_int);
    }
    let nr = with(|m| unsafe { nr_pages(m, first) });
    unsafe { migrate::unmap(first, true) };
    // Somebody may have taken a reference meanwhile.
    let alone = can(false);
    if alone {
        unsafe { split_unmapped(first) };
    }
    with(|m| {
        for i in 0..nr {
            let page = unsafe { first.add(i) };
            if alone && unsafe { is_unused(m, page) } {
                unsafe { migrate::end_as(m, page, Pte::Zero) };
            } else {
                unsafe { migrate::end(m, page, page) };
            }
        }
    });
    if !alone {
        return -(EAGAIN as c_int);
    }
    for i in 1..nr {
        with(|m| unsafe { unlock(m, first.add(i)) });
        unsafe { put(first.add(i)) };
    }
    0
}

/// Splits the folio of `page`. The lock and the reference are those of `page` then.
pub unsafe extern "C" fn split_huge_page(page: *mut page) -> c_int {
    let first = with(|m| unsafe { head(m, page) });
    let result = unsafe { split(page) };
    if result == 0 && page != first {
        with(|m| unsafe { get(m, page) });
        unsafe { lock(page) };
        with(|m| unsafe { unlock(m, first) });
        unsafe { put(first) };
    }
    result
}

pub unsafe extern "C" fn split_folio(folio: *mut folio) -> c_int {
    unsafe { split(folio.cast()) }
}
