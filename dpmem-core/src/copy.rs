// SPDX-License-Identifier: GPL-2.0

//! How the bytes move: the driver's copy engine.

use core::{
    marker::PhantomData,
    ops::Deref,
    ptr::NonNull, //
};

use kernel::{
    bindings,
    page::{
        Page,
        PAGE_SIZE, //
    },
    prelude::*, //
};

use crate::{
    backend::Backend,
    data::{
        self,
        FolioData, //
    },
    dma::DmaDevice,
    flight::Flight,
    folio::nth_page,
    migrate::Way,
    number::{
        NrPages,
        PageOffset, //
    },
    ops::DevPagemapOps,
    pagemap::DevPagemap,
    peers::pagemap_of, //
};

/// A page of memory that CPUs can address, and that nobody frees for as long as this value lives:
/// of system memory, or of a coherent device.
///
/// In a migration it is moreover locked, and in no page table: its content is stable. In a
/// [`Mirror`](crate::Mirror) the process may change it at any time, as the CPU and a device may
/// always do to each other.
///
/// # Invariants
///
/// `page` points to a page that CPUs can address, and that is not freed during `'a`.
pub struct RamPage<'a> {
    page: NonNull<bindings::page>,
    _life: PhantomData<&'a ()>,
}

impl<'a> RamPage<'a> {
    /// A page of the driver's own.
    #[inline]
    pub fn of(page: &'a Page) -> Self {
        // INVARIANT: The page is borrowed during `'a`.
        Self {
            // SAFETY: A `Page` is never null.
            page: unsafe { NonNull::new_unchecked(page.as_ptr()) },
            _life: PhantomData,
        }
    }

    /// The page `page`.
    ///
    /// # Safety
    ///
    /// `page` must point to a page that CPUs can address, and that is not freed during the lifetime
    /// that the caller chooses.
    #[inline]
    pub(crate) unsafe fn from_raw(page: NonNull<bindings::page>) -> Self {
        // INVARIANT: The caller promises it.
        Self {
            page,
            _life: PhantomData,
        }
    }

    /// Reads the page into `to`. Does not sleep.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if `to` is not as long as a page.
    #[inline]
    pub fn read(&self, to: &mut [u8]) -> Result {
        if to.len() != PAGE_SIZE {
            return Err(EINVAL);
        }
        // SAFETY: The page is valid by the type invariant, and the length was checked. The
        // function is C's memcpy(), which copes with a process that writes to the page meanwhile.
        unsafe { bindings::memcpy_from_whole_page(to.as_mut_ptr().cast(), self.page.as_ptr()) };
        Ok(())
    }
}

/// A [`RamPage`] that may be written to.
///
/// # Invariants
///
/// Whoever the page belongs to may write to it.
pub struct RamPageMut<'a>(RamPage<'a>);

impl<'a> RamPageMut<'a> {
    /// A page of the driver's own.
    #[inline]
    pub fn of(page: &'a mut Page) -> Self {
        // INVARIANT: It is the driver's, who has no other reference to it.
        Self(RamPage::of(page))
    }

    /// The page `page`.
    ///
    /// # Safety
    ///
    /// As for [`RamPage::from_raw`], and whoever the page belongs to must be allowed to write to
    /// it.
    #[inline]
    pub(crate) unsafe fn from_raw(page: NonNull<bindings::page>) -> Self {
        // INVARIANT: The caller promises it.
        // SAFETY: As above.
        Self(unsafe { RamPage::from_raw(page) })
    }

    /// Writes `from` to the page, all of it. Does not sleep.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if `from` is not as long as a page.
    #[inline]
    pub fn write(&self, from: &[u8]) -> Result {
        if from.len() != PAGE_SIZE {
            return Err(EINVAL);
        }
        let page = self.0.page.as_ptr();
        // SAFETY: As in `RamPage::read()`, and the page may be written to, by the type invariant.
        unsafe { bindings::memcpy_to_whole_page(page, from.as_ptr().cast()) };
        Ok(())
    }

    /// Copies all of `from` to the page. Does not sleep.
    #[inline]
    pub fn copy_from(&self, from: &RamPage<'_>) {
        // SAFETY: Both pages are valid by their type invariants, and this one may be written to.
        unsafe { bindings::copy_highpage(self.0.page.as_ptr(), from.page.as_ptr()) };
    }

    /// Fills the page with zeroes. Does not sleep.
    #[inline]
    pub fn clear(&self) {
        // SAFETY: The page is valid, and may be written to, by the type invariants.
        unsafe { bindings::clear_highpage(self.0.page.as_ptr()) };
    }
}

