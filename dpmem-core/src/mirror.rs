// SPDX-License-Identifier: GPL-2.0

//! The address space of a process as a device sees it.
//!
//! A device that shares a process's addresses keeps translations of them: a page table of its own.
//! They must be gone before the kernel lets go of a page, and so the kernel calls a notifier
//! first. [`Mirror`] is such a page table, kept in software, with the notifier that keeps it true.
//! A device that has one of its own makes it from this one ([`Mirror::map`]), and is told what is
//! no longer true ([`PageTable::invalidate`]).
//!
//! Lock order: mmap lock, then locks of folios, then the lock of the mirror. The kernel takes the
//! last one in the notifier, also while it reclaims memory: under it, nothing may allocate in a
//! way that waits, and no memory of a process may be touched.
//!
//! C headers: [`include/linux/hmm.h`](srctree/include/linux/hmm.h),
//! [`include/linux/mmu_notifier.h`](srctree/include/linux/mmu_notifier.h)

mod bound;
mod bus;
mod page_table;
mod table;

use core::{
    mem::offset_of,
    ptr::{
        null_mut,
        NonNull, //
    }, //
};

use kernel::{
    bindings,
    dma::DmaAddress,
    error::{
        from_err_ptr,
        to_result, //
    },
    mm::{
        Mm,
        MmWithUser, //
    },
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*,
    str::CStr,
    sync::aref::ARef,
    time::{
        Delta,
        Instant,
        Monotonic, //
    },
    types::Opaque, //
};

#[cfg(dpmem_hmm_unlocked)]
use kernel::time::msecs_to_jiffies;

use crate::{
    copy::{
        RamPage,
        RamPageMut, //
    },
    folio::{
        nth_page,
        LockedFolio, //
    },
    hmm_pfn::{
        runs,
        Cut,
        HmmPfn,
        HmmRequest, //
    },
    module::ModuleRef,
    number::{
        NrPages,
        Order,
        PageOffset,
        UserAddr,
        UserRange, //
    },
    ops::DevPagemapOps,
    pagemap::DevPagemap,
    peers::pagemap_of, //
};

use bound::Shared;
use bus::Bus;
use table::{
    Room,
    Table,
    Target,
    Translation, //
};

pub use bound::BoundMirrors;
pub use page_table::PageTable;

/// How long a fault is tried again without getting any further, because the process changes its
/// mappings meanwhile.
const FAULT_BUDGET: Delta = Delta::from_millis(bindings::HMM_RANGE_DEFAULT_TIMEOUT as i64);

/// What a device wants to do with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Look at it.
    Read,
    /// Change it.
    Write,
}

/// Where a page of a process is. `P` is what may be done with a page of system memory, and `T` what
/// the driver has supplied for its pagemaps.
pub enum Location<'v, P, T> {
    /// In system memory.
    Ram(P),
    /// On this device, at this offset of its pagemap: on the device that was asked about, or on
    /// another one of its [`PeerGroup`](crate::PeerGroup).
    Device(&'v T, PageOffset),
    /// On the device, at this offset of its pagemap, where CPUs can address it as well.
    Coherent(PageOffset, P),
}

/// Where a device finds pages of a process by itself. `T` is what the driver has supplied for its
/// pagemaps.
pub enum DevicePlace<'v, T> {
    /// In system memory: from this address of its bus on.
    Bus(DmaAddress),
    /// In its own memory, or in that of another one of its [`PeerGroup`](crate::PeerGroup): from
    /// this offset of its pagemap on, whether CPUs can address it or not.
    Device(&'v T, PageOffset),
}

/// How far a visit came.
#[must_use = "pages may be missing: have `Mirror::fault()` bring them, and visit what is left"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visited {
    /// All pages were visited.
    All,
    /// For this page there is no translation that allows the access, and so it was not visited,
    /// nor were those behind it.
    Missing(UserAddr),
}

/// What the kernel knows of a page of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageState {
    /// There is nothing, or nothing that may be accessed, or it is on another device.
    None,
    /// Who touches it gets an error.
    Error,
    /// There is a page.
    Present {
        /// Where it is.
        place: Place,
        /// Whether the process may write to it now.
        writable: bool,
        /// The size of what is mapped as one here.
        order: Order,
    },
}

/// Where a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In system memory.
    Ram,
    /// In system memory, and it is the page of zeroes that all processes share.
    Zero,
    /// On the device that was asked about, at this offset of its pagemap.
    Device(PageOffset),
    /// On another device: in coherent memory, or in that of a peer.
    OtherDevice,
}

/// The name of the lock of the table; a static for the reason that is in `offsets/bitmap.rs`.
static LOCK_NAME: &CStr = c"dpmem::Mirror";

