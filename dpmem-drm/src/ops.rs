// SPDX-License-Identifier: GPL-2.0

//! What a driver supplies.

use core::{
    cell::Cell,
    ptr::NonNull, //
};

use kernel::{
    bindings,
    error::from_result,
    mm::MmWithUser,
    prelude::*,
    time::{
        Delta,
        Instant,
        Monotonic, //
    },
    workqueue::Queue, //
};

use dpmem::{
    NrPages,
    Order,
    PageOffset,
    UserAddr,
    UserRange, //
};

use crate::{
    addr::{
        Addr,
        Protocol, //
    },
    copy::{
        Run,
        Runs,
        Way, //
    },
    devmem::{
        Devmem,
        Places,
        ReleasedDevmem, //
    },
    fence::{
        BorrowedFence,
        Fence, //
    },
    pagemap::Pagemap, //
};

/// A card, or a part of one, whose memory processes have pages in.
///
/// Functions may sleep, unless it says otherwise.
pub trait PagemapOps: Sized + Send + Sync + 'static {
    /// How many pages are copied at once, at most, but for a folio that has more.
    const MAX_RUN: NrPages;
    /// How the device reaches its own memory.
    const LOCAL: Protocol;
    /// How others reach it.
    const PEER: Protocol;

    /// Makes a piece of memory for `range` of a process, and migrates it there. The mmap lock of
    /// the process is held, for reading at least.
    ///
    /// # Errors
    ///
    /// [`ENODEV`] if the device is gone; the driver's. [`EBUSY`] has the caller bring the range
    /// home, and try again.
    fn populate_mm(
        pagemap: &Pagemap<Self>,
        mm: &MmWithUser,
        range: UserRange,
        timeslice_ms: c_ulong,
    ) -> Result;

    /// Says where the pages of a piece of memory are.
    ///
    /// # Errors
    ///
    /// Those of `places`; the driver's.
    fn places(&self, memory: &Devmem<'_>, places: &mut Places<'_>) -> Result;

    /// Takes back a piece of memory. Does not sleep.
    fn release(&self, memory: ReleasedDevmem);

    /// Starts to copy `run`, after `after`. Copies are done in the order in which they were
    /// started.
    ///
    /// # Errors
    ///
    /// The driver's.
    fn copy(&self, run: &Run<'_>, way: Way, after: Option<&Fence>) -> Result<Fence>;

    /// Whether the device will never copy anything again. What is on it is lost then, if it is
    /// being unbound. It is asked when a copy has failed, and that the driver is being unbound does
    /// not make it true.
    fn is_gone(&self) -> bool;

    /// Notes that `nr` pages were to be copied, which has taken `took`, whether it went well or not.
    /// Does not sleep.
    fn copied(&self, way: Way, nr: NrPages, took: Delta);

    /// The address by which the device reaches the page at `offset`. Does not sleep.
    fn address(&self, offset: PageOffset) -> Option<u64>;

    /// The physical address by which others reach the `bytes` from the page at `offset` on, if they
    /// do. Does not sleep.
    fn bus_address(&self, offset: PageOffset, bytes: usize) -> Option<u64>;

    /// Where pagemaps are destroyed if that cannot be done on the spot.
    fn destroy_queue(&self) -> &Queue;
}

/// CPUs cannot have what is on a card in their caches.
// CAST: A bit.
const SKIP_CPU_SYNC: c_ulong = bindings::DMA_ATTR_SKIP_CPU_SYNC as c_ulong;

/// DRM's tables of a driver's functions.
pub(crate) struct Tables<T: PagemapOps>(core::marker::PhantomData<T>);

impl<T: PagemapOps> Tables<T> {
    pub(crate) const PAGEMAP: bindings::drm_pagemap_ops = bindings::drm_pagemap_ops {
        device_map: Some(device_map::<T>),
        device_unmap: Some(device_unmap::<T>),
        populate_mm: Some(populate_mm::<T>),
        destroy: Some(destroy::<T>),
    };

    const DEVMEM: bindings::drm_pagemap_devmem_ops = bindings::drm_pagemap_devmem_ops {
        devmem_release: Some(devmem_release::<T>),
        #[cfg(dpmem_offset)]
        populate_devmem_offsets: Some(populate_devmem::<T>),
        #[cfg(not(dpmem_offset))]
        populate_devmem_pfn: Some(populate_devmem::<T>),
        copy_to_devmem: Some(copy_to_devmem::<T>),
        copy_to_ram: Some(copy_to_ram::<T>),
    };
}

/// The table for a driver's pieces of memory.
///
/// Whoever gives it to `drm_pagemap_devmem_init()` gives a `drm_pagemap` with it that is a
/// [`Pagemap<T>`].
pub const fn devmem_ops<T: PagemapOps>() -> bindings::drm_pagemap_devmem_ops {
    Tables::<T>::DEVMEM
}