impl<'a> Deref for RamPageMut<'a> {
    type Target = RamPage<'a>;

    #[inline]
    fn deref(&self) -> &RamPage<'a> {
        &self.0
    }
}

/// A run of pages of system memory, of which each is a [`RamPage`]: a page, or a large folio, whose
/// pages follow each other in physical memory as well.
///
/// # Invariants
///
/// `first` points to the first of `nr` pages of one folio that CPUs can address, and that is not
/// freed during `'a`.
#[derive(Clone, Copy)]
pub struct RamPages<'a> {
    first: NonNull<bindings::page>,
    nr: NrPages,
    _life: PhantomData<&'a ()>,
}

impl<'a> RamPages<'a> {
    /// The first of them.
    #[inline]
    pub(crate) fn first_page(&self) -> NonNull<bindings::page> {
        self.first
    }

    /// The `nr` pages from `first` on.
    ///
    /// # Safety
    ///
    /// They must be pages of one folio that CPUs can address, and that is not freed during the
    /// lifetime that the caller chooses.
    #[inline]
    unsafe fn from_raw(first: NonNull<bindings::page>, nr: NrPages) -> Self {
        // INVARIANT: The caller promises it.
        Self {
            first,
            nr,
            _life: PhantomData,
        }
    }

    /// How many pages there are.
    #[inline]
    pub fn nr_pages(&self) -> NrPages {
        self.nr
    }

    /// The pages, in order.
    #[inline]
    pub fn pages(self) -> impl Iterator<Item = RamPage<'a>> {
        (0..self.nr.get()).filter_map(move |i| {
            // SAFETY: The folio has this page, by the type invariants.
            let page = NonNull::new(unsafe { nth_page(self.first, i) })?;
            // SAFETY: As above, and it is not freed during `'a`.
            Some(unsafe { RamPage::from_raw(page) })
        })
    }
}

/// [`RamPages`] that may be written to: of each, all must be written.
///
/// # Invariants
///
/// Whoever the pages belong to may write to them.
pub struct RamPagesMut<'a>(RamPages<'a>);

impl<'a> RamPagesMut<'a> {
    /// The pages, for who sees to it that a device writes to them.
    #[inline]
    pub(crate) fn into_inner(self) -> RamPages<'a> {
        self.0
    }

    /// How many pages there are.
    #[inline]
    pub fn nr_pages(&self) -> NrPages {
        self.0.nr
    }

    /// The pages, in order.
    #[inline]
    pub fn pages(self) -> impl Iterator<Item = RamPageMut<'a>> {
        // INVARIANT: By the type invariant, and nobody has the pages besides.
        self.0.pages().map(RamPageMut)
    }
}

/// A run of pages of the device: a page, or a large folio.
///
/// # Invariants
///
/// `first` points to the first page of a folio of a pagemap whose data is `D`, and the folio is not
/// freed during `'a`.
pub struct DevicePages<'a, D: FolioData = ()> {
    offset: PageOffset,
    nr: NrPages,
    mapped: Option<RamPages<'a>>,
    first: NonNull<bindings::page>,
    _data: PhantomData<D>,
}

impl<'a, D: FolioData> DevicePages<'a, D> {
    /// The `nr` pages from `first` on, which begin at `offset`, and which CPUs can address if they
    /// are `coherent`.
    ///
    /// # Safety
    ///
    /// `first` must be the first page of a folio of so many pages, of a pagemap whose data is `D`,
    /// and the folio must not be freed during `'a`. If it is `coherent`, CPUs must be able to
    /// address it.
    #[inline]
    unsafe fn from_raw(
        first: NonNull<bindings::page>,
        nr: NrPages,
        offset: PageOffset,
        coherent: bool,
    ) -> Self {
        let mapped = coherent.then(|| {
            // SAFETY: The caller promises it.
            unsafe { RamPages::from_raw(first, nr) }
        });
        // INVARIANT: As above.
        Self {
            offset,
            nr,
            mapped,
            first,
            _data: PhantomData,
        }
    }

    /// Where the run begins.
    #[inline]
    pub fn offset(&self) -> PageOffset {
        self.offset
    }

    /// How many pages there are.
    #[inline]
    pub fn nr_pages(&self) -> NrPages {
        self.nr
    }

    /// The offsets of the pages, in order.
    pub fn offsets(&self) -> impl Iterator<Item = PageOffset> {
        self.offset.pages().take(self.nr.get())
    }

    /// What the driver keeps with the pages, if it gave them anything.
    pub fn data(&self) -> Option<D::Borrowed<'a>> {
        // SAFETY: By the type invariants.
        unsafe { data::borrow_from::<D>(self.first) }
    }

    /// The pages as a CPU sees them, if it can: if the memory is coherent.
    pub fn mapped(&self) -> Option<RamPages<'a>> {
        self.mapped
    }
}