/// Room for what the kernel says of a range, and for the translations that are made of it, to be
/// used again and again. Dropping it may sleep.
pub struct HmmBuffer {
    pfns: KVVec<HmmPfn>,
    rooms: KVVec<Room>,
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
            pfns: KVVec::from_elem(HmmPfn::NONE, nr.get(), GFP_KERNEL)?,
            rooms: KVVec::new(),
        })
    }

    /// Room for how many pages there is.
    fn capacity(&self) -> NrPages {
        NrPages::new(self.pfns.len())
    }

    /// Makes sure that there is room for as many runs as the kernel has told of, of a range that
    /// begins at `start`. Sleeps.
    fn reserve(&mut self, start: UserAddr, cut: Cut) -> Result {
        let wanted = runs(&self.pfns, start, cut).count();
        while self.rooms.len() < wanted {
            self.rooms.push(Room::new(GFP_KERNEL)?, GFP_KERNEL)?;
        }
        Ok(())
    }
}

/// What the kernel is asked of a part of an address space.
#[derive(Clone, Copy)]
struct Question<'q> {
    mm: &'q MmWithUser,
    /// What is to be done for each page.
    request: HmmRequest,
    /// Whose pages stay where they are.
    owner: *mut c_void,
    /// Whether translations will be made of the answer.
    translate: bool,
}

impl<'q> Question<'q> {
    fn new<T: DevPagemapOps>(
        mm: &'q MmWithUser,
        request: HmmRequest,
        device: Option<&DevPagemap<T>>,
    ) -> Self {
        Self {
            mm,
            request,
            owner: device.map_or(null_mut(), |device| device.owner()),
            translate: true,
        }
    }
}

/// How many attempts are not too many, however long they take: one that brings a page home has
/// failed by that, and has waited for the device; it is the next that tells.
const FAULT_ATTEMPTS: usize = 2;

/// For how long the kernel is asked once more.
struct Budget {
    /// When it began to count.
    started: Instant<Monotonic>,
    /// How often the kernel was asked since.
    attempts: usize,
    /// How many pages the kernel has told of, at most.
    reached: usize,
}

impl Budget {
    fn new() -> Self {
        Self {
            started: Instant::now(),
            attempts: 0,
            reached: 0,
        }
    }

    /// An attempt has failed, which has got as far as page `reached`.
    ///
    /// That a page comes home from a device is a change as well, so that an attempt fails when it has
    /// brought some home, however long that has taken. Only the next one gets further, and then the
    /// time begins anew.
    fn spend(&mut self, reached: usize) -> Result {
        if reached > self.reached {
            *self = Self {
                reached,
                ..Self::new()
            };
        }
        self.attempts = self.attempts.saturating_add(1);
        match self.attempts > FAULT_ATTEMPTS && self.started.elapsed() > FAULT_BUDGET {
            true => Err(EBUSY),
            false => Ok(()),
        }
    }
}

/// What the lock of a mirror protects.
struct Locked<P> {
    table: Table,
    /// How often the notifier was called, but for a page that the mirror itself takes from all
    /// CPUs.
    changes: usize,
    /// What the device knows.
    page_table: P,
    /// The device for which the system memory in `table` is mapped.
    bus: Bus,
}

impl<P: PageTable> Locked<P> {
    fn new(page_table: P, bus: Bus) -> Self {
        Self {
            table: Table::new(),
            changes: 0,
            page_table,
            bus,
        }
    }

    /// Forgets the translations of the addresses from `start` up to `end`, here and on the device.
    fn forget(&mut self, start: usize, end: usize) {
        let Self {
            table,
            bus,
            page_table,
            ..
        } = self;
        table.each_told(start, end, |range| page_table.invalidate(range));
        // SAFETY: What a run has an address for was mapped so, by `Locked::insert()`. The device has
        // just forgotten what it was told of: that is what a driver promises with `PageTable`. As
        // with any address of a bus, a driver that has its device use one for longer breaks more
        // than what a type can keep.
        table.forget(start, end, |run| unsafe { bus.unmap(run) });
    }

    /// Adds the translations of the `nr` pages from `addr` on, of which `first` is that of the
    /// first. There must be none of them yet. System memory is mapped for the device, if there is
    /// one.
    ///
    /// # Errors
    ///
    /// Those of [`Bus::map`]; `EOPNOTSUPP` if it is memory of another device. Nothing is there then.
    ///
    /// # Safety
    ///
    /// The pages must follow each other, and not be freed while the lock is held, nor later before
    /// the notifier has been called. If there is a device, they must be of one folio.
    unsafe fn insert(
        &mut self,
        room: Room,
        addr: UserAddr,
        nr: NrPages,
        mut first: Translation,
    ) -> Result {
        if let Target::Ram { page, dma } = &mut first.target {
            // SAFETY: The caller promises that the page is there.
            if self.bus.is_bound() && unsafe { bindings::is_zone_device_page(page.as_ptr()) } {
                // Whether the device reaches another one's memory is nothing that its bus knows.
                return Err(bus::not_supported());
            }
            // SAFETY: The caller promises it. What the notifier is called for is unmapped there.
            *dma = unsafe { self.bus.map(*page, nr, first.writable) }?;
        }
        self.table.insert(room, addr, nr, first);
        Ok(())
    }

    /// Forgets everything, and lets nothing be mapped any more: the device loses its driver.
    fn close(&mut self) {
        self.forget(0, usize::MAX);
        self.bus = Bus::Unbound;
    }

    /// Into what runs are cut.
    fn cut(&self) -> Cut {
        match self.bus.is_bound() {
            true => Cut::AsMapped,
            false => Cut::Nowhere,
        }
    }
}

