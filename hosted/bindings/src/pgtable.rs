// SPDX-License-Identifier: GPL-2.0

//! Page tables, and what happens when a CPU finds there what it cannot use.
//!
//! Real: present, device-private, migration, exclusive and hwpoison entries, huge ones as well, but
//! for the last two, the page and the huge page of zeroes, copy on write. Not simulated: swap,
//! userfaultfd, pages of files but for those that a driver inserts, khugepaged, NUMA hints. A page
//! table without an entry is none, so that a huge page may come there.

use std::ptr::null_mut;

use crate::{
    consts::*,
    device_private::dev_pagemap_ops,
    errno::*,
    machine::{with, Locked},
    mm::{assert_locked, mm, mm_struct, vm_area_struct, vma_at, PAGE_SIZE},
    mmu_notifier::{invalidate, mmu_notifier_event_MMU_NOTIFY_CLEAR},
    pages::{
        allocate_zeroed, data, get, head, info, is_poisoned, lock, mapcount, nr_pages, page,
        page_info, put, unlock, Kind, PMD_NR, PMD_ORDER,
    },
    process::Errno,
    report::report,
    task::vm_fault,
};

/// An entry of a page table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pte {
    /// A page that CPUs can reach.
    Page { page: *mut page, write: bool },
    /// The page of zeroes.
    Zero,
    /// A page of device-private memory.
    Device { page: *mut page, write: bool },
    /// A page of system memory that a device has for itself.
    Exclusive { page: *mut page },
    /// A page that is on its way.
    Migration { page: *mut page, write: bool },
    /// A page whose memory has failed. The entry has no reference to it.
    Poison { page: *mut page },
}

impl Pte {
    /// The page that the entry has a reference to.
    pub(crate) fn mapped(self) -> Option<*mut page> {
        match self {
            Self::Page { page, .. } | Self::Device { page, .. } | Self::Exclusive { page } => {
                Some(page)
            }
            Self::Zero | Self::Migration { .. } | Self::Poison { .. } => None,
        }
    }

    /// Whether the process may write to the page, now or when it comes back.
    pub(crate) fn is_writable(self) -> bool {
        match self {
            Self::Page { write, .. }
            | Self::Device { write, .. }
            | Self::Migration { write, .. } => write,
            Self::Exclusive { .. } => true,
            Self::Zero | Self::Poison { .. } => false,
        }
    }

    /// The same, but not writable.
    pub(crate) fn read_only(self) -> Self {
        match self {
            Self::Page { page, .. } => Self::Page { page, write: false },
            // What it becomes when it is shared again depends on its mapping.
            Self::Exclusive { .. } => self,
            Self::Device { page, .. } => Self::Device { page, write: false },
            Self::Migration { page, .. } => Self::Migration { page, write: false },
            Self::Zero | Self::Poison { .. } => self,
        }
    }

    /// An entry for `page`, whatever it is.
    pub(crate) unsafe fn of_page(m: &mut Locked<'_>, page: *mut page, write: bool) -> Self {
        match unsafe { info(m, page) }.kind {
            Kind::Device => Self::Device { page, write },
            _ => Self::Page { page, write },
        }
    }
}

/// The number of the first page of what an entry for a whole huge page at `vpn` would map.
pub(crate) fn huge_base(vpn: usize) -> usize {
    vpn & !(PMD_NR - 1)
}

/// Where page `n` of what the entry `pte` maps as a whole is.
fn part(m: &mut Locked<'_>, pte: Pte, n: usize) -> Pte {
    let nth = |page: *mut page| page.wrapping_add(n);
    match pte {
        Pte::Page { page, write } => Pte::Page {
            page: nth(page),
            write,
        },
        Pte::Device { page, write } => Pte::Device {
            page: nth(page),
            write,
        },
        Pte::Migration { page, write } => Pte::Migration {
            page: nth(page),
            write,
        },
        Pte::Exclusive { .. } => {
            report("a huge page is nobody's alone");
            pte
        }
        Pte::Poison { .. } => {
            report("a huge page is poisoned as a whole");
            pte
        }
        Pte::Zero => {
            m.frames.zero();
            Pte::Zero
        }
    }
}