/// [`DevicePages`] that are to be written to.
pub struct DevicePagesMut<'a, D: FolioData = ()>(DevicePages<'a, D>);

impl<'a, D: FolioData> DevicePagesMut<'a, D> {
    /// As [`DevicePages::mapped`].
    pub fn mapped_mut(&mut self) -> Option<RamPagesMut<'_>> {
        // INVARIANT: Nobody has the pages yet, and this borrow of them is exclusive.
        self.0.mapped.map(RamPagesMut)
    }
}

impl<'a, D: FolioData> Deref for DevicePagesMut<'a, D> {
    type Target = DevicePages<'a, D>;

    #[inline]
    fn deref(&self) -> &DevicePages<'a, D> {
        &self.0
    }
}

/// A run of pages to be moved, which follow each other on the device, and in system memory. Source
/// and destination have the same number of pages.
pub enum Transfer<'a, E: CopyEngine> {
    /// From system memory to the device.
    ToDevice {
        /// What to copy.
        src: RamPages<'a>,
        /// Where to. All of it must be written.
        dst: DevicePagesMut<'a, E::Data>,
    },
    /// The process had nothing here yet, so the device's pages are to be all zeroes.
    Zero {
        /// What to clear.
        dst: DevicePagesMut<'a, E::Data>,
    },
    /// From another device to the device. Only the devices of a [`PeerGroup`](crate::PeerGroup)
    /// have such transfers.
    FromPeer {
        /// The copy engine of the other device. Of the locks of two engines, one is given up before
        /// the other is taken: the other device may be copying from this one.
        peer: &'a E,
        /// The other device: see [`Batch::device`].
        peer_device: Option<DmaDevice<'a>>,
        /// What to copy, in the memory of the other device.
        src: DevicePages<'a, E::Data>,
        /// Where to. All of it must be written.
        dst: DevicePagesMut<'a, E::Data>,
    },
    /// From the device to system memory.
    ToRam {
        /// What to copy.
        src: DevicePages<'a, E::Data>,
        /// Where to. All of it must be written.
        dst: RamPagesMut<'a>,
    },
}

/// The transfers of one migration, in the order of their addresses or offsets, for the copy engine
/// `E`.
///
/// # Invariants
///
/// There is a `DevPagemap<T>`, of a `T` whose engine is `E`, such that
///
/// - `backend` is that of this pagemap, and `coherent` says whether CPUs can address its memory;
/// - `find` is for this `T`, and is there if the pagemap has peers;
/// - each destination of `flight` is a folio as large as its source;
/// - on the way to the device, the destinations are folios of this pagemap, and the sources that
///   have one are system memory, holes, or, if the pagemap has peers, private pages whose owner is
///   that of the pagemap;
/// - on the way home, the destinations are system memory, and the sources that have one are pages
///   of this pagemap.
pub struct Batch<'a, E> {
    flight: &'a Flight<'a>,
    way: Way,
    device: Option<DmaDevice<'a>>,
    backend: &'a Backend,
    coherent: bool,
    find: Option<FindPages<'a, E>>,
    next: usize,
    /// Whether there was a destination that no transfer was made of.
    incomplete: bool,
}

/// Pages of device memory, and whose they are.
type FoundPages<'a, E> = (
    &'a E,
    Option<DmaDevice<'a>>,
    DevicePages<'a, <E as CopyEngine>::Data>,
);

/// Finds out whose the pages of device memory from some page on are: the copy engine of their
/// device, the device, where they are, and whether CPUs can address them.
///
/// # Safety
///
/// As for [`pagemap_of`], for the `T` whose engine it is.
type FindPages<'a, E> = unsafe fn(NonNull<bindings::page>) -> Option<Found<'a, E>>;

/// What is found.
type Found<'a, E> = (&'a E, Option<DmaDevice<'a>>, PageOffset, bool);

/// # Safety
///
/// That of [`pagemap_of`].
unsafe fn find_pages<'a, T: DevPagemapOps>(
    page: NonNull<bindings::page>,
) -> Option<Found<'a, T::Engine>> {
    // SAFETY: The caller promises it.
    let (pagemap, offset) = unsafe { pagemap_of::<T>(page) }?;
    Some((
        pagemap.ops().engine(),
        pagemap.device(),
        offset,
        pagemap.is_coherent(),
    ))
}

