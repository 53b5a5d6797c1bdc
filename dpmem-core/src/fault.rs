// SPDX-License-Identifier: GPL-2.0

//! A CPU has touched a page of the device.
//!
//! C header: [`include/linux/mm.h`](srctree/include/linux/mm.h)

use core::ptr::NonNull;

use kernel::{
    bindings,
    prelude::*, //
};

use crate::{
    flight::{
        Entries,
        Flight,
        Select, //
    },
    migrate::{
        Collected,
        Way, //
    },
    number::{
        NrPages,
        UserAddr,
        UserRange, //
    },
    ops::DevPagemapOps,
    pagemap::DevPagemap, //
};

/// How a fault ends: `vm_fault_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the kernel waits for the answer to a fault"]
pub enum FaultAnswer {
    /// The page has come home, or is on its way: the CPU tries again.
    Retry,
    /// There is no memory to bring it home to.
    Oom,
    /// The content is lost. The process gets a `SIGBUS`.
    Sigbus,
}

impl FaultAnswer {
    /// The value that C knows.
    pub(crate) fn into_raw(self) -> bindings::vm_fault_t {
        match self {
            Self::Retry => 0,
            Self::Oom => bindings::vm_fault_reason_VM_FAULT_OOM,
            Self::Sigbus => bindings::vm_fault_reason_VM_FAULT_SIGBUS,
        }
    }
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

    /// Brings the page home.
    ///
    /// # Context
    ///
    /// May sleep.
    pub fn migrate(self) -> FaultAnswer {
        match self.try_migrate() {
            Ok(answer) => answer,
            Err(_) => FaultAnswer::Sigbus,
        }
    }

    fn try_migrate(self) -> Result<FaultAnswer> {
        let range = UserRange::new(self.address(), NrPages::new(1))?;
        let (mut src, mut dst) = ([0], [0]);
        let entries = Entries {
            src: &mut src,
            dst: &mut dst,
        };
        // SAFETY: The fault is valid, by the type invariants.
        let vma = unsafe { (*self.vmf.as_ptr()).__bindgen_anon_1.vma };
        // SAFETY: As above.
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
        if !flight.source(0).is_migrating() {
            // Somebody was faster, or is looking at the page just now.
            return Ok(FaultAnswer::Retry);
        }
        let filled = Collected::new(self.pagemap, flight, Way::ToRam).fill();
        if !filled.is_complete() {
            return Ok(FaultAnswer::Oom);
        }
        // That nothing has moved means that somebody is looking at the page just now.
        filled.copy()?.commit();
        Ok(FaultAnswer::Retry)
    }
}