/// What is at `vpn`, by itself or as a part of a huge page.
pub(crate) unsafe fn entry(m: &mut Locked<'_>, space: *mut mm_struct, vpn: usize) -> Option<Pte> {
    let space = unsafe { mm(space) };
    let base = huge_base(vpn);
    match space.huge.get(&base) {
        Some(pte) => Some(part(m, *pte, vpn - base)),
        None => space.table.get(&vpn).copied(),
    }
}

/// What a huge page would be in the way of.
pub(crate) unsafe fn is_empty(_m: &mut Locked<'_>, space: *mut mm_struct, base: usize) -> bool {
    let space = unsafe { mm(space) };
    let mut small = space.table.range(base..base + PMD_NR);
    !space.huge.contains_key(&base) && small.next().is_none()
}

/// Makes `pte` what is at `vpn`.
pub(crate) unsafe fn set(m: &mut Locked<'_>, space: *mut mm_struct, vpn: usize, pte: Option<Pte>) {
    let table = unsafe { &mut mm(space).table };
    match pte {
        Some(pte) => table.insert(vpn, pte),
        None => table.remove(&vpn),
    };
    m.log(space, vpn, 1, pte);
}

/// Makes `pte` what is at `base` as a whole.
pub(crate) unsafe fn set_huge(
    m: &mut Locked<'_>,
    space: *mut mm_struct,
    base: usize,
    pte: Option<Pte>,
) {
    let huge = unsafe { &mut mm(space).huge };
    match pte {
        Some(pte) => huge.insert(base, pte),
        None => huge.remove(&base),
    };
    m.log(space, base, PMD_NR, pte);
}

/// Which page of its mapping the page at `vpn` is.
unsafe fn index_of(space: *mut mm_struct, vpn: usize) -> usize {
    match unsafe { vma_at(space, vpn << PAGE_SHIFT).as_ref() } {
        Some(vma) => vma.index(vpn),
        None => vpn,
    }
}

/// The mapping of the page at `vpn` has an `anon_vma` from now on.
unsafe fn prepare_anon(space: *mut mm_struct, vpn: usize) {
    if let Some(vma) = unsafe { vma_at(space, vpn << PAGE_SHIFT).as_mut() } {
        vma.anon_vma = true;
    }
}

/// Makes `page`, to whose folio there is a reference, what is at `vpn`. The reference becomes the
/// table's.
pub(crate) unsafe fn map(
    m: &mut Locked<'_>,
    space: *mut mm_struct,
    vpn: usize,
    page: *mut page,
    write: bool,
) {
    let pte = unsafe { Pte::of_page(m, page, write) };
    unsafe { set(m, space, vpn, Some(pte)) };
    unsafe { page_info(m, page) }.maps += 1;
    let first = unsafe { head(m, page) };
    let nth = (page as usize - first as usize) / size_of::<page>();
    let index = unsafe { index_of(space, vpn) };
    let info = unsafe { info(m, page) };
    info.index = index.wrapping_sub(nth);
    if info.anon || info.kind == Kind::Device {
        unsafe { prepare_anon(space, vpn) };
    }
}

/// As [`map`], with the large folio that `first` begins as a whole.
pub(crate) unsafe fn map_huge(
    m: &mut Locked<'_>,
    space: *mut mm_struct,
    base: usize,
    first: *mut page,
    write: bool,
) {
    let pte = unsafe { Pte::of_page(m, first, write) };
    unsafe { set_huge(m, space, base, Some(pte)) };
    let info = unsafe { info(m, first) };
    info.huge_maps += 1;
    info.index = unsafe { index_of(space, base) };
    unsafe { prepare_anon(space, base) };
}

