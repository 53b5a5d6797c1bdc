// SPDX-License-Identifier: GPL-2.0

//! A card in place of nouveau's, and the functions of nouveau that are called for it. A
//! `nouveau_drm` is a `Card` here, a `nouveau_bo` a `Buffer`, and a `nouveau_fence` a `Fence`.
//!
//! How fake it is: jobs are done when somebody waits for them, or for what came behind them. There
//! are no commands.

use bindings::sim::{dma_read, dma_write, reach_memory, Process, PAGE_SIZE};
use kernel::{
    bindings::{
        complete_all,
        completion,
        faux_device,
        faux_device_create,
        faux_device_destroy,
        init_completion,
        wait_for_completion, //
    },
    prelude::*,
    time::{
        delay::fsleep,
        Delta, //
    }, //
};
// What is tested, for the linker.
use nouveau as _;
use std::{
    boxed::Box,
    cell::UnsafeCell,
    collections::BTreeMap,
    ptr::{null, null_mut},
    sync::{Mutex, MutexGuard, PoisonError},
    vec::Vec,
};

/// How much memory it has.
const VRAM: u64 = 64 << 20;
/// Buffers begin at a multiple of this.
const UNIT: u64 = 2 << 20;

extern "C" {
    fn nouveau_dmem_init(drm: *mut c_void);
    fn nouveau_dmem_fini(drm: *mut c_void);
    fn nouveau_dmem_suspend(drm: *mut c_void);
    fn nouveau_dmem_resume(drm: *mut c_void);
    fn nouveau_dmem_migrate_vma(
        drm: *mut c_void,
        svmm: *mut c_void,
        vma: *mut c_void,
        start: c_ulong,
        end: c_ulong,
    ) -> c_int;
}

/// What the engine is to do.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Job {
    vram: u64,
    host: u64,
    npages: u32,
    way: u32,
}

#[derive(Default)]
struct State {
    dmem: usize,
    /// The contents of each unit that was pinned, by where it is.
    memory: BTreeMap<u64, Vec<u8>>,
    cursor: u64,
    buffers: usize,
    fences: usize,
    full: bool,
    /// nouveau is being unbound, or has been.
    unplugged: bool,
    /// It was pulled out, or its channel killed.
    gone: bool,
    /// It is pulled out when so many jobs more have been done.
    jobs_left: Option<usize>,
    /// How many jobs were done while it was unplugged.
    jobs_unplugged: usize,
    /// It is on its way to sleep, or asleep, for all that runtime power management knows.
    asleep: bool,
    /// It cannot be woken up any more.
    broken: bool,
    /// How many waits give up.
    delay: usize,
    /// Which copy fails next, and how many after it.
    failing: (usize, usize),
}

pub(crate) struct Card {
    device: *mut faux_device,
    supported: bool,
    size: u64,
    state: Mutex<State>,
    /// It has had a job since [`Card::forget`].
    submitted: UnsafeCell<completion>,
}

/// A buffer, which is `nouveau_bo` to the driver.
pub(crate) struct Buffer {
    card: *const Card,
    place: u64,
    /// What it had when it was unpinned.
    saved: Option<Vec<u8>>,
}

/// A fence, which is `nouveau_fence` to the driver.
pub(crate) struct Fence {
    card: *const Card,
    jobs: Vec<Job>,
    status: c_int,
}

// SAFETY: The device is only handed to the driver, which is that of the kernel: it locks.
unsafe impl Send for Card {}
// SAFETY: As above; the rest is behind a mutex.
unsafe impl Sync for Card {}

impl Card {
    fn with(supported: bool, size: u64) -> Box<Self> {
        Box::new(Self {
            device: new_device(),
            supported,
            size,
            state: Mutex::default(),
            submitted: UnsafeCell::new(pin_init::zeroed()),
        })
    }

    /// One of Pascal.
    pub(crate) fn new() -> Box<Self> {
        Self::with(true, VRAM)
    }

    /// One that is older.
    pub(crate) fn older() -> Box<Self> {
        Self::with(false, VRAM)
    }

