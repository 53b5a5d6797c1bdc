// SPDX-License-Identifier: GPL-2.0

//! `migrate_vma_*()` and `migrate_device_*()`.
//!
//! Real: what is selected, the locks and references while pages are on their way, what makes a page
//! stay, what is told to notifiers, holes, large folios, and when they are split. Not simulated:
//! KSM, pages of files, the LRU.

use std::ptr::null_mut;

use ffi::*;
use pin_init::Zeroable;

#[cfg(dpmem_offset)]
use crate::device_private::{dev_pagemap, page_at};
use crate::{
    consts::*,
    errno::*,
    machine::{might_sleep, with, Locked},
    mm::{assert_locked, mm, mm_struct, vm_area_struct, PAGE_SIZE},
    mmu_notifier::{
        invalidate, mmu_notifier_event_MMU_NOTIFY_CLEAR, mmu_notifier_event_MMU_NOTIFY_MIGRATE,
    },
    pages::{
        get, head, info, live, lock, mapcount, nr_pages, page, page_info, page_to_pfn, pfn_to_page,
        put, put_many, split, split_unmapped, trylock, unlock, Kind, PMD_NR,
    },
    pgtable::{self, Pte},
    report::report,
};

pub const MIGRATE_PFN_VALID: u32 = 1 << 0;
pub const MIGRATE_PFN_MIGRATE: u32 = 1 << 1;
pub const MIGRATE_PFN_WRITE: u32 = 1 << 3;
pub const MIGRATE_PFN_COMPOUND: u32 = 1 << 4;
pub const MIGRATE_PFN_SHIFT: u32 = 6;

pub type migrate_vma_direction = c_uint;
pub const migrate_vma_direction_MIGRATE_VMA_SELECT_SYSTEM: migrate_vma_direction = 1 << 0;
pub const migrate_vma_direction_MIGRATE_VMA_SELECT_DEVICE_PRIVATE: migrate_vma_direction = 1 << 1;
pub const migrate_vma_direction_MIGRATE_VMA_SELECT_DEVICE_COHERENT: migrate_vma_direction = 1 << 2;
pub const migrate_vma_direction_MIGRATE_VMA_SELECT_COMPOUND: migrate_vma_direction = 1 << 3;

#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct migrate_vma {
    pub vma: *mut vm_area_struct,
    pub dst: *mut c_ulong,
    pub src: *mut c_ulong,
    pub cpages: c_ulong,
    pub npages: c_ulong,
    pub start: c_ulong,
    pub end: c_ulong,
    pub pgmap_owner: *mut c_void,
    pub flags: c_ulong,
    pub fault_page: *mut page,
}

const VALID: usize = MIGRATE_PFN_VALID as usize;
const MIGRATE: usize = MIGRATE_PFN_MIGRATE as usize;
const WRITE: usize = MIGRATE_PFN_WRITE as usize;
const COMPOUND: usize = MIGRATE_PFN_COMPOUND as usize;

/// An entry with the number of a page.
pub(crate) const fn migrate_pfn(pfn: c_ulong) -> c_ulong {
    pfn << MIGRATE_PFN_SHIFT | VALID
}

pub unsafe extern "C" fn page_to_migrate_pfn(page: *const page) -> c_ulong {
    migrate_pfn(unsafe { page_to_pfn(page) })
}

pub unsafe extern "C" fn migrate_pfn_to_page(mpfn: c_ulong) -> *mut page {
    match mpfn & VALID {
        0 => null_mut(),
        _ => unsafe { pfn_to_page(mpfn >> MIGRATE_PFN_SHIFT) },
    }
}

/// The arrays of a migration.
#[derive(Clone, Copy)]
struct Arrays {
    src: *mut usize,
    dst: *mut usize,
    nr: usize,
}

impl Arrays {
    unsafe fn src(&self, i: usize) -> usize {
        unsafe { *self.src.add(i) }
    }

    unsafe fn set_src(&self, i: usize, entry: usize) {
        unsafe { *self.src.add(i) = entry };
    }

    unsafe fn clear(&self, i: usize) {
        unsafe { self.set_src(i, 0) };
    }

    unsafe fn dst(&self, i: usize) -> usize {
        unsafe { *self.dst.add(i) }
    }
}

