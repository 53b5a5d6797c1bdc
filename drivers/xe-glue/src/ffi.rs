// SPDX-License-Identifier: GPL-2.0

//! The boundary to C: the functions that xe calls, and what is called of it.
//!
//! C headers: `xe_pagemap.h`, `hw.h`

use core::{
    marker::{
        PhantomData,
        PhantomPinned, //
    },
    mem::offset_of,
    ptr::{
        null_mut,
        NonNull, //
    }, //
};

use kernel::{
    bindings,
    device::{
        Bound,
        Device, //
    },
    error::{
        from_err_ptr,
        from_result,
        to_result, //
    },
    mm::MmWithUser,
    page::PAGE_SIZE,
    prelude::*,
    time::Delta,
    workqueue::Queue, //
};

use dpmem::{
    NrPages,
    UserRange, //
};
use dpmem_drm::{
    devmem_ops,
    Cache,
    Devmem,
    Fence,
    OwnerList,
    Pagemap,
    PagemapRef,
    ReleasedDevmem,
    Run,
    Shrinker,
    Way, //
};

/// A structure of xe's, which is nothing but an address here.
macro_rules! opaque {
    ($($name:ident)*) => {$(
        #[allow(non_camel_case_types)]
        #[repr(C)]
        pub(crate) struct $name {
            _data: [u8; 0],
            _pinned: PhantomData<(*mut u8, PhantomPinned)>,
        }
    )*};
}

opaque!(xe_device xe_tile xe_vram_region);

/// `struct xe_pagemap` of `xe_pagemap.h`: what C knows of a [`Pagemap`].
#[allow(non_camel_case_types)]
#[repr(C)]
pub(crate) struct xe_pagemap {
    dpagemap: bindings::drm_pagemap,
    peer: bindings::drm_pagemap_peer,
    vr: *mut xe_vram_region,
}

const _: () = {
    assert!(offset_of!(xe_pagemap, dpagemap) == 0);
    assert!(offset_of!(xe_pagemap, peer) == Pagemap::<Vram>::PEER_OFFSET);
    assert!(offset_of!(xe_pagemap, vr) == Pagemap::<Vram>::OPS_OFFSET);
};

/// What is called for each block of a buffer.
type Push = unsafe extern "C" fn(*mut c_void, u64, u64) -> c_int;

extern "C" {
    fn xe_pagemap_hw_enter(xe: *mut xe_device, idx: *mut c_int) -> bool;
    fn xe_pagemap_hw_exit(idx: c_int);
    fn xe_pagemap_hw_drm(xe: *mut xe_device) -> *mut bindings::drm_device;
    fn xe_pagemap_hw_dev(xe: *mut xe_device) -> *mut bindings::device;
    fn xe_pagemap_hw_size(vr: *const xe_vram_region) -> u64;
    fn xe_pagemap_hw_dpa_base(vr: *const xe_vram_region) -> u64;
    fn xe_pagemap_hw_io_start(vr: *const xe_vram_region) -> u64;
    fn xe_pagemap_hw_io_size(vr: *const xe_vram_region) -> u64;
    fn xe_pagemap_hw_destroy_wq(vr: *const xe_vram_region) -> *mut bindings::workqueue_struct;
    fn xe_pagemap_hw_owner_list() -> *mut bindings::drm_pagemap_owner_list;
    fn xe_pagemap_hw_interconnect(
        one: *mut bindings::drm_pagemap_peer,
        other: *mut bindings::drm_pagemap_peer,
    ) -> bool;
    fn xe_pagemap_hw_populate_mm(
        dpagemap: *mut bindings::drm_pagemap,
        start: c_ulong,
        end: c_ulong,
        mm: *mut bindings::mm_struct,
        timeslice_ms: c_ulong,
    ) -> c_int;
    fn xe_pagemap_hw_blocks(
        devmem: *mut bindings::drm_pagemap_devmem,
        arg: *mut c_void,
        push: Push,
    ) -> c_int;
    fn xe_pagemap_hw_release(devmem: *mut bindings::drm_pagemap_devmem);
    fn xe_pagemap_hw_copy(
        vr: *mut xe_vram_region,
        npages: c_ulong,
        addrs: *mut bindings::drm_pagemap_addr,
        dpa: u64,
        to_vram: bool,
        after: *mut bindings::dma_fence,
    ) -> *mut bindings::dma_fence;
    fn xe_pagemap_hw_gone(vr: *const xe_vram_region) -> bool;
    fn xe_pagemap_hw_copied(vr: *mut xe_vram_region, to_vram: bool, npages: c_ulong, us: i64);
    fn xe_pagemap_hw_set_shrinker(xe: *mut xe_device, s: *mut bindings::drm_pagemap_shrinker);
    fn xe_pagemap_hw_shrinker(tile: *mut xe_tile) -> *mut bindings::drm_pagemap_shrinker;
    fn xe_pagemap_hw_set_cache(tile: *mut xe_tile, cache: *mut bindings::drm_pagemap_cache);
}

