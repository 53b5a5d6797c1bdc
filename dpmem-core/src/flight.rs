// SPDX-License-Identifier: GPL-2.0

//! Pages on their way: what every migration has in common.
//!
//! The kernel has locked the sources, and taken them out of all page tables. From here on the
//! duty is to give each of them back, here or there, whatever happens; [`Flight`] does so when it
//! is dropped.
//!
//! C header: [`include/linux/migrate.h`](srctree/include/linux/migrate.h)

use core::{
    marker::PhantomData,
    ptr::NonNull, //
};

use kernel::{
    bindings,
    error::to_result,
    prelude::*, //
};

use crate::{
    backend::Backend,
    folio::{
        drop_destination,
        large_order,
        order_of,
        RamFolio, //
    },
    migrate_pfn::MigratePfn,
    number::{
        NrPages,
        Order,
        PageOffset,
        UserRange, //
    }, //
};

/// The two arrays that a migration works on.
pub(crate) struct Entries<'m> {
    /// What is to be moved. The kernel writes it.
    pub(crate) src: &'m mut [c_ulong],
    /// Where it is to be moved. We write it.
    pub(crate) dst: &'m mut [c_ulong],
}

impl<'m> Entries<'m> {
    /// Room for how many pages there is.
    fn len(&self) -> usize {
        self.src.len().min(self.dst.len())
    }

    /// Empties all entries, and takes the arrays as pointers.
    fn into_raw(self) -> Option<(NonNull<c_ulong>, NonNull<c_ulong>)> {
        self.src.fill(0);
        self.dst.fill(0);
        Some((
            NonNull::new(self.src.as_mut_ptr())?,
            NonNull::new(self.dst.as_mut_ptr())?,
        ))
    }
}

/// Says that large folios are selected as a whole.
// CAST: The constants come as `u32`, for a field of type `unsigned long`.
const COMPOUND: c_ulong = bindings::migrate_vma_direction_MIGRATE_VMA_SELECT_COMPOUND as c_ulong;

/// Which pages the kernel is to select.
#[derive(Clone, Copy)]
pub(crate) enum Select {
    /// Pages of system memory, and holes.
    System,
    /// The same, but large folios are split first.
    SystemSmall,
    /// Pages of system memory, holes, and pages of device-private memory that belong to the owner.
    SystemAndPeers,
    /// Pages of device-private memory that belong to the owner.
    DevicePrivate,
    /// Pages of device-coherent memory that belong to the owner.
    DeviceCoherent,
}

impl Select {
    /// The flags that C knows. Large folios are selected as a whole where the kernel can do that.
    fn into_raw(self) -> c_ulong {
        let what = match self {
            Self::System | Self::SystemSmall => {
                bindings::migrate_vma_direction_MIGRATE_VMA_SELECT_SYSTEM
            }
            Self::SystemAndPeers => {
                bindings::migrate_vma_direction_MIGRATE_VMA_SELECT_SYSTEM
                    | bindings::migrate_vma_direction_MIGRATE_VMA_SELECT_DEVICE_PRIVATE
            }
            Self::DevicePrivate => {
                bindings::migrate_vma_direction_MIGRATE_VMA_SELECT_DEVICE_PRIVATE
            }
            Self::DeviceCoherent => {
                bindings::migrate_vma_direction_MIGRATE_VMA_SELECT_DEVICE_COHERENT
            }
        };
        let compound = match (self, large_order()) {
            (Self::System | Self::SystemAndPeers | Self::DevicePrivate, Some(_)) => COMPOUND,
            _ => 0,
        };
        // CAST: The constants come as `u32`, for a field of type `unsigned long`.
        what as c_ulong | compound
    }
}

/// What has become of pages that had somewhere to go.
#[derive(Default)]
pub(crate) struct Moved {
    /// How many pages there were of these.
    pub(crate) copied: usize,
    /// How many of them have moved.
    pub(crate) moved: usize,
    /// How many folios have stayed.
    pub(crate) refused: usize,
}

/// How the pages were found, which decides what must be called for them.
enum Origin {
    /// In an address space.
    Vma(bindings::migrate_vma),
    /// In the device.
    Device,
}

