// SPDX-License-Identifier: GPL-2.0

//! System memory as a device addresses it, for copy engines that do so.
//!
//! Where an IOMMU allows it, all that is mapped together has addresses that follow each other: one
//! range of them is taken for the whole batch (`dma_iova_try_alloc()`), and pages are linked into
//! it. Elsewhere each run of pages is mapped by itself (`dma_map_page()`). A driver sees addresses,
//! and not which of the two it was.
//!
//! C header: [`include/linux/dma-mapping.h`](srctree/include/linux/dma-mapping.h)

use core::{
    marker::PhantomData,
    ops::Deref, //
};

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
    prelude::*, //
};

use crate::{
    copy::{
        RamPages,
        RamPagesMut, //
    },
    number::NrPages, //
};

/// A device that memory can be mapped for: one that is bound to its driver, or is just being
/// unbound from it.
///
/// That is less than `Device<Bound>` says. When a driver is unbound, what it got from the device
/// goes, the last first, and the pages of a [`BoundPagemap`](crate::BoundPagemap) come home in the
/// middle of that. What a copy engine needs of it, it asks for with `Devres::try_access()`. Who has
/// a device that is bound makes it one of these with `into()`.
///
/// # Invariants
///
/// The device has its driver during `'a`, which may be about to be unbound.
#[derive(Clone, Copy)]
pub struct DmaDevice<'a>(&'a Device);

impl<'a> DmaDevice<'a> {
    /// The device `device`.
    ///
    /// # Safety
    ///
    /// The device must have its driver during `'a`. What the driver got from it may go meanwhile.
    pub(crate) unsafe fn new(device: &'a Device) -> Self {
        // INVARIANT: The caller promises it.
        Self(device)
    }

    /// The C structure.
    fn as_raw(self) -> *mut bindings::device {
        as_raw(self.0)
    }
}

/// The C structure of a device, which C may change at any time.
pub(crate) fn as_raw(device: &Device) -> *mut bindings::device {
    // CAST: A `Device` is a transparent wrapper of it.
    core::ptr::from_ref(device).cast_mut().cast()
}

impl<'a> From<&'a Device<Bound>> for DmaDevice<'a> {
    fn from(device: &'a Device<Bound>) -> Self {
        // INVARIANT: It is bound for as long as it is borrowed so.
        Self(device)
    }
}

impl Deref for DmaDevice<'_> {
    type Target = Device;

    fn deref(&self) -> &Device {
        self.0
    }
}

mod sealed {
    pub trait Sealed {}
}

/// Pages of system memory that a device can be given the address of: [`RamPages`], which it may
/// read, or
/// [`RamPagesMut`], which it is to write.
pub trait DmaPages<'a>: sealed::Sealed {
    /// What the device does with them.
    #[doc(hidden)]
    const DIRECTION: DataDirection;

    /// The pages.
    #[doc(hidden)]
    fn pages_raw(self) -> RamPages<'a>;
}

impl sealed::Sealed for RamPages<'_> {}

impl<'a> DmaPages<'a> for RamPages<'a> {
    const DIRECTION: DataDirection = DataDirection::ToDevice;

    fn pages_raw(self) -> RamPages<'a> {
        self
    }
}

impl sealed::Sealed for RamPagesMut<'_> {}

impl<'a> DmaPages<'a> for RamPagesMut<'a> {
    const DIRECTION: DataDirection = DataDirection::FromDevice;

    fn pages_raw(self) -> RamPages<'a> {
        self.into_inner()
    }
}

/// System memory that is being mapped for a device, run by run: `P` is [`RamPages`] or
/// [`RamPagesMut`].
///
/// All of it is unmapped when this is dropped, or what [`DmaMap::sync`] makes of it, which does not
/// sleep.
///
/// # Invariants
///
/// - If `iova` has a range, the first `linked` bytes of it are linked, for `device` and the
///   direction of `P`, and `mapped` is empty. Otherwise `linked` is zero, and `mapped` has the
///   addresses and lengths, in bytes, of what is mapped for `device` in the direction of `P`.
/// - What is mapped is not freed during `'a`.
pub struct DmaMap<'a, P: DmaPages<'a>> {
    device: DmaDevice<'a>,
    iova: bindings::dma_iova_state,
    // How many bytes are to have addresses that follow each other, until that has been tried.
    untried: Option<usize>,
    // How many bytes are to be mapped still.
    room: usize,
    linked: usize,
    mapped: KVVec<(DmaAddress, usize)>,
    _pages: PhantomData<(P, &'a ())>,
}

impl<'a, P: DmaPages<'a>> DmaMap<'a, P> {
    /// Nothing, yet, of `nr` pages at most that are to be mapped for `device`: see
    /// [`Batch::nr_pages`]. It costs nothing until something is mapped, so an engine has one for
    /// each direction.
    ///
    /// # Context
    ///
    /// Any. Does not sleep.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if there are more pages than can be.
    ///
    /// [`Batch::nr_pages`]: crate::Batch::nr_pages
    pub fn new(device: impl Into<DmaDevice<'a>>, nr: NrPages) -> Result<Self> {
        let size = nr.to_bytes().ok_or(EINVAL)?;
        // INVARIANT: Nothing is linked nor mapped.
        Ok(Self {
            device: device.into(),
            iova: pin_init::zeroed(),
            untried: Some(size),
            room: size,
            linked: 0,
            mapped: KVVec::new(),
            _pages: PhantomData,
        })
    }

