// SPDX-License-Identifier: GPL-2.0

//! Migration of a process's pages, as a sequence of types.
//!
//! ```text
//! MigrateVma -> Collected --fill()--> Filled --copy()--> Copied --commit()--> Committed
//! ```
//!
//! Each step consumes the one before. Whichever is dropped, no page is lost: before the commit all
//! pages go back to where they were, and after it those that have moved stay moved.
//!
//! While any of these values lives, its pages are locked and in nobody's page table: a thread that
//! touches one of them waits. Copy, commit, and be gone.
//!
//! C header: [`include/linux/migrate.h`](srctree/include/linux/migrate.h)

use core::ptr::null_mut;

use kernel::{
    mm::{
        virt::VmaRef,
        MmapReadGuard, //
    },
    prelude::*, //
};

use crate::{
    copy::{
        Batch,
        CopyEngine,
        Fence, //
    },
    counters::Failure,
    flight::{
        Entries,
        Flight,
        Select, //
    },
    folio::RequestedFolio,
    number::{
        NrPages,
        Order,
        UserRange, //
    },
    ops::DevPagemapOps,
    pagemap::DevPagemap, //
};

/// Room for a migration's bookkeeping, to be used again and again. Dropping it may sleep.
pub struct MigrateBuffer {
    src: KVVec<c_ulong>,
    dst: KVVec<c_ulong>,
}

impl MigrateBuffer {
    /// Room for `nr` pages. May sleep.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub fn new(nr: NrPages) -> Result<Self> {
        Ok(Self {
            src: KVVec::from_elem(0, nr.get(), GFP_KERNEL)?,
            dst: KVVec::from_elem(0, nr.get(), GFP_KERNEL)?,
        })
    }

    /// Room for how many pages there is.
    pub fn capacity(&self) -> NrPages {
        NrPages::new(self.src.len())
    }

    /// The arrays.
    pub(crate) fn entries(&mut self) -> Entries<'_> {
        Entries {
            src: &mut self.src,
            dst: &mut self.dst,
        }
    }
}

/// From where to where.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// From system memory, or from a peer, to the device.
    ToDevice,
    /// From the device to system memory.
    ToRam,
}

/// The mapping that `range` begins in, for as long as `mmap` is borrowed.
fn vma_at<'m>(mmap: &'m MmapReadGuard<'_>, range: UserRange) -> Result<&'m VmaRef> {
    mmap.vma_lookup(range.start().get()).ok_or(EFAULT)
}

/// Where migrations by virtual address begin: `struct migrate_vma`.
pub struct MigrateVma;

impl MigrateVma {
    /// Collects the pages of `range` that are in system memory, and the holes, to move them to the
    /// device. If it belongs to a [`PeerGroup`](crate::PeerGroup), also those that are on another
    /// device of the group.
    ///
    /// # Context
    ///
    /// May sleep. The mmap lock is held, as `mmap` shows. Notifiers of the range are called, so no
    /// lock may be held that they take.
    ///
    /// # Errors
    ///
    /// [`EFAULT`] if nothing is mapped where the range begins; [`EINVAL`] if the range is longer
    /// than the buffer, leaves the mapping that it begins in, or if pages of this mapping cannot
    /// be migrated.
    pub fn to_device<'m, T: DevPagemapOps>(
        pagemap: &'m DevPagemap<T>,
        mmap: &'m MmapReadGuard<'_>,
        range: UserRange,
        buffer: &'m mut MigrateBuffer,
    ) -> Result<Collected<'m, T>> {
        let vma = vma_at(mmap, range)?;
        // SAFETY: `mmap` is borrowed for as long as the result lives.
        unsafe { Self::collect(pagemap, vma, range, buffer, Way::ToDevice) }
    }

    /// As [`MigrateVma::to_device`], for a driver that is partly in C, and is called from there
    /// with the lock held. `vma` is the mapping that the range lies in.
    ///
    /// # Context
    ///
    /// May sleep. Notifiers of the range are called, so no lock may be held that they take.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if the range is longer than the buffer, does not lie in `vma`, or if pages of
    /// this mapping cannot be migrated.
    ///
    /// # Safety
    ///
    /// The mmap lock of `vma`'s process must be held, for reading at least, for as long as the
    /// result lives. A lock of the VMA alone is not enough.
    pub unsafe fn to_device_in<'m, T: DevPagemapOps>(
        pagemap: &'m DevPagemap<T>,
        vma: &'m VmaRef,
        range: UserRange,
        buffer: &'m mut MigrateBuffer,
    ) -> Result<Collected<'m, T>> {
        // SAFETY: The caller promises it.
        unsafe { Self::collect(pagemap, vma, range, buffer, Way::ToDevice) }
    }

    /// Collects the pages of `range` that are on the device, to move them to system memory.
    ///
    /// Context and errors are those of [`MigrateVma::to_device`].
    pub fn to_ram<'m, T: DevPagemapOps>(
        pagemap: &'m DevPagemap<T>,
        mmap: &'m MmapReadGuard<'_>,
        range: UserRange,
        buffer: &'m mut MigrateBuffer,
    ) -> Result<Collected<'m, T>> {
        let vma = vma_at(mmap, range)?;
        // SAFETY: `mmap` is borrowed for as long as the result lives.
        unsafe { Self::collect(pagemap, vma, range, buffer, Way::ToRam) }
    }

    /// # Safety
    ///
    /// The mmap lock of `vma`'s process must be held for as long as the result lives.
    unsafe fn collect<'m, T: DevPagemapOps>(
        pagemap: &'m DevPagemap<T>,
        vma: &'m VmaRef,
        range: UserRange,
        buffer: &'m mut MigrateBuffer,
        way: Way,
    ) -> Result<Collected<'m, T>> {
        let select = match way {
            // There are no large folios of coherent memory.
            Way::ToDevice if pagemap.is_coherent() => Select::SystemSmall,
            Way::ToDevice if pagemap.has_peers() => Select::SystemAndPeers,
            Way::ToDevice => Select::System,
            Way::ToRam if pagemap.is_coherent() => Select::DeviceCoherent,
            Way::ToRam => Select::DevicePrivate,
        };
        // SAFETY: The VMA is valid for as long as it is borrowed, and the caller promises the lock.
        // There is no fault.
        let flight = unsafe {
            Flight::from_vma(
                vma.as_ptr(),
                range,
                select,
                pagemap.owner(),
                null_mut(),
                buffer.entries(),
            )
        }?;
        // SAFETY: This is what was selected, for this owner, which does not change: private pages on
        // the way to the device only if there are peers. There are no destinations yet.
        Ok(unsafe { Collected::new(pagemap, flight, way) })
    }
}