/// The memory of a tile.
///
/// # Invariants
///
/// It is a valid `xe_vram_region` for as long as somebody has a reference to its pagemap, and until
/// DRM has called what destroys it. Dropping it needs nothing of the region, which may be gone
/// before the device's queue is empty.
#[repr(transparent)]
pub(crate) struct Vram(NonNull<xe_vram_region>);

// SAFETY: It is an address, which is valid on every CPU, by the type invariants. No function that
// is called with it belongs to a thread.
unsafe impl Send for Vram {}
// SAFETY: As above. What those functions read does not change, but for a flag, which is read at
// once, and the card's configuration space, which PCI locks; and the migration queue locks.
unsafe impl Sync for Vram {}

impl Vram {
    fn as_raw(&self) -> *mut xe_vram_region {
        self.0.as_ptr()
    }

    /// How many pages there are.
    fn nr_pages(&self) -> Result<NrPages> {
        // SAFETY: The region is valid, by the type invariants.
        let bytes = unsafe { xe_pagemap_hw_size(self.as_raw()) };
        Ok(NrPages::new(usize::try_from(bytes)? / PAGE_SIZE))
    }

    /// The device's address of the first page.
    pub(crate) fn dpa_base(&self) -> u64 {
        // SAFETY: The region is valid, by the type invariants.
        unsafe { xe_pagemap_hw_dpa_base(self.as_raw()) }
    }

    /// The physical address of the first page.
    pub(crate) fn io_start(&self) -> u64 {
        // SAFETY: The region is valid, by the type invariants.
        unsafe { xe_pagemap_hw_io_start(self.as_raw()) }
    }

    /// How much of it others reach.
    pub(crate) fn io_size(&self) -> u64 {
        // SAFETY: The region is valid, by the type invariants.
        unsafe { xe_pagemap_hw_io_size(self.as_raw()) }
    }

    /// Where pagemaps are destroyed.
    pub(crate) fn destroy_queue(&self) -> &Queue {
        // SAFETY: The region is valid, by the type invariants.
        let queue = unsafe { xe_pagemap_hw_destroy_wq(self.as_raw()) };
        // SAFETY: The device has its queue for as long as it is there.
        unsafe { Queue::from_raw(queue) }
    }

    /// Starts to copy `run`, which is at `place` for the device. May sleep.
    ///
    /// # Errors
    ///
    /// Those of xe.
    pub(crate) fn copy(
        &self,
        run: &Run<'_>,
        place: u64,
        way: Way,
        after: Option<&Fence>,
    ) -> Result<Fence> {
        // SAFETY: The region is valid, by the type invariants; there are so many addresses; the
        // caller has a reference to the fence.
        let fence = from_err_ptr(unsafe {
            xe_pagemap_hw_copy(
                self.as_raw(),
                run.nr_pages().get(),
                run.addrs_as_raw(),
                place,
                way == Way::ToDevice,
                after.map_or(null_mut(), Fence::as_raw),
            )
        })?;
        // SAFETY: The function gives its reference to the caller.
        Ok(unsafe { Fence::from_raw(NonNull::new(fence).ok_or(ENOMEM)?) })
    }

    /// Whether the card was declared wedged, or is not on its bus any more: it will never copy
    /// anything again. The card is awake, or this means nothing.
    pub(crate) fn is_gone(&self) -> bool {
        // SAFETY: The region is valid, by the type invariants.
        unsafe { xe_pagemap_hw_gone(self.as_raw()) }
    }

