// SPDX-License-Identifier: GPL-2.0

//! Page tables, and what happens when a CPU finds there what it cannot use.
//!
//! Real: present, device-private, migration and exclusive entries, the page of zeroes, copy on write. Not simulated:
//! huge pages, swap, userfaultfd, pages of files but for those that a driver inserts, NUMA hints.

use std::ptr::null_mut;

use crate::{
    consts::*,
    device_private::dev_pagemap_ops,
    errno::*,
    machine::{with, Locked},
    mm::{assert_locked, mm, mm_struct, vm_area_struct, vma_at, PAGE_SIZE},
    mmu_notifier::{invalidate, mmu_notifier_event_MMU_NOTIFY_CLEAR},
    pages::{allocate, get, info, lock, page, put, unlock, Kind},
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
}

impl Pte {
    /// The page that the entry has a reference to.
    pub(crate) fn mapped(self) -> Option<*mut page> {
        match self {
            Self::Page { page, .. } | Self::Device { page, .. } | Self::Exclusive { page } => {
                Some(page)
            }
            Self::Zero | Self::Migration { .. } => None,
        }
    }

    /// Whether the process may write to the page, now or when it comes back.
    pub(crate) fn is_writable(self) -> bool {
        match self {
            Self::Page { write, .. }
            | Self::Device { write, .. }
            | Self::Migration { write, .. } => write,
            Self::Exclusive { .. } => true,
            Self::Zero => false,
        }
    }