/// A step of a migration.
///
/// # Invariants
///
/// - The sources of `flight` are, on the way to the device, system memory, holes, and, if `pagemap`
///   has peers, private pages whose owner is that of `pagemap`; on the way home, device memory of
///   that owner.
/// - Each destination is a folio as large as its source. On the way to the device it was requested
///   from `pagemap`. On the way home it was allocated as system memory, and the source is a page of
///   `pagemap`.
struct Step<'m, T: DevPagemapOps> {
    pagemap: &'m DevPagemap<T>,
    flight: Flight<'m>,
    way: Way,
}

impl<T: DevPagemapOps> Step<'_, T> {
    /// Whether entry `i` is to be given a destination.
    fn may_move(&self, i: usize) -> bool {
        let src = self.flight.source(i);
        // With one pagemap of this owner, all that was asked for may move; and holes, which nobody
        // has asked for, to the device only.
        if !self.pagemap.has_peers() {
            return src.is_migrating() && (self.way == Way::ToDevice || src.is_valid());
        }
        // With several, what comes home is ours, and what comes to the device is not there already.
        let ours = || {
            let page = src.page()?;
            // SAFETY: The flight holds a reference to its source.
            unsafe { self.pagemap.offset_of(page) }
        };
        src.is_migrating() && (self.way == Way::ToRam) == ours().is_some()
    }

    /// Finds a folio of `order`, which is that of the source, for entry `i`, which may move.
    fn fill_one(&mut self, i: usize, order: Order, data: &mut NewData<'_, T>) -> Result {
        let dst = match self.way {
            Way::ToDevice => {
                let mut folio = self.pagemap.request_folio(order)?;
                if let Some(data) = data(&folio) {
                    folio.set_data(data);
                }
                folio.into_migrate_pfn()
            }
            Way::ToRam => {
                let ram = self.flight.alloc_ram(i, order);
                ram.inspect_err(|_| self.pagemap.counters().failed(Failure::NoMemory))?
                    .into_migrate_pfn()
            }
        };
        // INVARIANT: It was requested, or allocated, above, and on the way home what may move is a
        // page of the pagemap. SAFETY: The folio that became `dst` gave it its lock and its
        // reference, and is as large as the source.
        unsafe { self.flight.set_destination(i, dst) };
        Ok(())
    }

    /// Whether there is a place for a page, so that it is worth while to split a large folio.
    fn has_small_place(&self) -> bool {
        self.way == Way::ToRam || self.pagemap.request_folio(Order::ZERO).is_ok()
    }

    /// Gives everything back, and finds it again in single pages; false if that is not possible.
    fn collect_small(&mut self) -> bool {
        let large = self.flight.nr_large();
        let again = self.flight.collect_small();
        if again && large > 0 {
            self.pagemap.counters().split(large);
        }
        again
    }

    /// Finds a folio for each entry.
    fn fill(&mut self, data: &mut NewData<'_, T>) -> Large {
        let mut large = Large::Placed;
        let mut i = 0usize;
        while i < self.flight.len() {
            let order = self.flight.order(i);
            if self.may_move(i) {
                match self.fill_one(i, order, data) {
                    Err(_) if order > Order::ZERO => large = Large::NoPlace,
                    // There is none for the others either, and a driver may wait for long to find
                    // that out.
                    Err(ENOMEM) if self.way == Way::ToDevice => break,
                    _ => {}
                }
            }
            i = i.saturating_add(order.nr_pages().get());
        }
        large
    }
}

