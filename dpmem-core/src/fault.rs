// SPDX-License-Identifier: GPL-2.0

//! A CPU has touched a page of the device.
//!
//! C header: [`include/linux/mm.h`](srctree/include/linux/mm.h)

use core::{
    marker::PhantomData,
    ptr::NonNull, //
};

use kernel::{
    bindings,
    mm::virt::VmaRef,
    prelude::*,
    types::ForeignOwnable, //
};

use crate::{
    counters::Failure,
    data,
    flight::{
        Entries,
        Flight,
        Select, //
    },
    folio::{
        large_order,
        order_of, //
    },
    migrate::{
        Collected,
        Large,
        MigrateBuffer,
        Way, //
    },
    number::{
        NrPages,
        Order,
        UserAddr,
        UserRange, //
    },
    ops::DevPagemapOps,
    pagemap::DevPagemap, //
};

/// The lifetime of a fault, and no longer or shorter one.
type OfFault<'f> = PhantomData<fn(&'f ()) -> &'f ()>;

/// How a fault ends: `vm_fault_t`. Only the fault itself can tell: see [`Fault::migrate`] and
/// [`Fault::fail`]. It is the answer to no other one: each has a lifetime of its own.
#[must_use = "the kernel waits for the answer to a fault: return it from `migrate_to_ram()`"]
pub struct FaultAnswer<'f>(bindings::vm_fault_t, OfFault<'f>);

impl FaultAnswer<'_> {
    /// The page has come home, or is about to: the CPU tries again.
    const RETRY: Self = Self(0, PhantomData);

    /// The value that C knows.
    pub(crate) fn into_raw(self) -> bindings::vm_fault_t {
        self.0
    }
}

/// Why a page cannot come home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultError {
    /// There is no memory for it.
    OutOfMemory,
    /// It cannot be copied. The process gets a `SIGBUS`; the page stays on the device.
    Bus,
}

/// A CPU fault at a page of `T`'s device: `struct vm_fault`.
///
/// # Invariants
///
/// `vmf` is a fault at a locked page of `pagemap`, which has a reference for it, and the mmap lock
/// is held for reading, all during `'f`.
pub struct Fault<'f, T: DevPagemapOps> {
    vmf: NonNull<bindings::vm_fault>,
    pagemap: &'f DevPagemap<T>,
    _life: OfFault<'f>,
}

impl<'f, T: DevPagemapOps> Fault<'f, T> {
    /// The fault `vmf`.
    ///
    /// # Safety
    ///
    /// `vmf` must be a fault at a locked page of `pagemap`, to which the caller holds a reference,
    /// and the mmap lock must be held for reading, all during `'f`.
    pub(crate) unsafe fn from_raw(
        vmf: *mut bindings::vm_fault,
        pagemap: &'f DevPagemap<T>,
    ) -> Self {
        Self {
            // INVARIANT: The caller promises it.
            // SAFETY: The caller promises a valid pointer.
            vmf: unsafe { NonNull::new_unchecked(vmf) },
            pagemap,
            _life: PhantomData,
        }
    }