    /// The same, but not writable.
    pub(crate) fn read_only(self) -> Self {
        match self {
            Self::Page { page, .. } | Self::Exclusive { page } => Self::Page { page, write: false },
            Self::Device { page, .. } => Self::Device { page, write: false },
            Self::Migration { page, .. } => Self::Migration { page, write: false },
            Self::Zero => Self::Zero,
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

/// Makes `page`, to which there is a reference, what is at `vpn`. The reference becomes the table's.
pub(crate) unsafe fn map(
    m: &mut Locked<'_>,
    space: *mut mm_struct,
    vpn: usize,
    page: *mut page,
    write: bool,
) {
    let pte = unsafe { Pte::of_page(m, page, write) };
    unsafe { mm(space) }.table.insert(vpn, pte);
    let info = unsafe { info(m, page) };
    info.maps += 1;
    info.index = vpn;
}

/// Takes away what is mapped in the range. Notifiers have been called.
pub(crate) fn zap(space: *mut mm_struct, (start, end): (usize, usize)) {
    let gone: Vec<_> = with(|m| {
        let table = unsafe { &mut mm(space).table };
        let range = start >> PAGE_SHIFT..end >> PAGE_SHIFT;
        let vpns: Vec<usize> = table.range(range).map(|(vpn, _)| *vpn).collect();
        let ptes: Vec<_> = vpns.iter().filter_map(|vpn| table.remove(vpn)).collect();
        m.changed();
        let pages = ptes.into_iter().filter_map(Pte::mapped);
        pages
            .inspect(|page| unsafe { info(m, *page).maps -= 1 })
            .collect()
    });
    gone.into_iter().for_each(|page| unsafe { put(page) });
}

/// Takes away the entry at `vpn`, which must still be `old`, and puts `page` there, to which there is a reference.
fn replace(space: *mut mm_struct, vpn: usize, old: Option<Pte>, page: *mut page, write: bool) {
    let range = (vpn << PAGE_SHIFT, (vpn + 1) << PAGE_SHIFT);
    invalidate(
        space,
        range,
        mmu_notifier_event_MMU_NOTIFY_CLEAR,
        null_mut(),
        || {
            let unused = with(|m| {
                let now = unsafe { mm(space) }.table.get(&vpn).copied();
                if now != old {
                    return Some(page);
                }
                unsafe { map(m, space, vpn, page, write) };
                let before = old.and_then(Pte::mapped);
                before.inspect(|page| unsafe { info(m, *page).maps -= 1 })
            });
            if let Some(page) = unused {
                unsafe { put(page) };
            }
        },
    );
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
    _m: &mut Locked<'_>,
    space: *mut mm_struct,
    addr: usize,
    write: bool,
) -> Found {
    match unsafe { mm(space) }.table.get(&(addr >> PAGE_SHIFT)) {
        Some(Pte::Page {
            page,
            write: writable,
        }) if *writable || !write => Found::Page(*page),
        Some(Pte::Zero) if !write => Found::Page(_m.frames.zero()),
        _ => Found::Fault,
    }
}

/// What is to be done about an entry.
enum Todo {
    Nothing,
    /// A page is to be there, with the content of this one, or none.
    Copy(Option<*mut page>),
    /// The page is to come home.
    Home(*mut page),
    /// The page is to be everybody's again.
    Share(*mut page),
}

/// Makes what is at `addr` something that a CPU can use, or takes a step towards it. The mmap lock is held.
pub(crate) fn fault(space: *mut mm_struct, addr: usize, write: bool) -> Result<(), Errno> {
    assert_locked(space, "handle_mm_fault");
    crate::machine::might_sleep("handle_mm_fault");
    let vpn = addr >> PAGE_SHIFT;
    let vma = with(|_| unsafe { vma_at(space, addr) });
    let Some(area) = (unsafe { vma.as_ref() }) else {
        return Err(Errno(EFAULT));
    };
    if !area.may(if write { VM_WRITE } else { VM_READ }) {
        return Err(Errno(EFAULT));
    }
    let (old, todo) = with(|m| {
        let old = unsafe { mm(space) }.table.get(&vpn).copied();
        let todo = match old {
            None if !area.anonymous => return Err(Errno(EFAULT)),
            None if !write => {
                unsafe { mm(space) }.table.insert(vpn, Pte::Zero);
                Todo::Nothing
            }
            None => Todo::Copy(None),
            Some(Pte::Zero) if write => Todo::Copy(None),
            Some(Pte::Page { page, write: false }) if write => {
                let info = unsafe { info(m, page) };
                if info.anon && (info.maps > 1 || info.refs > 1) {
                    unsafe { get(m, page) };
                    Todo::Copy(Some(page))
                } else {
                    unsafe { mm(space) }
                        .table
                        .insert(vpn, Pte::Page { page, write: true });
                    Todo::Nothing
                }
            }
            Some(Pte::Zero | Pte::Page { .. }) => Todo::Nothing,
            Some(Pte::Device { page, .. }) => {
                unsafe { get(m, page) };
                Todo::Home(page)
            }
            Some(Pte::Exclusive { page }) => {
                unsafe { get(m, page) };
                Todo::Share(page)
            }
            Some(Pte::Migration { .. }) => {
                m.wait("a page that is on its way");
                Todo::Nothing
            }
        };
        Ok((old, todo))
    })?;
    match todo {
        Todo::Nothing => Ok(()),
        Todo::Copy(from) => {
            let new = with(|m| {
                let new = allocate(m, true, "a page of a process");
                if let (false, Some(from)) = (new.is_null(), from) {
                    let (to, from) = unsafe { (info(m, new).data, info(m, from).data) };
                    unsafe { to.copy_from_nonoverlapping(from, PAGE_SIZE) };
                }
                new
            });
            if !new.is_null() {
                replace(space, vpn, old, new, true);
            }
            from.into_iter().for_each(|page| unsafe { put(page) });
            if new.is_null() {
                return Err(Errno(ENOMEM));
            }
            Ok(())
        }
        Todo::Home(page) => {
            let result = unsafe { bring_home(vma, addr, page) };
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

/// Asks the driver to bring home the page of a device that a CPU has touched.
unsafe fn bring_home(vma: *mut vm_area_struct, addr: usize, page: *mut page) -> Result<(), Errno> {
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
    let mut vmf = vm_fault::new(vma, addr, page);
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
            with(|_| {
                let table = unsafe { &mut mm(space).table };
                if table.get(&vpn) == Some(&Pte::Exclusive { page }) {
                    table.insert(vpn, Pte::Page { page, write: true });
                }
            });
        },
    );
    with(|m| unsafe { unlock(m, page) });
}