/// Maps what is mapped as a whole at `base`, if anything, page by page. The folio stays large.
pub(crate) unsafe fn split_pmd(m: &mut Locked<'_>, space: *mut mm_struct, base: usize) {
    let Some(pte) = unsafe { mm(space) }.huge.get(&base).copied() else {
        return;
    };
    // Nothing is somewhere else after that, so nothing is noted.
    unsafe { mm(space) }.huge.remove(&base);
    if let Some(first) = pte.mapped() {
        let info = unsafe { info(m, first) };
        info.huge_maps -= 1;
        // Each entry has a reference.
        info.refs += PMD_NR as i32 - 1;
    }
    let alone = match pte {
        Pte::Zero | Pte::Poison { .. } => false,
        Pte::Page { page, .. }
        | Pte::Device { page, .. }
        | Pte::Exclusive { page }
        | Pte::Migration { page, .. } => unsafe { page_info(m, page) }.alone,
    };
    for n in 0..PMD_NR {
        let pte = part(m, pte, n);
        unsafe { mm(space) }.table.insert(base + n, pte);
        if let Pte::Page { page, .. } | Pte::Device { page, .. } | Pte::Migration { page, .. } = pte
        {
            unsafe { page_info(m, page) }.alone = alone;
        }
        if let Some(page) = pte.mapped() {
            unsafe { page_info(m, page) }.maps += 1;
        }
    }
}

/// As [`split_pmd`], if a CPU could use what is mapped there.
pub(crate) unsafe fn split_present_pmd(m: &mut Locked<'_>, space: *mut mm_struct, base: usize) {
    if let Some(Pte::Page { .. } | Pte::Zero) = unsafe { mm(space) }.huge.get(&base) {
        unsafe { split_pmd(m, space, base) };
    }
}

/// Maps huge pages page by page where `start` or `end`, which are addresses, cut them.
pub(crate) unsafe fn split_at_bounds(
    m: &mut Locked<'_>,
    space: *mut mm_struct,
    (start, end): (usize, usize),
) {
    for addr in [start, end] {
        let vpn = addr >> PAGE_SHIFT;
        if vpn != huge_base(vpn) {
            unsafe { split_pmd(m, space, huge_base(vpn)) };
        }
    }
}

/// Takes away what is mapped in the range. Notifiers have been called.
pub(crate) fn zap(space: *mut mm_struct, (start, end): (usize, usize)) {
    let gone: Vec<_> = with(|m| {
        unsafe { split_at_bounds(m, space, (start, end)) };
        let range = start >> PAGE_SHIFT..end >> PAGE_SHIFT;
        let mut gone = Vec::new();
        let huge = unsafe { &mm(space).huge };
        let huge: Vec<_> = huge
            .range(range.clone())
            .map(|(vpn, pte)| (*vpn, *pte))
            .collect();
        for (base, pte) in huge {
            unsafe { set_huge(m, space, base, None) };
            if let Some(page) = pte.mapped() {
                unsafe { info(m, page) }.huge_maps -= 1;
                gone.push(page);
            }
        }
        let table = unsafe { &mm(space).table };
        let small: Vec<_> = table.range(range).map(|(vpn, pte)| (*vpn, *pte)).collect();
        for (vpn, pte) in small {
            unsafe { set(m, space, vpn, None) };
            if let Some(page) = pte.mapped() {
                unsafe { page_info(m, page) }.maps -= 1;
                gone.push(page);
            }
        }
        m.changed();
        gone
    });
    gone.into_iter().for_each(|page| unsafe { put(page) });
}

/// Calls `f`, which puts something where `old` is. Notifiers are told, unless there was nothing.
fn replacing(space: *mut mm_struct, range: (usize, usize), old: Option<Pte>, f: impl FnOnce()) {
    match old {
        None => f(),
        Some(_) => invalidate(
            space,
            range,
            mmu_notifier_event_MMU_NOTIFY_CLEAR,
            null_mut(),
            f,
        ),
    }
}