/// Pages that are locked and unmapped.
///
/// # Invariants
///
/// - `src` and `dst` have room for `nr` entries, and nobody else uses them during `'m`.
/// - Each entry of `src` is what the kernel made of it, and it waits for them to be finalized.
/// - Until `migrated`, each entry of `dst` is empty, or owns the lock and a reference to a folio.
///   Afterwards, they are the kernel's.
/// - If the origin is an address space, its VMA is valid during `'m`, and its mmap lock held.
pub(crate) struct Flight<'m> {
    origin: Origin,
    src: NonNull<c_ulong>,
    dst: NonNull<c_ulong>,
    nr: usize,
    migrated: bool,
    _entries: PhantomData<Entries<'m>>,
}

impl<'m> Flight<'m> {
    /// Finds the pages of `range` that `select` names, locks and unmaps them. Sleeps.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if the range is longer than the arrays, does not lie in the VMA, or if its pages
    /// cannot be migrated at all.
    ///
    /// # Safety
    ///
    /// `vma` must be valid, and its mmap lock be held, during `'m`. `fault_page` must be null, or
    /// a locked device-private page that the caller has a reference to.
    pub(crate) unsafe fn from_vma(
        vma: *mut bindings::vm_area_struct,
        range: UserRange,
        select: Select,
        owner: *mut c_void,
        fault_page: *mut bindings::page,
        entries: Entries<'m>,
    ) -> Result<Self> {
        if range.nr_pages().get() > entries.len() {
            return Err(EINVAL);
        }
        let (src, dst) = entries.into_raw().ok_or(EINVAL)?;
        let mut args = bindings::migrate_vma {
            vma,
            dst: dst.as_ptr(),
            src: src.as_ptr(),
            start: range.start().get(),
            end: range.end().get(),
            pgmap_owner: owner,
            flags: select.into_raw(),
            fault_page,
            ..pin_init::zeroed()
        };
        // SAFETY: The arrays have room for the range, which was checked. The caller promises the
        // rest.
        to_result(unsafe { bindings::migrate_vma_setup(&mut args) })?;
        // INVARIANT: The setup wrote the sources; the destinations are empty.
        Ok(Self {
            nr: args.npages,
            origin: Origin::Vma(args),
            src,
            dst,
            migrated: false,
            _entries: PhantomData,
        })
    }

    /// Finds the pages of the device that are in service in `pieces`, which begin at an offset and
    /// have so many pages each, locks and unmaps them. Sleeps.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if there are more pages than the arrays have room for, or if they do not lie in
    /// the pagemap. Those before are put back.
    ///
    /// # Safety
    ///
    /// The pagemap of `backend` must be registered, during `'m`.
    pub(crate) unsafe fn from_device(
        backend: &Backend,
        pieces: impl Iterator<Item = (PageOffset, NrPages)>,
        entries: Entries<'m>,
    ) -> Result<Self> {
        let room = entries.len();
        let (src, dst) = entries.into_raw().ok_or(EINVAL)?;
        // INVARIANT: There is no source yet; the destinations are empty.
        let mut flight = Self {
            origin: Origin::Device,
            src,
            dst,
            nr: 0,
            migrated: false,
            _entries: PhantomData,
        };
        for (offset, nr) in pieces {
            let end = flight.nr.checked_add(nr.get()).filter(|end| *end <= room);
            let end = end.ok_or(EINVAL)?;
            let last = offset.checked_add(nr).ok_or(EINVAL)?;
            if last.get() > backend.nr_pages().get() {
                return Err(EINVAL);
            }
            // SAFETY: The array has room up to `end`, which was checked.
            let src = unsafe { flight.src.add(flight.nr) };
            // SAFETY: As above, and these entries are empty. The pagemap has the pages, which was
            // checked, and is registered, as the caller promises.
            unsafe { backend.migrate_device_range(src.as_ptr(), offset, nr) };
            // INVARIANT: The function wrote these sources.
            flight.nr = end;
        }
        Ok(flight)
    }

