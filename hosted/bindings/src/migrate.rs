// SPDX-License-Identifier: GPL-2.0

//! `migrate_vma_*()` and `migrate_device_*()`.
//!
//! Real: what is selected, the locks and references while pages are on their way, what makes a page stay, what is told
//! to notifiers, holes. Not simulated: large folios, KSM, pages of files, the LRU.

use std::ptr::null_mut;

use ffi::*;
use pin_init::Zeroable;

use crate::{
    consts::*,
    device_private::{dev_pagemap, page_at},
    errno::*,
    machine::{might_sleep, with, Locked},
    mm::{assert_locked, mm, mm_struct, vm_area_struct, PAGE_SIZE},
    mmu_notifier::{
        invalidate, mmu_notifier_event_MMU_NOTIFY_CLEAR, mmu_notifier_event_MMU_NOTIFY_MIGRATE,
    },
    pages::{get, info, live, page, page_to_pfn, pfn_to_page, put, trylock, unlock, Kind},
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

pub unsafe extern "C" fn migrate_pfn(pfn: c_ulong) -> c_ulong {
    pfn << MIGRATE_PFN_SHIFT | VALID
}

pub unsafe extern "C" fn migrate_pfn_to_page(mpfn: c_ulong) -> *mut page {
    match mpfn & VALID {
        0 => null_mut(),
        _ => unsafe { pfn_to_page(mpfn >> MIGRATE_PFN_SHIFT) },
    }
}

unsafe fn entry_of(page: *mut page) -> usize {
    unsafe { migrate_pfn(page_to_pfn(page)) }
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

    unsafe fn dst(&self, i: usize) -> usize {
        unsafe { *self.dst.add(i) }
    }
}

/// Takes `page`, which is locked, out of all page tables. Notifiers are called.
unsafe fn unmap(page: *mut page) {
    loop {
        let found = with(|m| {
            let vpn = unsafe { info(m, page) }.index;
            let maps = |space: &*mut mm_struct| {
                let pte = unsafe { mm(*space) }.table.get(&vpn);
                pte.is_some_and(|pte| pte.mapped() == Some(page))
            };
            let space = m.mms.iter().copied().find(maps)?;
            unsafe { mm(space) }.count += 1;
            Some((space, vpn))
        });
        let Some((space, vpn)) = found else { return };
        let range = (vpn << PAGE_SHIFT, (vpn + 1) << PAGE_SHIFT);
        let taken = invalidate(
            space,
            range,
            mmu_notifier_event_MMU_NOTIFY_CLEAR,
            null_mut(),
            || with(|m| unsafe { begin(m, space, vpn, page) }),
        );
        if taken {
            unsafe { put(page) };
        }
        unsafe { crate::mm::mmdrop(space) };
    }
}

/// Makes the entry at `vpn` a migration entry, if it maps `page`. The reference of the table is the caller's then.
unsafe fn begin(m: &mut Locked<'_>, space: *mut mm_struct, vpn: usize, page: *mut page) -> bool {
    let Some(pte) = unsafe { mm(space) }.table.get_mut(&vpn) else {
        return false;
    };
    if pte.mapped() != Some(page) {
        return false;
    }
    *pte = Pte::Migration {
        page,
        write: pte.is_writable(),
    };
    unsafe { info(m, page) }.maps -= 1;
    true
}

/// Makes all migration entries of `from` entries of `to`. Both are locked.
unsafe fn end(m: &mut Locked<'_>, from: *mut page, to: *mut page) {
    let vpn = unsafe { info(m, from) }.index;
    for space in m.mms.clone() {
        let pte = unsafe { mm(space) }.table.get(&vpn).copied();
        if let Some(Pte::Migration { page, write }) = pte {
            if page == from {
                unsafe { get(m, to) };
                unsafe { pgtable::map(m, space, vpn, to, write) };
            }
        }
    }
    m.changed();
}

/// Whether nobody but the migration, and the fault that it may be for, has a reference to `page`.
unsafe fn is_alone(m: &mut Locked<'_>, page: *mut page, fault_page: *mut page) -> bool {
    let expected = 1 + i32::from(page == fault_page);
    let info = unsafe { info(m, page) };
    info.refs == expected && info.maps == 0
}

/// Unmaps all pages that were collected and are locked; those that somebody else uses go back.
unsafe fn unmap_all(arrays: Arrays, fault_page: *mut page) -> usize {
    let mut nr = 0;
    for i in 0..arrays.nr {
        let src = unsafe { arrays.src(i) };
        if src & VALID == 0 {
            nr += usize::from(src & MIGRATE != 0);
            continue;
        }
        let page = unsafe { migrate_pfn_to_page(src) };
        unsafe { unmap(page) };
        let alone = with(|m| unsafe { is_alone(m, page, fault_page) });
        if alone {
            nr += 1;
            continue;
        }
        unsafe { arrays.set_src(i, 0) };
        with(|m| unsafe {
            end(m, page, page);
            if page != fault_page {
                unlock(m, page);
            }
        });
        unsafe { put(page) };
    }
    nr
}

/// Looks at one entry of the page table: what is written to `src`. A page is locked, and has a reference.
unsafe fn collect(m: &mut Locked<'_>, args: &migrate_vma, vpn: usize) -> usize {
    let area = unsafe { &*args.vma };
    let wants = |what: migrate_vma_direction| args.flags & what as usize != 0;
    let space = area.vm_mm;
    let pte = unsafe { mm(space) }.table.get(&vpn).copied();
    let page = match pte {
        None if area.anonymous => return MIGRATE,
        Some(Pte::Zero) if wants(migrate_vma_direction_MIGRATE_VMA_SELECT_SYSTEM) => {
            return MIGRATE
        }
        Some(Pte::Device { page, .. })
            if wants(migrate_vma_direction_MIGRATE_VMA_SELECT_DEVICE_PRIVATE) =>
        {
            let owner = unsafe { (*info(m, page).pgmap).owner };
            if owner != args.pgmap_owner {
                return 0;
            }
            page
        }
        Some(Pte::Page { page, .. }) if wants(migrate_vma_direction_MIGRATE_VMA_SELECT_SYSTEM) => {
            page
        }
        _ => return 0,
    };
    if !unsafe { info(m, page) }.anon {
        return 0;
    }
    unsafe { get(m, page) };
    if page != args.fault_page && !unsafe { trylock(m, page) } {
        // The table has another one.
        unsafe { live(m, page, "migrate_vma_setup") }.refs -= 1;
        return 0;
    }
    let write = match pte {
        Some(pte) if pte.is_writable() => WRITE,
        _ => 0,
    };
    // The reference of the table is not the last one.
    if unsafe { begin(m, space, vpn, page) } {
        unsafe { live(m, page, "migrate_vma_setup") }.refs -= 1;
    }
    unsafe { entry_of(page) | MIGRATE | write }
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
    let range = (args.start, args.end);
    let event = mmu_notifier_event_MMU_NOTIFY_MIGRATE;
    invalidate(area.vm_mm, range, event, args.pgmap_owner, || {
        with(|m| {
            for i in 0..nr {
                let entry = unsafe { collect(m, args, (args.start >> PAGE_SHIFT) + i) };
                unsafe { arrays.set_src(i, entry) };
            }
        })
    });
    args.cpages = unsafe { unmap_all(arrays, args.fault_page) };
    0
}

/// Moves a page, but for the entries of the page tables.
unsafe fn move_page(
    m: &mut Locked<'_>,
    from: *mut page,
    to: *mut page,
    fault_page: *mut page,
) -> bool {
    let (index, dirty) = {
        let from = unsafe { info(m, from) };
        (from.index, from.dirty)
    };
    if !unsafe { info(m, to) }.locked {
        report("the destination of a migration is not locked");
    }
    if !unsafe { is_alone(m, from, fault_page) } || m.fails("migrate_folio") {
        return false;
    }
    let to = unsafe { info(m, to) };
    to.index = index;
    to.dirty = dirty;
    true
}

unsafe fn migrate_pages(arrays: Arrays, args: Option<&migrate_vma>) {
    might_sleep("migrate_vma_pages");
    let fault_page = args.map_or(null_mut(), |args| args.fault_page);
    let mut holes = Vec::new();
    for i in 0..arrays.nr {
        let src = unsafe { arrays.src(i) };
        let (from, to) = unsafe { (migrate_pfn_to_page(src), migrate_pfn_to_page(arrays.dst(i))) };
        if to.is_null() || src & MIGRATE == 0 {
            unsafe { arrays.set_src(i, src & !MIGRATE) };
        } else if from.is_null() {
            holes.push((i, to));
        } else if !with(|m| unsafe { move_page(m, from, to, fault_page) }) {
            unsafe { arrays.set_src(i, src & !MIGRATE) };
        }
    }
    let Some(args) = args.filter(|_| !holes.is_empty()) else {
        return;
    };
    let area = unsafe { &*args.vma };
    let range = (args.start, args.end);
    let event = mmu_notifier_event_MMU_NOTIFY_MIGRATE;
    invalidate(area.vm_mm, range, event, args.pgmap_owner, || {
        with(|m| {
            for (i, to) in holes {
                let vpn = (args.start >> PAGE_SHIFT) + i;
                let now = unsafe { mm(area.vm_mm) }.table.get(&vpn);
                if !matches!(now, None | Some(Pte::Zero)) || m.fails("migrate_vma_insert_page") {
                    unsafe { arrays.set_src(i, 0) };
                    continue;
                }
                unsafe { get(m, to) };
                unsafe { pgtable::map(m, area.vm_mm, vpn, to, area.may(VM_WRITE)) };
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
        if from == fault_page {
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

pub unsafe extern "C" fn migrate_device_range(
    src_pfns: *mut c_ulong,
    pgmap: *mut dev_pagemap,
    offset: c_ulong,
    npages: c_ulong,
) -> c_int {
    might_sleep("migrate_device_range");
    for i in 0..npages {
        let entry = with(|m| unsafe {
            let page = page_at(m, pgmap, offset + i, "migrate_device_range");
            if page.is_null() || info(m, page).refs <= 0 {
                return 0;
            }
            get(m, page);
            if trylock(m, page) {
                return entry_of(page) | MIGRATE;
            }
            // Whoever has the lock has a reference.
            live(m, page, "migrate_device_range").refs -= 1;
            0
        });
        unsafe { *src_pfns.add(i) = entry };
    }
    let arrays = Arrays {
        src: src_pfns,
        dst: null_mut(),
        nr: npages,
    };
    unsafe { unmap_all(arrays, null_mut()) };
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