impl<'a, E: CopyEngine> Batch<'a, E> {
    /// All transfers of `flight`, whose destinations are set, from or to the pagemap of a `T`.
    ///
    /// # Safety
    ///
    /// Each destination must be a folio as large as its source. On the way to the device, the
    /// destinations must be folios of `pagemap`, and the sources that have one system memory,
    /// holes, or, if `pagemap` has peers, private pages whose owner is that of `pagemap`. On the way
    /// home, the destinations must be system memory, and the sources that have one pages of
    /// `pagemap`.
    pub(crate) unsafe fn new<T: DevPagemapOps<Engine = E>>(
        flight: &'a Flight<'a>,
        pagemap: &'a DevPagemap<T>,
        way: Way,
    ) -> Self {
        // INVARIANT: What is said of the flight, the caller promises; all else is asked of
        // `pagemap`, which is one of a `T` whose engine is `E`.
        Self {
            flight,
            way,
            device: pagemap.device(),
            backend: pagemap.backend(),
            coherent: pagemap.is_coherent(),
            find: pagemap
                .has_peers()
                .then_some(find_pages::<T> as FindPages<'a, E>),
            next: 0,
            incomplete: false,
        }
    }

    /// The device that the memory belongs to: see [`DevPagemap::device`]. It may be on its way to
    /// be unbound: what the driver got from it after it registered the memory may be gone.
    #[inline]
    pub fn device(&self) -> Option<DmaDevice<'a>> {
        self.device
    }

    /// Brings zeroes home instead of what is on a device that is gone, for an engine whose driver
    /// has given that up. The kernel cannot take a page away from a process without giving it
    /// another, so that this is what lets the pages, and the pagemap, come to an end.
    ///
    /// # Context
    ///
    /// Does not sleep.
    ///
    /// # Errors
    ///
    /// [`ENODEV`] if there is a transfer that is not on its way to system memory.
    pub fn bring_zeroes(&mut self) -> Result {
        for transfer in self {
            match transfer {
                Transfer::ToRam { dst, .. } => dst.pages().for_each(|page| page.clear()),
                _ => return Err(ENODEV),
            }
        }
        Ok(())
    }

    /// How many pages the transfers that are left have.
    pub fn nr_pages(&self) -> NrPages {
        self.flight.nr_filled_from(self.next)
    }

    /// Whether the engine has had a transfer for every destination.
    pub(crate) fn is_done(&mut self) -> bool {
        self.next().is_none() && !self.incomplete
    }

    /// The transfer of entry `i`, if it has one.
    fn transfer(&self, i: usize) -> Option<Transfer<'a, E>> {
        let dst = self.flight.destination(i).page()?;
        let src = self.flight.source(i).page();
        // A destination is as large as its source.
        let nr = self.flight.order(i).nr_pages();
        if self.way == Way::ToRam {
            return Some(Transfer::ToRam {
                // SAFETY: The flight holds a reference to its source, which has a destination, and
                // so is a folio of so many pages of the pagemap, by the type invariants.
                src: unsafe { self.own_pages(src?, nr) },
                // INVARIANT: Nobody has the pages yet. SAFETY: The flight holds a reference to its
                // destination, which is system memory, and a folio of so many pages, by the type
                // invariants.
                dst: RamPagesMut(unsafe { RamPages::from_raw(dst, nr) }),
            });
        }
        // SAFETY: The flight holds a reference to its destination, a folio of so many pages of the
        // pagemap, by the type invariants.
        let dst = DevicePagesMut(unsafe { self.own_pages(dst, nr) });
        let Some(src) = src else {
            return Some(Transfer::Zero { dst });
        };
        // Without peers there is no private source, by the type invariants, and nothing to ask.
        if let Some(find) = self.find {
            // SAFETY: The flight holds a reference to its source.
            if unsafe { bindings::is_device_private_page(src.as_ptr()) } {
                // SAFETY: As above. Its owner is that of the destination, and `find` is for the `T`
                // of the pagemap, by the type invariants.
                let (peer, peer_device, src) = unsafe { Self::peer_pages(find, src, nr) }?;
                return Some(Transfer::FromPeer {
                    peer,
                    peer_device,
                    src,
                    dst,
                });
            }
        }
        Some(Transfer::ToDevice {
            // SAFETY: The flight holds a reference to its source, which lasts as long as the
            // flight. What is not a hole and not private is system memory, by the type invariants.
            src: unsafe { RamPages::from_raw(src, nr) },
            dst,
        })
    }

    /// The folio of the pagemap that begins with `first`, and has `nr` pages.
    ///
    /// # Safety
    ///
    /// `first` must be the first page of a folio of so many pages of the pagemap that this batch is
    /// for, and there must be a reference to it for as long as the flight lasts.
    #[inline]
    unsafe fn own_pages(
        &self,
        first: NonNull<bindings::page>,
        nr: NrPages,
    ) -> DevicePages<'a, E::Data> {
        // SAFETY: The caller promises it. The backend is that of the pagemap, by the type
        // invariants.
        let offset = unsafe { self.backend.own_offset(first) };
        // SAFETY: As above. The data of the pagemap is that of its engine, which is an `E`, and
        // `coherent` says whether CPUs can address it, by the type invariants.
        unsafe { DevicePages::from_raw(first, nr, offset, self.coherent) }
    }

    /// The folio of device memory that begins with `first`, and has `nr` pages, and the engine of
    /// its device.
    ///
    /// # Safety
    ///
    /// `first` must be the first page of a folio of so many pages, to which there is a reference for
    /// as long as the flight lasts, and whose owner is that of pagemaps of the `T` that `find` is
    /// for, whose engine is an `E`.
    unsafe fn peer_pages(
        find: FindPages<'a, E>,
        first: NonNull<bindings::page>,
        nr: NrPages,
    ) -> Option<FoundPages<'a, E>> {
        // SAFETY: The caller promises a reference, and an owner whose pagemaps are of this `T`.
        let (engine, device, offset, coherent) = unsafe { find(first) }?;
        // SAFETY: As above. The data of that pagemap is that of its engine, which is an `E`, and
        // what `find` says of CPUs is true.
        let pages = unsafe { DevicePages::from_raw(first, nr, offset, coherent) };
        Some((engine, device, pages))
    }
}