    /// One whose memory is all in use.
    pub(crate) fn without_memory() -> Box<Self> {
        Self::with(true, 0)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As a `nouveau_drm`.
    fn as_raw(&self) -> *mut c_void {
        std::ptr::from_ref(self).cast_mut().cast()
    }

    pub(crate) fn init(&self) {
        self.state().unplugged = false;
        // SAFETY: The card is there until `fini()` was called.
        unsafe { nouveau_dmem_init(self.as_raw()) };
    }

    /// As nouveau does it when it is unbound, whatever the reason: DRM's device is unplugged first.
    pub(crate) fn fini(&self) {
        self.state().unplugged = true;
        // SAFETY: The card is there.
        unsafe { nouveau_dmem_fini(self.as_raw()) };
    }

    pub(crate) fn suspend(&self) {
        self.state().asleep = true;
        // SAFETY: The card is there.
        unsafe { nouveau_dmem_suspend(self.as_raw()) };
    }

    /// Something else of nouveau's fails: the card stays awake, and nobody says so.
    pub(crate) fn fail_to_suspend(&self) {
        self.suspend();
        self.state().asleep = false;
    }

    pub(crate) fn resume(&self) {
        // SAFETY: The card is there.
        unsafe { nouveau_dmem_resume(self.as_raw()) };
        self.state().asleep = false;
    }

    /// It cannot be woken up any more, or can be again.
    pub(crate) fn break_down(&self, broken: bool) {
        self.state().broken = broken;
    }

    /// Moves `len` bytes at `addr` of `process` to the card, mapping by mapping, as an ioctl does.
    pub(crate) fn migrate(&self, process: &Process, addr: usize, len: usize) -> c_int {
        process.run(|| {
            let current = current!();
            let mm = current.mm().unwrap().mmget_not_zero().unwrap();
            let mmap = mm.mmap_read_lock();
            let (mut start, end) = (addr, addr + len);
            let mut ret = 0;
            while start < end && ret == 0 {
                let vma = mmap.vma_lookup(start).unwrap();
                let stop = vma.end().min(end);
                let vma = vma.as_ptr().cast();
                // SAFETY: The card is there, and the VMA, whose lock is held.
                ret = unsafe {
                    nouveau_dmem_migrate_vma(self.as_raw(), null_mut(), vma, start, stop)
                };
                start = stop;
            }
            ret
        })
    }

    /// Forgets that it has had a job.
    pub(crate) fn forget(&self) {
        // SAFETY: Nobody waits for it.
        unsafe { init_completion(self.submitted.get()) };
    }

    /// Waits until it has had a job.
    pub(crate) fn await_job(&self) {
        // SAFETY: It is initialised.
        unsafe { wait_for_completion(self.submitted.get()) };
    }

    /// How many buffers there are.
    pub(crate) fn buffers(&self) -> usize {
        self.state().buffers
    }

    /// How many fences there are.
    pub(crate) fn fences(&self) -> usize {
        self.state().fences
    }

    /// Whether somebody else has all of its memory.
    pub(crate) fn fill_up(&self, full: bool) {
        self.state().full = full;
    }

    /// Pulls it out: nothing is done any more.
    pub(crate) fn pull_out(&self) {
        self.state().gone = true;
    }

    /// Pulls it out when so many jobs more have been done.
    pub(crate) fn pull_out_after(&self, jobs: usize) {
        self.state().jobs_left = Some(jobs);
    }

    /// How many jobs were done while it was unplugged.
    pub(crate) fn jobs_unplugged(&self) -> usize {
        self.state().jobs_unplugged
    }

    /// So many waits give up.
    pub(crate) fn delay(&self, waits: usize) {
        self.state().delay = waits;
    }

    /// The `nth` copy from now fails.
    pub(crate) fn fail_copy(&self, nth: usize) {
        self.state().failing = (nth, 1);
    }

    /// So many copies fail from now on.
    pub(crate) fn fail_copies(&self, nr: usize) {
        self.state().failing = (1, nr);
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(
            state.dmem == 0 && state.memory.is_empty(),
            "something is left on the card"
        );
        assert!(
            state.buffers == 0 && state.fences == 0,
            "something of the card is left"
        );
        // SAFETY: It was created for this card.
        unsafe { faux_device_destroy(self.device) };
    }
}

/// A device, even if something fails while it is made; that is not what is tested.
fn new_device() -> *mut faux_device {
    // SAFETY: The name is a string, and there is neither a parent nor a table.
    let new = || unsafe { faux_device_create(c"card".as_char_ptr(), null_mut(), null()) };
    let device = match new() {
        device if device.is_null() => new(),
        device => device,
    };
    // SAFETY: It was just made.
    unsafe { reach_memory(&raw mut (*device).dev) };
    device
}

impl State {
    /// A place where nothing is pinned, behind the last that was found.
    fn place(&mut self, size: u64, contents: Option<Vec<u8>>) -> Option<u64> {
        if self.full {
            return None;
        }
        let units = size / UNIT;
        let place = (0..units)
            .map(|i| (self.cursor + i) % units * UNIT)
            .find(|place| !self.memory.contains_key(place))?;
        self.cursor = place / UNIT + 1;
        // What somebody else may have left there.
        let contents = contents.unwrap_or_else(|| vec![0xa5; UNIT as usize]);
        self.memory.insert(place, contents);
        Some(place)
    }