/// Where a folio may be mapped: for each mapping, which pages of it, from some page to another, and
/// which page of the folio the first of them is.
unsafe fn places(
    m: &mut Locked<'_>,
    first: *mut page,
) -> Vec<(*mut mm_struct, usize, usize, usize)> {
    let (index, nr) = unsafe { (info(m, first).index, nr_pages(m, first)) };
    let mut places = Vec::new();
    for space in m.mms.clone() {
        for area in unsafe { &mm(space).vmas }.values() {
            let (start, end) = area.bounds();
            let len = (end - start) >> PAGE_SHIFT;
            let (low, high) = (index.max(area.pgoff), (index + nr).min(area.pgoff + len));
            if low < high {
                let vpn = |index: usize| (start >> PAGE_SHIFT) + index - area.pgoff;
                places.push((space, vpn(low), vpn(high), low - index));
            }
        }
    }
    places
}

/// Whether something of the folio that `first` begins is mapped in this place.
unsafe fn is_mapped(
    m: &mut Locked<'_>,
    first: *mut page,
    (space, start, end, n): (*mut mm_struct, usize, usize, usize),
) -> bool {
    (start..end).any(|vpn| {
        let page = first.wrapping_add(n + vpn - start);
        unsafe { pgtable::entry(m, space, vpn) }.and_then(Pte::mapped) == Some(page)
    })
}

/// Takes the folio that `first` begins, which is locked, out of all page tables. Notifiers are
/// called. If it is to be `split`, each of its pages has an entry then.
pub(crate) unsafe fn unmap(first: *mut page, split: bool) {
    loop {
        let found = with(|m| {
            let places = unsafe { places(m, first) };
            let mut places = places.into_iter();
            let place = places.find(|place| unsafe { is_mapped(m, first, *place) })?;
            unsafe { mm(place.0) }.count += 1;
            Some(place)
        });
        let Some((space, start, end, n)) = found else {
            return;
        };
        let range = (start << PAGE_SHIFT, end << PAGE_SHIFT);
        let clear = mmu_notifier_event_MMU_NOTIFY_CLEAR;
        let refs = invalidate(space, range, clear, null_mut(), || {
            with(|m| {
                if split {
                    unsafe { pgtable::split_pmd(m, space, pgtable::huge_base(start)) };
                }
                let pages = start..end;
                let page = |vpn: usize| first.wrapping_add(n + vpn - start);
                pages
                    .map(|vpn| unsafe { begin(m, space, vpn, page(vpn)) })
                    .sum()
            })
        });
        if refs > 0 {
            unsafe { put_many(first, refs) };
        }
        unsafe { crate::mm::mmdrop(space) };
    }
}

/// Makes the entry at `vpn` a migration entry, if it maps `page`. Gives how many references of the
/// table are the caller's then.
unsafe fn begin(m: &mut Locked<'_>, space: *mut mm_struct, vpn: usize, page: *mut page) -> i32 {
    let base = pgtable::huge_base(vpn);
    if let Some(pte) = unsafe { mm(space) }.huge.get(&base).copied() {
        if pte.mapped() != Some(page) {
            return 0;
        }
        let write = pte.is_writable();
        let pte = Pte::Migration { page, write };
        unsafe { pgtable::set_huge(m, space, base, Some(pte)) };
        unsafe { info(m, page) }.huge_maps -= 1;
        return 1;
    }
    let Some(pte) = (unsafe { pgtable::entry(m, space, vpn) }) else {
        return 0;
    };
    if pte.mapped() != Some(page) {
        return 0;
    }
    // A page that was a device's alone comes back read-only: what writes to it then makes it
    // writable.
    let write = pte.is_writable() && !matches!(pte, Pte::Exclusive { .. });
    unsafe { pgtable::set(m, space, vpn, Some(Pte::Migration { page, write })) };
    unsafe { page_info(m, page) }.maps -= 1;
    1
}

