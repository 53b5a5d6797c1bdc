// SPDX-License-Identifier: GPL-2.0

//! Processes, for tests: their system calls, and their loads and stores.
//!
//! Real: what becomes of mappings and page tables, who is told of it before, which locks are held,
//! what a fault brings, `copy_from_user()` and `copy_to_user()`, which may be made to fail. Not
//! simulated: system calls that fail, but for those that give a `Result`; flags of `mmap()`, of
//! which a file's mapping is private as well, and can be read and written; `mremap()` to another
//! size, or to where something is; swap, so that `madvise_pageout()` takes away only what was freed
//! lazily; signals, which are errors of whoever loads or stores.

use std::ptr::null_mut;

use ffi::*;

use crate::{
    consts::*,
    device_private::offset_of,
    errno::*,
    lockdep,
    machine::{might_sleep, with, Locked},
    memory_failure::memory_failure,
    mm::{
        mm, mm_struct, mmap_read_trylock, mmap_read_unlock, mmput, new_mm, read_locked,
        vm_area_struct, vma_at, write_locked, PAGE_SIZE,
    },
    mmu_notifier::*,
    pages::{data, get, info, mapcount, page_info, Kind, PMD_NR},
    pgtable::{self, Found, Pte},
    report::fatal,
    task::{of_process, restore},
};

/// The number of an error, as user space knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub u32);

/// An error as a pointer.
pub(crate) fn err_ptr<T>(err: u32) -> *mut T {
    std::ptr::without_provenance_mut(0usize.wrapping_sub(err as usize))
}

/// Where a page of a process is, as a test may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapped {
    /// Nowhere.
    None,
    /// It is the page of zeroes.
    Zero,
    /// In system memory; whether it may be written to without a fault.
    Ram(bool),
    /// On a device, at this offset; whether the process may write to it.
    Device(usize, bool),
    /// On a device whose memory CPUs can reach, at this offset; whether the process may write to
    /// it.
    Coherent(usize, bool),
    /// In system memory, and a device has it for itself.
    Exclusive,
    /// On its way.
    Migrating,
    /// Its memory has failed.
    Poisoned,
}

/// A process. Dropping it is its exit.
pub struct Process {
    mm: *mut mm_struct,
    pid: i32,
}

// SAFETY: What is behind the pointer is used under locks.
unsafe impl Send for Process {}
// SAFETY: As above.
unsafe impl Sync for Process {}

/// How large a huge page is.
pub const HUGE_PAGE_SIZE: usize = PMD_NR * PAGE_SIZE;

/// Where the first mapping of a process begins.
const FIRST: usize = 0x7f00_0000_0000;

impl Default for Process {
    fn default() -> Self {
        Self::new()
    }
}

impl Process {
    /// A process whose memory is empty.
    pub fn new() -> Self {
        Self::with_mm(new_mm())
    }

    fn with_mm(space: *mut mm_struct) -> Self {
        let pid = unsafe { mm(space) }.id;
        Self { mm: space, pid }
    }

    /// Calls `f` as this process: `current` is its task.
    pub fn run<R>(&self, f: impl FnOnce() -> R) -> R {
        let before = crate::task::enter(of_process(self.mm, self.pid));
        let result = f();
        restore(before);
        result
    }

    /// `mmap()` of `len` bytes of anonymous private memory, which can be read and written. Gives
    /// the address.
    pub fn mmap(&self, len: usize) -> usize {
        write_locked(self.mm, || {
            with(|_| {
                let last = unsafe { mm(self.mm) }.vmas.values().next_back();
                // With a hole between two mappings.
                let start = last.map_or(FIRST, |vma| vma.bounds().1 + PAGE_SIZE);
                // What is large enough begins where a huge page may.
                let start = match len >= HUGE_PAGE_SIZE {
                    true => start.next_multiple_of(HUGE_PAGE_SIZE),
                    false => start,
                };
                self.add_vma(start, len);
                start
            })
        })
    }