    /// The memory at `addr`.
    fn at(&mut self, addr: u64, len: usize) -> &mut [u8] {
        let (place, memory) = self.memory.range_mut(..=addr).next_back().unwrap();
        let start = (addr - place) as usize;
        memory
            .get_mut(start..start + len)
            .expect("nobody has memory there")
    }

    /// Whether the next copy fails.
    fn fails(&mut self) -> bool {
        let (nth, nr) = self.failing;
        self.failing = match (nth, nr) {
            (0, _) | (_, 0) => (0, 0),
            (1, nr) => (1, nr - 1),
            (nth, nr) => (nth - 1, nr),
        };
        nth == 1 && nr > 0
    }
}

impl Job {
    /// Does what it says. The card is not locked while the machine's memory is used.
    fn work(self, card: &Card) -> Result {
        {
            let mut state = card.state();
            if state.jobs_left == Some(0) {
                state.gone = true;
            }
            if state.gone || state.fails() {
                return Err(EIO);
            }
            state.jobs_left = state.jobs_left.map(|left| left - 1);
            state.jobs_unplugged += usize::from(state.unplugged);
        }
        let mut bytes = vec![0; self.npages as usize * PAGE_SIZE];
        let len = bytes.len();
        match self.way {
            0 => {
                dma_read(self.host, &mut bytes);
                card.state().at(self.vram, len).copy_from_slice(&bytes);
            }
            1 => {
                bytes.copy_from_slice(card.state().at(self.vram, len));
                dma_write(self.host, &bytes);
            }
            2 => card.state().at(self.vram, len).fill(0),
            way => panic!("no job is {way}"),
        }
        Ok(())
    }
}

#[no_mangle]
extern "C" fn nouveau_dmem_hw_supported(drm: *mut Card) -> bool {
    // SAFETY: The driver has a card.
    unsafe { (*drm).supported }
}

#[no_mangle]
extern "C" fn nouveau_dmem_hw_gone(drm: *mut Card) -> bool {
    // Not that it is unplugged: `hw.c` does not take the one for the other.
    //
    // SAFETY: The driver has a card.
    unsafe { (*drm).state() }.gone
}

#[no_mangle]
extern "C" fn nouveau_dmem_hw_wake(drm: *mut Card) -> c_int {
    // SAFETY: The driver has a card.
    let state = unsafe { (*drm).state() };
    match (state.broken, state.asleep) {
        (true, _) => EINVAL.to_errno(),
        (false, asleep) => c_int::from(!asleep),
    }
}

#[no_mangle]
extern "C" fn nouveau_dmem_hw_vram_size(drm: *mut Card) -> u64 {
    // SAFETY: The driver has a card.
    unsafe { (*drm).size }
}

#[no_mangle]
extern "C" fn nouveau_dmem_hw_device(drm: *mut Card) -> *mut c_void {
    // SAFETY: The driver has a card, which has a device.
    unsafe { &raw mut (*(*drm).device).dev }.cast()
}

#[no_mangle]
extern "C" fn nouveau_dmem_hw_owner(drm: *mut Card) -> *mut c_void {
    drm.cast()
}

#[no_mangle]
extern "C" fn nouveau_dmem_hw_get(drm: *mut Card) -> *mut c_void {
    // SAFETY: The driver has a card.
    unsafe { (*drm).state() }.dmem as *mut c_void
}

#[no_mangle]
extern "C" fn nouveau_dmem_hw_set(drm: *mut Card, dmem: *mut c_void) -> *mut c_void {
    // SAFETY: The driver has a card.
    let mut state = unsafe { (*drm).state() };
    std::mem::replace(&mut state.dmem, dmem as usize) as *mut c_void
}

#[no_mangle]
extern "C" fn nouveau_dmem_hw_bo_new(drm: *mut Card, size: u32, bo: *mut *mut Buffer) -> c_int {
    assert!(u64::from(size) == UNIT);
    // SAFETY: The driver has a card.
    let card = unsafe { &*drm };
    let mut state = card.state();
    let Some(place) = state.place(card.size, None) else {
        return ENOMEM.to_errno();
    };
    state.buffers += 1;
    let buffer = Buffer {
        card: drm,
        place,
        saved: None,
    };
    // SAFETY: The driver has room for a pointer.
    unsafe { bo.write(Box::into_raw(Box::new(buffer))) };
    0
}

#[no_mangle]
extern "C" fn nouveau_dmem_hw_bo_pin(bo: *mut Buffer) -> c_int {
    // SAFETY: The driver has a buffer, and nobody else uses it.
    let buffer = unsafe { &mut *bo };
    // SAFETY: The card is there for longer than its buffers.
    let card = unsafe { &*buffer.card };
    let mut state = card.state();
    // It keeps what it had until there is a place for that.
    if state.full {
        return ENOMEM.to_errno();
    }
    let saved = buffer.saved.take().expect("the buffer is pinned already");
    let place = state.place(card.size, Some(saved));
    buffer.place = place.expect("a card that was asleep has less memory than before");
    0
}

#[no_mangle]
extern "C" fn nouveau_dmem_hw_bo_offset(bo: *mut Buffer) -> u64 {
    // SAFETY: The driver has a buffer.
    unsafe { (*bo).place }
}

#[no_mangle]
extern "C" fn nouveau_dmem_hw_bo_fini(bo: *mut Buffer) {
    // SAFETY: The driver has a buffer, and gives it up.
    let buffer = unsafe { Box::from_raw(bo) };
    assert!(buffer.saved.is_some(), "the buffer is pinned");
    // SAFETY: The card is there for longer than its buffers.
    unsafe { (*buffer.card).state() }.buffers -= 1;
}

#[no_mangle]
extern "C" fn nouveau_bo_unpin(bo: *mut Buffer) -> c_int {
    // SAFETY: The driver has a buffer, and nobody else uses it.
    let buffer = unsafe { &mut *bo };
    // SAFETY: The card is there for longer than its buffers.
    let memory = unsafe { (*buffer.card).state() }
        .memory
        .remove(&buffer.place);
    assert!(memory.is_some(), "the buffer is not pinned");
    buffer.saved = memory;
    0
}

#[no_mangle]
extern "C" fn nouveau_bo_unpin_del(bo: *mut *mut Buffer) {
    // SAFETY: The driver has a buffer, and gives it up.
    let buffer = unsafe { Box::from_raw(bo.replace(null_mut())) };
    // SAFETY: The card is there for longer than its buffers.
    let mut state = unsafe { (*buffer.card).state() };
    assert!(
        state.memory.remove(&buffer.place).is_some(),
        "the buffer is not pinned"
    );
    state.buffers -= 1;
}

#[no_mangle]
extern "C" fn nouveau_dmem_hw_submit(
    drm: *mut Card,
    jobs: *const Job,
    nr: u32,
    fence: *mut *mut Fence,
) -> c_int {
    assert!(nr > 0 && nr <= 64);
    // SAFETY: The driver has a card.
    unsafe { (*drm).state() }.fences += 1;
    let new = Fence {
        card: drm,
        // SAFETY: The driver has so many jobs.
        jobs: unsafe { std::slice::from_raw_parts(jobs, nr as usize) }.to_vec(),
        status: 0,
    };
    // SAFETY: The driver has room for a pointer.
    unsafe { fence.write(Box::into_raw(Box::new(new))) };
    // SAFETY: It is initialised, and the driver has a card.
    unsafe { complete_all((*drm).submitted.get()) };
    0
}

impl Fence {
    fn work(&mut self) {
        // SAFETY: The card is there for longer than its fences.
        let card = unsafe { &*self.card };
        for job in self.jobs.drain(..) {
            if let Err(err) = job.work(card) {
                self.status = err.to_errno();
            }
        }
    }
}

#[no_mangle]
extern "C" fn nouveau_dmem_hw_fence_status(fence: *mut Fence) -> c_int {
    // SAFETY: The driver has a fence.
    unsafe { (*fence).status }
}

#[no_mangle]
extern "C" fn nouveau_fence_wait(fence: *mut Fence, lazy: bool, intr: bool) -> c_int {
    assert!(lazy && !intr);
    // SAFETY: The driver has a fence, and nobody else uses it.
    let fence = unsafe { &mut *fence };
    let late = {
        // SAFETY: The card is there for longer than its fences.
        let mut state = unsafe { (*fence.card).state() };
        let left = state.delay.checked_sub(1);
        state.delay = left.unwrap_or(0);
        left.is_some() || state.gone
    };
    if late {
        // Others get on meanwhile.
        fsleep(Delta::from_millis(1));
        return EBUSY.to_errno();
    }
    fence.work();
    0
}

#[no_mangle]
extern "C" fn nouveau_fence_unref(fence: *mut *mut Fence) {
    // SAFETY: The driver has a fence, and gives it up.
    let mut fence = unsafe { Box::from_raw(fence.replace(null_mut())) };
    // SAFETY: The card is there for longer than its fences.
    if !unsafe { (*fence.card).state() }.gone {
        // Somebody waits for what comes behind it.
        fence.work();
    }
    // SAFETY: The card is there for longer than its fences.
    unsafe { (*fence.card).state() }.fences -= 1;
}