/// What is to be kept with a folio of the device, if anything.
type NewData<'a, T> = dyn FnMut(&RequestedFolio<'_, T>) -> Option<<T as DevPagemapOps>::Data> + 'a;

/// What became of the large folios of a migration.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Large {
    /// Each has a place, if there are any.
    Placed,
    /// For one at least there was none.
    NoPlace,
}

/// Pages that are locked and unmapped, and have nowhere to go yet. Dropping them may sleep.
#[must_use = "the pages go back to where they were when this is dropped: go on with `fill()`"]
pub struct Collected<'m, T: DevPagemapOps>(Step<'m, T>);

impl<'m, T: DevPagemapOps> Collected<'m, T> {
    /// The pages of `flight`.
    ///
    /// # Safety
    ///
    /// `flight` must have no destinations. On the way to the device, its sources must be system
    /// memory, holes, or, if `pagemap` has peers, private pages whose owner is that of `pagemap`; on
    /// the way home, device memory of that owner.
    pub(crate) unsafe fn new(pagemap: &'m DevPagemap<T>, flight: Flight<'m>, way: Way) -> Self {
        // INVARIANT: The caller promises it.
        Self(Step {
            pagemap,
            flight,
            way,
        })
    }

    /// Whether there are large folios among them.
    pub fn has_large(&self) -> bool {
        self.0.flight.nr_large() > 0
    }

    /// Finds a place for each page. A page for which there is none will stay where it is. If there
    /// is none for a large folio, the large folios are split, and found again in pieces.
    ///
    /// # Context
    ///
    /// May sleep. Where a large folio is split, the notifiers of the range are called again, so no
    /// lock may be held that they take.
    pub fn fill(self) -> Filled<'m, T> {
        self.fill_from(&mut |_| None)
    }

    /// As [`Collected::fill`], and keeps what `data` gives for each folio of the device with it.
    ///
    /// # Context
    ///
    /// That of [`Collected::fill`]. `data` may sleep, with the mmap lock of the process and the locks
    /// of folios held.
    pub fn fill_with(
        self,
        mut data: impl FnMut(&RequestedFolio<'_, T>) -> T::Data,
    ) -> Filled<'m, T> {
        self.fill_from(&mut |folio| Some(data(folio)))
    }

    fn fill_from(self, data: &mut NewData<'_, T>) -> Filled<'m, T> {
        let mut step = self.0;
        if step.fill(data) == Large::NoPlace && step.has_small_place() && step.collect_small() {
            step.fill(data);
        }
        Filled(step)
    }

    /// As [`Collected::fill`], but large folios are split in any case: for a device that has no use
    /// for them just now.
    ///
    /// # Context
    ///
    /// May sleep. The notifiers of the range are called again, so no lock may be held that they
    /// take.
    pub fn fill_split(self) -> Filled<'m, T> {
        self.fill_split_from(&mut |_| None)
    }

    /// As [`Collected::fill_split`], with data as [`Collected::fill_with`] has it.
    ///
    /// # Context
    ///
    /// That of [`Collected::fill_split`]. `data` may sleep, with the mmap lock of the process and
    /// the locks of folios held.
    pub fn fill_split_with(
        self,
        mut data: impl FnMut(&RequestedFolio<'_, T>) -> T::Data,
    ) -> Filled<'m, T> {
        self.fill_split_from(&mut |folio| Some(data(folio)))
    }

    fn fill_split_from(self, data: &mut NewData<'_, T>) -> Filled<'m, T> {
        let mut step = self.0;
        if step.collect_small() {
            step.fill(data);
        }
        Filled(step)
    }

    /// Not yet: this is for the compiler to say what to do first.
    #[doc(hidden)]
    pub fn copy(self) -> Result<Copied<'m, T>>
    where
        Self: HavePlaces,
    {
        Ok(Copied(self.0))
    }

    /// Not yet: as above.
    #[doc(hidden)]
    pub fn commit(self) -> Committed<'m>
    where
        Self: HavePlaces,
    {
        Copied(self.0).commit()
    }

    /// As [`Collected::fill`], but a large folio for which there is no place stays as it is. Tells
    /// whether there was one.
    pub(crate) fn fill_whole(self) -> (Filled<'m, T>, Large) {
        let mut step = self.0;
        let large = step.fill(&mut |_| None);
        (Filled(step), large)
    }

    /// All further steps at once: [`Collected::fill`], [`Filled::copy`], [`Copied::commit`]. Gives
    /// the number of pages that have moved.
    ///
    /// # Context
    ///
    /// That of [`Collected::fill`] and [`Copied::commit`].
    ///
    /// # Errors
    ///
    /// Those of [`Filled::copy`].
    pub fn migrate(self) -> Result<NrPages> {
        Ok(self.fill().copy()?.commit().nr_moved())
    }
}

