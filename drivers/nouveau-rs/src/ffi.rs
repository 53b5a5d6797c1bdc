// SPDX-License-Identifier: GPL-2.0

//! The boundary to C: the six functions that nouveau calls, and what is called of it.
//!
//! C headers: `nouveau_dmem.h`, `hw.h`, `nouveau_bo.h`, `nouveau_fence.h`

use core::{
    marker::{
        PhantomData,
        PhantomPinned, //
    },
    mem::{
        offset_of,
        ManuallyDrop, //
    },
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
    dma::DmaAddress,
    error::to_result,
    mm::virt::VmaRef,
    page::PAGE_SIZE,
    prelude::*,
    str::CStr,
    sync::{
        atomic::{
            ordering::{
                Acquire,
                Full,
                Release, //
            },
            Atomic, //
        },
        rcu,
        Arc, //
    }, //
};

use dpmem::{
    Collected,
    DevPagemap,
    MigrateBuffer,
    MigrateVma,
    NrPages,
    NumaNode,
    UserAddr,
    UserRange, //
};

use crate::{
    dmem::Dmem,
    vram::Vram, //
};

/// A structure of nouveau's, which is nothing but an address here.
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

opaque!(nouveau_bo nouveau_drm nouveau_fence nouveau_svmm);

/// How many jobs can be submitted at once.
const MAX_JOBS: usize = 64;

/// What a job does.
#[derive(Clone, Copy)]
#[repr(u32)]
enum Way {
    ToVram,
    ToHost,
    ClearVram,
}

/// A copy that the card is to make.
#[repr(C)]
pub(crate) struct Job {
    vram: u64,
    host: u64,
    npages: u32,
    way: u32,
}

// `hw.c` says the same of what C has.
const _: () = {
    assert!(size_of::<Job>() == 24);
    assert!(offset_of!(Job, vram) == 0);
    assert!(offset_of!(Job, host) == 8);
    assert!(offset_of!(Job, npages) == 16);
    assert!(offset_of!(Job, way) == 20);
    // CAST: As the enumeration says.
    assert!(Way::ToVram as u32 == 0);
    // CAST: As above.
    assert!(Way::ToHost as u32 == 1);
    // CAST: As above.
    assert!(Way::ClearVram as u32 == 2);
};

impl Job {
    fn new(way: Way, vram: u64, host: u64, nr: NrPages) -> Result<Self> {
        Ok(Self {
            vram,
            host,
            npages: nr.get().try_into()?,
            // CAST: As the enumeration says.
            way: way as u32,
        })
    }

    /// Copies `nr` pages from `host` to `vram`, which are addresses as the card has them.
    pub(crate) fn to_vram(host: DmaAddress, vram: u64, nr: NrPages) -> Result<Self> {
        Self::new(Way::ToVram, vram, host, nr)
    }

    /// Copies `nr` pages from `vram` to `host`.
    pub(crate) fn to_host(vram: u64, host: DmaAddress, nr: NrPages) -> Result<Self> {
        Self::new(Way::ToHost, vram, host, nr)
    }

    /// Fills `nr` pages at `vram` with zeroes.
    pub(crate) fn clear_vram(vram: u64, nr: NrPages) -> Result<Self> {
        Self::new(Way::ClearVram, vram, 0, nr)
    }
}