/// Makes all migration entries of the folio that `from` begins entries of that which `to` begins.
/// Both are locked, and of one size.
pub(crate) unsafe fn end(m: &mut Locked<'_>, from: *mut page, to: *mut page) {
    let nr = unsafe { nr_pages(m, from) };
    if nr != unsafe { nr_pages(m, to) } {
        report("the destination of a migration has another size than the source");
        return;
    }
    for (space, start, end, n) in unsafe { places(m, from) } {
        let base = pgtable::huge_base(start);
        let huge = unsafe { mm(space) }.huge.get(&base).copied();
        if let Some(Pte::Migration { page, write }) = huge {
            if page == from {
                unsafe { get(m, to) };
                unsafe { pgtable::map_huge(m, space, base, to, write) };
                unsafe { page_info(m, to) }.alone = unsafe { page_info(m, from) }.alone;
            }
            continue;
        }
        for vpn in start..end {
            let (from, to) = (
                from.wrapping_add(n + vpn - start),
                to.wrapping_add(n + vpn - start),
            );
            let pte = unsafe { pgtable::entry(m, space, vpn) };
            if let Some(Pte::Migration { page, write }) = pte {
                if page == from {
                    unsafe { get(m, to) };
                    unsafe { pgtable::map(m, space, vpn, to, write) };
                    unsafe { page_info(m, to) }.alone = unsafe { page_info(m, from) }.alone;
                }
            }
        }
    }
    m.changed();
}

/// Makes all migration entries of a page `to`, which has no page of its own.
pub(crate) unsafe fn end_as(m: &mut Locked<'_>, from: *mut page, to: Pte) {
    for (space, start, end, _) in unsafe { places(m, from) } {
        for vpn in start..end {
            let pte = unsafe { pgtable::entry(m, space, vpn) };
            if matches!(pte, Some(Pte::Migration { page, .. }) if page == from) {
                unsafe { pgtable::set(m, space, vpn, Some(to)) };
            }
        }
    }
    m.changed();
}

/// Whether nobody but the migration, and the fault that it may be for, has a reference to the folio
/// of `page`.
unsafe fn is_alone(m: &mut Locked<'_>, page: *mut page, fault_page: *mut page) -> bool {
    let expected = 1 + i32::from(page == fault_page);
    let refs = unsafe { info(m, page) }.refs;
    refs == expected && unsafe { mapcount(m, page) } == 0
}

/// Whether the folio of `page` is that of the fault, whose lock and reference are not the
/// migration's.
unsafe fn is_faulting(page: *mut page, fault_page: *mut page) -> bool {
    !fault_page.is_null() && with(|m| unsafe { head(m, page) == head(m, fault_page) })
}

/// Unmaps large folios that were collected from whoever else has them: page by page, as they may
/// have to be split. A kernel without the series does not.
unsafe fn unmap_others(arrays: Arrays) {
    for i in 0..arrays.nr {
        let page = unsafe { migrate_pfn_to_page(arrays.src(i)) };
        if !page.is_null() && with(|m| unsafe { nr_pages(m, page) > 1 && mapcount(m, page) > 0 }) {
            unsafe { unmap(page, true) };
        }
    }
}

/// Unmaps all pages that were collected and are locked; those that somebody else uses go back.
unsafe fn unmap_all(arrays: Arrays, fault_page: *mut page) -> usize {
    let mut unmapped = 0;
    let mut i = 0;
    while i < arrays.nr {
        let src = unsafe { arrays.src(i) };
        if src & VALID == 0 {
            unmapped += usize::from(src & MIGRATE != 0);
            i += 1;
            continue;
        }
        let page = unsafe { migrate_pfn_to_page(src) };
        let nr = with(|m| unsafe { nr_pages(m, page) });
        if nr > 1 {
            unsafe { arrays.set_src(i, src | COMPOUND) };
        }
        unsafe { unmap(page, false) };
        let alone = with(|m| unsafe { is_alone(m, page, fault_page) });
        if alone {
            unmapped += 1;
        } else {
            unsafe { arrays.set_src(i, 0) };
            with(|m| unsafe { end(m, page, page) });
            if !unsafe { is_faulting(page, fault_page) } {
                with(|m| unsafe { unlock(m, page) });
            }
            unsafe { put(page) };
        }
        i += nr;
    }
    unmapped
}