    /// Counts what was copied. Does not sleep.
    pub(crate) fn copied(&self, way: Way, nr: NrPages, took: Delta) {
        let (to_vram, us) = (way == Way::ToDevice, took.as_micros_ceil());
        // SAFETY: The region is valid, by the type invariants.
        unsafe { xe_pagemap_hw_copied(self.as_raw(), to_vram, nr.get(), us) };
    }
}

/// As [`PagemapOps::populate_mm`](dpmem_drm::PagemapOps::populate_mm).
pub(crate) fn populate_mm(
    pagemap: &Pagemap<Vram>,
    mm: &MmWithUser,
    range: UserRange,
    timeslice_ms: c_ulong,
) -> Result {
    let (start, end) = (range.start().get(), range.end().get());
    // SAFETY: There are references to the pagemap, to the address space and to its users, whose
    // lock is held.
    to_result(unsafe {
        xe_pagemap_hw_populate_mm(pagemap.as_raw(), start, end, mm.as_raw(), timeslice_ms)
    })
}

/// Calls `push` with the offset and the size, in bytes, of each block that `memory` consists of.
///
/// # Errors
///
/// The first one of `push`.
pub(crate) fn for_each_block<F: FnMut(u64, u64) -> Result>(
    memory: &Devmem<'_>,
    push: &mut F,
) -> Result {
    /// # Safety
    ///
    /// `arg` must be a pointer to an `F` that nobody else uses.
    unsafe extern "C" fn call<F: FnMut(u64, u64) -> Result>(
        arg: *mut c_void,
        offset: u64,
        bytes: u64,
    ) -> c_int {
        from_result(|| {
            // SAFETY: The caller promises it.
            let push = unsafe { &mut *arg.cast::<F>() };
            push(offset, bytes)?;
            Ok(0)
        })
    }
    let arg = core::ptr::from_mut(push).cast();
    // SAFETY: The memory is valid, and a part of a buffer of xe's, as only those have our table;
    // `arg` is what `call` wants.
    to_result(unsafe { xe_pagemap_hw_blocks(memory.as_raw(), arg, call::<F>) })
}

/// Gives a piece of memory back to xe.
pub(crate) fn release(memory: ReleasedDevmem) {
    // SAFETY: It is a part of a buffer of xe's, and what DRM had of it is ours.
    unsafe { xe_pagemap_hw_release(memory.into_raw()) };
}

/// A device that is not being unbound from its driver for as long as this lives.
struct Entered {
    xe: *mut xe_device,
    idx: c_int,
}

impl Entered {
    /// [`ENODEV`] if it is too late.
    ///
    /// # Safety
    ///
    /// `xe` must be valid for as long as the value lives.
    unsafe fn new(xe: *mut xe_device) -> Result<Self> {
        let mut idx = 0;
        // SAFETY: The caller promises a valid device.
        if !unsafe { xe_pagemap_hw_enter(xe, &mut idx) } {
            return Err(ENODEV);
        }
        Ok(Self { xe, idx })
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        // SAFETY: That is what was got.
        unsafe { xe_pagemap_hw_exit(self.idx) };
    }
}

/// A pagemap of all memory of `vram`.
///
/// # Safety
///
/// The device must be that of the region.
unsafe fn create(entered: &Entered, vram: Vram) -> Result<PagemapRef<Vram>> {
    let xe = entered.xe;
    let nr = vram.nr_pages()?;
    // SAFETY: The device is valid, as somebody is in it.
    let drm = NonNull::new(unsafe { xe_pagemap_hw_drm(xe) }).ok_or(EINVAL)?;
    // SAFETY: As above.
    let device = unsafe { xe_pagemap_hw_dev(xe) };
    // SAFETY: A device of xe's has a parent, which keeps its driver while somebody is in the
    // device.
    let device: &Device<Bound> = unsafe { Device::from_raw(device) };
    // SAFETY: The function asks for nothing.
    let list = NonNull::new(unsafe { xe_pagemap_hw_owner_list() }).ok_or(EINVAL)?;
    // SAFETY: It is a static variable of xe's.
    let list = unsafe { OwnerList::from_raw(list) };
    // SAFETY: xe's list has pagemaps, for which `private` is null, and virtual machines, and of a
    // pagemap the function looks at its DRM device. xe evicts all buffers before it is unbound, and
    // makes none after that. A buffer's blocks are nobody else's, xe's fences are signalled by the
    // engine that has copied, and its queue is destroyed, and so emptied, with the DRM device, to
    // which a module that is in use belongs. A `Vram` has nothing to be dropped.
    unsafe {
        Pagemap::new(
            drm,
            device,
            list,
            xe_pagemap_hw_interconnect,
            null_mut(),
            c"xe",
            nr,
            vram,
        )
    }
}