    /// The same at `addr`, where nothing is mapped (`MAP_FIXED_NOREPLACE`).
    pub fn mmap_at(&self, addr: usize, len: usize) {
        write_locked(self.mm, || with(|_| self.add_vma(addr, len)));
    }

    fn add_vma(&self, start: usize, len: usize) {
        let flags = VM_READ | VM_WRITE | VM_MAYREAD | VM_MAYWRITE;
        let range = (start, start + len.next_multiple_of(PAGE_SIZE));
        let vma = vm_area_struct::new(self.mm, range, flags);
        unsafe { mm(self.mm) }.vmas.insert(start, Box::new(vma));
    }

    /// Adds a mapping of a file for `call` to fill in; it is removed again if that fails.
    pub(crate) fn mmap_file(
        &self,
        len: usize,
        call: impl FnOnce(*mut vm_area_struct) -> c_int,
    ) -> Result<usize, Errno> {
        let start = self.mmap(len);
        let vma = with(|_| unsafe { vma_at(self.mm, start) });
        let result = write_locked(self.mm, || {
            unsafe { (*vma).anonymous = false };
            call(vma)
        });
        if result == 0 {
            return Ok(start);
        }
        self.munmap(start, len);
        Err(Errno(result.unsigned_abs()))
    }

    /// Splits mappings so that one begins at `addr`. What is mapped as a whole lies in one mapping.
    fn split_vma(&self, addr: usize) {
        with(|m| {
            unsafe { pgtable::split_at_bounds(m, self.mm, (addr, addr)) };
            let vma = unsafe { vma_at(self.mm, addr) };
            let Some(vma) = (unsafe { vma.as_mut() }) else {
                return;
            };
            let (start, end) = vma.bounds();
            if start == addr {
                return;
            }
            let mut upper = *vma;
            upper.pgoff += (addr - start) >> PAGE_SHIFT;
            upper.__bindgen_anon_1.__bindgen_anon_1.vm_start = addr;
            vma.__bindgen_anon_1.__bindgen_anon_1.vm_end = addr;
            debug_assert!(addr < end);
            unsafe { mm(self.mm) }.vmas.insert(addr, Box::new(upper));
        });
    }

    fn change(
        &self,
        addr: usize,
        len: usize,
        event: mmu_notifier_event,
        change: impl FnOnce((usize, usize)),
    ) {
        let range = (addr, addr + len.next_multiple_of(PAGE_SIZE));
        write_locked(self.mm, || {
            self.split_vma(range.0);
            self.split_vma(range.1);
            invalidate(self.mm, range, event, null_mut(), || change(range));
        });
    }

    /// `munmap()`.
    pub fn munmap(&self, addr: usize, len: usize) {
        self.change(
            addr,
            len,
            mmu_notifier_event_MMU_NOTIFY_UNMAP,
            |(start, end)| {
                pgtable::zap(self.mm, (start, end));
                with(|_| {
                    unsafe { mm(self.mm) }
                        .vmas
                        .retain(|at, _| !(start..end).contains(at))
                });
            },
        );
    }

    /// Changes the flags of what is mapped in the range, and calls `then` for each part of it whose
    /// flags are other ones.
    fn change_flags(
        &self,
        addr: usize,
        len: usize,
        change: impl Fn(vm_flags_t) -> vm_flags_t,
        then: impl Fn((usize, usize)),
    ) {
        let range = (addr, addr + len.next_multiple_of(PAGE_SIZE));
        write_locked(self.mm, || {
            let parts: Vec<_> = with(|_| {
                let vmas = unsafe { &mm(self.mm).vmas }.values();
                let parts = vmas.filter_map(|vma| {
                    let (start, end) = vma.bounds();
                    let part = (start.max(range.0), end.min(range.1));
                    let flags = unsafe { vma.__bindgen_anon_2.vm_flags };
                    (part.0 < part.1 && change(flags) != flags).then_some(part)
                });
                parts.collect()
            });
            for part in parts {
                self.split_vma(part.0);
                self.split_vma(part.1);
                with(|_| {
                    let space = unsafe { mm(self.mm) };
                    for (_, vma) in space.vmas.range_mut(part.0..part.1) {
                        let flags = unsafe { &mut vma.__bindgen_anon_2.vm_flags };
                        *flags = change(*flags);
                    }
                });
                then(part);
            }
            self.merge_vmas();
        });
    }