/// What is found where one looks for pages to migrate.
enum Collected {
    /// This is what is written to `src`. A page is locked, and has a reference.
    Entry(usize),
    /// A page of this large folio, which is to be split first. It has a reference.
    Split(*mut page),
}

/// Whether `args` wants the page, which is what `pte` maps.
unsafe fn wants(m: &mut Locked<'_>, args: &migrate_vma, pte: Pte, page: *mut page) -> bool {
    let selects = |what: migrate_vma_direction| args.flags & what as usize != 0;
    let info = *unsafe { info(m, page) };
    let ours = || unsafe { (*info.pgmap).owner } == args.pgmap_owner;
    let selected = match (pte, info.kind) {
        (Pte::Device { .. }, _) => {
            selects(migrate_vma_direction_MIGRATE_VMA_SELECT_DEVICE_PRIVATE) && ours()
        }
        (Pte::Page { .. }, Kind::Coherent) => {
            selects(migrate_vma_direction_MIGRATE_VMA_SELECT_DEVICE_COHERENT) && ours()
        }
        (Pte::Page { .. }, _) => selects(migrate_vma_direction_MIGRATE_VMA_SELECT_SYSTEM),
        _ => false,
    };
    selected && info.anon
}

/// The folio of `page` locked, and with a reference, unless somebody has it.
unsafe fn take(m: &mut Locked<'_>, args: &migrate_vma, page: *mut page) -> bool {
    unsafe { get(m, page) };
    let first = unsafe { head(m, page) };
    let is_fault = !args.fault_page.is_null() && first == unsafe { head(m, args.fault_page) };
    if is_fault || unsafe { trylock(m, page) } {
        return true;
    }
    // The table has another one.
    unsafe { live(m, page, "migrate_vma_setup") }.refs -= 1;
    false
}

/// Looks at one entry of the page table.
unsafe fn collect(m: &mut Locked<'_>, args: &migrate_vma, vpn: usize) -> Collected {
    let area = unsafe { &*args.vma };
    let space = area.vm_mm;
    let system = args.flags & migrate_vma_direction_MIGRATE_VMA_SELECT_SYSTEM as usize != 0;
    let pte = unsafe { pgtable::entry(m, space, vpn) };
    let page = match pte {
        None if area.anonymous => return Collected::Entry(MIGRATE),
        Some(Pte::Zero) if system => return Collected::Entry(MIGRATE),
        Some(Pte::Device { page, .. } | Pte::Page { page, .. }) => page,
        _ => return Collected::Entry(0),
    };
    let Some(pte) = pte.filter(|pte| unsafe { wants(m, args, *pte, page) }) else {
        return Collected::Entry(0);
    };
    if unsafe { nr_pages(m, page) } > 1 {
        unsafe { get(m, page) };
        return Collected::Split(page);
    }
    if !unsafe { take(m, args, page) } {
        return Collected::Entry(0);
    }
    let write = if pte.is_writable() { WRITE } else { 0 };
    // The reference of the table is not the last one.
    unsafe { live(m, page, "migrate_vma_setup") }.refs -= begin(m, space, vpn, page);
    Collected::Entry(unsafe { page_to_migrate_pfn(page) } | MIGRATE | write)
}

/// Splits the folio of `page`, to which the caller has a reference, and gives that up. If it is
/// that of the fault, its lock and its reference are those of the page of the fault then.
unsafe fn split_mapped(page: *mut page, fault_page: *mut page) -> bool {
    let fault = unsafe { is_faulting(page, fault_page) };
    let first = with(|m| unsafe { head(m, page) });
    if fault {
        // The one of the fault will do.
        with(|m| unsafe { live(m, page, "migrate_vma_setup") }.refs -= 1);
    } else {
        unsafe { lock(first) };
    }
    let done = unsafe { split(first) } == 0;
    if !fault {
        with(|m| unsafe { unlock(m, first) });
        unsafe { put(first) };
    } else if done && fault_page != first {
        with(|m| unsafe { get(m, fault_page) });
        unsafe { lock(fault_page) };
        with(|m| unsafe { unlock(m, first) });
        unsafe { put(first) };
    }
    done
}