/// Takes away the entry at `vpn`, which must still be `old`, and puts `page` there, to which there
/// is a reference.
fn replace(space: *mut mm_struct, vpn: usize, old: Option<Pte>, page: *mut page, write: bool) {
    let range = (vpn << PAGE_SHIFT, (vpn + 1) << PAGE_SHIFT);
    replacing(space, range, old, || {
        let unused = with(|m| {
            if unsafe { entry(m, space, vpn) } != old {
                return Some(page);
            }
            let huge = unsafe { mm(space) }.huge.contains_key(&huge_base(vpn));
            if huge {
                unsafe { split_pmd(m, space, huge_base(vpn)) };
            }
            unsafe { map(m, space, vpn, page, write) };
            unsafe { page_info(m, page) }.alone = true;
            let before = old.and_then(Pte::mapped);
            before.inspect(|page| unsafe { page_info(m, *page).maps -= 1 })
        });
        if let Some(page) = unused {
            unsafe { put(page) };
        }
    });
}

/// As [`replace`], with the large folio that `first` begins, where there was nothing, or zeroes.
fn replace_huge(space: *mut mm_struct, base: usize, old: Option<Pte>, first: *mut page) {
    let range = (base << PAGE_SHIFT, (base + PMD_NR) << PAGE_SHIFT);
    replacing(space, range, old, || {
        let unused = with(|m| {
            let now = unsafe { mm(space) }.huge.get(&base).copied();
            let free = now.is_some() || unsafe { is_empty(m, space, base) };
            if now != old || !free {
                return true;
            }
            unsafe { map_huge(m, space, base, first, true) };
            unsafe { page_info(m, first) }.alone = true;
            false
        });
        if unused {
            unsafe { put(first) };
        }
    });
}

/// The page of zeroes at `vpn`: that of the large folio is another one.
unsafe fn zero_at(m: &mut Locked<'_>, space: *mut mm_struct, vpn: usize) -> *mut page {
    let base = huge_base(vpn);
    match unsafe { mm(space) }.huge.contains_key(&base) {
        true => m.frames.huge_zero().wrapping_add(vpn - base),
        false => m.frames.zero(),
    }
}

/// What a CPU finds at an address.
pub(crate) enum Found {
    /// It can go ahead.
    Page(*mut page),
    /// It has to call [`fault`].
    Fault,
}

/// What a CPU finds at `addr`, when it wants to read or to write.
pub(crate) fn look_up(
    m: &mut Locked<'_>,
    space: *mut mm_struct,
    addr: usize,
    write: bool,
) -> Found {
    // With `PROT_NONE`, an entry keeps its page.
    let readable = unsafe { vma_at(space, addr).as_ref() }.is_some_and(|vma| vma.may(VM_READ));
    match unsafe { entry(m, space, addr >> PAGE_SHIFT) } {
        _ if !readable => Found::Fault,
        Some(Pte::Page {
            page,
            write: writable,
        }) if writable || !write => Found::Page(page),
        Some(Pte::Zero) if !write => Found::Page(unsafe { zero_at(m, space, addr >> PAGE_SHIFT) }),
        _ => Found::Fault,
    }
}

/// What is to be done about an entry.
enum Todo {
    Nothing,
    /// A page is to be there, with the content of this one, or none.
    Copy(Option<*mut page>),
    /// A large folio is to be there, in the place of this.
    Huge(Option<Pte>),
    /// The page is to come home; alone, or as a part of what is mapped as a whole.
    Home(*mut page, bool),
    /// The page is to be everybody's again.
    Share(*mut page),
}

/// Whether the page, which may not be written to, is that of one address space alone.
unsafe fn is_exclusive(m: &mut Locked<'_>, page: *mut page) -> bool {
    let (first, nr) = unsafe { (head(m, page), nr_pages(m, page)) };
    let most = (0..nr).map(|i| unsafe { page_info(m, first.add(i)) }.maps);
    let most = most.max().unwrap_or(0);
    let info = *unsafe { info(m, page) };
    // One has all of it, or each page has one at most; and nobody else looks at it.
    matches!((info.huge_maps, most), (1, 0) | (0, 0..=1))
        && info.refs == unsafe { mapcount(m, page) }
}