/// The pagemap of a piece of memory.
///
/// # Safety
///
/// `memory` must be valid for the lifetime that the caller chooses, and its pagemap be a
/// `Pagemap<T>`.
unsafe fn pagemap_of<'a, T: PagemapOps>(
    memory: *mut bindings::drm_pagemap_devmem,
) -> &'a Pagemap<T> {
    // SAFETY: The caller promises a valid pointer; the field does not change.
    let dpagemap = unsafe { (*memory).dpagemap };
    // SAFETY: The caller promises which one it is. DRM has a reference to it for as long as there
    // is the memory.
    unsafe { Pagemap::from_raw(dpagemap) }
}

/// # Safety
///
/// As DRM calls it.
unsafe extern "C" fn devmem_release<T: PagemapOps>(memory: *mut bindings::drm_pagemap_devmem) {
    let Some(released) = NonNull::new(memory) else {
        return;
    };
    // SAFETY: It has the table of `T`, so its pagemap is one of `T`.
    let pagemap = unsafe { pagemap_of::<T>(memory) };
    // SAFETY: DRM gives up what it has of it.
    let released = unsafe { ReleasedDevmem::new(released) };
    pagemap.ops().release(released);
}

/// # Safety
///
/// As DRM calls it.
unsafe extern "C" fn populate_devmem<T: PagemapOps>(
    memory: *mut bindings::drm_pagemap_devmem,
    npages: c_ulong,
    numbers: *mut c_ulong,
) -> c_int {
    from_result(|| {
        // SAFETY: It has the table of `T`, so its pagemap is one of `T`.
        let pagemap = unsafe { pagemap_of::<T>(memory) };
        // SAFETY: It is valid during the call.
        let memory = unsafe { Devmem::new(NonNull::new(memory).ok_or(EINVAL)?) };
        // SAFETY: DRM has an array of so many, which nobody else uses.
        let numbers = unsafe { core::slice::from_raw_parts_mut(numbers, npages) };
        let mut places = Places::new(pagemap.memory(), numbers);
        pagemap.ops().places(&memory, &mut places)?;
        places.finish()?;
        Ok(0)
    })
}

/// Fences of copies that were started.
struct Started(KVec<Fence>);

impl Started {
    /// Waits for all of them; the first error, if there is one.
    fn wait(self) -> Result {
        self.0.iter().map(Fence::wait).fold(Ok(()), Result::and)
    }

    /// Keeps a fence, or waits for it if there is no memory to keep it.
    fn push(&mut self, fence: Fence) -> Result {
        match self.0.reserve(1, GFP_KERNEL) {
            Ok(()) => Ok(self.0.push_within_capacity(fence)?),
            Err(_) => fence.wait(),
        }
    }
}

/// Copies, and waits until that is done.
///
/// # Safety
///
/// As DRM calls `copy_to_devmem()` and `copy_to_ram()`.
unsafe fn copy<T: PagemapOps>(
    pages: *mut *mut bindings::page,
    addrs: *mut bindings::drm_pagemap_addr,
    npages: c_ulong,
    after: *mut bindings::dma_fence,
    way: Way,
) -> c_int {
    from_result(|| {
        let start = Instant::<Monotonic>::now();
        // SAFETY: DRM has an array of so many, which nobody changes meanwhile.
        let pages = unsafe { core::slice::from_raw_parts(pages, npages) };
        // CAST: `Cell` and `Addr` are transparent.
        // SAFETY: As above, but that the driver may change them.
        let addrs = unsafe { core::slice::from_raw_parts(addrs.cast::<Cell<Addr>>(), npages) };
        // SAFETY: The caller has a reference.
        let after = unsafe { BorrowedFence::new(after) };
        let Some(page) = pages.iter().find_map(|page| NonNull::new(*page)) else {
            return after.map_or(Ok(()), |after| after.wait()).map(|()| 0);
        };
        // SAFETY: It is a page of a piece of memory with the table of `T`, whose pagemap is one of
        // `T`, and it is locked.
        let pagemap = unsafe { Pagemap::<T>::of_page(page) };
        // SAFETY: These pages are locked: nobody gives up the last reference meanwhile.
        let offset_of = |page| unsafe { pagemap.memory().offset_of(page) };
        let mut started = Started(KVec::new());
        let mut result = Ok(());
        let mut first = after.as_deref();
        for run in Runs::new(pages, addrs, T::MAX_RUN, offset_of) {
            let fence = run.and_then(|run| pagemap.ops().copy(&run, way, first));
            result = fence.and_then(|fence| {
                first = None;
                started.push(fence)
            });
            if result.is_err() {
                break;
            }
        }
        // The memory is used afterwards, whatever happened.
        let result = result.and(started.wait());
        // It comes before those, which need not fail if it does.
        let before = after.map_or(Ok(()), |after| after.wait());
        let ops = pagemap.ops();
        ops.copied(way, NrPages::new(npages), start.elapsed());
        match result.and(before) {
            Ok(()) => {}
            // This is how DRM learns it, and nobody else says so.
            Err(_) if way == Way::ToRam && ops.is_gone() => return Err(ENODEV),
            Err(ENODEV) => return Err(EIO),
            Err(err) => return Err(err),
        }
        Ok(0)
    })
}