/// Pages that have somewhere to go. Dropping them may sleep.
#[must_use = "the pages go back to where they were when this is dropped: go on with `copy()`"]
pub struct Filled<'m, T: DevPagemapOps>(Step<'m, T>);

impl<'m, T: DevPagemapOps> Filled<'m, T> {
    /// How many pages have somewhere to go.
    pub fn nr_filled(&self) -> NrPages {
        self.0.flight.nr_filled()
    }

    /// Whether page `i` has somewhere to go.
    pub(crate) fn is_filled(&self, i: usize) -> bool {
        self.0.flight.has_destination(i)
    }

    /// Copies the content, and waits until that is done.
    ///
    /// # Context
    ///
    /// May sleep.
    ///
    /// # Errors
    ///
    /// Those of the driver's [`CopyEngine`] and [`Fence`]; [`EIO`] if the engine left out a page.
    /// The migration is then undone.
    pub fn copy(self) -> Result<Copied<'m, T>> {
        let step = self.0;
        if !step.flight.is_filled() {
            // Nothing to do for an engine, which may be asleep.
            return Ok(Copied(step));
        }
        // SAFETY: By the type invariants of the step.
        let mut batch = unsafe { Batch::new(&step.flight, step.pagemap, step.way) };
        let fence = step.pagemap.ops().engine().submit(&mut batch);
        let copied = fence
            .and_then(Fence::wait)
            .and_then(|()| match batch.is_done() {
                true => Ok(()),
                false => Err(EIO),
            });
        copied.inspect_err(|err| step.pagemap.counters().failed(Failure::of_copy(*err)))?;
        Ok(Copied(step))
    }

    /// Not yet: this is for the compiler to say what to do first.
    #[doc(hidden)]
    pub fn commit(self) -> Committed<'m>
    where
        Self: AreCopied,
    {
        Copied(self.0).commit()
    }
}

/// What no pages are that were just collected.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "these pages have nowhere to go yet",
    label = "there is nothing to copy them to",
    note = "call `fill()` first, which finds a place for each, and `copy()` on what that gives"
)]
pub trait HavePlaces {}

/// What no pages are whose places have just been found.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "these pages have not been copied",
    label = "the process would find something else in them",
    note = "call `copy()` first, and `commit()` on what that gives"
)]
pub trait AreCopied {}

/// Pages whose content is in both places. Dropping them may sleep.
#[must_use = "the pages go back to where they were when this is dropped: go on with `commit()`"]
pub struct Copied<'m, T: DevPagemapOps>(Step<'m, T>);

impl<'m, T: DevPagemapOps> Copied<'m, T> {
    /// Makes the new places the pages of the process.
    ///
    /// # Context
    ///
    /// May sleep. The notifiers of the range are called where there was nothing yet, so no lock may
    /// be held that they take.
    pub fn commit(self) -> Committed<'m> {
        let Step {
            pagemap,
            mut flight,
            way,
        } = self.0;
        flight.migrate();
        let result = flight.result();
        let moved = NrPages::new(result.moved);
        let counters = pagemap.counters();
        counters.migrated(way, NrPages::new(result.copied), moved);
        counters.failed_often(Failure::PageRefused, result.refused);
        Committed {
            moved,
            _flight: flight,
        }
    }
}

/// Pages that have moved, and are about to be seen by the process again: when this is dropped,
/// which may sleep.
pub struct Committed<'m> {
    moved: NrPages,
    _flight: Flight<'m>,
}

impl Committed<'_> {
    /// How many pages have moved.
    pub fn nr_moved(&self) -> NrPages {
        self.moved
    }
}