/// What becomes of all that lies where a huge page may be mapped as a whole.
enum Whole {
    /// It is a hole, or zeroes.
    Hole,
    /// This is what is written to `src` for the first page. It is locked, and has a reference.
    Entry(usize),
    /// The folio, which is locked and has a reference, is to be split, and looked at page by page.
    Split(*mut page),
    /// It is looked at page by page.
    Small,
    /// It is left out.
    Skip,
}

/// Looks at what is mapped as a whole at `base`. The migration has all of it if `all`.
unsafe fn collect_huge(m: &mut Locked<'_>, args: &migrate_vma, base: usize, all: bool) -> Whole {
    let area = unsafe { &*args.vma };
    let space = area.vm_mm;
    let system = args.flags & migrate_vma_direction_MIGRATE_VMA_SELECT_SYSTEM as usize != 0;
    let compound = args.flags & migrate_vma_direction_MIGRATE_VMA_SELECT_COMPOUND as usize != 0;
    let Some(pte) = unsafe { mm(space) }.huge.get(&base).copied() else {
        let hole =
            all && compound && area.anonymous && unsafe { pgtable::is_empty(m, space, base) };
        return if hole { Whole::Hole } else { Whole::Small };
    };
    let page = match pte {
        Pte::Zero if system && all && compound => return Whole::Hole,
        Pte::Zero if system => return Whole::Small,
        Pte::Device { page, .. } | Pte::Page { page, .. } => page,
        _ => return Whole::Skip,
    };
    if !unsafe { wants(m, args, pte, page) } || !unsafe { take(m, args, page) } {
        return Whole::Skip;
    }
    if !(all && compound) {
        return Whole::Split(page);
    }
    let write = if pte.is_writable() { WRITE } else { 0 };
    // The reference of the table is not the last one.
    unsafe { live(m, page, "migrate_vma_setup") }.refs -= begin(m, space, base, page);
    Whole::Entry(unsafe { page_to_migrate_pfn(page) } | MIGRATE | COMPOUND | write)
}

/// Looks at the pages from `start` up to `end`, which are in one huge page if there is one. `dst`
/// is empty.
unsafe fn collect_range(args: &migrate_vma, arrays: Arrays, (start, end): (usize, usize)) {
    let first = args.start >> PAGE_SHIFT;
    let put_entry = |vpn: usize, entry: usize| unsafe { arrays.set_src(vpn - first, entry) };
    let base = pgtable::huge_base(start);
    let all = end - start == PMD_NR;
    match with(|m| unsafe { collect_huge(m, args, base, all) }) {
        Whole::Skip => return,
        Whole::Hole => return put_entry(start, MIGRATE | COMPOUND),
        Whole::Entry(entry) => return put_entry(start, entry),
        Whole::Split(page) => {
            let done = unsafe { split(page) } == 0;
            if !unsafe { is_faulting(page, args.fault_page) } {
                with(|m| unsafe { unlock(m, page) });
            }
            unsafe { put(page) };
            if !done {
                return;
            }
        }
        Whole::Small => {}
    }
    let mut vpn = start;
    while vpn < end {
        match with(|m| unsafe { collect(m, args, vpn) }) {
            Collected::Entry(entry) => {
                put_entry(vpn, entry);
                vpn += 1;
            }
            Collected::Split(page) => {
                if !unsafe { split_mapped(page, args.fault_page) } {
                    return;
                }
            }
        }
    }
}

