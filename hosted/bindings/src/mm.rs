// SPDX-License-Identifier: GPL-2.0

//! `mm_struct` and `vm_area_struct`: address spaces, their lives and locks.
//!
//! Real: references and users, the mmap lock, mappings, their bounds and what they were before they
//! were moved. Not simulated: per-VMA locks, limits.

use std::collections::BTreeMap;

use ffi::*;
use pin_init::Zeroable;

use crate::{
    consts::*,
    errno::*,
    lockdep,
    machine::{might_sleep, spawn_kernel_thread, with, Locked},
    mmu_notifier::{self, Subscriptions},
    pages::{get, page},
    pgtable::{self, Pte},
    report::report,
    task::thread_id,
};

pub const PAGE_SIZE: usize = 1 << PAGE_SHIFT;

/// An address space. All of it is read and written under the lock of the machine.
#[repr(C)]
pub struct mm_struct {
    /// Whose it is: the number of a process.
    pub(crate) id: i32,
    /// Those that use it: a process, and whoever called `mmget()`.
    pub(crate) users: usize,
    /// Those that know it: all users together, and whoever called `mmgrab()`.
    pub(crate) count: usize,
    /// The threads that have the mmap lock for reading.
    pub(crate) readers: Vec<usize>,
    /// The thread that has it for writing, or zero.
    pub(crate) writer: usize,
    pub(crate) vmas: BTreeMap<usize, Box<vm_area_struct>>,
    /// The page table: what is at the page with this number. Changed by `pgtable.rs` alone.
    pub(crate) table: BTreeMap<usize, Pte>,
    /// What is mapped as a whole, by the number of its first page; `table` has nothing there.
    pub(crate) huge: BTreeMap<usize, Pte>,
    pub(crate) subscriptions: Subscriptions,
    /// Somebody has begun to take away what it has: `MMF_UNSTABLE`.
    pub(crate) unstable: bool,
    _not_send: *mut c_void,
}