extern "C" {
    fn nouveau_dmem_hw_supported(drm: *mut nouveau_drm) -> bool;
    fn nouveau_dmem_hw_gone(drm: *mut nouveau_drm) -> bool;
    fn nouveau_dmem_hw_wake(drm: *mut nouveau_drm) -> c_int;
    fn nouveau_dmem_hw_vram_size(drm: *mut nouveau_drm) -> u64;
    // A `struct device`.
    fn nouveau_dmem_hw_device(drm: *mut nouveau_drm) -> *mut c_void;
    fn nouveau_dmem_hw_owner(drm: *mut nouveau_drm) -> *mut c_void;
    fn nouveau_dmem_hw_get(drm: *mut nouveau_drm) -> *mut c_void;
    fn nouveau_dmem_hw_set(drm: *mut nouveau_drm, dmem: *mut c_void) -> *mut c_void;
    fn nouveau_dmem_hw_bo_new(drm: *mut nouveau_drm, size: u32, bo: *mut *mut nouveau_bo) -> c_int;
    fn nouveau_dmem_hw_bo_pin(bo: *mut nouveau_bo) -> c_int;
    fn nouveau_dmem_hw_bo_fini(bo: *mut nouveau_bo);
    fn nouveau_dmem_hw_bo_offset(bo: *mut nouveau_bo) -> u64;
    fn nouveau_dmem_hw_submit(
        drm: *mut nouveau_drm,
        jobs: *const Job,
        nr: u32,
        fence: *mut *mut nouveau_fence,
    ) -> c_int;
    fn nouveau_dmem_hw_fence_status(fence: *mut nouveau_fence) -> c_int;

    fn nouveau_bo_unpin(bo: *mut nouveau_bo) -> c_int;
    fn nouveau_bo_unpin_del(bo: *mut *mut nouveau_bo);
    fn nouveau_fence_wait(fence: *mut nouveau_fence, lazy: bool, intr: bool) -> c_int;
    fn nouveau_fence_unref(fence: *mut *mut nouveau_fence);
}

/// What becomes of a card that is woken up.
pub(crate) enum Waking {
    /// It wakes up, or fails to, which is known when it is asked again.
    Soon,
    /// It is awake, for all that runtime power management knows.
    Awake,
}

/// A card.
///
/// # Invariants
///
/// It is a valid `nouveau_drm`, whose device has its driver, for as long as the value lives: C
/// calls `nouveau_dmem_fini()` before it takes anything of it away, and no value is left when that
/// returns.
#[derive(Clone, Copy)]
pub(crate) struct Gpu(NonNull<nouveau_drm>);

// SAFETY: It is an address, which is valid on every CPU for as long as the value lives, by the type
// invariants. No function that is called with it belongs to a thread.
unsafe impl Send for Gpu {}
// SAFETY: As above. What those functions read does not change after `nouveau_dmem_init()`, but for
// a flag, which is read at once, and the card's configuration space, which PCI locks.
// `nouveau_dmem_hw_wake()` takes the lock of the device's power; `nouveau_dmem_hw_submit()` takes
// the mutex of the channel's client, and those of buffers take TTM's locks.
unsafe impl Sync for Gpu {}

impl Gpu {
    fn as_raw(self) -> *mut nouveau_drm {
        self.0.as_ptr()
    }

    /// How many pages the card has; `None` if it has none, or cannot copy.
    pub(crate) fn vram_size(self) -> Option<NrPages> {
        // SAFETY: The card is there, by the type invariants.
        if !unsafe { nouveau_dmem_hw_supported(self.as_raw()) } {
            return None;
        }
        // SAFETY: As above.
        let bytes = unsafe { nouveau_dmem_hw_vram_size(self.as_raw()) };
        let pages = usize::try_from(bytes).ok()? / PAGE_SIZE;
        (pages > 0).then(|| NrPages::new(pages))
    }

    /// The device of the card.
    pub(crate) fn device(&self) -> &Device<Bound> {
        // SAFETY: The card is there, by the type invariants.
        let device = unsafe { nouveau_dmem_hw_device(self.as_raw()) };
        // SAFETY: A card has a device, which has its driver for as long as there is a `Gpu`.
        unsafe { Device::from_raw(device.cast()) }
    }

    /// Whether the card was pulled out, or its channel killed: no job will ever be done. A card
    /// without its power looks as if it was pulled out.
    pub(crate) fn is_gone(self) -> bool {
        // SAFETY: The card is there, by the type invariants.
        unsafe { nouveau_dmem_hw_gone(self.as_raw()) }
    }