pub unsafe extern "C" fn migrate_vma_setup(args: *mut migrate_vma) -> c_int {
    might_sleep("migrate_vma_setup");
    let args = unsafe { &mut *args };
    let invalid = -(EINVAL as c_int);
    if args.vma.is_null() || args.src.is_null() || args.dst.is_null() {
        return invalid;
    }
    args.start &= !(PAGE_SIZE - 1);
    args.end &= !(PAGE_SIZE - 1);
    let area = unsafe { &*args.vma };
    assert_locked(area.vm_mm, "migrate_vma_setup");
    let (start, end) = area.bounds();
    if args.start >= args.end
        || args.start < start
        || args.end > end
        || area.may(VM_MIXEDMAP | VM_PFNMAP | VM_HUGETLB)
    {
        return invalid;
    }
    if !args.fault_page.is_null() {
        let good = with(|m| {
            let info = unsafe { live(m, args.fault_page, "migrate_vma_setup") };
            if !info.locked {
                report("the page of a fault is not locked");
            }
            info.kind == Kind::Device
        });
        if !good {
            return invalid;
        }
    }
    let nr = (args.end - args.start) >> PAGE_SHIFT;
    let arrays = Arrays {
        src: args.src,
        dst: args.dst,
        nr,
    };
    args.npages = nr;
    (0..nr).for_each(|i| unsafe { arrays.clear(i) });
    let range = (args.start, args.end);
    let event = mmu_notifier_event_MMU_NOTIFY_MIGRATE;
    invalidate(area.vm_mm, range, event, args.pgmap_owner, || {
        let (mut vpn, end) = (args.start >> PAGE_SHIFT, args.end >> PAGE_SHIFT);
        while vpn < end {
            let next = (pgtable::huge_base(vpn) + PMD_NR).min(end);
            unsafe { collect_range(args, arrays, (vpn, next)) };
            vpn = next;
        }
    });
    if cfg!(dpmem_offset) {
        unsafe { unmap_others(arrays) };
    }
    args.cpages = unsafe { unmap_all(arrays, args.fault_page) };
    0
}

/// Moves a folio, but for the entries of the page tables.
unsafe fn move_page(
    m: &mut Locked<'_>,
    from: *mut page,
    to: *mut page,
    fault_page: *mut page,
) -> bool {
    let (index, dirty, lazy) = {
        let from = unsafe { info(m, from) };
        (from.index, from.dirty, from.lazy)
    };
    if !unsafe { info(m, to) }.locked {
        report("the destination of a migration is not locked");
    }
    if !unsafe { is_alone(m, from, fault_page) } || m.fails("migrate_folio") {
        return false;
    }
    let to = unsafe { info(m, to) };
    to.index = index;
    to.dirty |= dirty;
    to.lazy = lazy;
    true
}

/// Splits the large source of entry `i`, whose destinations are small. False if that does not work.
unsafe fn split_source(arrays: Arrays, args: &migrate_vma, i: usize, from: *mut page) -> bool {
    let base = (args.start >> PAGE_SHIFT) + i;
    let space = unsafe { (*args.vma).vm_mm };
    if with(|m| m.fails("folio_split_unmapped")) {
        return false;
    }
    with(|m| {
        unsafe { pgtable::split_pmd(m, space, base) };
        for other in m.mms.clone() {
            let mut entries = unsafe { &mm(other).huge }.values();
            if entries.any(|pte| matches!(pte, Pte::Migration { page, .. } if *page == from)) {
                report("a folio is split that is on its way in other address spaces as a whole");
            }
        }
    });
    unsafe { split_unmapped(from) };
    let flags = unsafe { arrays.src(i) } & (MIGRATE | WRITE | VALID);
    for n in 0..PMD_NR {
        unsafe { arrays.set_src(i + n, page_to_migrate_pfn(from.add(n)) | flags) };
    }
    true
}

/// Puts what the destinations from entry `i` on are into a hole.
unsafe fn fill_hole(m: &mut Locked<'_>, arrays: Arrays, args: &migrate_vma, i: usize) {
    let area = unsafe { &*args.vma };
    let (space, write) = (area.vm_mm, area.may(VM_WRITE));
    let vpn = (args.start >> PAGE_SHIFT) + i;
    let (src, dst) = unsafe { (arrays.src(i), arrays.dst(i)) };
    let to = unsafe { migrate_pfn_to_page(dst) };
    if to.is_null() {
        report("there is no destination for a part of a large hole");
        return;
    }
    let fails = m.fails("migrate_vma_insert_page");
    if dst & COMPOUND != 0 {
        let zero = matches!(unsafe { mm(space) }.huge.get(&vpn), Some(Pte::Zero));
        let free = vpn == pgtable::huge_base(vpn)
            && src & COMPOUND != 0
            && (zero || unsafe { pgtable::is_empty(m, space, vpn) });
        if fails || !free {
            unsafe { arrays.set_src(i, src & !MIGRATE) };
            return;
        }
        unsafe { get(m, to) };
        unsafe { pgtable::map_huge(m, space, vpn, to, write) };
        unsafe { page_info(m, to) }.alone = true;
        return;
    }
    let now = unsafe { pgtable::entry(m, space, vpn) };
    if fails || !matches!(now, None | Some(Pte::Zero)) {
        unsafe { arrays.set_src(i, src & !MIGRATE) };
        return;
    }
    unsafe { pgtable::split_pmd(m, space, pgtable::huge_base(vpn)) };
    unsafe { get(m, to) };
    unsafe { pgtable::map(m, space, vpn, to, write) };
    unsafe { page_info(m, to) }.alone = true;
}