/// What to do about a page where there is nothing, or zeroes.
unsafe fn new_page(
    m: &mut Locked<'_>,
    space: *mut mm_struct,
    area: &vm_area_struct,
    vpn: usize,
    write: bool,
) -> Todo {
    let base = huge_base(vpn);
    let (start, end) = area.bounds();
    let fits = start <= base << PAGE_SHIFT && (base + PMD_NR) << PAGE_SHIFT <= end;
    let old = unsafe { mm(space) }.huge.get(&base).copied();
    let free = old.is_some() || unsafe { is_empty(m, space, base) };
    let huge = area.may(VM_HUGEPAGE) && fits && free;
    match (write, huge) {
        (true, true) => Todo::Huge(old),
        (true, false) => Todo::Copy(None),
        (false, true) => {
            m.frames.huge_zero();
            unsafe { set_huge(m, space, base, Some(Pte::Zero)) };
            unsafe { prepare_anon(space, base) };
            Todo::Nothing
        }
        (false, false) => {
            unsafe { set(m, space, vpn, Some(Pte::Zero)) };
            Todo::Nothing
        }
    }
}

/// Makes what is at `addr` something that a CPU can use, or takes a step towards it. The mmap lock
/// is held.
pub(crate) fn fault(space: *mut mm_struct, addr: usize, write: bool) -> Result<(), Errno> {
    assert_locked(space, "handle_mm_fault");
    crate::machine::might_sleep("handle_mm_fault");
    let vpn = addr >> PAGE_SHIFT;
    let base = huge_base(vpn);
    let vma = with(|_| unsafe { vma_at(space, addr) });
    let Some(area) = (unsafe { vma.as_ref() }) else {
        return Err(Errno(EFAULT));
    };
    if !area.may(if write { VM_WRITE } else { VM_READ }) {
        return Err(Errno(EFAULT));
    }
    let (old, todo) = with(|m| {
        let old = unsafe { entry(m, space, vpn) };
        let whole = unsafe { mm(space) }.huge.get(&base).copied();
        let todo = match old {
            None if !area.anonymous => return Err(Errno(EFAULT)),
            // Something may have been there.
            None if unsafe { mm(space) }.unstable => return Err(Errno(EFAULT)),
            None => unsafe { new_page(m, space, area, vpn, write) },
            Some(Pte::Zero) if write => unsafe { new_page(m, space, area, vpn, write) },
            Some(Pte::Page { page, write: false }) if write => {
                let anon = unsafe { info(m, page) }.anon;
                if anon && !unsafe { is_exclusive(m, page) } {
                    unsafe { get(m, page) };
                    Todo::Copy(Some(page))
                } else if let Some(Pte::Page { page, .. }) = whole {
                    unsafe { page_info(m, page) }.alone = true;
                    let pte = Pte::Page { page, write: true };
                    unsafe { set_huge(m, space, base, Some(pte)) };
                    Todo::Nothing
                } else {
                    unsafe { page_info(m, page) }.alone = true;
                    let pte = Pte::Page { page, write: true };
                    unsafe { set(m, space, vpn, Some(pte)) };
                    Todo::Nothing
                }
            }
            Some(Pte::Zero | Pte::Page { .. }) => Todo::Nothing,
            Some(Pte::Device { page, .. }) => {
                unsafe { get(m, page) };
                match whole {
                    Some(Pte::Device { page, .. }) => Todo::Home(page, true),
                    _ => Todo::Home(page, false),
                }
            }
            Some(Pte::Exclusive { page }) => {
                unsafe { get(m, page) };
                Todo::Share(page)
            }
            Some(Pte::Migration { .. }) => {
                m.wait("a page that is on its way");
                Todo::Nothing
            }
            Some(Pte::Poison { .. }) => return Err(Errno(EIO)),
        };
        Ok((old, todo))
    })?;
    match todo {
        Todo::Nothing => Ok(()),
        Todo::Huge(before) => {
            let new = with(|m| allocate_zeroed(m, PMD_ORDER, true, "a large folio of a process"));
            if !new.is_null() {
                replace_huge(space, base, before, new);
                return Ok(());
            }
            // A small one will do.
            copy_page(space, vpn, old, None)
        }
        Todo::Copy(from) => {
            let result = copy_page(space, vpn, old, from);
            from.into_iter().for_each(|page| unsafe { put(page) });
            result
        }
        Todo::Home(page, whole) => {
            let result = unsafe { bring_home(vma, addr, page, whole) };
            unsafe { put(page) };
            result
        }
        Todo::Share(page) => {
            unsafe { share(space, vpn, page) };
            unsafe { put(page) };
            Ok(())
        }
    }
}