    /// Wakes the card up, if it is asleep. Does not sleep, nor wait for it.
    ///
    /// # Errors
    ///
    /// Those of runtime power management, which cannot wake it up.
    pub(crate) fn wake(self) -> Result<Waking> {
        // SAFETY: The card is there, by the type invariants.
        match unsafe { nouveau_dmem_hw_wake(self.as_raw()) } {
            0 => Ok(Waking::Soon),
            ret => to_result(ret).map(|()| Waking::Awake),
        }
    }

    /// Starts `jobs`. May sleep.
    ///
    /// # Errors
    ///
    /// Those of nouveau; nothing is going on then.
    pub(crate) fn submit(self, jobs: &[Job]) -> Result<Fences> {
        let mut fences = KVec::with_capacity(jobs.len().div_ceil(MAX_JOBS), GFP_KERNEL)?;
        for jobs in jobs.chunks(MAX_JOBS) {
            let mut fence = null_mut();
            // CAST: There are few.
            let nr = jobs.len() as u32;
            // Should this fail, dropping those before waits for them.
            //
            // SAFETY: The card is there, by the type invariants, and the jobs are so many.
            to_result(unsafe {
                nouveau_dmem_hw_submit(self.as_raw(), jobs.as_ptr(), nr, &mut fence)
            })?;
            // INVARIANT: The reference is ours.
            let fence = NouveauFence {
                gpu: self,
                fence: NonNull::new(fence),
            };
            fences.push_within_capacity(fence)?;
        }
        Ok(Fences(fences))
    }
}

/// A card of whose memory nothing is registered yet.
///
/// # Invariants
///
/// No pagemap has its owner.
pub(crate) struct NewGpu(Gpu);

impl NewGpu {
    /// The card.
    pub(crate) fn gpu(&self) -> Gpu {
        self.0
    }

    /// A pagemap of `nr` pages of the card.
    pub(crate) fn into_pagemap(
        self,
        name: &'static CStr,
        nr: NrPages,
        vram: Vram,
    ) -> impl PinInit<DevPagemap<Vram>, Error> {
        let node = NumaNode::of(self.0.device());
        // SAFETY: The card is there, by the type invariants.
        let owner = unsafe { nouveau_dmem_hw_owner(self.0.as_raw()) };
        pin_init::pin_init_scope(move || {
            let owner = NonNull::new(owner).ok_or(EINVAL)?;
            // SAFETY: No pagemap has this owner, by the type invariants, and there is no second
            // `NewGpu` of the card.
            Ok::<_, Error>(unsafe {
                DevPagemap::new_owned_by(owner, name, nr, node, Ok::<_, Error>(vram))
            })
        })
    }
}

/// Whether a buffer is pinned.
mod place {
    pub(super) const PINNED: u32 = 0;
    pub(super) const UNPINNED: u32 = 1;
    /// Somebody is about to change it.
    pub(super) const CHANGING: u32 = 2;
}

/// A buffer on the card, in one piece.
///
/// # Invariants
///
/// It is ours. It is pinned if `place` is `PINNED`, and not if it is `UNPINNED`. Who has set it to
/// `CHANGING` is the only one who changes it.
pub(crate) struct Buffer {
    bo: NonNull<nouveau_bo>,
    place: Atomic<u32>,
}