unsafe fn migrate_pages(arrays: Arrays, args: Option<&migrate_vma>) {
    might_sleep("migrate_vma_pages");
    let fault_page = args.map_or(null_mut(), |args| args.fault_page);
    let mut holes = Vec::new();
    let mut next = 0;
    while next < arrays.nr {
        let i = next;
        next += 1;
        let (src, dst) = unsafe { (arrays.src(i), arrays.dst(i)) };
        let (from, to) = unsafe { (migrate_pfn_to_page(src), migrate_pfn_to_page(dst)) };
        if to.is_null() || src & MIGRATE == 0 {
            unsafe { arrays.set_src(i, src & !MIGRATE) };
            continue;
        }
        if from.is_null() {
            let nr = match (src & COMPOUND, dst & COMPOUND) {
                (COMPOUND, 0) => PMD_NR.min(arrays.nr - i),
                _ => 1,
            };
            if nr > 1 {
                unsafe { arrays.set_src(i, src & !COMPOUND) };
            }
            for i in i..i + nr {
                unsafe { arrays.set_src(i, arrays.src(i) | MIGRATE) };
            }
            holes.push((i, nr));
            next = i + nr;
            continue;
        }
        let moves = match (src & COMPOUND, dst & COMPOUND, args) {
            (COMPOUND, 0, Some(args)) => unsafe { split_source(arrays, args, i, from) },
            (COMPOUND, 0, None) | (0, COMPOUND, _) => false,
            _ => true,
        };
        if !moves || !with(|m| unsafe { move_page(m, from, to, fault_page) }) {
            let src = unsafe { arrays.src(i) };
            unsafe { arrays.set_src(i, src & !MIGRATE) };
        }
    }
    let Some(args) = args.filter(|_| !holes.is_empty()) else {
        return;
    };
    let range = (args.start, args.end);
    let event = mmu_notifier_event_MMU_NOTIFY_MIGRATE;
    let space = unsafe { (*args.vma).vm_mm };
    invalidate(space, range, event, args.pgmap_owner, || {
        with(|m| {
            for i in holes.into_iter().flat_map(|(i, nr)| i..i + nr) {
                unsafe { fill_hole(m, arrays, args, i) };
            }
        })
    });
}

unsafe fn finalize(arrays: Arrays, fault_page: *mut page) {
    might_sleep("migrate_vma_finalize");
    for i in 0..arrays.nr {
        let (src, dst) = unsafe { (arrays.src(i), arrays.dst(i)) };
        let (from, to) = unsafe { (migrate_pfn_to_page(src), migrate_pfn_to_page(dst)) };
        let drop_page = |page: *mut page| {
            with(|m| unsafe { unlock(m, page) });
            unsafe { put(page) };
        };
        if from.is_null() {
            if !to.is_null() {
                drop_page(to);
            }
            continue;
        }
        let moved = src & MIGRATE != 0 && !to.is_null();
        if !moved && !to.is_null() {
            drop_page(to);
        }
        with(|m| unsafe { end(m, from, if moved { to } else { from }) });
        if unsafe { is_faulting(from, fault_page) } {
            unsafe { put(from) };
        } else {
            drop_page(from);
        }
        if moved {
            drop_page(to);
        }
    }
}

pub unsafe extern "C" fn migrate_vma_pages(migrate: *mut migrate_vma) {
    let args = unsafe { &*migrate };
    let arrays = Arrays {
        src: args.src,
        dst: args.dst,
        nr: args.npages,
    };
    unsafe { migrate_pages(arrays, Some(args)) };
}