/// Puts a new page at `vpn`, in the place of `old`, with the content of `from`.
fn copy_page(
    space: *mut mm_struct,
    vpn: usize,
    old: Option<Pte>,
    from: Option<*mut page>,
) -> Result<(), Errno> {
    let new = with(|m| {
        if from.is_some_and(|page| unsafe { is_poisoned(m, page) }) {
            return Err(Errno(EIO));
        }
        let new = allocate_zeroed(m, 0, true, "a page of a process");
        if new.is_null() {
            return Err(Errno(ENOMEM));
        }
        if let Some(from) = from {
            let what = "copy_user_highpage";
            let (to, from) = unsafe { (data(m, new, what), data(m, from, what)) };
            unsafe { to.copy_from_nonoverlapping(from, PAGE_SIZE) };
        }
        Ok(new)
    })?;
    replace(space, vpn, old, new, true);
    Ok(())
}

/// Asks the driver to bring home the page of a device that a CPU has touched.
unsafe fn bring_home(
    vma: *mut vm_area_struct,
    addr: usize,
    page: *mut page,
    whole: bool,
) -> Result<(), Errno> {
    let got = with(|m| {
        let info = unsafe { info(m, page) };
        let free = !info.locked;
        if free {
            info.locked = true;
        } else {
            m.wait("the lock of a page of a device");
        }
        free
    });
    if !got {
        return Ok(());
    }
    let mut vmf = vm_fault::new(vma, addr, page, whole);
    let ops: Option<&dev_pagemap_ops> = unsafe { (*with(|m| info(m, page).pgmap)).ops.as_ref() };
    let result = match ops.and_then(|ops| ops.migrate_to_ram) {
        Some(call) => unsafe { call(&mut vmf) },
        None => {
            report("device-private memory has no `migrate_to_ram`");
            vm_fault_reason_VM_FAULT_SIGBUS
        }
    };
    with(|m| unsafe { unlock(m, page) });
    match result {
        0 => Ok(()),
        vm_fault_reason_VM_FAULT_OOM => Err(Errno(ENOMEM)),
        vm_fault_reason_VM_FAULT_SIGBUS => Err(Errno(EIO)),
        other => {
            report(format!("`migrate_to_ram` answers {other:#x}"));
            Err(Errno(EIO))
        }
    }
}

/// Ends that a device has `page` for itself.
pub(crate) unsafe fn share(space: *mut mm_struct, vpn: usize, page: *mut page) {
    unsafe { lock(page) };
    let range = (vpn << PAGE_SHIFT, (vpn + 1) << PAGE_SHIFT);
    invalidate(
        space,
        range,
        mmu_notifier_event_MMU_NOTIFY_CLEAR,
        null_mut(),
        || {
            with(|m| {
                if unsafe { entry(m, space, vpn) } == Some(Pte::Exclusive { page }) {
                    let vma = unsafe { vma_at(space, range.0).as_ref() };
                    let write = vma.is_some_and(|vma| vma.may(VM_WRITE));
                    let pte = Pte::Page { page, write };
                    unsafe { set(m, space, vpn, Some(pte)) };
                }
            });
        },
    );
    with(|m| unsafe { unlock(m, page) });
}