impl<'a, E: CopyEngine> Iterator for Batch<'a, E> {
    type Item = Transfer<'a, E>;

    fn next(&mut self) -> Option<Transfer<'a, E>> {
        while self.next < self.flight.len() {
            let i = self.next;
            self.next = i.checked_add(1)?;
            if let Some(transfer) = self.transfer(i) {
                return Some(transfer);
            }
            self.incomplete |= self.flight.destination(i).is_valid();
        }
        None
    }
}

/// What moves the bytes between system memory and the device.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a copy engine",
    label = "this cannot move bytes between system memory and a device",
    note = "implement `CopyEngine` for it: `submit()` starts the transfers of a batch"
)]
pub trait CopyEngine: Sized + Send + Sync + 'static {
    /// What tells that a batch has been copied. It may keep what the copy needs, such as a
    /// [`DmaMapped`](crate::DmaMapped).
    type Fence<'a>: Fence
    where
        Self: 'a;

    /// What the driver keeps with each folio, which the engine may want to see: `()` if nothing.
    type Data: FolioData;

    /// Starts the transfers of `batch`, all of them: a batch that was not taken to its end is an
    /// error, and so is not committed.
    ///
    /// # Context
    ///
    /// Process context. May sleep. The mmap lock of a process and the locks of folios are held, so
    /// no memory of a process may be touched, and no lock be taken under which somebody else does
    /// that. In an eviction, the pagemap's lock for it is held as well. So no pages of any pagemap
    /// may be brought home, requested or migrated here. Under a lock that
    /// [`PageTable::invalidate`](crate::PageTable::invalidate) takes as well, nothing is allocated in a
    /// way that waits.
    ///
    /// # Errors
    ///
    /// An error says that not everything could be started, and that nothing is going on any more.
    /// The migration is then undone.
    ///
    /// [`EIO`] says that something of the batch cannot be copied; in an eviction, each of its
    /// folios is then tried by itself. [`EBUSY`] and [`EAGAIN`] let a CPU that has touched a page
    /// try again. What is not the fault of a page, but of the device, has another error.
    fn submit<'a>(&'a self, batch: &mut Batch<'a, Self>) -> Result<Self::Fence<'a>>;
}

/// Something that happens once: a batch has been copied.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a fence",
    label = "nobody can wait for this",
    note = "implement `Fence` for it, or say `()` if everything has been copied when `submit()` returns"
)]
pub trait Fence {
    /// Waits until it has happened. May sleep.
    ///
    /// # Errors
    ///
    /// An error says that the copies are not to be used, and that nothing is going on any more.
    /// They are those of
    /// [`CopyEngine::submit`].
    fn wait(self) -> Result;
}

/// The fence of an engine that has, or has not, anything going on when [`CopyEngine::submit`]
/// returns.
impl<F: Fence> Fence for Option<F> {
    fn wait(self) -> Result {
        self.map_or(Ok(()), F::wait)
    }
}

/// The fence of an engine that has copied everything when [`CopyEngine::submit`] returns.
impl Fence for () {
    fn wait(self) -> Result {
        Ok(())
    }
}