    /// Makes one of mappings that lie side by side and do not differ.
    fn merge_vmas(&self) {
        with(|_| {
            let vmas = unsafe { &mut mm(self.mm).vmas };
            let mut merged: Vec<Box<vm_area_struct>> = Vec::new();
            for (_, vma) in std::mem::take(vmas) {
                match merged.last_mut() {
                    Some(last) if last.continues_in(&vma) => {
                        last.anon_vma |= vma.anon_vma;
                        last.__bindgen_anon_1.__bindgen_anon_1.vm_end = vma.bounds().1;
                    }
                    _ => merged.push(vma),
                }
            }
            vmas.extend(merged.into_iter().map(|vma| (vma.bounds().0, vma)));
        });
    }

    /// `mprotect()`: whether the memory may be written to.
    pub fn mprotect(&self, addr: usize, len: usize, write: bool) {
        self.protect_as(addr, len, VM_READ | if write { VM_WRITE } else { 0 });
    }

    /// `mprotect(PROT_NONE)`.
    pub fn mprotect_none(&self, addr: usize, len: usize) {
        self.protect_as(addr, len, 0);
    }

    /// `mprotect()`: what may be done with the memory.
    fn protect_as(&self, addr: usize, len: usize, access: vm_flags_t) {
        let flags = |flags| flags & !(VM_READ | VM_WRITE) | access;
        self.change_flags(addr, len, flags, |(start, end)| {
            let event = mmu_notifier_event_MMU_NOTIFY_PROTECTION_VMA;
            invalidate(self.mm, (start, end), event, null_mut(), || {
                with(|m| match access & VM_WRITE {
                    0 => unsafe { self.protect(m, (start, end)) },
                    _ => unsafe { self.permit(m, (start, end)) },
                });
            });
        });
    }

    /// Makes entries of the range writable that can be so without a fault.
    unsafe fn permit(&self, m: &mut Locked<'_>, (start, end): (usize, usize)) {
        let range = start >> PAGE_SHIFT..end >> PAGE_SHIFT;
        let space = unsafe { mm(self.mm) };
        let mut permitted = |pte: Pte| match pte {
            Pte::Page { page, write: false } => {
                let anon = unsafe { info(m, page) }.anon;
                let alone = unsafe { page_info(m, page) }.alone;
                (anon && alone).then_some(Pte::Page { page, write: true })
            }
            _ => None,
        };
        let huge = space.huge.range(range.clone()).map(copied);
        let huge: Vec<_> = huge
            .filter_map(|(vpn, pte)| Some((vpn, permitted(pte)?)))
            .collect();
        let small = space.table.range(range).map(copied);
        let small: Vec<_> = small
            .filter_map(|(vpn, pte)| Some((vpn, permitted(pte)?)))
            .collect();
        for (vpn, pte) in huge {
            unsafe { pgtable::set_huge(m, self.mm, vpn, Some(pte)) };
        }
        for (vpn, pte) in small {
            unsafe { pgtable::set(m, self.mm, vpn, Some(pte)) };
        }
    }

    /// Makes all entries of the range read-only.
    unsafe fn protect(&self, m: &mut Locked<'_>, (start, end): (usize, usize)) {
        let range = start >> PAGE_SHIFT..end >> PAGE_SHIFT;
        let space = unsafe { mm(self.mm) };
        let huge: Vec<_> = space.huge.range(range.clone()).map(copied).collect();
        for (vpn, pte) in huge {
            unsafe { pgtable::set_huge(m, self.mm, vpn, Some(pte.read_only())) };
        }
        let small: Vec<_> = space.table.range(range).map(copied).collect();
        for (vpn, pte) in small {
            unsafe { pgtable::set(m, self.mm, vpn, Some(pte.read_only())) };
        }
    }