    /// How many entries there are.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.nr
    }

    /// The source of entry `i`, empty beyond the last.
    #[inline]
    pub(crate) fn source(&self, i: usize) -> MigratePfn {
        if i >= self.nr {
            return MigratePfn::NONE;
        }
        // SAFETY: The entry exists, by the type invariants and the check above.
        MigratePfn::from_raw(unsafe { self.src.add(i).read() })
    }

    /// The destination of entry `i`, empty beyond the last.
    #[inline]
    pub(crate) fn destination(&self, i: usize) -> MigratePfn {
        if i >= self.nr {
            return MigratePfn::NONE;
        }
        // SAFETY: The entry exists, by the type invariants and the check above.
        MigratePfn::from_raw(unsafe { self.dst.add(i).read() })
    }

    /// The size of the folio, or of the hole, that entry `i` stands for: it and as many entries
    /// behind it as the folio has other pages, if they are there.
    #[inline]
    pub(crate) fn order(&self, i: usize) -> Order {
        if self.source(i).is_compound() {
            self.order_of_compound(i)
        } else {
            Order::ZERO
        }
    }

    /// As [`Flight::order`], for an entry whose source is large.
    fn order_of_compound(&self, i: usize) -> Order {
        let order = match self.source(i).page() {
            // SAFETY: The flight holds a reference to its source, which is the first page of its
            // folio.
            Some(page) => Some(unsafe { order_of(page.cast()) }),
            None => large_order(),
        };
        order
            .filter(|order| order.nr_pages().get() <= self.nr.saturating_sub(i))
            .unwrap_or(Order::ZERO)
    }

    /// The entry that entry `i` belongs to: the one of its large folio, or itself.
    fn head(&self, i: usize) -> usize {
        let mut head = 0usize;
        while head < self.nr {
            let next = head.saturating_add(self.order(head).nr_pages().get());
            if i < next {
                return head;
            }
            head = next;
        }
        i
    }

    /// Whether page `i` was found, alone or with the folio that it is a part of, and not just a
    /// hole.
    pub(crate) fn is_collected(&self, i: usize) -> bool {
        let src = self.source(self.head(i));
        src.is_migrating() && src.is_valid()
    }

    /// Whether page `i` has somewhere to go, alone or with the folio that it is a part of.
    pub(crate) fn has_destination(&self, i: usize) -> bool {
        let whole = self.destination(self.head(i)).is_compound();
        whole || self.destination(i).is_valid()
    }

    /// Empties the destination of entry `i`. What was there is dropped.
    pub(crate) fn clear_destination(&mut self, i: usize) {
        if i >= self.nr || self.migrated {
            return;
        }
        let old = self.destination(i);
        // SAFETY: The entry exists, by the type invariants and the check above.
        unsafe { self.dst.add(i).write(MigratePfn::NONE.into_raw()) };
        // SAFETY: What an entry has is its own, by the type invariants, and it was just emptied.
        unsafe { drop_destination(old) };
    }

    /// Sets the destination of entry `i`, as writable as the source. A destination that was there,
    /// or is not wanted, is dropped.
    ///
    /// # Safety
    ///
    /// `dst` must own the lock and a reference to a folio of the size of the source, and must not
    /// be used again.
    pub(crate) unsafe fn set_destination(&mut self, i: usize, dst: MigratePfn) {
        let src = self.source(i);
        let unwanted = if i >= self.nr || self.migrated || !src.is_migrating() {
            dst
        } else {
            let old = self.destination(i);
            let new = dst.with_write(src.is_writable());
            // INVARIANT: The caller gives away lock and reference.
            // SAFETY: The entry exists, by the type invariants and the check above.
            unsafe { self.dst.add(i).write(new.into_raw()) };
            old
        };
        // SAFETY: It is the caller's, who gave it away, or was that of an entry, which has another
        // one now.
        unsafe { drop_destination(unwanted) };
    }

    /// A folio of system memory to receive `order` pages from entry `i` on. Sleeps.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub(crate) fn alloc_ram(&self, i: usize, order: Order) -> Result<RamFolio> {
        match &self.origin {
            Origin::Vma(args) => {
                // OVERFLOW: An entry is a page of the range, whose end can be expressed.
                let addr = args
                    .start
                    .wrapping_add(i.wrapping_mul(kernel::page::PAGE_SIZE));
                // SAFETY: The VMA is valid and its lock held, by the type invariants, and the
                // address lies in the range that the setup accepted.
                unsafe { RamFolio::for_vma(args.vma, addr, order) }
            }
            Origin::Device => RamFolio::for_anyone(order),
        }
    }

    /// Gives everything back, and finds it again in single pages: the kernel splits large folios
    /// while they are mapped. It could split them later as well, when they have small destinations;
    /// but then it splits only the entry of this process, and not those of others that have the
    /// folio. False if that is not possible, because the pages were found by their offsets.
    pub(crate) fn collect_small(&mut self) -> bool {
        if self.migrated {
            return false;
        }
        (0..self.nr).for_each(|i| self.clear_destination(i));
        let Origin::Vma(args) = &mut self.origin else {
            return false;
        };
        // SAFETY: The setup has run on the same arguments, and there is no destination, so that
        // every page goes back to where it was.
        unsafe { bindings::migrate_vma_finalize(args) };
        args.flags &= !COMPOUND;
        args.npages = 0;
        // SAFETY: These are the arguments of the first setup, but for a flag. The VMA is valid, and
        // its lock held, by the type invariants.
        let again = to_result(unsafe { bindings::migrate_vma_setup(args) });
        // INVARIANT: The setup wrote the sources; if it failed, there are none.
        self.nr = match again {
            Ok(()) => args.npages,
            Err(_) => 0,
        };
        true
    }

    /// Moves what belongs to the pages besides their content: mappings, flags, accounting. Entries
    /// without a destination stay where they are, and some may fail. Sleeps.
    pub(crate) fn migrate(&mut self) {
        if self.migrated {
            return;
        }
        // INVARIANT: The destinations are the kernel's from here on.
        self.migrated = true;
        match &mut self.origin {
            // SAFETY: The setup has run on the same arguments, and each destination is a locked
            // folio with a reference, by the type invariants.
            Origin::Vma(args) => unsafe { bindings::migrate_vma_pages(args) },
            // SAFETY: The arrays are those of the range, and each destination is a locked folio
            // with a reference, by the type invariants.
            Origin::Device => unsafe {
                bindings::migrate_device_pages(self.src.as_ptr(), self.dst.as_ptr(), self.nr)
            },
        }
    }

    /// What has become of the pages that had somewhere to go, once [`Flight::migrate`] has been
    /// called.
    pub(crate) fn result(&self) -> Moved {
        let mut result = Moved::default();
        let large = nr_of_large();
        for i in (0..self.nr).filter(|_| self.migrated) {
            let dst = self.destination(i);
            if !dst.is_valid() {
                continue;
            }
            let nr = if dst.is_compound() { large } else { 1 };
            result.copied = result.copied.saturating_add(nr);
            if !self.source(i).is_migrating() {
                result.refused = result.refused.saturating_add(1);
                continue;
            }
            result.moved = result.moved.saturating_add(nr);
        }
        result
    }

    /// How many pages have somewhere to go.
    pub(crate) fn nr_filled(&self) -> NrPages {
        self.nr_filled_from(0)
    }

    /// How many pages have somewhere to go, of the entries from `first` on.
    pub(crate) fn nr_filled_from(&self, first: usize) -> NrPages {
        let large = nr_of_large();
        let pages = |i: usize| match self.destination(i) {
            dst if !dst.is_valid() => 0,
            dst if dst.is_compound() => large,
            _ => 1,
        };
        NrPages::new((first..self.nr).map(pages).sum())
    }

    /// Whether there is a page that has somewhere to go.
    pub(crate) fn is_filled(&self) -> bool {
        (0..self.nr).any(|i| self.destination(i).is_valid())
    }

    /// How many large folios were found.
    pub(crate) fn nr_large(&self) -> usize {
        let large = |src: MigratePfn| src.is_migrating() && src.is_valid() && src.is_compound();
        (0..self.nr).filter(|i| large(self.source(*i))).count()
    }
}

/// How many pages a destination stands for that is a whole large folio.
fn nr_of_large() -> usize {
    large_order().map_or(1, |order| order.nr_pages().get())
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        if !self.migrated {
            for i in 0..self.nr {
                self.clear_destination(i);
            }
        }
        match &mut self.origin {
            // SAFETY: The setup has run on the same arguments. Either the pages were migrated, or
            // there is no destination, so that every page goes back to where it was.
            Origin::Vma(args) => unsafe { bindings::migrate_vma_finalize(args) },
            // SAFETY: As above, for the arrays of the range.
            Origin::Device => unsafe {
                bindings::migrate_device_finalize(self.src.as_ptr(), self.dst.as_ptr(), self.nr)
            },
        }
    }
}
