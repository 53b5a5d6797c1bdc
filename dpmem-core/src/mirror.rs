// SPDX-License-Identifier: GPL-2.0

//! The address space of a process as a device sees it.
//!
//! A device that shares a process's addresses keeps translations of them: a page table of its own.
//! They must be gone before the kernel lets go of a page, and so the kernel calls a notifier
//! first. [`Mirror`] is such a page table, kept in software, with the notifier that keeps it true.
//!
//! Lock order: mmap lock, then locks of folios, then the lock of the mirror. The kernel takes the
//! last one in the notifier, also while it reclaims memory: under it, nothing may allocate in a
//! way that waits, and no memory of a process may be touched.
//!
//! C headers: [`include/linux/hmm.h`](srctree/include/linux/hmm.h),
//! [`include/linux/mmu_notifier.h`](srctree/include/linux/mmu_notifier.h)

use core::{
    mem::offset_of,
    ptr::{
        null_mut,
        NonNull, //
    }, //
};

use kernel::{
    bindings,
    error::to_result,
    mm::{
        Mm,
        MmWithUser, //
    },
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNodeReservation, //
    },
    static_lock_class,
    str::CStr,
    sync::{
        aref::ARef,
        Mutex, //
    },
    time::{
        Delta,
        Instant,
        Monotonic, //
    },
    types::Opaque, //
};

use crate::{
    copy::{
        RamPage,
        RamPageMut, //
    },
    module::ModuleRef,
    number::{
        NrPages,
        PageOffset,
        UserAddr,
        UserRange, //
    },
    ops::DevPagemapOps,
    pagemap::DevPagemap, //
};

/// How long a fault is tried again because the process changes its mappings meanwhile.
const FAULT_BUDGET: Delta = Delta::from_millis(bindings::HMM_RANGE_DEFAULT_TIMEOUT as i64);

/// What a device wants to do with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Look at it.
    Read,
    /// Change it.
    Write,
}

/// Where a page of a process is. `P` is what may be done with a page of system memory.
pub enum Location<P> {
    /// In system memory.
    Ram(P),
    /// On the device, at this offset of its pagemap.
    Device(PageOffset),
}

/// How far a visit came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visited {
    /// All pages were visited.
    All,
    /// For this page there is no translation that allows the access, and so it was not visited,
    /// nor were those behind it.
    Missing(UserAddr),
}

/// What the mirror knows of a page.
#[derive(Clone, Copy)]
struct Translation {
    target: Target,
    writable: bool,
}

/// Where a translation leads.
#[derive(Clone, Copy)]
enum Target {
    Ram(NonNull<bindings::page>),
    Device {
        /// The owner, only to be compared: a pagemap that exists has one of its own, and the
        /// translations of one that does not exist any more are gone.
        owner: *mut c_void,
        offset: PageOffset,
    },
}

// SAFETY: A page is not bound to a thread. What keeps it from being freed is the notifier. The owner
// is not looked at.
unsafe impl Send for Translation {}

/// The translations, by address.
type Table = RBTree<usize, Translation>;

/// The name of the lock of the table; a static for the reason that is in `offsets.rs`.
static LOCK_NAME: &CStr = c"dpmem::Mirror";

/// Room for what the kernel says of a range, and for the translations that are made of it, to be
/// used again and again.
pub struct HmmBuffer {
    pfns: KVVec<c_ulong>,
    nodes: KVVec<RBTreeNodeReservation<usize, Translation>>,
}

impl HmmBuffer {
    /// Room for `nr` pages. May sleep.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] for no page; [`ENOMEM`].
    pub fn new(nr: NrPages) -> Result<Self> {
        if nr == NrPages::ZERO {
            return Err(EINVAL);
        }
        Ok(Self {
            pfns: KVVec::from_elem(0, nr.get(), GFP_KERNEL)?,
            nodes: KVVec::new(),
        })
    }

    /// Makes sure that there is room for `nr` translations. Sleeps.
    fn reserve(&mut self, nr: NrPages) -> Result {
        while self.nodes.len() < nr.get() {
            self.nodes
                .push(RBTreeNodeReservation::new(GFP_KERNEL)?, GFP_KERNEL)?;
        }
        Ok(())
    }
}

/// The address space of a process as a device sees it: a page table, kept in software.
///
/// # Invariants
///
/// - `notifier` is registered for all of `mm`.
/// - Each translation in `table` was made from what the kernel said of a page while nothing had
///   been invalidated since, and is removed by the notifier. Hence the page it leads to is not
///   freed while the table is locked.
#[pin_data(PinnedDrop)]
pub struct Mirror {
    #[pin]
    notifier: Opaque<bindings::mmu_interval_notifier>,
    #[pin]
    table: Mutex<Table>,
    mm: ARef<Mm>,
    // The driver's module may have no other reference while its file is open: see `ModuleRef`.
    _module: ModuleRef,
}