/// The table for xe's buffers.
#[no_mangle]
static xe_pagemap_devmem_ops: bindings::drm_pagemap_devmem_ops = devmem_ops::<Vram>();

/// The pagemap of `vr`, to which the caller gets a reference: the one that is in `cache`, or a new
/// one.
///
/// # Safety
///
/// `xe` must be valid, and `cache` and `vr` be of one of its tiles. May sleep.
#[no_mangle]
unsafe extern "C" fn xe_pagemap_find_or_create(
    xe: *mut xe_device,
    cache: *mut bindings::drm_pagemap_cache,
    vr: *mut xe_vram_region,
) -> *mut xe_pagemap {
    let find = || {
        // Until the end, the cache is there, and the device has its driver.
        //
        // SAFETY: The caller promises a valid device.
        let entered = unsafe { Entered::new(xe) }?;
        let cache = NonNull::new(cache).ok_or(EINVAL)?;
        // INVARIANT: The caller promises it: a pagemap has a reference to the DRM device, which the
        // region belongs to.
        let vram = Vram(NonNull::new(vr).ok_or(EINVAL)?);
        // SAFETY: The caller promises a valid cache.
        let cache = unsafe { Cache::from_raw(cache) };
        // SAFETY: The caller promises that they belong together.
        let create = || unsafe { create(&entered, vram) };
        // SAFETY: Into the cache of a tile, only this puts something.
        unsafe { cache.find_or_create(create) }
    };
    match find() {
        // CAST: `xe_pagemap` is how it begins.
        Ok(pagemap) => pagemap.into_raw().cast(),
        Err(err) => err.to_ptr(),
    }
}

/// Makes what destroys pagemaps of `xe` when memory is short.
///
/// # Safety
///
/// `xe` must be valid, and be being bound to its driver. May sleep.
#[no_mangle]
unsafe extern "C" fn xe_pagemap_shrinker_create(xe: *mut xe_device) -> c_int {
    from_result(|| {
        // SAFETY: The caller promises a valid device.
        let drm = NonNull::new(unsafe { xe_pagemap_hw_drm(xe) }).ok_or(EINVAL)?;
        // SAFETY: The caller promises that it is being bound, and nobody keeps what is returned.
        let shrinker = unsafe { Shrinker::new(drm) }?;
        // SAFETY: The caller promises a valid device.
        unsafe { xe_pagemap_hw_set_shrinker(xe, shrinker.as_raw()) };
        Ok(0)
    })
}

/// Makes room for a pagemap of `tile`, if the tile has memory.
///
/// # Safety
///
/// `tile` must be one of a device as for `xe_pagemap_shrinker_create()`, which was called before.
/// May sleep.
#[no_mangle]
unsafe extern "C" fn xe_pagemap_cache_create(tile: *mut xe_tile) -> c_int {
    from_result(|| {
        // SAFETY: The caller promises a valid tile.
        let Some(shrinker) = NonNull::new(unsafe { xe_pagemap_hw_shrinker(tile) }) else {
            // It has none.
            return Ok(0);
        };
        // SAFETY: It is there until the driver is unbound.
        let shrinker = unsafe { Shrinker::from_raw(shrinker) };
        let cache = shrinker.new_cache()?;
        // SAFETY: The caller promises a valid tile.
        unsafe { xe_pagemap_hw_set_cache(tile, cache.as_raw()) };
        Ok(0)
    })
}