    /// The pagemap that the page belongs to.
    pub fn pagemap(&self) -> &'f DevPagemap<T> {
        self.pagemap
    }

    /// The page that was touched.
    pub fn address(&self) -> UserAddr {
        // SAFETY: The fault is valid, by the type invariants.
        UserAddr::containing(unsafe { (*self.vmf.as_ptr()).__bindgen_anon_1.address })
    }

    /// What the driver keeps with the folio that was touched, if it gave it anything.
    ///
    /// # Context
    ///
    /// Does not sleep.
    pub fn data(&self) -> Option<<T::Data as ForeignOwnable>::Borrowed<'_>> {
        // SAFETY: The fault is valid, by the type invariants.
        let page = NonNull::new(unsafe { (*self.vmf.as_ptr()).page })?;
        // SAFETY: It is a page of the pagemap, which has a reference for as long as the fault.
        unsafe { data::borrow::<T::Data>(page) }
    }

    /// Brings the page home. A large folio comes as a whole, if all of it is mapped here.
    ///
    /// # Context
    ///
    /// May sleep.
    pub fn migrate(self) -> FaultAnswer<'f> {
        self.migrate_around(NrPages::new(1))
    }

    /// Brings the page home, and with it the pages of the device among the `nr` around it: from an
    /// address that is a multiple of so many pages, as far as the mapping reaches. If they cannot
    /// all be moved, the page that was touched is tried alone.
    ///
    /// # Context
    ///
    /// May sleep.
    pub fn migrate_around(self, nr: NrPages) -> FaultAnswer<'f> {
        let one = NrPages::new(1);
        let result = match self.try_migrate(nr.max(one)) {
            // That a neighbour cannot come home is none of this process's business.
            Err(_) if nr > one => self.try_migrate(one),
            result => result,
        };
        match result {
            // Somebody is using the device just now: the CPU tries again, as with a page that is in
            // use.
            Ok(()) | Err(EBUSY | EAGAIN) => FaultAnswer::RETRY,
            Err(ENOMEM) => self.fail(FaultError::OutOfMemory),
            Err(_) => self.fail(FaultError::Bus),
        }
    }

    /// Leaves the page where it is.
    pub fn fail(self, error: FaultError) -> FaultAnswer<'f> {
        let answer = match error {
            FaultError::OutOfMemory => bindings::vm_fault_reason_VM_FAULT_OOM,
            FaultError::Bus => bindings::vm_fault_reason_VM_FAULT_SIGBUS,
        };
        FaultAnswer(answer, PhantomData)
    }

    /// The order of the folio that was touched.
    fn order(&self) -> Order {
        // SAFETY: The fault is valid, by the type invariants.
        let page = unsafe { (*self.vmf.as_ptr()).page };
        // SAFETY: The page is locked and has a reference, by the type invariants.
        let folio = unsafe { bindings::page_folio(page) };
        // SAFETY: As above.
        NonNull::new(folio).map_or(Order::ZERO, |folio| unsafe { order_of(folio) })
    }

    /// The range to be brought home: the large folio that was touched, if the fault was one of a
    /// whole PMD, and otherwise `nr` pages.
    fn range(&self, vma: &VmaRef, nr: NrPages) -> Result<UserRange> {
        // SAFETY: The fault is valid, by the type invariants.
        let pte = unsafe { (*self.vmf.as_ptr()).pte };
        let order = self.order();
        let nr = match large_order().filter(|_| pte.is_null()) {
            // A window cuts no huge page.
            Some(large) => {
                let whole = large.nr_pages().get();
                let nr = nr.get().checked_next_multiple_of(whole);
                NrPages::new(nr.unwrap_or(whole).max(whole))
            }
            // The kernel splits a large folio of which a PTE was touched, and then takes the lock
            // of one part for that of another, if there are more pages.
            None if order > Order::ZERO => NrPages::new(1),
            None => nr,
        };
        let mapping = UserRange::between(UserAddr::new(vma.start())?, UserAddr::new(vma.end())?)?;
        self.address()
            .window(nr)
            .and_then(|window| mapping.intersection(window))
            .ok_or(EINVAL)
    }

    /// Splits the large folio that was touched, for which there is no memory as large: the CPU
    /// tries again, and finds a page. That it cannot be split means that somebody is looking at it
    /// just now.
    fn split(&self) -> Result {
        // SAFETY: The fault is valid, by the type invariants.
        let page = unsafe { (*self.vmf.as_ptr()).page };
        // SAFETY: The page is locked and has a reference, by the type invariants, and its folio is
        // not in flight any more.
        match unsafe { bindings::split_huge_page(page) } {
            0 => self.pagemap.counters().split(1),
            _ => self.pagemap.counters().failed(Failure::PageBusy),
        }
        Ok(())
    }

    fn try_migrate(&self, nr: NrPages) -> Result {
        // SAFETY: The fault is valid, by the type invariants.
        let vma = unsafe { (*self.vmf.as_ptr()).__bindgen_anon_1.vma };
        // SAFETY: The VMA of a fault is valid, and its mmap lock held, by the type invariants.
        let range = self.range(unsafe { VmaRef::from_raw(vma) }, nr)?;
        // What most faults are about is one page.
        let (mut src, mut dst) = ([0], [0]);
        let mut buffer;
        let entries = if range.nr_pages() == NrPages::new(1) {
            Entries {
                src: &mut src,
                dst: &mut dst,
            }
        } else {
            buffer = MigrateBuffer::new(range.nr_pages())
                .inspect_err(|_| self.pagemap.counters().failed(Failure::NoMemory))?;
            buffer.entries()
        };
        // SAFETY: The fault is valid, by the type invariants.
        let page = unsafe { (*self.vmf.as_ptr()).page };
        // SAFETY: The VMA of a fault is valid, and its mmap lock held, by the type invariants. The
        // page is locked and private, and has a reference.
        let flight = unsafe {
            Flight::from_vma(
                vma,
                range,
                Select::DevicePrivate,
                self.pagemap.owner(),
                page,
                entries,
            )
        }?;
        let touched = range.index_of(self.address()).ok_or(EINVAL)?;
        if !flight.is_collected(touched) {
            // Somebody was faster, and moved or dropped the page, or is looking at it just now.
            self.pagemap.counters().failed(Failure::PageBusy);
            return Ok(());
        }
        // SAFETY: What was selected are private pages whose owner is that of the pagemap, and they
        // have no destinations yet.
        let collected = unsafe { Collected::new(self.pagemap, flight, Way::ToRam) };
        let (filled, large) = collected.fill_whole();
        if !filled.is_filled(touched) {
            drop(filled);
            return match large {
                Large::NoPlace if self.order() > Order::ZERO => self.split(),
                _ => Err(ENOMEM),
            };
        }
        // That nothing has moved means that somebody is looking at the page just now.
        let copied = filled.copy().map(|copied| {
            copied.commit();
        });
        match copied {
            // What is too large for the device to be mapped may not be in pieces.
            Err(ENOMEM) if self.order() > Order::ZERO => self.split(),
            copied => copied,
        }
    }
}