// SAFETY: The buffer is ours, by the type invariants, and nouveau's buffers belong to no thread.
unsafe impl Send for Buffer {}
// SAFETY: Through a shared reference it is pinned and unpinned, from which `place` excludes all but
// one, and its offset is read, by C, where TTM may be changing it if the buffer is not pinned any
// more: what comes of that is a number. It is used only where the buffer stays pinned: in copies,
// for which an `Awake` sees to it, and for the GPU's faults, which `nouveau_svm_suspend()` stops
// before `nouveau_dmem_suspend()` is called.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// A buffer of `size` bytes, pinned. May sleep.
    ///
    /// # Errors
    ///
    /// Those of nouveau, mostly [`ENOMEM`].
    pub(crate) fn new(gpu: Gpu, size: usize) -> Result<Self> {
        let mut bo = null_mut();
        // SAFETY: The card is there, by the type invariants.
        to_result(unsafe { nouveau_dmem_hw_bo_new(gpu.as_raw(), size.try_into()?, &mut bo) })?;
        // INVARIANT: Just made.
        Ok(Self {
            bo: NonNull::new(bo).ok_or(ENOMEM)?,
            place: Atomic::new(place::PINNED),
        })
    }

    /// Where it is on the card, if it is pinned. Does not sleep.
    ///
    /// It stays there for as long as nobody unpins it. Copies keep the card awake for that; the
    /// handler of the GPU's faults is stopped before the card falls asleep.
    pub(crate) fn address(&self) -> Option<u64> {
        let pinned = self.place.load(Acquire) == place::PINNED;
        // SAFETY: The buffer is ours, by the type invariants.
        pinned.then(|| unsafe { nouveau_dmem_hw_bo_offset(self.bo.as_ptr()) })
    }

    /// Lets TTM put it wherever it likes. May sleep.
    ///
    /// # Errors
    ///
    /// [`EBUSY`] if somebody is pinning it; those of nouveau, which leave it pinned.
    pub(crate) fn unpin(&self) -> Result {
        match self.place.cmpxchg(place::PINNED, place::CHANGING, Full) {
            Ok(_) => {}
            Err(place::UNPINNED) => return Ok(()),
            Err(_) => return Err(EBUSY),
        }
        // SAFETY: The buffer is ours, and pinned, by the type invariants.
        let result = to_result(unsafe { nouveau_bo_unpin(self.bo.as_ptr()) });
        let place = result.map_or(place::PINNED, |()| place::UNPINNED);
        // INVARIANT: As nouveau says.
        self.place.store(place, Release);
        result
    }

    /// Pins it again. May sleep.
    ///
    /// # Errors
    ///
    /// [`EBUSY`] if somebody is at it; those of nouveau. The buffer is nowhere then.
    pub(crate) fn pin(&self) -> Result {
        match self.place.cmpxchg(place::UNPINNED, place::CHANGING, Full) {
            Ok(_) => {}
            Err(place::PINNED) => return Ok(()),
            Err(_) => return Err(EBUSY),
        }
        // SAFETY: The buffer is ours, by the type invariants.
        let result = to_result(unsafe { nouveau_dmem_hw_bo_pin(self.bo.as_ptr()) });
        let place = result.map_or(place::UNPINNED, |()| place::PINNED);
        // INVARIANT: As nouveau says.
        self.place.store(place, Release);
        result
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut bo = self.bo.as_ptr();
        if self.place.load(Acquire) == place::PINNED {
            // SAFETY: The buffer is ours, and pinned, and is not used again.
            unsafe { nouveau_bo_unpin_del(&mut bo) };
        } else {
            // SAFETY: The buffer is ours, and not pinned, and is not used again.
            unsafe { nouveau_dmem_hw_bo_fini(bo) };
        }
    }
}

/// What is signalled when jobs are done. Dropping it waits for that.
///
/// # Invariants
///
/// If there is a fence, a reference to it is ours.
struct NouveauFence {
    gpu: Gpu,
    fence: Option<NonNull<nouveau_fence>>,
}

impl NouveauFence {
    /// Waits until the jobs are done, or the card is gone, or its channel killed. Until then the
    /// card may write to the memory. May sleep.
    ///
    /// # Errors
    ///
    /// Why the jobs were not done.
    fn wait(&mut self) -> Result {
        let Some(fence) = self.fence.take() else {
            return Ok(());
        };
        let mut fence = fence.as_ptr();
        let waited = loop {
            // SAFETY: The reference is ours, by the type invariants.
            match to_result(unsafe { nouveau_fence_wait(fence, true, false) }) {
                Err(EBUSY) if self.gpu.is_gone() => break Err(ENODEV),
                Err(EBUSY) => pr_warn!("the card takes its time to copy\n"),
                result => break result,
            }
        };
        // SAFETY: The reference is ours, by the type invariants.
        let status = to_result(unsafe { nouveau_dmem_hw_fence_status(fence) });
        // SAFETY: As above, and it was taken out.
        unsafe { nouveau_fence_unref(&mut fence) };
        status.and(waited)
    }
}