/// # Safety
///
/// As DRM calls it.
unsafe extern "C" fn copy_to_devmem<T: PagemapOps>(
    pages: *mut *mut bindings::page,
    addrs: *mut bindings::drm_pagemap_addr,
    npages: c_ulong,
    after: *mut bindings::dma_fence,
) -> c_int {
    // SAFETY: That of this function.
    unsafe { copy::<T>(pages, addrs, npages, after, Way::ToDevice) }
}

/// # Safety
///
/// As DRM calls it.
unsafe extern "C" fn copy_to_ram<T: PagemapOps>(
    pages: *mut *mut bindings::page,
    addrs: *mut bindings::drm_pagemap_addr,
    npages: c_ulong,
    after: *mut bindings::dma_fence,
) -> c_int {
    // SAFETY: That of this function.
    unsafe { copy::<T>(pages, addrs, npages, after, Way::ToRam) }
}

/// # Safety
///
/// As DRM calls it.
unsafe extern "C" fn populate_mm<T: PagemapOps>(
    dpagemap: *mut bindings::drm_pagemap,
    start: c_ulong,
    end: c_ulong,
    mm: *mut bindings::mm_struct,
    timeslice_ms: c_ulong,
) -> c_int {
    from_result(|| {
        // SAFETY: It has the table of `T`, and the caller has a reference.
        let pagemap = unsafe { Pagemap::<T>::from_raw(dpagemap) };
        // SAFETY: The caller has a reference to it and to its users.
        let mm = unsafe { MmWithUser::from_raw(mm) };
        let range = UserRange::between(UserAddr::new(start)?, UserAddr::new(end)?)?;
        T::populate_mm(pagemap, mm, range, timeslice_ms)?;
        Ok(0)
    })
}

/// # Safety
///
/// As DRM calls it.
unsafe extern "C" fn destroy<T: PagemapOps>(dpagemap: *mut bindings::drm_pagemap, atomic: bool) {
    // SAFETY: It has the table of `T`. Nobody has a reference any more.
    unsafe { Pagemap::<T>::destroy(dpagemap, atomic) };
}

/// # Safety
///
/// As DRM calls it.
unsafe extern "C" fn device_map<T: PagemapOps>(
    dpagemap: *mut bindings::drm_pagemap,
    device: *mut bindings::device,
    page: *mut bindings::page,
    order: c_uint,
    dir: bindings::dma_data_direction,
) -> bindings::drm_pagemap_addr {
    // SAFETY: It has the table of `T`, and the page has a reference to it.
    let pagemap = unsafe { Pagemap::<T>::from_raw(dpagemap) };
    let known = Order::new(order).ok();
    let offset = NonNull::new(page).filter(|_| known.is_some());
    // SAFETY: The page is locked, or hmm has found it, and the notifier's lock is held: it stays in
    // service.
    let offset = offset.and_then(|page| unsafe { pagemap.memory().offset_of(page) });
    let order = known.unwrap_or(Order::ZERO);
    let (addr, protocol) = if pagemap.is_on(device) {
        (offset.and_then(|at| pagemap.ops().address(at)), T::LOCAL)
    } else {
        let bytes = order.nr_pages().to_bytes();
        let range = offset.zip(bytes);
        let range =
            range.and_then(|(at, bytes)| Some((pagemap.ops().bus_address(at, bytes)?, bytes)));
        let addr = range.map(|(physical, bytes)| {
            // SAFETY: DRM maps for a device that is there, and the range is memory of a card.
            unsafe { bindings::dma_map_resource(device, physical, bytes, dir, SKIP_CPU_SYNC) }
        });
        (addr, T::PEER)
    };
    // The largest address is what DMA has for an error.
    let addr = addr.unwrap_or(bindings::dma_addr_t::MAX);
    Addr::new(addr, protocol, order, dir).into_raw()
}

/// # Safety
///
/// As DRM calls it.
unsafe extern "C" fn device_unmap<T: PagemapOps>(
    _dpagemap: *mut bindings::drm_pagemap,
    device: *mut bindings::device,
    addr: *const bindings::drm_pagemap_addr,
) {
    // CAST: `Addr` is transparent.
    // SAFETY: DRM has one that `device_map()` gave it.
    let addr: &Addr = unsafe { &*addr.cast() };
    if addr.protocol() != T::PEER {
        return;
    }
    let bytes = addr
        .order()
        .ok()
        .and_then(|order| order.nr_pages().to_bytes());
    let Some((physical, bytes)) = addr.get().zip(bytes) else {
        return;
    };
    // SAFETY: It was mapped by `device_map()`, for this device, and is not used any more.
    unsafe { bindings::dma_unmap_resource(device, physical, bytes, addr.dir(), SKIP_CPU_SYNC) };
}