#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct vm_area_struct__bindgen_ty_1__bindgen_ty_1 {
    pub vm_start: c_ulong,
    pub vm_end: c_ulong,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub union vm_area_struct__bindgen_ty_1 {
    pub __bindgen_anon_1: vm_area_struct__bindgen_ty_1__bindgen_ty_1,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub union vm_area_struct__bindgen_ty_2 {
    pub vm_flags: vm_flags_t,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct vm_area_struct {
    pub __bindgen_anon_1: vm_area_struct__bindgen_ty_1,
    pub vm_mm: *mut mm_struct,
    pub __bindgen_anon_2: vm_area_struct__bindgen_ty_2,
    /// Whether it is anonymous memory, and not a file's.
    pub(crate) anonymous: bool,
    /// Whether it has an `anon_vma`: it has had a page of its own, or a huge page of zeroes. What
    /// it has had before it was split, or one of those that it was made of, counts.
    pub(crate) anon_vma: bool,
    /// Which page it began with when it was made, so that its pages are found when it was moved.
    pub(crate) pgoff: usize,
}

impl vm_area_struct {
    pub(crate) fn new(
        mm: *mut mm_struct,
        (vm_start, vm_end): (usize, usize),
        vm_flags: vm_flags_t,
    ) -> Self {
        Self {
            __bindgen_anon_1: vm_area_struct__bindgen_ty_1 {
                __bindgen_anon_1: vm_area_struct__bindgen_ty_1__bindgen_ty_1 { vm_start, vm_end },
            },
            vm_mm: mm,
            __bindgen_anon_2: vm_area_struct__bindgen_ty_2 { vm_flags },
            anonymous: true,
            anon_vma: false,
            pgoff: vm_start >> PAGE_SHIFT,
        }
    }

    pub(crate) fn bounds(&self) -> (usize, usize) {
        let bounds = unsafe { self.__bindgen_anon_1.__bindgen_anon_1 };
        (bounds.vm_start, bounds.vm_end)
    }

    /// Whether `next` lies behind it, and could be a part of it.
    pub(crate) fn continues_in(&self, next: &Self) -> bool {
        let flags = |vma: &Self| unsafe { vma.__bindgen_anon_2.vm_flags };
        let nr = (self.bounds().1 - self.bounds().0) >> PAGE_SHIFT;
        self.bounds().1 == next.bounds().0
            && flags(self) == flags(next)
            && self.anonymous
            && next.anonymous
            && self.pgoff + nr == next.pgoff
    }

    /// Makes it begin at `start`, as large as it is.
    pub(crate) fn move_to(&mut self, start: usize) {
        let len = self.bounds().1 - self.bounds().0;
        let bounds = unsafe { &mut self.__bindgen_anon_1.__bindgen_anon_1 };
        (bounds.vm_start, bounds.vm_end) = (start, start + len);
    }

    /// Which page of the mapping the page `vpn` is: what `Info::index` has.
    pub(crate) fn index(&self, vpn: usize) -> usize {
        vpn - (self.bounds().0 >> PAGE_SHIFT) + self.pgoff
    }

    pub(crate) fn may(&self, flag: vm_flags_t) -> bool {
        unsafe { self.__bindgen_anon_2.vm_flags & flag != 0 }
    }
}

/// The address space at `mm`, which somebody has a reference to. Under the lock of the machine
/// only.
pub(crate) unsafe fn mm<'a>(mm: *mut mm_struct) -> &'a mut mm_struct {
    unsafe { &mut *mm }
}

/// A new address space with one user.
pub(crate) fn new_mm() -> *mut mm_struct {
    let id = with(|m| {
        m.next_pid += 1;
        m.next_pid
    });
    let mm = Box::into_raw(Box::new(mm_struct {
        id,
        users: 1,
        count: 1,
        readers: Vec::new(),
        writer: 0,
        vmas: BTreeMap::new(),
        table: BTreeMap::new(),
        huge: BTreeMap::new(),
        subscriptions: Subscriptions::new(),
        unstable: false,
        _not_send: std::ptr::null_mut(),
    }));
    with(|m| {
        m.mms.push(mm);
        m.known_mms.insert(mm as usize);
    });
    mm
}

/// The mapping at `addr`.
pub(crate) unsafe fn vma_at(space: *mut mm_struct, addr: usize) -> *mut vm_area_struct {
    let (_, vma) = match unsafe { mm(space) }.vmas.range_mut(..=addr).next_back() {
        Some(found) => found,
        None => return std::ptr::null_mut(),
    };
    match vma.bounds() {
        (start, end) if (start..end).contains(&addr) => &raw mut **vma,
        _ => std::ptr::null_mut(),
    }
}

pub unsafe extern "C" fn mmgrab(space: *mut mm_struct) {
    with(|_| unsafe { mm(space) }.count += 1);
}

pub unsafe extern "C" fn mmdrop(space: *mut mm_struct) {
    let last = with(|m| {
        let space = unsafe { mm(space) };
        if space.count == 1 && space.users > 0 {
            report("`mmdrop()` of the last reference to an address space that has users");
            return false;
        }
        space.count -= 1;
        m.changed();
        space.count == 0
    });
    if last {
        with(|m| m.known_mms.remove(&(space as usize)));
        let space = unsafe { Box::from_raw(space) };
        if !space.readers.is_empty() || space.writer != 0 {
            report("an address space is freed whose lock is held");
        }
        if !space.subscriptions.is_empty() {
            report("an address space is freed that has notifiers");
        }
        if !space.table.is_empty() || !space.huge.is_empty() {
            report("an address space is freed that maps pages");
        }
    }
}

pub unsafe extern "C" fn mmget(space: *mut mm_struct) {
    with(|_| {
        let space = unsafe { mm(space) };
        if space.users == 0 {
            report("`mmget()` of an address space that has no users");
        }
        space.users += 1;
    });
}

pub unsafe extern "C" fn mmget_not_zero(space: *mut mm_struct) -> bool {
    with(|_| {
        let space = unsafe { mm(space) };
        if space.users > 0 {
            space.users += 1;
        }
        space.users > 0
    })
}

pub unsafe extern "C" fn mmput(space: *mut mm_struct) {
    might_sleep("mmput");
    if unsafe { put_user(space) } {
        unsafe { no_users(space) };
    }
}

/// Gives up a user. Tells whether it was the last one.
unsafe fn put_user(space: *mut mm_struct) -> bool {
    with(|_| {
        let space = unsafe { mm(space) };
        if space.users == 0 {
            report("`mmput()` of an address space that has no users");
            return false;
        }
        space.users -= 1;
        space.users == 0
    })
}

/// The last user of an address space has gone.
unsafe fn no_users(space: *mut mm_struct) {
    let all = (0, usize::MAX);
    let release = mmu_notifier::mmu_notifier_event_MMU_NOTIFY_RELEASE;
    mmu_notifier::invalidate(space, all, release, std::ptr::null_mut(), || {
        pgtable::zap(space, all)
    });
    with(|m| {
        unsafe { mm(space) }.vmas.clear();
        m.mms.retain(|other| *other != space);
        m.changed();
    });
    unsafe { mmdrop(space) };
}

pub unsafe extern "C" fn mmput_async(space: *mut mm_struct) {
    // In whatever context this is: a work item does it.
    if unsafe { put_user(space) } {
        let space = Shared(space);
        spawn_kernel_thread(move || unsafe { space.no_users() });
    }
}

/// An address space of which a thread of the kernel's has the last reference.
struct Shared(*mut mm_struct);

// SAFETY: Any thread may have a reference to an address space.
unsafe impl Send for Shared {}

impl Shared {
    unsafe fn no_users(&self) {
        unsafe { no_users(self.0) };
    }
}

unsafe fn read_lock(m: &mut Locked<'_>, space: *mut mm_struct, wait: bool) -> bool {
    let me = thread_id();
    if unsafe { mm(space) }.readers.contains(&me) {
        report("a thread takes the mmap lock that it has: it waits for ever if somebody wants to write meanwhile");
    }
    while unsafe { mm(space) }.writer != 0 {
        if !wait {
            return false;
        }
        m.wait("the mmap lock");
    }
    unsafe { mm(space) }.readers.push(me);
    true
}

pub unsafe extern "C" fn mmap_read_lock(space: *mut mm_struct) {
    might_sleep("mmap_read_lock");
    lockdep::acquire(lockdep::MMAP_LOCK);
    with(|m| unsafe { read_lock(m, space, true) });
}

pub unsafe extern "C" fn mmap_read_trylock(space: *mut mm_struct) -> bool {
    let got = with(|m| !m.fails("mmap_read_trylock") && unsafe { read_lock(m, space, false) });
    if got {
        lockdep::acquired(lockdep::MMAP_LOCK);
    }
    got
}

pub unsafe extern "C" fn mmap_read_unlock(space: *mut mm_struct) {
    let me = thread_id();
    lockdep::release(lockdep::MMAP_LOCK);
    with(|m| {
        let readers = unsafe { &mut mm(space).readers };
        match readers.iter().position(|reader| *reader == me) {
            Some(i) => {
                readers.swap_remove(i);
            }
            None => report("the mmap lock is given up by a thread that does not have it"),
        }
        m.changed();
    });
}

/// Has the mmap lock for writing while `f` runs.
pub(crate) fn write_locked<R>(space: *mut mm_struct, f: impl FnOnce() -> R) -> R {
    might_sleep("mmap_write_lock");
    lockdep::acquire(lockdep::MMAP_LOCK);
    let me = thread_id();
    with(|m| {
        if unsafe { mm(space) }.readers.contains(&me) {
            crate::report::fatal(
                "deadlock: a thread wants to write what it has locked for reading",
            );
        }
        while unsafe { mm(space).writer != 0 || !mm(space).readers.is_empty() } {
            m.wait("the mmap lock, for writing");
        }
        unsafe { mm(space) }.writer = me;
    });
    let result = f();
    lockdep::release(lockdep::MMAP_LOCK);
    with(|m| {
        unsafe { mm(space) }.writer = 0;
        m.changed();
    });
    result
}

/// Has the mmap lock for reading while `f` runs.
pub(crate) fn read_locked<R>(space: *mut mm_struct, f: impl FnOnce() -> R) -> R {
    unsafe { mmap_read_lock(space) };
    let result = f();
    unsafe { mmap_read_unlock(space) };
    result
}

/// Reports that the mmap lock is not held.
pub(crate) fn assert_locked(space: *mut mm_struct, what: &str) {
    let me = thread_id();
    let held = with(|_| unsafe { mm(space).readers.contains(&me) || mm(space).writer == me });
    if !held {
        report(format!("`{what}()` without the mmap lock"));
    }
}

pub unsafe extern "C" fn vma_lookup(space: *mut mm_struct, addr: c_ulong) -> *mut vm_area_struct {
    assert_locked(space, "vma_lookup");
    with(|_| unsafe { vma_at(space, addr) })
}

pub unsafe extern "C" fn vm_insert_page(
    vma: *mut vm_area_struct,
    addr: c_ulong,
    page: *mut page,
) -> c_int {
    let vma = unsafe { &mut *vma };
    let (start, end) = vma.bounds();
    if addr < start || addr >= end || addr % PAGE_SIZE != 0 || !vma.may(VM_MIXEDMAP) {
        return -(EFAULT as c_int);
    }
    with(|m| {
        if m.fails("vm_insert_page") {
            return -(ENOMEM as c_int);
        }
        let vpn = addr >> PAGE_SHIFT;
        if unsafe { pgtable::entry(m, vma.vm_mm, vpn) }.is_some() {
            return -(EBUSY as c_int);
        }
        unsafe { get(m, page) };
        unsafe { pgtable::map(m, vma.vm_mm, vpn, page, vma.may(VM_WRITE)) };
        0
    })
}

pub unsafe extern "C" fn zap_vma_range(vma: *mut vm_area_struct, address: c_ulong, size: c_ulong) {
    let space = unsafe { (*vma).vm_mm };
    let clear = mmu_notifier::mmu_notifier_event_MMU_NOTIFY_CLEAR;
    let range = (address, address + size);
    mmu_notifier::invalidate(space, range, clear, std::ptr::null_mut(), || {
        pgtable::zap(space, range)
    });
}

not_simulated! {
    fn lock_vma_under_rcu(*mut mm_struct, c_ulong) -> *mut vm_area_struct;
    fn vma_end_read(*mut vm_area_struct);
}