impl Drop for NouveauFence {
    fn drop(&mut self) {
        // Nobody wants to know any more how it has ended.
        let _ = self.wait();
    }
}

/// Jobs that the card is at. Dropping it waits for them.
pub(crate) struct Fences(KVec<NouveauFence>);

impl Fences {
    /// Waits until the jobs are done. May sleep.
    ///
    /// # Errors
    ///
    /// Why the first of them was not.
    pub(crate) fn wait(mut self) -> Result {
        self.0
            .iter_mut()
            .map(NouveauFence::wait)
            .fold(Ok(()), Result::and)
    }
}

/// A mapping of a process.
///
/// # Invariants
///
/// The mmap lock of the process is held during `'a`.
pub(crate) struct LockedVma<'a>(&'a VmaRef);

impl LockedVma<'_> {
    /// As [`MigrateVma::to_device`].
    pub(crate) fn to_device<'m>(
        &'m self,
        vram: &'m DevPagemap<Vram>,
        range: UserRange,
        buffer: &'m mut MigrateBuffer,
    ) -> Result<Collected<'m, Vram>> {
        // SAFETY: The lock is held, by the type invariants.
        unsafe { MigrateVma::to_device_in(vram, self.0, range, buffer) }
    }
}

/// What `nouveau_dmem_init()` has left for the card.
///
/// # Safety
///
/// `drm` must be valid.
unsafe fn dmem_of(drm: *mut nouveau_drm) -> Option<Arc<Dmem>> {
    let _guard = rcu::read_lock();
    // SAFETY: The caller promises a valid pointer.
    let dmem = NonNull::new(unsafe { nouveau_dmem_hw_get(drm) })?;
    // SAFETY: Only `nouveau_dmem_init()` leaves something there, by `Arc::into_raw()`, and
    // `nouveau_dmem_fini()`, which takes it away, gives up its reference when all who are where we
    // are have left.
    let dmem = ManuallyDrop::new(unsafe { Arc::<Dmem>::from_raw(dmem.cast().as_ptr()) });
    Some(Arc::clone(&dmem))
}

/// Tells people what went wrong with a card.
///
/// # Safety
///
/// `drm` must be valid.
unsafe fn complain(drm: *mut nouveau_drm, what: &CStr, err: Error) {
    // SAFETY: The caller promises a valid pointer.
    let device = unsafe { nouveau_dmem_hw_device(drm) };
    // SAFETY: A card has a device.
    let device: &Device = unsafe { Device::from_raw(device.cast()) };
    dev_warn!(device, "DMEM: {}: {:?}\n", what, err);
}

/// Registers the card's memory, if it has what that needs.
///
/// # Safety
///
/// `drm` must be valid, and its device have its driver, until `nouveau_dmem_fini()` has been called
/// for it. Called once for a card; may sleep.
#[no_mangle]
unsafe extern "C" fn nouveau_dmem_init(drm: *mut nouveau_drm) {
    let Some(gpu) = NonNull::new(drm) else {
        return;
    };
    // INVARIANT: The caller promises it. Nobody else makes a pagemap with this owner.
    let gpu = NewGpu(Gpu(gpu));
    let dmem = Dmem::new(gpu).and_then(|dmem| Ok(Arc::new(dmem, GFP_KERNEL)?));
    match dmem {
        Ok(dmem) => {
            let dmem = Arc::into_raw(dmem).cast_mut().cast();
            // SAFETY: The caller promises a valid pointer, and that this is the only call for the
            // card, so that no reference was there that is lost. This one is given away until
            // `nouveau_dmem_fini()` takes it back.
            unsafe { nouveau_dmem_hw_set(drm, dmem) };
        }
        // As on every card before Pascal.
        Err(ENODEV) => {}
        // SAFETY: The caller promises a valid pointer.
        Err(err) => unsafe { complain(drm, c"processes get no memory on the card", err) },
    }
}