pub unsafe extern "C" fn migrate_vma_finalize(migrate: *mut migrate_vma) {
    let args = unsafe { &*migrate };
    let arrays = Arrays {
        src: args.src,
        dst: args.dst,
        nr: args.npages,
    };
    unsafe { finalize(arrays, args.fault_page) };
}

/// Finds what is in service among the `nr` pages that `page` gives, locks and unmaps it.
unsafe fn device_range(
    src_pfns: *mut c_ulong,
    nr: usize,
    page: impl Fn(&mut Locked<'_>, usize) -> *mut page,
) {
    might_sleep("migrate_device_range");
    let arrays = Arrays {
        src: src_pfns,
        dst: null_mut(),
        nr,
    };
    (0..nr).for_each(|i| unsafe { arrays.clear(i) });
    let mut i = 0;
    while i < nr {
        let (entry, len) = with(|m| unsafe {
            let page = page(m, i);
            if page.is_null() {
                return (0, 1);
            }
            // What is idle looks like what it last was, as in the kernel.
            let len = nr_pages(m, page);
            if len > nr - i {
                return (0, nr - i);
            }
            if page_info(m, page).refs <= 0 {
                return (0, len);
            }
            get(m, page);
            if trylock(m, page) {
                return (page_to_migrate_pfn(page) | MIGRATE, len);
            }
            // Whoever has the lock has a reference.
            live(m, page, "migrate_device_range").refs -= 1;
            (0, len)
        });
        unsafe { arrays.set_src(i, entry) };
        i += len;
    }
    unsafe { unmap_all(arrays, null_mut()) };
}

#[cfg(dpmem_offset)]
pub unsafe extern "C" fn migrate_device_range(
    src_pfns: *mut c_ulong,
    pgmap: *mut dev_pagemap,
    offset: c_ulong,
    npages: c_ulong,
) -> c_int {
    let page = |m: &mut Locked<'_>, i| page_at(m, pgmap, offset + i, "migrate_device_range");
    unsafe { device_range(src_pfns, npages, page) };
    0
}

#[cfg(not(dpmem_offset))]
pub unsafe extern "C" fn migrate_device_range(
    src_pfns: *mut c_ulong,
    start: c_ulong,
    npages: c_ulong,
) -> c_int {
    let page = |_: &mut Locked<'_>, i| unsafe { pfn_to_page(start + i) };
    unsafe { device_range(src_pfns, npages, page) };
    0
}

#[cfg(dpmem_offset)]
pub unsafe extern "C" fn migrate_device_offsets(
    src_pfns: *mut c_ulong,
    pgmap: *mut dev_pagemap,
    npages: c_ulong,
) -> c_int {
    let offsets = unsafe { std::slice::from_raw_parts(src_pfns, npages) }.to_vec();
    let page = |m: &mut Locked<'_>, i: usize| {
        let offset = offsets.get(i).copied().unwrap_or(usize::MAX);
        page_at(m, pgmap, offset, "migrate_device_offsets")
    };
    unsafe { device_range(src_pfns, npages, page) };
    0
}

#[cfg(not(dpmem_offset))]
pub unsafe extern "C" fn migrate_device_pfns(src_pfns: *mut c_ulong, npages: c_ulong) -> c_int {
    let pfns = unsafe { std::slice::from_raw_parts(src_pfns, npages) }.to_vec();
    let page = |_: &mut Locked<'_>, i: usize| match pfns.get(i) {
        Some(pfn) => unsafe { pfn_to_page(*pfn) },
        None => null_mut(),
    };
    unsafe { device_range(src_pfns, npages, page) };
    0
}

pub unsafe extern "C" fn migrate_device_pages(
    src_pfns: *mut c_ulong,
    dst_pfns: *mut c_ulong,
    npages: c_ulong,
) {
    let arrays = Arrays {
        src: src_pfns,
        dst: dst_pfns,
        nr: npages,
    };
    unsafe { migrate_pages(arrays, None) };
}

pub unsafe extern "C" fn migrate_device_finalize(
    src_pfns: *mut c_ulong,
    dst_pfns: *mut c_ulong,
    npages: c_ulong,
) {
    let arrays = Arrays {
        src: src_pfns,
        dst: dst_pfns,
        nr: npages,
    };
    unsafe { finalize(arrays, null_mut()) };
}