    /// `madvise(MADV_HUGEPAGE)`: what is touched first from now on is a huge page, where one fits.
    pub fn madvise_hugepage(&self, addr: usize, len: usize) {
        self.change_flags(addr, len, |flags| flags | VM_HUGEPAGE, |_| {});
    }

    /// `mremap()` of `len` bytes at `addr` to `to`, where nothing is mapped. What is mapped as a
    /// whole stays so, if it fits there.
    pub fn mremap(&self, addr: usize, len: usize, to: usize) {
        let unmap = mmu_notifier_event_MMU_NOTIFY_UNMAP;
        self.change(addr, len, unmap, |(start, end)| {
            with(|m| {
                let space = unsafe { mm(self.mm) };
                unsafe { pgtable::split_at_bounds(m, self.mm, (start, end)) };
                let moved = |at: usize| at - start + to;
                let starts: Vec<usize> = space.vmas.range(start..end).map(|(at, _)| *at).collect();
                for at in starts {
                    if let Some(mut vma) = space.vmas.remove(&at) {
                        vma.move_to(moved(at));
                        space.vmas.insert(moved(at), vma);
                    }
                }
                let range = start >> PAGE_SHIFT..end >> PAGE_SHIFT;
                let moved = |vpn: usize| moved(vpn << PAGE_SHIFT) >> PAGE_SHIFT;
                let huge: Vec<_> = space.huge.range(range.clone()).map(copied).collect();
                for (vpn, pte) in huge {
                    if pgtable::huge_base(moved(vpn)) == moved(vpn) {
                        unsafe { pgtable::set_huge(m, self.mm, vpn, None) };
                        unsafe { pgtable::set_huge(m, self.mm, moved(vpn), Some(pte)) };
                    } else {
                        unsafe { pgtable::split_pmd(m, self.mm, vpn) };
                    }
                }
                let small: Vec<_> = space.table.range(range).map(copied).collect();
                for (vpn, pte) in small {
                    unsafe { pgtable::set(m, self.mm, vpn, None) };
                    unsafe { pgtable::set(m, self.mm, moved(vpn), Some(pte)) };
                }
                // Who waits for what is on its way looks at another place.
                m.changed();
            });
        });
    }

    /// `madvise(MADV_DONTNEED)`.
    pub fn madvise_dontneed(&self, addr: usize, len: usize) {
        let range = (addr, addr + len.next_multiple_of(PAGE_SIZE));
        read_locked(self.mm, || {
            let clear = mmu_notifier_event_MMU_NOTIFY_CLEAR;
            invalidate(self.mm, range, clear, null_mut(), || {
                pgtable::zap(self.mm, range)
            });
        });
    }

    /// What the kernel does to a mapping of a process that it has killed because memory is short:
    /// it waits for nobody, and whoever would have to be waited for is a reason to leave the
    /// mapping alone. Whether it went. From then on nothing new is mapped, lest somebody take that
    /// for what was there; the process would not get to see it, and here it gets an error.
    pub fn oom_reap(&self, addr: usize, len: usize) -> bool {
        let range = (addr, addr + len.next_multiple_of(PAGE_SIZE));
        if !unsafe { mmap_read_trylock(self.mm) } {
            return false;
        }
        with(|_| unsafe { mm(self.mm) }.unstable = true);
        let clear = mmu_notifier_event_MMU_NOTIFY_CLEAR;
        let went = try_invalidate(self.mm, range, clear, || pgtable::zap(self.mm, range));
        unsafe { mmap_read_unlock(self.mm) };
        went
    }