/// The address space of a process as a device sees it: a page table, kept in software, and, where
/// the device has a page table `P` of its own, what that is made of.
///
/// [`Mirror::new`] makes one without a device, and [`BoundMirrors::mirror`] one that has a device.
///
/// # Context
///
/// Dropping it sleeps: it waits for what the kernel is telling the notifier. So no lock may be held
/// that is held around that, such as the mmap lock, or that a notifier takes.
///
/// # Invariants
///
/// - `notifier` is registered for all of `mm`.
/// - Each translation in the table was made from what the kernel said of a page while nothing had
///   been invalidated since, and is removed by the notifier. Hence the page it leads to is not
///   freed while the table is locked.
#[pin_data(PinnedDrop)]
pub struct Mirror<P: PageTable = ()> {
    #[pin]
    notifier: Opaque<bindings::mmu_interval_notifier>,
    locked: Shared<P>,
    mm: ARef<Mm>,
    // The driver's module may have no other reference while its file is open: see `ModuleRef`.
    _module: ModuleRef,
}

// SAFETY: A notifier is not bound to a thread; the rest is `Send` itself.
unsafe impl<P: PageTable> Send for Mirror<P> {}
// SAFETY: C's functions on a notifier lock what they change; the rest is `Sync` itself.
unsafe impl<P: PageTable> Sync for Mirror<P> {}

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
        Self::with(mm, module, Shared::alone)
    }
}