    /// Maps `pages`, and gives the address at which the device finds them once [`DmaMap::sync`] has
    /// returned.
    ///
    /// # Context
    ///
    /// May sleep.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if these are more pages than was said; [`ENOMEM`] if the device cannot address
    /// them just now, because there are no bounce buffers left, say. Where memory has to go through
    /// such buffers, a folio that is larger than the largest of them, which has 256 KiB, can never
    /// be mapped.
    pub fn map(&mut self, pages: P) -> Result<DmaAddress> {
        let pages = pages.pages_raw();
        let size = pages.nr_pages().to_bytes().ok_or(EINVAL)?;
        let room = self.room.checked_sub(size).ok_or(EINVAL)?;
        if let Some(size) = self.untried.take() {
            // That there is no range is no error: pages are then mapped one by one.
            //
            // SAFETY: The device has its driver, the state is all zeroes, and the size is not zero,
            // as that of `pages` is not.
            unsafe { bindings::dma_iova_try_alloc(self.device.as_raw(), &mut self.iova, 0, size) };
        }
        // SAFETY: Reads the state.
        let address = if unsafe { bindings::dma_use_iova(&mut self.iova) } {
            self.link(pages, size)
        } else {
            self.map_page(pages, size)
        }?;
        self.room = room;
        Ok(address)
    }

    /// Links `pages`, which are so many bytes, behind what is linked already.
    fn link(&mut self, pages: RamPages<'a>, size: usize) -> Result<DmaAddress> {
        // SAFETY: Reads the state.
        let room = unsafe { bindings::dma_iova_size(&mut self.iova) };
        let end = self.linked.checked_add(size).filter(|end| *end <= room);
        let end = end.ok_or(EINVAL)?;
        // SAFETY: The page is valid during `'a`, by its type invariants.
        let phys = unsafe { bindings::page_to_phys(pages.first_page().as_ptr()) };
        // SAFETY: The range was allocated for this device, and has room for so many bytes where
        // nothing is linked yet. The pages follow each other, and are not freed before they are
        // unlinked.
        to_result(unsafe {
            bindings::dma_iova_link(
                self.device.as_raw(),
                &mut self.iova,
                phys,
                self.linked,
                size,
                P::DIRECTION.into(),
                0,
            )
        })?;
        // OVERFLOW: The range has all these addresses.
        // CAST: A `usize` is not wider than the address of a device on a machine with an IOMMU.
        let address = self.iova.addr + self.linked as DmaAddress;
        // INVARIANT: Just linked.
        self.linked = end;
        Ok(address)
    }

    /// Maps `pages`, which are so many bytes, by themselves.
    fn map_page(&mut self, pages: RamPages<'a>, size: usize) -> Result<DmaAddress> {
        self.mapped.reserve(1, GFP_KERNEL)?;
        // SAFETY: The device has its driver, and the pages follow each other and are not freed
        // before they are unmapped.
        let address = unsafe {
            bindings::dma_map_page_attrs(
                self.device.as_raw(),
                pages.first_page().as_ptr(),
                0,
                size,
                P::DIRECTION.into(),
                0,
            )
        };
        // SAFETY: The address is what the function above has returned.
        to_result(unsafe { bindings::dma_mapping_error(self.device.as_raw(), address) })?;
        // INVARIANT: Just mapped. There is room, so this does not fail.
        self.mapped.push_within_capacity((address, size))?;
        Ok(address)
    }

    /// Lets the device see all that was mapped.
    ///
    /// # Context
    ///
    /// May sleep.
    ///
    /// # Errors
    ///
    /// Those of the IOMMU.
    pub fn sync(mut self) -> Result<DmaMapped<'a, P>> {
        if self.linked > 0 {
            // SAFETY: So much is linked, by the type invariants.
            to_result(unsafe {
                bindings::dma_iova_sync(self.device.as_raw(), &mut self.iova, 0, self.linked)
            })?;
        }
        Ok(DmaMapped(self))
    }
}

impl<'a, P: DmaPages<'a>> Drop for DmaMap<'a, P> {
    fn drop(&mut self) {
        let device = self.device.as_raw();
        for (address, size) in &self.mapped {
            // SAFETY: It is mapped so, by the type invariants, and nobody uses the address any
            // more.
            unsafe {
                bindings::dma_unmap_page_attrs(device, *address, *size, P::DIRECTION.into(), 0)
            };
        }
        if self.linked > 0 {
            // SAFETY: So much is linked, by the type invariants, and nobody uses the addresses any
            // more.
            unsafe {
                bindings::dma_iova_destroy(
                    device,
                    &mut self.iova,
                    self.linked,
                    P::DIRECTION.into(),
                    0,
                )
            };
        // SAFETY: Reads the state.
        } else if unsafe { bindings::dma_use_iova(&mut self.iova) } {
            // SAFETY: The range was allocated for this device, and nothing is linked.
            unsafe { bindings::dma_iova_free(device, &mut self.iova) };
        }
    }
}

/// System memory that a device can address, until this is dropped: for the [`Fence`] of a copy
/// engine to keep until the device is done.
///
/// [`Fence`]: crate::Fence
#[must_use = "the device reaches the pages until this is dropped: keep it in the fence of the batch"]
pub struct DmaMapped<'a, P: DmaPages<'a>>(#[expect(dead_code)] DmaMap<'a, P>);