    /// `madvise(MADV_FREE)`: what nobody writes to from now on need not be kept. Pages of a device
    /// are, and so is what somebody else has as well.
    pub fn madvise_free(&self, addr: usize, len: usize) {
        let range = (addr, addr + len.next_multiple_of(PAGE_SIZE));
        read_locked(self.mm, || {
            let clear = mmu_notifier_event_MMU_NOTIFY_CLEAR;
            invalidate(self.mm, range, clear, null_mut(), || {
                with(|m| {
                    unsafe { pgtable::split_at_bounds(m, self.mm, range) };
                    for addr in (range.0..range.1).step_by(PAGE_SIZE) {
                        let pte = unsafe { pgtable::entry(m, self.mm, addr >> PAGE_SHIFT) };
                        let Some(Pte::Page { page, .. }) = pte else {
                            continue;
                        };
                        if unsafe { mapcount(m, page) } == 1 {
                            let info = unsafe { info(m, page) };
                            (info.dirty, info.lazy) = (false, true);
                        }
                    }
                });
            });
        });
    }

    /// `madvise(MADV_PAGEOUT)`, where there is no swap: what was freed lazily goes, and all else
    /// stays.
    pub fn madvise_pageout(&self, addr: usize, len: usize) {
        read_locked(self.mm, || {
            for addr in (addr..addr + len).step_by(PAGE_SIZE) {
                let range = (addr, addr + PAGE_SIZE);
                let goes = with(|m| {
                    let pte = unsafe { pgtable::entry(m, self.mm, addr >> PAGE_SHIFT) };
                    match pte {
                        Some(Pte::Page { page, .. }) => {
                            let info = unsafe { info(m, page) };
                            info.lazy && !info.dirty
                        }
                        _ => false,
                    }
                });
                if goes {
                    let clear = mmu_notifier_event_MMU_NOTIFY_CLEAR;
                    invalidate(self.mm, range, clear, null_mut(), || {
                        pgtable::zap(self.mm, range)
                    });
                }
            }
        });
    }

    /// `madvise(MADV_POPULATE_READ)`, or `MADV_POPULATE_WRITE`: faults in what is not there, and
    /// copies nothing.
    ///
    /// # Errors
    ///
    /// `EHWPOISON` if the memory of a page has failed, `EFAULT` if it does not come for another
    /// reason, `ENOMEM`.
    pub fn populate(&self, addr: usize, len: usize, write: bool) -> Result<(), Errno> {
        for addr in (addr..addr + len).step_by(PAGE_SIZE) {
            loop {
                let found = with(|m| pgtable::look_up(m, self.mm, addr, write));
                if matches!(found, Found::Page(_)) {
                    break;
                }
                let result = read_locked(self.mm, || pgtable::fault(self.mm, addr, write));
                result.map_err(|Errno(err)| match self.mapped(addr) {
                    Mapped::Poisoned => Errno(EHWPOISON),
                    _ if err == ENOMEM => Errno(ENOMEM),
                    _ => Errno(EFAULT),
                })?;
            }
        }
        Ok(())
    }

    /// `madvise(MADV_HWPOISON)` of one page: its memory fails. What is on a device comes home
    /// first, as this reads it.
    ///
    /// # Errors
    ///
    /// `EFAULT` if it cannot be read, `EBUSY` if it is not the memory of a process, `EHWPOISON` if
    /// that is known already, or if it is a part of a large folio that cannot be split.
    pub fn poison(&self, addr: usize) -> Result<(), Errno> {
        let page = loop {
            let found = read_locked(self.mm, || {
                let page = with(|m| match pgtable::look_up(m, self.mm, addr, false) {
                    Found::Page(page) => {
                        unsafe { get(m, page) };
                        Some(page)
                    }
                    Found::Fault => None,
                });
                match page {
                    None => pgtable::fault(self.mm, addr, false).map(|()| None),
                    page => Ok(page),
                }
            });
            match found {
                Ok(Some(page)) => break page,
                Ok(None) => {}
                Err(Errno(ENOMEM)) => return Err(Errno(ENOMEM)),
                Err(_) => return Err(Errno(EFAULT)),
            }
        };
        match unsafe { memory_failure(page) } {
            0 => Ok(()),
            err => Err(Errno(err)),
        }
    }