impl<P: PageTable> Mirror<P> {
    /// Mirrors all of `mm`, for a driver in `module`, in the table that `shared` gives.
    fn with<'a, F>(
        mm: &'a MmWithUser,
        module: &'static ThisModule,
        shared: F,
    ) -> impl PinInit<Self, Error> + use<'a, P, F>
    where
        F: FnOnce() -> Result<Shared<P>>,
    {
        try_pin_init!(Self {
            _module: ModuleRef::new(module)?,
            mm: ARef::from(&**mm),
            locked: shared()?,
            // INVARIANT: The notifier is inserted when everything that it uses is initialised.
            notifier <- Opaque::try_ffi_init(|slot| {
                let all = c_ulong::MAX & !(kernel::page::PAGE_SIZE - 1);
                // SAFETY: The notifier is pinned, and is removed before it goes away. The address
                // space has users, as the type says.
                to_result(unsafe {
                    bindings::mmu_interval_notifier_insert(slot, mm.as_raw(), 0, all, &Self::OPS)
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
    /// `device` stay there. What is in the mirror already, and allows the access, is not asked for.
    ///
    /// # Context
    ///
    /// May sleep, for as long as user space takes to supply a page (userfaultfd), until a signal
    /// comes. Takes the mmap lock for reading and the lock of the mirror; no lock may be held that a
    /// notifier takes.
    ///
    /// # Errors
    ///
    /// [`EFAULT`] if the process may not read a page, or its address space is gone; [`EPERM`] if
    /// it may not write to it; [`EBUSY`] if it kept changing its address space, whatever part of
    /// it, so that there was no getting any further for a second, or three on a kernel that tries
    /// for a second by itself; [`ENOMEM`]; [`EINTR`]. Where system memory is mapped for a device:
    /// [`ENODEV`] if its driver has been unbound; [`ENOMEM`] if a page would need a bounce buffer;
    /// `EOPNOTSUPP` if a page is in memory of another device that CPUs can address.
    pub fn fault<T: DevPagemapOps>(
        &self,
        range: UserRange,
        access: Access,
        device: Option<&DevPagemap<T>>,
        buffer: &mut HmmBuffer,
    ) -> Result {
        let request = match access {
            Access::Read => HmmRequest::Fault,
            Access::Write => HmmRequest::FaultWrite,
        };
        self.populate(range, request, device, buffer)
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
        self.populate(range, HmmRequest::Snapshot, device, buffer)
    }

    /// Tells what the kernel knows of each page of `range`, without faulting anything in, nor
    /// changing the mirror.
    ///
    /// # Context
    ///
    /// That of [`Mirror::fault`]. `visit` is called with the lock of the mirror held; see
    /// [`Mirror::read`].
    ///
    /// # Errors
    ///
    /// [`EFAULT`] if a part of the range is not mapped, or the address space is gone; [`EBUSY`] if
    /// the process kept changing its address space, as for [`Mirror::fault`]; [`EINTR`]; those of
    /// `visit`.
    pub fn inspect<T: DevPagemapOps>(
        &self,
        range: UserRange,
        device: Option<&DevPagemap<T>>,
        buffer: &mut HmmBuffer,
        mut visit: impl FnMut(UserAddr, PageState) -> Result,
    ) -> Result {
        let mm = self.mm.mmget_not_zero().ok_or(EFAULT)?;
        for window in range.windows(buffer.capacity()) {
            let question = Question {
                translate: false,
                ..Question::new(&mm, HmmRequest::Snapshot, device)
            };
            self.ask(&question, window, buffer, |_, buffer| {
                for (i, pfn) in buffer.pfns.iter().copied().enumerate() {
                    let Some(addr) = window.page(i) else {
                        break;
                    };
                    // SAFETY: We hold the lock, after a successful check of the sequence number.
                    visit(addr, unsafe { state_of(pfn, device) })?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Takes the pages of `range`, which must be anonymous memory in system memory, away from all
    /// CPUs: from now on the device alone has them, as with atomic operations. The first access of
    /// a CPU ends that, for the page that it is to.
    ///
    /// # Context
    ///
    /// That of [`Mirror::fault`].
    ///
    /// # Errors
    ///
    /// [`EFAULT`] if the address space is gone; [`EBUSY`] if somebody else is using a page just
    /// now; [`EINTR`]; [`ENOMEM`]; what the kernel says of a page that cannot be had. Pages before
    /// that are the device's.
    pub fn make_exclusive(&self, range: UserRange) -> Result {
        let mm = self.mm.mmget_not_zero().ok_or(EFAULT)?;
        for addr in (0..range.nr_pages().get()).filter_map(|i| range.page(i)) {
            self.make_page_exclusive(&mm, addr)?;
        }
        Ok(())
    }

    fn make_page_exclusive(&self, mm: &MmWithUser, addr: UserAddr) -> Result {
        let room = Room::new(GFP_KERNEL)?;
        let mut budget = Budget::new();
        loop {
            if current!().signal_pending() {
                return Err(EINTR);
            }
            let changes = self.locked.lock().changes;
            // The number says nothing here, because taking the page changes it. But a change that
            // is counted and not over is waited for.
            //
            // SAFETY: The notifier is registered, by the type invariants.
            unsafe { bindings::mmu_interval_read_begin(self.notifier.get()) };
            let mmap = mm.mmap_read_lock();
            let mut folio = null_mut();
            // SAFETY: The mmap lock is held, and the address is that of a page. The owner is only
            // compared.
            let page = unsafe {
                bindings::make_device_exclusive(mm.as_raw(), addr.get(), self.owner(), &mut folio)
            };
            let page = NonNull::new(from_err_ptr(page)?).ok_or(EFAULT)?;
            // SAFETY: The function gives a locked folio with a reference, which are ours.
            let folio = unsafe { LockedFolio::from_raw(NonNull::new(folio).ok_or(EFAULT)?) };

            let mut locked = self.locked.lock();
            if locked.changes == changes {
                // INVARIANT: Nothing but the mirror itself has invalidated the page since, and
                // whoever does so from now on waits for the lock of the table. Not for that of the
                // folio: an exclusive entry is zapped without it.
                locked.forget(addr.get(), addr.get().saturating_add(PAGE_SIZE));
                let translation = Translation {
                    target: Target::Ram { page, dma: None },
                    writable: true,
                    exclusive: true,
                };
                // SAFETY: As just said, the page is not freed before the notifier is called.
                unsafe { locked.insert(room, addr, NrPages::new(1), translation) }?;
                return Ok(());
            }
            drop(locked);
            drop(folio);
            drop(mmap);
            budget.spend(0)?;
            // Taking it again would first give it back, and that is a change each time, as is a
            // copy or a way home. So it is made a page that the process can write to, which the
            // next attempt finds unchanged.
            let question = Question {
                mm,
                request: HmmRequest::FaultWrite,
                owner: null_mut(),
                translate: false,
            };
            let page = UserRange::new(addr, NrPages::new(1))?;
            let mut buffer = HmmBuffer::new(page.nr_pages())?;
            self.ask(&question, page, &mut buffer, |_, _| Ok(()))?;
        }
    }

    /// What the kernel is told about who takes pages for himself.
    fn owner(&self) -> *mut c_void {
        core::ptr::from_ref(self).cast_mut().cast()
    }

    /// Whether no page of `range` is the device's alone.
    ///
    /// # Context
    ///
    /// May sleep. Takes the lock of the mirror.
    pub fn is_shared(&self, range: UserRange) -> bool {
        !self.locked.lock().table.any_exclusive(range)
    }

    /// The device reads: calls `visit` for the pages of `range`, in order, up to one that has no
    /// translation. Of pages on a device, only those on `device` and its peers have one.
    ///
    /// # Context
    ///
    /// May sleep. `visit` is called with the lock of the mirror held: it must not touch memory of
    /// a process, nor allocate in a way that waits, nor take a lock under which somebody does, nor
    /// use this mirror.
    ///
    /// # Errors
    ///
    /// Those of `visit`.
    pub fn read<T: DevPagemapOps>(
        &self,
        range: UserRange,
        device: Option<&DevPagemap<T>>,
        mut visit: impl FnMut(UserAddr, Location<'_, RamPage<'_>, T>) -> Result,
    ) -> Result<Visited> {
        self.visit(range, Access::Read, device, |addr, target| {
            let location = match target {
                // SAFETY: The page is not freed while the table is locked, by the type invariants,
                // and `visit` cannot keep it.
                Target::Ram { page, .. } => Location::Ram(unsafe { RamPage::from_raw(page) }),
                Target::Device {
                    pgmap,
                    offset,
                    mapped,
                } => match mapped {
                    // SAFETY: The pagemap has the owner of `device`: see `allows()`. It is there for
                    // as long as the page is not freed.
                    None => Location::Device(
                        unsafe { DevPagemap::from_raw(pgmap.as_ptr()) }.ops(),
                        offset,
                    ),
                    // SAFETY: As above.
                    Some(page) => Location::Coherent(offset, unsafe { RamPage::from_raw(page) }),
                },
            };
            visit(addr, location)
        })
    }

    /// The device writes: calls `visit` for the pages of `range`, in order, up to one that has no
    /// translation which allows that. Of pages on a device, only those on `device` and its peers
    /// have one.
    ///
    /// Context and errors are those of [`Mirror::read`].
    pub fn write<T: DevPagemapOps>(
        &self,
        range: UserRange,
        device: Option<&DevPagemap<T>>,
        mut visit: impl FnMut(UserAddr, Location<'_, RamPageMut<'_>, T>) -> Result,
    ) -> Result<Visited> {
        self.visit(range, Access::Write, device, |addr, target| {
            let location = match target {
                Target::Ram { page, .. } => {
                    // That the process may write to the page does not say that it is dirty, and a
                    // clean one may be thrown away.
                    //
                    // SAFETY: The page is not freed, nor taken from its mapping, while the table is
                    // locked, by the type invariants.
                    unsafe { bindings::set_page_dirty(page.as_ptr()) };
                    // SAFETY: As above, the translation is writable, and `visit` cannot keep it.
                    Location::Ram(unsafe { RamPageMut::from_raw(page) })
                }
                Target::Device {
                    pgmap,
                    offset,
                    mapped,
                } => match mapped {
                    // SAFETY: The pagemap has the owner of `device`: see `allows()`. It is there for
                    // as long as the page is not freed.
                    None => Location::Device(
                        unsafe { DevPagemap::from_raw(pgmap.as_ptr()) }.ops(),
                        offset,
                    ),
                    Some(page) => {
                        // SAFETY: As above.
                        Location::Coherent(offset, unsafe { RamPageMut::from_raw(page) })
                    }
                },
            };
            visit(addr, location)
        })
    }

    /// Puts the translations of `range` into the page table of the device: calls `map` for pieces of
    /// it, in order, up to a page that has no translation. A piece follows itself in memory, and all
    /// of it allows the access. Of pages on a device, only those on `device` and its peers have a
    /// translation.
    ///
    /// The mirror has to have the translations. A driver whose device misses one calls this, and
    /// [`Mirror::fault`] for what is [`Visited::Missing`], and begins again: the process may have
    /// changed its memory in between.
    ///
    /// Pages that the device may write to are marked dirty.
    ///
    /// # Context
    ///
    /// May sleep. `map` is called with the lock of the mirror held; see [`Mirror::read`].
    ///
    /// # Errors
    ///
    /// [`ENODEV`] if the mirror has no device, or its driver has been unbound; those of `map`, which
    /// may have put a part of that piece there: [`PageTable::invalidate`] will be told of all of it.
    pub fn map<T: DevPagemapOps>(
        &self,
        range: UserRange,
        access: Access,
        device: Option<&DevPagemap<T>>,
        mut map: impl FnMut(&mut P, UserRange, DevicePlace<'_, T>) -> Result,
    ) -> Result<Visited> {
        let mut locked = self.locked.lock();
        if !locked.bus.is_bound() {
            return Err(ENODEV);
        }
        let Locked {
            table, page_table, ..
        } = &mut *locked;
        let mut rest = Some(range);
        while let Some(todo) = rest {
            let addr = todo.start();
            let found = table.get_run(addr);
            // SAFETY: The table is locked.
            let found = found.filter(|(found, _)| unsafe { allows(found, access, device) });
            let Some((translation, nr)) = found else {
                return Ok(Visited::Missing(addr));
            };
            table.tell(addr);
            let piece = todo.first(nr).ok_or(EINVAL)?;
            let location = match translation.target {
                Target::Ram { page, dma } => {
                    let dma = dma.ok_or(ENODEV)?;
                    if access == Access::Write {
                        // All of the piece is one folio's.
                        //
                        // SAFETY: The page is not freed, nor taken from its mapping, while the table
                        // is locked, by the type invariants.
                        unsafe { bindings::set_page_dirty(page.as_ptr()) };
                    }
                    DevicePlace::Bus(dma)
                }
                // SAFETY: The pagemap has the owner of `device`: see `allows()`. It is there for as
                // long as the page is not freed.
                Target::Device { pgmap, offset, .. } => DevicePlace::Device(
                    unsafe { DevPagemap::from_raw(pgmap.as_ptr()) }.ops(),
                    offset,
                ),
            };
            map(page_table, piece, location)?;
            rest = todo.starting_at(piece.end());
        }
        Ok(Visited::All)
    }

    /// Lends the page table of the device, with the lock of the mirror held: see [`Mirror::read`]
    /// for what must not be done there.
    ///
    /// # Context
    ///
    /// May sleep.
    pub fn with_page_table<R>(&self, f: impl FnOnce(&mut P) -> R) -> R {
        f(&mut self.locked.lock().page_table)
    }

    fn visit<T: DevPagemapOps>(
        &self,
        range: UserRange,
        access: Access,
        device: Option<&DevPagemap<T>>,
        mut visit: impl FnMut(UserAddr, Target) -> Result,
    ) -> Result<Visited> {
        let locked = self.locked.lock();
        for addr in (0..range.nr_pages().get()).filter_map(|i| range.page(i)) {
            let found = locked
                .table
                .get(addr)
                // SAFETY: The table is locked.
                .filter(|found| unsafe { allows(found, access, device) });
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
        request: HmmRequest,
        device: Option<&DevPagemap<T>>,
        buffer: &mut HmmBuffer,
    ) -> Result {
        let mm = self.mm.mmget_not_zero().ok_or(EFAULT)?;
        for window in range.windows(buffer.capacity()) {
            if self.has(window, request, device) {
                continue;
            }
            let question = Question::new(&mm, request, device);
            self.populate_window(&question, window, device, buffer)?;
            // The kernel leaves pages of the owner as they are, even read-only ones that are to be
            // written to. As a page of nobody's, it comes home, and is copied or refused.
            if request != HmmRequest::FaultWrite {
                continue;
            }
            for i in 0..window.nr_pages().get() {
                if buffer.pfns.get(i).is_some_and(|pfn| pfn.is_writable()) {
                    continue;
                }
                let addr = window.page(i).ok_or(EINVAL)?;
                let page = UserRange::new(addr, NrPages::new(1))?;
                let mut single = HmmBuffer::new(NrPages::new(1))?;
                let question = Question {
                    owner: null_mut(),
                    ..question
                };
                self.populate_window(&question, page, None::<&DevPagemap<T>>, &mut single)?;
            }
        }
        Ok(())
    }

    /// Whether all that `request` asks for is in the mirror.
    fn has<T: DevPagemapOps>(
        &self,
        window: UserRange,
        request: HmmRequest,
        device: Option<&DevPagemap<T>>,
    ) -> bool {
        let access = match request {
            // It asks for what is there.
            HmmRequest::Snapshot => return false,
            HmmRequest::Fault => Access::Read,
            HmmRequest::FaultWrite => Access::Write,
        };
        let locked = self.locked.lock();
        let mut rest = Some(window);
        while let Some(todo) = rest {
            let found = locked.table.get_run(todo.start());
            // SAFETY: The table is locked.
            let found = found.filter(|(found, _)| unsafe { allows(found, access, device) });
            let Some(piece) = found.and_then(|(_, nr)| todo.first(nr)) else {
                return false;
            };
            rest = todo.starting_at(piece.end());
        }
        true
    }

    /// Brings `window`, which the buffer has room for, into the mirror.
    fn populate_window<T: DevPagemapOps>(
        &self,
        question: &Question<'_>,
        window: UserRange,
        device: Option<&DevPagemap<T>>,
        buffer: &mut HmmBuffer,
    ) -> Result {
        self.ask(question, window, buffer, |locked, buffer| {
            // INVARIANT: Nothing was invalidated since the kernel was asked, and the table is
            // locked.
            locked.update(window, device, buffer)
        })
    }

    /// Asks the kernel for `window`, which the buffer has room for, and calls `then` with what it
    /// said in `buffer`, and the table locked: nothing has been invalidated since.
    fn ask(
        &self,
        question: &Question<'_>,
        window: UserRange,
        buffer: &mut HmmBuffer,
        then: impl FnOnce(&mut Locked<P>, &mut HmmBuffer) -> Result,
    ) -> Result {
        let mut budget = Budget::new();
        loop {
            if current!().signal_pending() {
                return Err(EINTR);
            }
            buffer.pfns.fill(HmmPfn::NONE);
            let mut hmm = bindings::hmm_range {
                notifier: self.notifier.get(),
                // SAFETY: The notifier is registered, by the type invariants.
                notifier_seq: unsafe { bindings::mmu_interval_read_begin(self.notifier.get()) },
                start: window.start().get(),
                end: window.end().get(),
                hmm_pfns: HmmPfn::as_raw_mut(&mut buffer.pfns),
                default_flags: question.request.into_raw(),
                pfn_flags_mask: 0,
                dev_private_owner: question.owner,
            };
            // SAFETY: The array has room for the window, which is no longer than it. The notifier
            // covers all addresses, and is that of `mm`.
            match unsafe { range_fault(question.mm, &mut hmm) } {
                Ok(()) => {
                    if question.translate {
                        // The lock of the table is one that is taken while memory is reclaimed.
                        let cut = self.locked.lock().cut();
                        buffer.reserve(window.start(), cut)?;
                    }
                    let mut locked = self.locked.lock();
                    // SAFETY: The notifier is registered, and this is its sequence number. The
                    // lock is the one under which the notifier sets a new one.
                    let stale = unsafe {
                        bindings::mmu_interval_read_retry(self.notifier.get(), hmm.notifier_seq)
                    };
                    if !stale {
                        return then(&mut locked, buffer);
                    }
                }
                Err(EBUSY) => {}
                Err(err) => return Err(err),
            }
            let told = |pfn: &&HmmPfn| **pfn != HmmPfn::NONE;
            budget.spend(buffer.pfns.iter().take_while(told).count())?;
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
        // SAFETY: The caller promises that the notifier is this field of a mirror.
        let this = unsafe { notifier.byte_sub(offset_of!(Self, notifier)) }.cast::<Self>();
        // SAFETY: It is a mirror, as above, which removes the notifier before it goes away.
        let this = unsafe { &*this };
        // SAFETY: The caller promises a valid range.
        let blockable = unsafe { bindings::mmu_notifier_range_blockable(range) };
        // SAFETY: The caller promises a valid range.
        let (start, end) = unsafe { ((*range).start, (*range).end) };
        let mut locked = if blockable {
            this.locked.lock()
        } else {
            match this.locked.try_lock() {
                // Otherwise the device has to be waited for.
                Some(locked) if !locked.table.any_told(start, end) => locked,
                _ => return false,
            }
        };
        // SAFETY: We are in the callback of this notifier, and hold the lock under which
        // `mmu_interval_read_retry()` is called.
        unsafe { bindings::mmu_interval_set_seq(notifier, cur_seq) };
        // SAFETY: The caller promises a valid range.
        let (event, owner) = unsafe { ((*range).event, (*range).owner) };
        // Our own taking of a page: it is about to be put into the table.
        let ours =
            event == bindings::mmu_notifier_event_MMU_NOTIFY_EXCLUSIVE && owner == this.owner();
        if !ours {
            locked.changes = locked.changes.wrapping_add(1);
        }
        locked.forget(start, end);
        true
    }

    /// What the kernel calls before it changes the address space.
    const OPS: bindings::mmu_interval_notifier_ops = bindings::mmu_interval_notifier_ops {
        invalidate: Some(Self::invalidate),
        ..pin_init::zeroed()
    };
}

/// Asks the kernel for the range `hmm`, which tries for a second. The lock of the address space is
/// given up while a page comes from user space.
///
/// # Safety
///
/// `hmm` must be valid but for its sequence number, and its notifier be one of `mm`.
#[cfg(dpmem_hmm_unlocked)]
unsafe fn range_fault(_mm: &MmWithUser, hmm: &mut bindings::hmm_range) -> Result {
    // SAFETY: The caller promises a valid range. Its address space has users, as the type says.
    to_result(unsafe {
        bindings::hmm_range_fault_unlocked_timeout(
            hmm,
            msecs_to_jiffies(bindings::HMM_RANGE_DEFAULT_TIMEOUT),
        )
    })
}

/// Asks the kernel for the range `hmm`, once.
///
/// # Safety
///
/// `hmm` must be valid, and its notifier be one of `mm`.
#[cfg(not(dpmem_hmm_unlocked))]
unsafe fn range_fault(mm: &MmWithUser, hmm: &mut bindings::hmm_range) -> Result {
    let _mmap = mm.mmap_read_lock();
    // SAFETY: The mmap lock is held, and the caller promises a valid range.
    to_result(unsafe { bindings::hmm_range_fault(hmm) })
}

/// What the kernel says in `pfn`, if `device` is the one that was asked about.
///
/// # Safety
///
/// `pfn` must have been given by `hmm_range_fault()`, and nothing may have been invalidated since,
/// nor be until this returns.
unsafe fn state_of<T: DevPagemapOps>(pfn: HmmPfn, device: Option<&DevPagemap<T>>) -> PageState {
    if pfn.is_error() {
        return PageState::Error;
    }
    // SAFETY: The caller promises it.
    let Some(page) = (unsafe { pfn.page() }) else {
        return PageState::None;
    };
    // SAFETY: The page is mapped, as the caller promises, and so is not freed.
    let private = unsafe { bindings::is_device_private_page(page.as_ptr()) };
    // SAFETY: As above.
    let place = if private || unsafe { bindings::is_device_coherent_page(page.as_ptr()) } {
        // SAFETY: As above.
        match device.and_then(|device| unsafe { device.offset_of(page) }) {
            Some(offset) => Place::Device(offset),
            None => Place::OtherDevice,
        }
    } else {
        // SAFETY: Arithmetic on a pointer, which is that of a page.
        let pfn = unsafe { bindings::page_to_pfn(page.as_ptr()) };
        // SAFETY: Arithmetic on a number.
        match unsafe { bindings::is_zero_pfn(pfn) } {
            true => Place::Zero,
            false => Place::Ram,
        }
    };
    PageState::Present {
        place,
        writable: pfn.is_writable(),
        order: pfn.order(),
    }
}

/// Whether `translation` allows `access` to who has asked about `device`.
///
/// # Safety
///
/// It must be one of a table that is locked.
unsafe fn allows<T: DevPagemapOps>(
    translation: &Translation,
    access: Access,
    device: Option<&DevPagemap<T>>,
) -> bool {
    if !translation.writable && access == Access::Write {
        return false;
    }
    match translation.target {
        Target::Ram { .. } => true,
        // Where CPUs can address a peer's memory, it is to be asked for as what they see.
        Target::Device {
            pgmap,
            mapped: Some(_),
            ..
        } => device.is_some_and(|device| device.as_raw() == pgmap.as_ptr()),
        Target::Device { pgmap, .. } => device.is_some_and(|device| {
            // SAFETY: The page is not freed while the table is locked, by the invariants of
            // `Mirror`, and so its pagemap is there.
            unsafe { device.reaches(pgmap) }
        }),
    }
}

/// Whose memory `page` is: that of a pagemap, or the system's, for which it is null.
///
/// # Safety
///
/// `page` must be in use.
unsafe fn memory_of(page: *mut bindings::page) -> *mut bindings::dev_pagemap {
    // SAFETY: The caller promises a page in use.
    if unsafe { bindings::is_zone_device_page(page) } {
        // SAFETY: As above, and such a page has a pagemap.
        unsafe { bindings::page_pgmap(page) }
    } else {
        null_mut()
    }
}

impl<P: PageTable> Locked<P> {
    /// Makes the translations of `window` what the kernel says in `buffer`, which it has been asked
    /// for under this lock.
    fn update<T: DevPagemapOps>(
        &mut self,
        window: UserRange,
        device: Option<&DevPagemap<T>>,
        buffer: &mut HmmBuffer,
    ) -> Result {
        self.forget(window.start().get(), window.end().get());
        let HmmBuffer { pfns, rooms } = buffer;
        for (first, nr) in runs(pfns, window.start(), Cut::Nowhere) {
            // Most runs are one piece.
            let mut done = 0usize;
            while let Some(left) = nr.get().checked_sub(done).filter(|left| *left > 0) {
                let i = first.checked_add(done).ok_or(EINVAL)?;
                let (Some(addr), Some(pfn)) = (window.page(i), pfns.get(i).copied()) else {
                    break;
                };
                // SAFETY: The kernel has told of so many pages from this one on, whose numbers follow
                // each other, and we hold the lock, after a successful check of the sequence number.
                let piece = unsafe { self.piece(pfn, addr, left, device) }?;
                let Some((target, nr)) = piece else {
                    // Of memory that is not to be seen, as all of the run.
                    break;
                };
                let translation = Translation {
                    target,
                    writable: pfn.is_writable(),
                    exclusive: false,
                };
                let room = match rooms.pop() {
                    Some(room) => room,
                    None => Room::new(GFP_NOWAIT)?,
                };
                // SAFETY: As above. What is in system memory is of one folio, if there is a device.
                unsafe { self.insert(room, addr, nr, translation) }?;
                done = done.saturating_add(nr.get());
            }
        }
        Ok(())
    }

    /// Where the page that `pfn` names is, which is at `addr`, and how many of the `left` pages from
    /// there on follow it in the same memory; `None` if it is not to be seen.
    ///
    /// # Errors
    ///
    /// None that a driver causes.
    ///
    /// # Safety
    ///
    /// `hmm_range_fault()` must have told of so many pages, whose numbers follow each other, and
    /// nothing may have been invalidated since.
    unsafe fn piece<T: DevPagemapOps>(
        &self,
        pfn: HmmPfn,
        addr: UserAddr,
        left: usize,
        device: Option<&DevPagemap<T>>,
    ) -> Result<Option<(Target, NrPages)>> {
        // SAFETY: The caller promises it.
        let Some(page) = (unsafe { pfn.page() }) else {
            return Ok(None);
        };
        // SAFETY: The page is not freed, as the caller promises.
        let private = unsafe { bindings::is_device_private_page(page.as_ptr()) };
        let on_device = match device {
            // SAFETY: As above. The kernel tells of such a page only if its owner is that of
            // `device`.
            Some(_) if private => unsafe { pagemap_of::<T>(page) },
            // SAFETY: As above.
            Some(device) => unsafe { device.offset_of(page) }.map(|offset| (device, offset)),
            None => None,
        };
        if let Some((pagemap, offset)) = on_device {
            let target = Target::Device {
                pgmap: NonNull::new(pagemap.as_raw()).ok_or(EINVAL)?,
                offset,
                mapped: (!private).then_some(page),
            };
            // What comes behind the end belongs to somebody else.
            let most = pagemap.nr_pages().get().saturating_sub(offset.get());
            return Ok(Some((target, NrPages::new(left.min(most.max(1))))));
        }
        if private {
            return Ok(None);
        }
        let target = Target::Ram { page, dma: None };
        if self.bus.is_bound() {
            // What is mapped for a device is of one folio.
            let block = pfn.left_of_block(addr.get() >> PAGE_SHIFT).ok_or(EINVAL)?;
            return Ok(Some((target, NrPages::new(left.min(block)))));
        }
        // SAFETY: The kernel has told of all these pages, as the caller promises.
        let last = unsafe { nth_page(page, left.saturating_sub(1)) };
        // SAFETY: As above, it is mapped, and so is not freed.
        let end = unsafe { memory_of(last) };
        // SAFETY: As above, for the first of these pages.
        let one = unsafe { memory_of(page.as_ptr()) } == end;
        // Where it goes on in other memory, it is page by page.
        Ok(Some((target, NrPages::new(if one { left } else { 1 }))))
    }
}

#[pinned_drop]
impl<P: PageTable> PinnedDrop for Mirror<P> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: The notifier is registered, by the type invariants, and nothing uses it any
        // more. The function waits for callbacks that are running.
        unsafe { bindings::mmu_interval_notifier_remove(self.notifier.get()) };
        // What the device was told of is not true any more.
        self.locked.lock().forget(0, usize::MAX);
    }
}
