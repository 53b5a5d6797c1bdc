// SPDX-License-Identifier: GPL-2.0

//! How a device reaches the system memory of a process, for as long as it is mirrored.
//!
//! A mapping for DMA gives memory to a device, and unmapping it gives it back. Here nobody gives
//! anything back: CPUs and the device use a page at the same time. So what needs caches to be
//! cleaned, or bounce buffers, cannot be mirrored, and is refused: `DMA_ATTR_REQUIRE_COHERENT`, as
//! in `hmm_dma_map_pfn()`. Pages come and go one by one, and are mapped so.
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
    page::{
        Page,
        PAGE_SIZE, //
    },
    prelude::*,
    sync::aref::ARef, //
};

use crate::{
    dma::as_raw,
    number::NrPages, //
};

use super::table::DmaRun;

/// Nobody hands the memory over.
// CAST: What bindgen makes of a number has the type that fits.
const ATTRS: c_ulong = bindings::DMA_ATTR_REQUIRE_COHERENT as c_ulong;

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
    /// One that is not bound yet, or not any more.
    Unbound,
}

/// What the device may do with a page.
fn direction(writable: bool) -> bindings::dma_data_direction {
    match writable {
        true => DataDirection::Bidirectional,
        false => DataDirection::ToDevice,
    }
    .into()
}

/// Maps the `nr` pages from `page` on, for `device` to read, or to write as well. Does not sleep.
///
/// # Errors
///
/// [`ENOMEM`], also if the pages would need bounce buffers, or caches to be cleaned.
///
/// # Safety
///
/// The device must have its driver. The pages must be of one folio of system memory, follow each
/// other, and not be freed before they are unmapped.
unsafe fn map(
    device: &Device,
    page: NonNull<bindings::page>,
    nr: NrPages,
    writable: bool,
) -> Result<DmaRun> {
    let size = nr.to_bytes().ok_or(EINVAL)?;
    // SAFETY: The caller promises a device that has its driver, and pages that follow each other,
    // and are not freed before they are unmapped.
    let address = unsafe {
        bindings::dma_map_page_attrs(
            as_raw(device),
            page.as_ptr(),
            0,
            size,
            direction(writable),
            ATTRS,
        )
    };
    // SAFETY: The address is what the function above has returned.
    to_result(unsafe { bindings::dma_mapping_error(as_raw(device), address) })?;
    Ok(DmaRun {
        address,
        nr,
        writable,
    })
}

/// Unmaps what was mapped. Does not sleep.
///
/// # Safety
///
/// The device must have its driver, [`map`] must have given the run, for it, and nobody may use the
/// address any more.
unsafe fn unmap(device: &Device, run: DmaRun) {
    let size = run.nr.get().saturating_mul(PAGE_SIZE);
    // SAFETY: The caller promises that so much is mapped there.
    unsafe {
        bindings::dma_unmap_page_attrs(
            as_raw(device),
            run.address,
            size,
            direction(run.writable),
            ATTRS,
        )
    };
}

/// Finds out whether `device` can use memory while CPUs do. May sleep.
///
/// # Errors
///
/// `EOPNOTSUPP` if it cannot; [`ENOMEM`].
pub(super) fn check(device: &Device<Bound>) -> Result {
    let page = Page::alloc_page(GFP_KERNEL)?;
    // SAFETY: The device is bound, and so has what its bus knows of DMA.
    if unsafe { bindings::dma_addressing_limited(as_raw(device)) } {
        return Err(not_supported());
    }
    let first = NonNull::new(page.as_ptr()).ok_or(ENOMEM)?;
    // SAFETY: The device is bound. The page is ours until it is unmapped.
    let run = unsafe { map(device, first, NrPages::new(1), true) };
    let run = run.map_err(|_| not_supported())?;
    // SAFETY: The device is bound, and the run was just mapped for it. Nobody knows the address.
    unsafe { unmap(device, run) };
    Ok(())
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
    /// [`ENODEV`] if it has no driver; [`ENOMEM`].
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
        match self {
            Self::None => Ok(None),
            Self::Unbound => Err(ENODEV),
            Self::Bound(device) => {
                // SAFETY: The device has its driver, by the type invariants. The caller promises the
                // rest.
                let run = unsafe { map(device, page, nr, writable) }?;
                Ok(Some(run.address))
            }
        }
    }

    /// Unmaps what was mapped. Does not sleep.
    ///
    /// # Safety
    ///
    /// [`Bus::map`] must have mapped it so, and nobody may use the address any more.
    pub(super) unsafe fn unmap(&self, run: DmaRun) {
        if let Self::Bound(device) = self {
            // SAFETY: The device has its driver, by the type invariants. The caller promises the
            // rest.
            unsafe { unmap(device, run) };
        }
    }
}