/// Brings all pages home, and unregisters the memory.
///
/// # Safety
///
/// `drm` must be valid. May sleep.
#[no_mangle]
unsafe extern "C" fn nouveau_dmem_fini(drm: *mut nouveau_drm) {
    // SAFETY: The caller promises a valid pointer. What was there is exchanged in one step, so that
    // it is taken back once.
    let Some(dmem) = NonNull::new(unsafe { nouveau_dmem_hw_set(drm, null_mut()) }) else {
        return;
    };
    // Who found it before has a reference of its own afterwards.
    //
    // SAFETY: We may sleep.
    unsafe { bindings::synchronize_rcu() };
    // SAFETY: It was left by `nouveau_dmem_init()`, whose reference this is.
    let dmem = unsafe { Arc::<Dmem>::from_raw(dmem.cast().as_ptr()) };
    // Waits for those who use the memory.
    dmem.close();
}

/// Brings all pages home before the card loses its power.
///
/// # Safety
///
/// `drm` must be valid. May sleep.
#[no_mangle]
unsafe extern "C" fn nouveau_dmem_suspend(drm: *mut nouveau_drm) {
    // SAFETY: The caller promises a valid pointer.
    let dmem = unsafe { dmem_of(drm) };
    if let Some(Err(err)) = dmem.map(|dmem| dmem.suspend()) {
        // SAFETY: As above.
        unsafe { complain(drm, c"pages of processes stay on the card", err) };
    }
}

/// Undoes `nouveau_dmem_suspend()`.
///
/// # Safety
///
/// `drm` must be valid. May sleep.
#[no_mangle]
unsafe extern "C" fn nouveau_dmem_resume(drm: *mut nouveau_drm) {
    // SAFETY: The caller promises a valid pointer.
    let dmem = unsafe { dmem_of(drm) };
    if let Some(Err(err)) = dmem.map(|dmem| dmem.resume()) {
        // SAFETY: As above.
        unsafe { complain(drm, c"pages of processes have no place on the card", err) };
    }
}

/// Moves what can be moved from `start` up to `end` to the card.
///
/// # Safety
///
/// `drm` and `vma` must be valid, and the mmap lock of the process be held, for reading at least.
/// May sleep.
#[no_mangle]
unsafe extern "C" fn nouveau_dmem_migrate_vma(
    drm: *mut nouveau_drm,
    _svmm: *mut nouveau_svmm,
    vma: *mut bindings::vm_area_struct,
    start: c_ulong,
    end: c_ulong,
) -> c_int {
    // SAFETY: The caller promises a valid pointer.
    let Some(dmem) = (unsafe { dmem_of(drm) }) else {
        return ENODEV.to_errno();
    };
    // INVARIANT: The caller promises the lock.
    // SAFETY: The caller promises a valid pointer.
    let vma = LockedVma(unsafe { VmaRef::from_raw(vma) });
    let migrate = || {
        let range = UserRange::between(UserAddr::new(start)?, UserAddr::new(end)?)?;
        dmem.migrate(&vma, range)
    };
    migrate().map_or_else(Error::to_errno, |()| 0)
}

/// The GPU's address of a page on the card.
///
/// # Safety
///
/// `page` must be a page of device memory of nouveau's, which is not freed meanwhile. Does not
/// sleep.
#[no_mangle]
unsafe extern "C" fn nouveau_dmem_page_addr(page: *mut bindings::page) -> c_ulong {
    /// Behind all memory, where the GPU finds nothing: for a page that has lost its place, because
    /// the card could not be woken up.
    const NOWHERE: c_ulong = (1 << 47) - PAGE_SIZE;
    let address = || {
        // SAFETY: The caller promises it.
        let (vram, offset) = unsafe { DevPagemap::<Vram>::of_page(NonNull::new(page)?) }?;
        vram.ops().address(offset)?.try_into().ok()
    };
    address().unwrap_or(NOWHERE)
}