    /// `fork()`.
    pub fn fork(&self) -> Self {
        let child = new_mm();
        write_locked(self.mm, || {
            // The child gets no exclusive entries: they are everybody's again first.
            let exclusive: Vec<_> = with(|m| {
                let table = unsafe { &mm(self.mm).table };
                let entries = table.iter().filter_map(|(vpn, pte)| match pte {
                    Pte::Exclusive { page } => Some((*vpn, *page)),
                    _ => None,
                });
                let entries: Vec<_> = entries.collect();
                entries
                    .iter()
                    .for_each(|(_, page)| unsafe { get(m, *page) });
                entries
            });
            for (vpn, page) in exclusive {
                unsafe { pgtable::share(self.mm, vpn, page) };
                unsafe { crate::pages::put(page) };
            }
            let all = (0, usize::MAX);
            let event = mmu_notifier_event_MMU_NOTIFY_PROTECTION_PAGE;
            invalidate(self.mm, all, event, null_mut(), || {
                with(|m| {
                    let parent = unsafe { mm(self.mm) };
                    for (start, vma) in &parent.vmas {
                        let mut vma = vma.clone();
                        vma.vm_mm = child;
                        unsafe { mm(child) }.vmas.insert(*start, vma);
                    }
                    unsafe { self.protect(m, (0, usize::MAX)) };
                    // What is shared now is nobody's alone, and stays so until somebody has written
                    // to it.
                    let entries = parent.huge.values().chain(parent.table.values());
                    for pte in entries {
                        if let Pte::Page { page, .. }
                        | Pte::Device { page, .. }
                        | Pte::Migration { page, .. } = *pte
                        {
                            unsafe { page_info(m, page) }.alone = false;
                        }
                    }
                    // `vma_needs_copy()`: what a fault finds again by itself is not copied.
                    let copied = |vpn: &usize| {
                        let vma = unsafe { vma_at(self.mm, *vpn << PAGE_SHIFT).as_ref() };
                        vma.is_some_and(|vma| vma.anon_vma || !vma.anonymous)
                    };
                    for (vpn, pte) in parent.huge.iter().filter(|(vpn, _)| copied(vpn)) {
                        unsafe { pgtable::set_huge(m, child, *vpn, Some(*pte)) };
                        if let Some(page) = pte.mapped() {
                            unsafe { get(m, page) };
                            unsafe { info(m, page) }.huge_maps += 1;
                        }
                    }
                    for (vpn, pte) in parent.table.iter().filter(|(vpn, _)| copied(vpn)) {
                        unsafe { pgtable::set(m, child, *vpn, Some(*pte)) };
                        if let Some(page) = pte.mapped() {
                            unsafe { get(m, page) };
                            unsafe { page_info(m, page) }.maps += 1;
                        }
                    }
                })
            });
        });
        Self::with_mm(child)
    }

    /// Loads from memory.
    ///
    /// # Errors
    ///
    /// `EFAULT` is a segmentation fault, `EIO` a bus error, `ENOMEM` the end of the process.
    pub fn read(&self, addr: usize, to: &mut [u8]) -> Result<(), Errno> {
        unsafe { access(self.mm, addr, to.len(), false, to.as_mut_ptr(), &mut None) }
    }

    /// Stores to memory. Errors are those of [`Process::read`].
    pub fn write(&self, addr: usize, from: &[u8]) -> Result<(), Errno> {
        unsafe {
            access(
                self.mm,
                addr,
                from.len(),
                true,
                from.as_ptr().cast_mut(),
                &mut None,
            )
        }
    }

    /// Where the page at `addr` is.
    pub fn mapped(&self, addr: usize) -> Mapped {
        with(|m| {
            let pte = unsafe { pgtable::entry(m, self.mm, addr >> PAGE_SHIFT) };
            pte.map_or(Mapped::None, |pte| unsafe { Mapped::of(m, pte) })
        })
    }

    /// Whether the page at `addr` is mapped as a part of a huge page.
    pub fn is_huge(&self, addr: usize) -> bool {
        let base = pgtable::huge_base(addr >> PAGE_SHIFT);
        with(|_| unsafe { mm(self.mm) }.huge.contains_key(&base))
    }