// SAFETY: A notifier is not bound to a thread; the rest is `Send` itself.
unsafe impl Send for Mirror {}
// SAFETY: C's functions on a notifier lock what they change; the rest is `Sync` itself.
unsafe impl Sync for Mirror {}

impl Mirror {
    /// Mirrors all of `mm`, for a driver in `module`. The mirror is empty at first.
    ///
    /// # Context
    ///
    /// May sleep. Takes the mmap lock for writing.
    ///
    /// # Errors
    ///
    /// [`ENODEV`] if the module is being unloaded; [`ENOMEM`]; [`EINTR`] if the process is dying.
    pub fn new<'a>(
        mm: &'a MmWithUser,
        module: &'static ThisModule,
    ) -> impl PinInit<Self, Error> + use<'a> {
        try_pin_init!(Self {
            _module: ModuleRef::new(module)?,
            mm: ARef::from(&**mm),
            table <- Mutex::new(RBTree::new(), LOCK_NAME, static_lock_class!()),
            // INVARIANT: The notifier is inserted when everything that it uses is initialised.
            notifier <- Opaque::try_ffi_init(|slot| {
                let all = c_ulong::MAX & !(kernel::page::PAGE_SIZE - 1);
                // SAFETY: The notifier is pinned, and is removed before it goes away. The address
                // space has users, as the type says.
                to_result(unsafe {
                    bindings::mmu_interval_notifier_insert(slot, mm.as_raw(), 0, all, &OPS)
                })
            }),
        })
    }

    /// The address space that is mirrored.
    pub fn mm(&self) -> &Mm {
        &self.mm
    }

    /// Brings `range` into the mirror, as if the device had missed a translation: pages are
    /// faulted in where that is needed, those of other devices are brought home, and those on
    /// `device` stay there.
    ///
    /// # Context
    ///
    /// May sleep. Takes the mmap lock for reading and the lock of the mirror; no lock may be held
    /// that a notifier takes.
    ///
    /// # Errors
    ///
    /// [`EFAULT`] if the process may not read a page, or its address space is gone; [`EPERM`] if
    /// it may not write to it; [`EBUSY`] if it kept changing a part of the range for a second;
    /// [`ENOMEM`]; [`EINTR`].
    pub fn fault<T: DevPagemapOps>(
        &self,
        range: UserRange,
        access: Access,
        device: Option<&DevPagemap<T>>,
        buffer: &mut HmmBuffer,
    ) -> Result {
        let flags = match access {
            Access::Read => bindings::hmm_pfn_flags_HMM_PFN_REQ_FAULT,
            Access::Write => {
                bindings::hmm_pfn_flags_HMM_PFN_REQ_FAULT
                    | bindings::hmm_pfn_flags_HMM_PFN_REQ_WRITE
            }
        };
        self.populate(range, flags, device, buffer)
    }

    /// Brings into the mirror what of `range` is there already, without faulting anything in.
    ///
    /// Context and errors are those of [`Mirror::fault`], but that a page which cannot be accessed
    /// is no error: it is merely not in the mirror afterwards.
    pub fn snapshot<T: DevPagemapOps>(
        &self,
        range: UserRange,
        device: Option<&DevPagemap<T>>,
        buffer: &mut HmmBuffer,
    ) -> Result {
        self.populate(range, 0, device, buffer)
    }

    /// The device reads: calls `visit` for the pages of `range`, in order, up to one that has no
    /// translation. Of pages on a device, only those on `device` have one.
    ///
    /// # Context
    ///
    /// May sleep. `visit` is called with the lock of the mirror held: it must not touch memory of
    /// a process, nor allocate in a way that waits, nor take a lock under which somebody does.
    ///
    /// # Errors
    ///
    /// Those of `visit`.
    pub fn read<T: DevPagemapOps>(
        &self,
        range: UserRange,
        device: Option<&DevPagemap<T>>,
        mut visit: impl FnMut(UserAddr, Location<RamPage<'_>>) -> Result,
    ) -> Result<Visited> {
        self.visit(range, Access::Read, device, |addr, target| {
            let location = match target {
                // SAFETY: The page is not freed while the table is locked, by the type invariants,
                // and `visit` cannot keep it.
                Target::Ram(page) => Location::Ram(unsafe { RamPage::from_raw(page) }),
                Target::Device { offset, .. } => Location::Device(offset),
            };
            visit(addr, location)
        })
    }

    /// The device writes: calls `visit` for the pages of `range`, in order, up to one that has no
    /// translation which allows that. Of pages on a device, only those on `device` have one.
    ///
    /// Context and errors are those of [`Mirror::read`].
    pub fn write<T: DevPagemapOps>(
        &self,
        range: UserRange,
        device: Option<&DevPagemap<T>>,
        mut visit: impl FnMut(UserAddr, Location<RamPageMut<'_>>) -> Result,
    ) -> Result<Visited> {
        self.visit(range, Access::Write, device, |addr, target| {
            let location = match target {
                Target::Ram(page) => {
                    // That the process may write to the page does not say that it is dirty, and a
                    // clean one may be thrown away.
                    //
                    // SAFETY: The page is not freed, nor taken from its mapping, while the table is
                    // locked, by the type invariants.
                    unsafe { bindings::set_page_dirty(page.as_ptr()) };
                    // SAFETY: As above, the translation is writable, and `visit` cannot keep it.
                    Location::Ram(unsafe { RamPageMut::from_raw(page) })
                }
                Target::Device { offset, .. } => Location::Device(offset),
            };
            visit(addr, location)
        })
    }

    fn visit<T: DevPagemapOps>(
        &self,
        range: UserRange,
        access: Access,
        device: Option<&DevPagemap<T>>,
        mut visit: impl FnMut(UserAddr, Target) -> Result,
    ) -> Result<Visited> {
        let table = self.table.lock();
        for addr in (0..range.nr_pages().get()).filter_map(|i| range.page(i)) {
            let found = table
                .get(&addr.get())
                .filter(|t| t.writable || access == Access::Read)
                .filter(|t| match t.target {
                    Target::Ram(_) => true,
                    Target::Device { owner, .. } => device.is_some_and(|d| d.owner() == owner),
                });
            match found {
                Some(translation) => visit(addr, translation.target)?,
                None => return Ok(Visited::Missing(addr)),
            }
        }
        Ok(Visited::All)
    }

    fn populate<T: DevPagemapOps>(
        &self,
        range: UserRange,
        flags: c_ulong,
        device: Option<&DevPagemap<T>>,
        buffer: &mut HmmBuffer,
    ) -> Result {
        let mm = self.mm.mmget_not_zero().ok_or(EFAULT)?;
        for window in range.windows(NrPages::new(buffer.pfns.len())) {
            let started = Instant::<Monotonic>::now();
            self.populate_window(&mm, window, flags, device, buffer, started)?;
            // The kernel leaves pages of the owner as they are, even read-only ones that are to be
            // written to. As a page of nobody's, it comes home, and is copied or refused.
            let asked = flags & bindings::hmm_pfn_flags_HMM_PFN_REQ_WRITE != 0;
            for i in 0..window.nr_pages().get() {
                let pfn = buffer.pfns.get(i).copied().unwrap_or(0);
                if !asked || pfn & bindings::hmm_pfn_flags_HMM_PFN_WRITE != 0 {
                    continue;
                }
                let addr = window.page(i).ok_or(EINVAL)?;
                let page = UserRange::new(addr, NrPages::new(1))?;
                let mut single = HmmBuffer::new(NrPages::new(1))?;
                let nobody = None::<&DevPagemap<T>>;
                self.populate_window(&mm, page, flags, nobody, &mut single, started)?;
            }
        }
        Ok(())
    }

    fn populate_window<T: DevPagemapOps>(
        &self,
        mm: &MmWithUser,
        window: UserRange,
        flags: c_ulong,
        device: Option<&DevPagemap<T>>,
        buffer: &mut HmmBuffer,
        started: Instant<Monotonic>,
    ) -> Result {
        // The lock of the table is one that is taken while memory is reclaimed.
        buffer.reserve(window.nr_pages())?;
        loop {
            if current!().signal_pending() {
                return Err(EINTR);
            }
            buffer.pfns.fill(0);
            let mut hmm = bindings::hmm_range {
                notifier: self.notifier.get(),
                // SAFETY: The notifier is registered, by the type invariants.
                notifier_seq: unsafe { bindings::mmu_interval_read_begin(self.notifier.get()) },
                start: window.start().get(),
                end: window.end().get(),
                hmm_pfns: buffer.pfns.as_mut_ptr(),
                default_flags: flags,
                pfn_flags_mask: 0,
                dev_private_owner: device.map_or(null_mut(), |d| d.owner()),
            };
            let mmap = mm.mmap_read_lock();
            // SAFETY: The mmap lock is held. The array has room for the window, which is no longer
            // than it. The notifier covers all addresses, and the sequence number is its.
            let result = to_result(unsafe { bindings::hmm_range_fault(&mut hmm) });
            drop(mmap);

            match result {
                Ok(()) => {
                    let mut table = self.table.lock();
                    // SAFETY: The notifier is registered, and this is its sequence number. The
                    // lock is the one under which the notifier sets a new one.
                    let stale = unsafe {
                        bindings::mmu_interval_read_retry(self.notifier.get(), hmm.notifier_seq)
                    };
                    if !stale {
                        // INVARIANT: Nothing was invalidated since the kernel was asked, and the
                        // table is locked.
                        return update(&mut table, window, device, buffer);
                    }
                }
                Err(EBUSY) => {}
                Err(err) => return Err(err),
            }
            if started.elapsed() > FAULT_BUDGET {
                return Err(EBUSY);
            }
        }
    }

    /// # Safety
    ///
    /// `notifier` must be that of a `Mirror`, and `range` valid.
    unsafe extern "C" fn invalidate(
        notifier: *mut bindings::mmu_interval_notifier,
        range: *const bindings::mmu_notifier_range,
        cur_seq: c_ulong,
    ) -> bool {
        // SAFETY: The caller promises that the notifier is this field of a mirror, which removes
        // it before it goes away.
        let this = unsafe { &*notifier.byte_sub(offset_of!(Self, notifier)).cast::<Self>() };
        // SAFETY: The caller promises a valid range.
        let blockable = unsafe { bindings::mmu_notifier_range_blockable(range) };
        let mut table = if blockable {
            this.table.lock()
        } else if let Some(table) = this.table.try_lock() {
            table
        } else {
            return false;
        };
        // SAFETY: We are in the callback of this notifier, and hold the lock under which
        // `mmu_interval_read_retry()` is called.
        unsafe { bindings::mmu_interval_set_seq(notifier, cur_seq) };
        // SAFETY: The caller promises a valid range.
        let (start, end) = unsafe { ((*range).start, (*range).end) };
        forget(&mut table, start, end);
        true
    }
}

/// What the kernel calls before it changes the address space.
static OPS: bindings::mmu_interval_notifier_ops = bindings::mmu_interval_notifier_ops {
    invalidate: Some(Mirror::invalidate),
    ..pin_init::zeroed()
};

/// Removes the translations of the addresses from `start` up to `end`.
fn forget(table: &mut Table, start: usize, end: usize) {
    let mut cursor = table.cursor_lower_bound_mut(&start);
    while let Some(at) = cursor {
        if *at.current().0 >= end {
            break;
        }
        (cursor, _) = at.remove_current();
    }
}

/// Makes the translations of `window` what the kernel says in `pfns`.
fn update<T: DevPagemapOps>(
    table: &mut Table,
    window: UserRange,
    device: Option<&DevPagemap<T>>,
    buffer: &mut HmmBuffer,
) -> Result {
    forget(table, window.start().get(), window.end().get());
    let HmmBuffer { pfns, nodes } = buffer;
    for (i, pfn) in pfns.iter().copied().enumerate() {
        let Some(addr) = window.page(i) else {
            break;
        };
        if pfn & bindings::hmm_pfn_flags_HMM_PFN_VALID == 0 {
            continue;
        }
        // SAFETY: The entry is valid, and we hold the lock, after a successful check of the
        // sequence number.
        let Some(page) = NonNull::new(unsafe { bindings::hmm_pfn_to_page(pfn) }) else {
            continue;
        };
        // SAFETY: The page is not freed while we hold the lock.
        let target = if unsafe { bindings::is_device_private_page(page.as_ptr()) } {
            // The kernel says so only of pages of the owner that was asked for.
            let Some(device) = device else {
                continue;
            };
            // SAFETY: As above: it is mapped as long as we hold the lock.
            let Some(offset) = (unsafe { device.offset_of(page) }) else {
                continue;
            };
            Target::Device {
                owner: device.owner(),
                offset,
            }
        } else {
            Target::Ram(page)
        };
        let translation = Translation {
            target,
            writable: pfn & bindings::hmm_pfn_flags_HMM_PFN_WRITE != 0,
        };
        let node = nodes.pop().ok_or(ENOMEM)?;
        table.insert(node.into_node(addr.get(), translation));
    }
    Ok(())
}

#[pinned_drop]
impl PinnedDrop for Mirror {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: The notifier is registered, by the type invariants, and nothing uses it any
        // more. The function waits for callbacks that are running.
        unsafe { bindings::mmu_interval_notifier_remove(self.notifier.get()) };
    }
}
