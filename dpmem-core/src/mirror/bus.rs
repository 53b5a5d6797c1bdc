// SPDX-License-Identifier: GPL-2.0

//! How a device reaches the system memory of a process, for as long as it is mirrored.
//!
//! A mapping for DMA gives memory to a device, and unmapping it gives it back. Here nobody gives
//! anything back: CPUs and the device use a page at the same time. So what needs caches to be
//! cleaned, or bounce buffers, cannot be mirrored, and is refused; `hmm_dma_map_alloc()` does the
//! same.
//!
//! C header: [`include/linux/dma-mapping.h`](srctree/include/linux/dma-mapping.h)

use core::ptr::NonNull;

use kernel::{
    bindings,
    device::{
        Bound,
        Device, //
    },
    dma::{
        DataDirection,
        DmaAddress, //
    },
    error::to_result,
    page::PAGE_SIZE,
    prelude::*,
    sync::aref::ARef, //
};

use crate::number::NrPages;

use super::table::DmaRun;

/// Nobody hands the memory over.
const ATTRS: c_ulong = bindings::DMA_ATTR_SKIP_CPU_SYNC as c_ulong;

/// `EOPNOTSUPP`, which the kernel crate of 7.2 has no name for.
pub(super) fn not_supported() -> Error {
    // CAST: The number of an error.
    Error::from_errno(-(bindings::EOPNOTSUPP as c_int))
}

/// Which device reaches the memory of a mirror.
///
/// # Invariants
///
/// The device of `Bound` has its driver.
pub(super) enum Bus {
    /// None does, by itself.
    None,
    /// This one.
    Bound(ARef<Device>),
    /// One whose driver has been unbound.
    Gone,
}

/// What the device may do with a page.
fn direction(writable: bool) -> bindings::dma_data_direction {
    match writable {
        true => DataDirection::Bidirectional,
        false => DataDirection::ToDevice,
    }
    .into()
}

/// The C structure, which C may change at any time.
fn raw(device: &Device) -> *mut bindings::device {
    // CAST: A `Device` is a transparent wrapper of it.
    core::ptr::from_ref(device).cast_mut().cast()
}

/// Whether `device` can use memory while CPUs do.
pub(super) fn is_shareable(device: &Device<Bound>) -> bool {
    // SAFETY: The device is bound, and so has what its bus knows of DMA.
    let limited = unsafe { bindings::dma_addressing_limited(raw(device)) };
    // SAFETY: Reads a flag of a device.
    !limited && unsafe { bindings::dma_dev_never_syncs(raw(device)) }
}

impl Bus {
    /// The device `device`.
    ///
    /// # Safety
    ///
    /// It must have its driver for as long as this is not something else.
    pub(super) unsafe fn bound(device: ARef<Device>) -> Self {
        // INVARIANT: The caller promises it.
        Self::Bound(device)
    }

    /// Whether what is mapped for the device is mapped one by one.
    pub(super) fn is_bound(&self) -> bool {
        matches!(self, Self::Bound(_))
    }

    /// Maps the `nr` pages from `page` on, for the device to read, or to write as well; `None` if
    /// there is no device. Does not sleep.
    ///
    /// # Errors
    ///
    /// [`ENODEV`] if it has no driver any more; `EOPNOTSUPP` if it needs bounce buffers;
    /// [`ENOMEM`].
    ///
    /// # Safety
    ///
    /// The pages must be of one folio of system memory, follow each other, and not be freed before
    /// they are unmapped.
    pub(super) unsafe fn map(
        &self,
        page: NonNull<bindings::page>,
        nr: NrPages,
        writable: bool,
    ) -> Result<Option<DmaAddress>> {
        let device = match self {
            Self::None => return Ok(None),
            Self::Gone => return Err(ENODEV),
            Self::Bound(device) => device,
        };
        let size = nr.to_bytes().ok_or(EINVAL)?;
        // SAFETY: The device has its driver, by the type invariants. The caller promises pages that
        // follow each other, and are not freed before they are unmapped.
        let address = unsafe {
            bindings::dma_map_page_attrs(
                raw(device),
                page.as_ptr(),
                0,
                size,
                direction(writable),
                ATTRS,
            )
        };
        // SAFETY: The address is what the function above has returned.
        to_result(unsafe { bindings::dma_mapping_error(raw(device), address) })?;
        // SAFETY: Reads a flag of a device, which says no from the first bounce buffer on.
        if !unsafe { bindings::dma_dev_never_syncs(raw(device)) } {
            let run = DmaRun {
                address,
                nr,
                writable,
            };
            // SAFETY: It has just been mapped so, and nobody knows the address.
            unsafe { self.unmap(run) };
            return Err(not_supported());
        }
        Ok(Some(address))
    }

    /// Unmaps what was mapped. Does not sleep.
    ///
    /// # Safety
    ///
    /// [`Bus::map`] must have mapped it so, and nobody may use the address any more.
    pub(super) unsafe fn unmap(&self, run: DmaRun) {
        let Self::Bound(device) = self else {
            return;
        };
        let size = run.nr.get().saturating_mul(PAGE_SIZE);
        // SAFETY: The device has its driver, by the type invariants, and the caller promises that
        // so much is mapped there.
        unsafe {
            bindings::dma_unmap_page_attrs(
                raw(device),
                run.address,
                size,
                direction(run.writable),
                ATTRS,
            )
        };
    }
}