    /// Which process it is.
    pub fn id(&self) -> i32 {
        self.pid
    }
}

/// An entry of a map by itself.
fn copied((vpn, pte): (&usize, &Pte)) -> (usize, Pte) {
    (*vpn, *pte)
}

impl Mapped {
    /// What an entry says.
    pub(crate) unsafe fn of(m: &mut Locked<'_>, pte: Pte) -> Self {
        match pte {
            Pte::Zero => Self::Zero,
            Pte::Page { page, write } => match unsafe { info(m, page) }.kind {
                Kind::Coherent => Self::Coherent(offset_of(m, page), write),
                _ => Self::Ram(write),
            },
            Pte::Device { page, write } => Self::Device(offset_of(m, page), write),
            Pte::Exclusive { .. } => Self::Exclusive,
            Pte::Migration { .. } => Self::Migrating,
            Pte::Poison { .. } => Self::Poisoned,
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        unsafe { mmput(self.mm) };
    }
}

/// How often a page may be gone again before a CPU has seen it.
const MAX_FAULTS: usize = 10_000;

/// Copies between memory of a process and of the host, page by page, as a CPU does: with faults.
/// Leaves in `done` how far it came.
pub(crate) unsafe fn access(
    space: *mut mm_struct,
    addr: usize,
    len: usize,
    write: bool,
    host: *mut u8,
    done: &mut Option<usize>,
) -> Result<(), Errno> {
    might_sleep("an access to user space");
    lockdep::might_acquire(lockdep::MMAP_LOCK);
    let mut at = 0;
    let mut faults = 0;
    while at < len {
        *done = Some(at);
        let here = addr + at;
        let nr = (PAGE_SIZE - here % PAGE_SIZE).min(len - at);
        let copied = with(|m| match pgtable::look_up(m, space, here, write) {
            Found::Fault => false,
            Found::Page(page) => unsafe {
                let memory = data(m, page, "an access to user space").add(here % PAGE_SIZE);
                match write {
                    true => {
                        info(m, page).dirty = true;
                        memory.copy_from_nonoverlapping(host.add(at), nr);
                    }
                    false => host.add(at).copy_from_nonoverlapping(memory, nr),
                }
                true
            },
        });
        if copied {
            at += nr;
            faults = 0;
        } else {
            faults += 1;
            if faults > MAX_FAULTS {
                fatal("a CPU faults again and again, and what it wants does not come");
            }
            read_locked(space, || pgtable::fault(space, here, write))?;
        }
    }
    *done = Some(len);
    Ok(())
}

/// As [`access`] of the running process. Gives how many bytes were not copied.
unsafe fn user(addr: usize, len: usize, write: bool, host: *mut u8, what: &'static str) -> usize {
    if with(|m| m.fails(what)) {
        return len;
    }
    let space = unsafe { (*crate::task::get_current()).mm };
    if space.is_null() {
        crate::report::report(format!("`{what}()` in a thread of the kernel"));
        return len;
    }
    let mut done = Some(0);
    let _ = unsafe { access(space, addr, len, write, host, &mut done) };
    len - done.unwrap_or(0)
}

pub unsafe extern "C" fn copy_from_user(
    to: *mut c_void,
    from: *const c_void,
    n: c_ulong,
) -> c_ulong {
    unsafe { user(from as usize, n, false, to.cast(), "copy_from_user") }
}

pub unsafe extern "C" fn copy_to_user(to: *mut c_void, from: *const c_void, n: c_ulong) -> c_ulong {
    unsafe { user(to as usize, n, true, from.cast_mut().cast(), "copy_to_user") }
}

pub unsafe extern "C" fn _copy_from_user(
    to: *mut c_void,
    from: *const c_void,
    n: c_ulong,
) -> c_ulong {
    unsafe { copy_from_user(to, from, n) }
}

pub unsafe extern "C" fn _copy_to_user(
    to: *mut c_void,
    from: *const c_void,
    n: c_ulong,
) -> c_ulong {
    unsafe { copy_to_user(to, from, n) }
}
