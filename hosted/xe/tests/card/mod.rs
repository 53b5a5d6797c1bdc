// SPDX-License-Identifier: GPL-2.0

//! Cards in place of xe's, and the functions of xe that are called for them, as
//! `drivers/xe-glue/test` has them for a kernel. An `xe_device`, an `xe_tile` and an
//! `xe_vram_region` are all a `Card` here.
//!
//! How fake it is: a card copies when somebody waits for that, unless it has a thread of its own.
//! What it finds wrong is looked at when it goes.

// What is true of the pointers of a driver of C's is said in one place.
#![allow(clippy::undocumented_unsafe_blocks, clippy::missing_safety_doc)]
#![allow(improper_ctypes, improper_ctypes_definitions)]
// Not each test uses all of it.
#![allow(dead_code)]

use bindings::{
    sim::{
        dma_read, dma_resource, dma_write, fence_of, owner_list, signal_fence, DrmDevice, Process,
        Workqueue, PAGE_SIZE,
    },
    *,
};
use kernel::ffi::{c_int, c_ulong, c_void};
use std::{
    cell::UnsafeCell,
    collections::VecDeque,
    mem::offset_of,
    ptr::{null, null_mut},
    sync::{
        atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::SeqCst},
        Arc, Mutex, MutexGuard, PoisonError,
    },
};
// What is tested, for the linker.
use xe as _;

extern "C" {
    static xe_pagemap_devmem_ops: drm_pagemap_devmem_ops;
    fn xe_pagemap_find_or_create(
        xe: *const Card,
        cache: *mut drm_pagemap_cache,
        vr: *const Card,
    ) -> *mut Pagemap;
    fn xe_pagemap_shrinker_create(xe: *const Card) -> c_int;
    fn xe_pagemap_cache_create(tile: *const Card) -> c_int;
}

/// How much memory a card has, in bytes, if it does not have less.
pub(crate) const SIZE: usize = 16 << 20;
/// Where others see the memory of the first card.
const IO_START: u64 = 1 << 45;
/// A card's own address of its memory.
const DPA_BASE: u64 = 1 << 32;
/// As many pages as an engine takes.
const MAX_RUN: usize = (8 << 20) / PAGE_SIZE;

/// Another's memory.
const PEER: u64 = drm_interconnect_protocol_DRM_INTERCONNECT_DRIVER as u64 + 1;
const SYSTEM: u64 = drm_interconnect_protocol_DRM_INTERCONNECT_SYSTEM as u64;

pub(crate) fn errno(err: u32) -> c_int {
    -(err as c_int)
}

fn is_err<T>(ptr: *const T) -> bool {
    unsafe { IS_ERR(ptr.cast()) }
}

fn err_ptr<T>(err: u32) -> *mut T {
    std::ptr::without_provenance_mut(errno(err) as isize as usize)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// xe has one list of peers, so there is one world at a time.
static TURN: Mutex<()> = Mutex::new(());
static OWNERS: AtomicPtr<drm_pagemap_owner_list> = AtomicPtr::new(null_mut());
/// The cards do not reach each other.
static APART: AtomicBool = AtomicBool::new(false);
/// All cards, by where others see their memory.
static CARDS: Mutex<[usize; 2]> = Mutex::new([0; 2]);

/// What there is once for all cards.
pub(crate) struct World {
    cards: [Option<Arc<Card>>; 2],
    size: usize,
    _turn: MutexGuard<'static, ()>,
}

impl World {
    /// One with two cards.
    pub(crate) fn new() -> Self {
        Self::with_memory(SIZE)
    }

    /// One with two cards that have so many bytes of memory.
    pub(crate) fn with_memory(size: usize) -> Self {
        let turn = lock(&TURN);
        OWNERS.store(Box::into_raw(owner_list()), SeqCst);
        APART.store(false, SeqCst);
        let mut world = Self {
            cards: [None, None],
            size,
            _turn: turn,
        };
        (0..2).for_each(|index| world.bind(index));
        world
    }

    /// Cards reach each other, or they do not.
    pub(crate) fn apart(&self, apart: bool) {
        APART.store(apart, SeqCst);
    }

    pub(crate) fn card(&self, index: usize) -> Arc<Card> {
        self.cards[index].clone().expect("the card is bound")
    }

    /// Binds the driver to a card. One step of it may fail.
    pub(crate) fn bind(&mut self, index: usize) {
        assert!(self.cards[index].is_none());
        let card = Card::new(index, self.size).or_else(|err| {
            assert_eq!(err, errno(ENOMEM));
            Card::new(index, self.size)
        });
        self.cards[index] = Some(card.expect("what failed once does not fail again"));
    }

    /// Unbinds the driver from a card, which is there for as long as somebody has something of it.
    pub(crate) fn unbind(&mut self, index: usize) {
        self.cards[index]
            .take()
            .expect("the card is bound")
            .unbind();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // What is left is not looked at.
            std::mem::forget(std::mem::take(&mut self.cards));
            return;
        }
        for card in self.cards.iter_mut().filter_map(Option::take) {
            card.unbind();
            assert_eq!(Arc::strong_count(&card), 1, "somebody has a card still");
        }
        let list = OWNERS.swap(null_mut(), SeqCst);
        unsafe {
            assert!(
                (*list).peers.next == &raw mut (*list).peers,
                "a peer is left"
            );
            drop(Box::from_raw(list));
        }
    }
}

/// `struct xe_pagemap`.
#[repr(C)]
struct Pagemap {
    dpagemap: drm_pagemap,
    peer: drm_pagemap_peer,
    vr: *const Card,
}

/// A reference to a pagemap, as a virtual machine of xe's has it.
pub(crate) struct Kept {
    pagemap: *mut Pagemap,
    card: Arc<Card>,
}

// SAFETY: A pagemap belongs to no thread.
unsafe impl Send for Kept {}

impl Kept {
    /// Moves `len` bytes at `addr` of `process` to the card.
    pub(crate) fn migrate(&self, process: &Process, addr: usize, len: usize) -> c_int {
        process.run(|| unsafe {
            let mm = (*get_current()).mm;
            let dpagemap = &raw mut (*self.pagemap).dpagemap;
            drm_pagemap_populate_mm(dpagemap, addr, addr + len, mm, 0)
        })
    }

    /// Whose it is, which is compared with others.
    pub(crate) fn owner(&self) -> usize {
        unsafe { (*self.pagemap).peer.owner as usize }
    }

    /// Which one it is.
    pub(crate) fn id(&self) -> usize {
        self.pagemap as usize
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        unsafe { drm_pagemap_put(&raw mut (*self.pagemap).dpagemap) };
    }
}

/// What may fail: the nth one from now on, if it is not zero.
#[derive(Clone, Copy)]
pub(crate) enum Fail {
    /// There is no memory for a buffer.
    Bo,
    /// A copy is not started.
    Start,
    /// A copy fails, which its fence says.
    Copy,
    /// A buffer does not say where its last page is.
    Place,
}

/// What a card has done, and has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) bos: usize,
    pub(crate) awake: usize,
    pub(crate) jobs: usize,
    /// Pages that were sent to another card.
    pub(crate) peer_pages: usize,
    pub(crate) failed: usize,
    /// Pages that the driver said were copied to the card, and from it.
    pub(crate) copied: [usize; 2],
}

#[derive(Default)]
struct State {
    vram: Vec<u8>,
    used: Vec<bool>,
    /// Where memory is to be cleared, and what is signalled then.
    clears: Vec<(Block, usize)>,
    jobs: VecDeque<Job>,
    /// What has to be signalled before a buffer is given back, as a copy was to be done behind it.
    awaited: Vec<usize>,
    bos: Vec<usize>,
    counts: Counts,
    failures: [usize; 4],
    /// So many copies fail, or are not started.
    failing: usize,
    failing_starts: usize,
    dead: bool,
    fragmented: bool,
    threaded: bool,
    wrong: Vec<String>,
}

/// A part of a card's memory, in pages.
#[derive(Clone, Copy)]
struct Block {
    first: usize,
    nr: usize,
}

/// What the engine is to do.
struct Job {
    fence: *mut dma_fence,
    after: *mut dma_fence,
    dpa: u64,
    to_vram: bool,
    addrs: Vec<drm_pagemap_addr>,
}

// SAFETY: Fences belong to no thread.
unsafe impl Send for Job {}

/// A buffer.
#[repr(C)]
struct Bo {
    devmem: drm_pagemap_devmem,
    /// Held while memory is migrated into the buffer, or evicted from it.
    lock: mutex,
    refs: AtomicUsize,
    card: *const Card,
    start: usize,
    blocks: [Block; 2],
    nr_blocks: usize,
}

pub(crate) struct Card {
    drm: DrmDevice,
    destroy: Option<Workqueue>,
    engine: Option<Workqueue>,
    pump: UnsafeCell<work_struct>,
    /// Held while the engine works.
    busy: UnsafeCell<mutex>,
    /// Complete unless the engine is held.
    gate: UnsafeCell<completion>,
    /// Complete when the engine has come to the gate.
    arrived: UnsafeCell<completion>,
    index: usize,
    /// How much memory it says that it has.
    size: AtomicUsize,
    shrinker: AtomicPtr<drm_pagemap_shrinker>,
    cache: AtomicPtr<drm_pagemap_cache>,
    state: Mutex<State>,
}

// SAFETY: What is behind the pointers is used under locks.
unsafe impl Send for Card {}
// SAFETY: As above.
unsafe impl Sync for Card {}

/// The classes of the locks.
static mut KEYS: [lock_class_key; 2] = unsafe { std::mem::zeroed() };

// SAFETY of all that follows: a card is there until nobody has anything of it, a buffer until its
// last reference is gone, and the driver hands back what it was given.

impl Card {
    /// As `probe()` of xe's: the shrinker, the room for a pagemap, and no pagemap.
    fn new(index: usize, size: usize) -> Result<Arc<Self>, c_int> {
        let card = Arc::new(Self {
            drm: DrmDevice::new(),
            destroy: Some(Workqueue::new()),
            engine: Some(Workqueue::new()),
            pump: UnsafeCell::new(pin_init::zeroed()),
            busy: UnsafeCell::new(pin_init::zeroed()),
            gate: UnsafeCell::new(pin_init::zeroed()),
            arrived: UnsafeCell::new(pin_init::zeroed()),
            index,
            size: AtomicUsize::new(size),
            shrinker: AtomicPtr::default(),
            cache: AtomicPtr::default(),
            state: Mutex::default(),
        });
        {
            let mut state = card.state();
            // What somebody else may have left there.
            state.vram = vec![0xa5; size];
            state.used = vec![false; size / PAGE_SIZE];
        }
        lock(&CARDS)[index] = Arc::as_ptr(&card) as usize;
        unsafe {
            let key = &raw mut KEYS[0];
            __mutex_init(card.busy.get(), c"engine".as_ptr().cast(), key);
            init_work_with_key(card.pump.get(), Some(pump), false, null(), null_mut());
            init_completion(card.arrived.get());
            complete_all(card.gate.get());
            let shrinker = xe_pagemap_shrinker_create(card.as_raw());
            if shrinker != 0 {
                return Err(shrinker);
            }
            match xe_pagemap_cache_create(card.as_raw()) {
                0 => Ok(card),
                err => Err(err),
            }
        }
    }

    fn as_raw(&self) -> *const Self {
        self
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Notes what must not be.
    fn wrong(&self, what: &str) {
        self.state().wrong.push(what.to_owned());
    }

    /// As `remove()` of xe's: buffers are evicted while the card is still there, and then devres
    /// has its turn.
    fn unbind(&self) {
        self.drm.unplug();
        while self.evict() != 0 {
            unsafe { fsleep(1) };
        }
        self.drm.unbind();
    }

    /// The pagemap, which is made if there is none, with a reference.
    pub(crate) fn pagemap(self: &Arc<Self>) -> Result<Kept, c_int> {
        unsafe {
            let cache = self.cache.load(SeqCst);
            let pagemap = xe_pagemap_find_or_create(self.as_raw(), cache, self.as_raw());
            match is_err(pagemap) {
                true => Err(pagemap as isize as c_int),
                false => Ok(Kept {
                    pagemap,
                    card: self.clone(),
                }),
            }
        }
    }

    /// Moves `len` bytes at `addr` of `process` to the card.
    pub(crate) fn migrate(self: &Arc<Self>, process: &Process, addr: usize, len: usize) -> c_int {
        match self.pagemap() {
            Ok(pagemap) => pagemap.migrate(process, addr, len),
            Err(err) => err,
        }
    }

    /// Evicts all buffers. Gives the last error.
    pub(crate) fn evict(&self) -> c_int {
        let mut left = 0;
        let bos = {
            let state = self.state();
            let bos = state.bos.iter().map(|bo| *bo as *mut Bo);
            bos.inspect(|bo| unsafe {
                (**bo).refs.fetch_add(1, SeqCst);
            })
            .collect::<Vec<_>>()
        };
        for bo in bos {
            unsafe {
                mutex_lock(&raw mut (*bo).lock);
                // It may be that there was nothing to be migrated into it.
                if !(*bo).devmem.ops.is_null() {
                    let err = drm_pagemap_evict_to_ram(&raw mut (*bo).devmem);
                    // One of whose process nothing is left is empty already.
                    if err != 0 && !completion_done(&raw mut (*bo).devmem.detached) {
                        left = err;
                    }
                }
                mutex_unlock(&raw mut (*bo).lock);
                bo_put(bo);
            }
        }
        left
    }

    /// Flips each bit of what it has of a process's memory.
    pub(crate) fn flip(&self, process: &Process, addr: usize, len: usize) {
        let mm = process.run(|| unsafe { (*get_current()).mm });
        let mut state = self.state();
        for bo in state.bos.clone() {
            let bo = unsafe { &*(bo as *const Bo) };
            if bo.devmem.mm != mm {
                continue;
            }
            let mut at = bo.start;
            for block in &bo.blocks[..bo.nr_blocks] {
                for page in block.first..block.first + block.nr {
                    if (addr..addr + len).contains(&at) {
                        let bytes = &mut state.vram[page * PAGE_SIZE..(page + 1) * PAGE_SIZE];
                        bytes.iter_mut().for_each(|byte| *byte = !*byte);
                    }
                    at += PAGE_SIZE;
                }
            }
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        self.state().counts
    }

    /// The `nth` from now on fails; none does if it is zero.
    pub(crate) fn fail(&self, what: Fail, nth: usize) {
        self.state().failures[what as usize] = nth;
    }

    /// So many copies fail from now on.
    pub(crate) fn fail_copies(&self, nr: usize) {
        self.state().failing = nr;
    }

    /// So many copies are not started from now on.
    pub(crate) fn fail_starts(&self, nr: usize) {
        self.state().failing_starts = nr;
    }

    /// It copies nothing any more, and says so.
    pub(crate) fn die(&self) {
        self.state().dead = true;
    }

    /// No buffer is in one piece.
    pub(crate) fn fragment(&self, fragmented: bool) {
        self.state().fragmented = fragmented;
    }

    /// The engine has a thread of its own.
    pub(crate) fn with_thread(&self) {
        self.state().threaded = true;
    }

    /// What it says that it has, when its pagemap is made next.
    pub(crate) fn say_size(&self, size: usize) {
        self.size.store(size, SeqCst);
    }

    /// The engine stops before its next job.
    pub(crate) fn hold(&self) {
        unsafe {
            reinit_completion(self.arrived.get());
            reinit_completion(self.gate.get());
        }
    }

    /// And goes on.
    pub(crate) fn let_go(&self) {
        unsafe { complete_all(self.gate.get()) };
    }

    /// Waits until it has stopped.
    pub(crate) fn await_job(&self) {
        unsafe { wait_for_completion(self.arrived.get()) };
    }

    /// Lets the driver copy nothing to the card, after `fence`.
    pub(crate) fn copy_nothing(&self, fence: *mut dma_fence) -> c_int {
        let (mut page, mut addr) = (null_mut(), pin_init::zeroed());
        unsafe {
            let copy = xe_pagemap_devmem_ops.copy_to_devmem;
            let copy = copy.expect("the driver can copy");
            copy(&raw mut page, &raw mut addr, 1, fence)
        }
    }

    fn fails(&self, what: Fail) -> bool {
        let mut state = self.state();
        let left = &mut state.failures[what as usize];
        let fails = *left == 1;
        *left = left.saturating_sub(1);
        state.counts.failed += usize::from(fails);
        fails
    }

    /// Does jobs, in order, until `fence` is signalled, or there are none.
    fn work(&self, until: *mut dma_fence) {
        unsafe {
            mutex_lock(self.busy.get());
            while until.is_null() || !dma_fence_is_signaled(until) {
                let Some(job) = self.state().jobs.pop_front() else {
                    break;
                };
                complete_all(self.arrived.get());
                wait_for_completion(self.gate.get());
                if !job.after.is_null() {
                    dma_fence_wait_timeout(job.after, false, i64::MAX as _);
                    dma_fence_put(job.after);
                }
                if let Err(err) = self.run(&job) {
                    dma_fence_set_error(job.fence, err);
                }
                signal_fence(job.fence);
                dma_fence_put(job.fence);
            }
            mutex_unlock(self.busy.get());
        }
    }

    fn run(&self, job: &Job) -> Result<(), c_int> {
        if self.fails(Fail::Copy) {
            return Err(errno(EIO));
        }
        {
            let mut state = self.state();
            if state.dead || state.failing > 0 {
                state.failing = state.failing.saturating_sub(1);
                return Err(errno(EIO));
            }
        }
        self.state().counts.jobs += 1;
        let mut i = 0;
        while i < job.addrs.len() {
            let addr = &job.addrs[i];
            let nr = 1 << addr.order();
            // Only the first page of a folio has an address.
            if addr.addr == 0 || i + nr > job.addrs.len() {
                self.wrong("a copy without an address, or of a part of a folio");
                return Err(errno(EIO));
            }
            let place = (job.dpa - DPA_BASE) as usize + i * PAGE_SIZE;
            let mut bytes = vec![0; nr * PAGE_SIZE];
            match (addr.proto(), job.to_vram) {
                (SYSTEM, true) => {
                    dma_read(addr.addr, &mut bytes);
                    self.store(place, &bytes);
                }
                (SYSTEM, false) => dma_write(addr.addr, &self.load(place, bytes.len())),
                (PEER, false) => {
                    let dir = unsafe { drm_pagemap_addr_dir(addr) };
                    let Some(at) = dma_resource(addr.addr, bytes.len(), dir) else {
                        return Err(errno(EIO));
                    };
                    let at = (at - IO_START) as usize;
                    let other = lock(&CARDS)[at / SIZE] as *const Self;
                    let bytes = self.load(place, bytes.len());
                    unsafe { &*other }.store(at % SIZE, &bytes);
                    self.state().counts.peer_pages += nr;
                }
                _ => {
                    self.wrong("the engine does not know the way");
                    return Err(errno(EIO));
                }
            }
            i += nr;
        }
        Ok(())
    }

    /// Whether a job may use this memory.
    fn look_at(&self, place: usize, len: usize) {
        let (first, end) = (place / PAGE_SIZE, (place + len) / PAGE_SIZE);
        let (used, cleared) = {
            let state = self.state();
            let used = (first..end).all(|page| state.used.get(page) == Some(&true));
            let mut clears = state.clears.iter();
            let apart = |block: &Block| block.first >= end || block.first + block.nr <= first;
            (used, clears.all(|(block, _)| apart(block)))
        };
        if !used {
            self.wrong("a job uses memory that nobody has");
        }
        if !cleared {
            self.wrong("a job uses memory that is cleared later");
        }
    }

    fn load(&self, place: usize, len: usize) -> Vec<u8> {
        self.look_at(place, len);
        let state = self.state();
        let bytes = state.vram.get(place..place + len);
        bytes.map_or_else(|| vec![0xee; len], <[u8]>::to_vec)
    }

    fn store(&self, place: usize, bytes: &[u8]) {
        self.look_at(place, bytes.len());
        if let Some(to) = self.state().vram.get_mut(place..place + bytes.len()) {
            to.copy_from_slice(bytes);
        }
    }

    /// Does those of what is to be cleared that `which` says so of: where it is, and its fence.
    fn clear(&self, which: impl Fn(&Block, usize) -> bool) {
        let mut done = Vec::new();
        {
            let mut state = self.state();
            let clears = std::mem::take(&mut state.clears);
            for (block, fence) in clears {
                if which(&block, fence) {
                    let range = block.first * PAGE_SIZE..(block.first + block.nr) * PAGE_SIZE;
                    state.vram[range].fill(0);
                    done.push(fence);
                } else {
                    state.clears.push((block, fence));
                }
            }
        }
        for fence in done {
            let fence = fence as *mut dma_fence;
            unsafe {
                if !dma_fence_is_signaled(fence) {
                    signal_fence(fence);
                }
                dma_fence_put(fence);
            }
        }
    }

    /// A buffer of `nr` pages, whose lock is the caller's.
    fn new_bo(&self, start: usize, nr: usize) -> Result<*mut Bo, c_int> {
        if self.fails(Fail::Bo) {
            return Err(errno(ENOMEM));
        }
        let size = size_of::<Bo>();
        let flags = GFP_KERNEL | __GFP_ZERO;
        unsafe {
            let bo = krealloc_node_align(null(), size, 8, flags, NUMA_NO_NODE).cast::<Bo>();
            if bo.is_null() {
                return Err(errno(ENOMEM));
            }
            let key = &raw mut KEYS[1];
            __mutex_init(&raw mut (*bo).lock, c"bo".as_ptr().cast(), key);
            (*bo).refs = AtomicUsize::new(1);
            (*bo).card = self;
            (*bo).start = start;
            let placed = self.state().place(nr);
            let Some(blocks) = placed else {
                kfree(bo);
                return Err(errno(ENOSPC));
            };
            (*bo).nr_blocks = blocks.len();
            (&mut (*bo).blocks)[..blocks.len()].copy_from_slice(&blocks);
            // Nobody else knows it, but it may be said that somebody has it.
            while mutex_trylock(&raw mut (*bo).lock) == 0 {}
            let mut state = self.state();
            state.bos.push(bo as usize);
            state.counts.bos += 1;
            Ok(bo)
        }
    }

    /// Fills a buffer with zeroes, as another engine does. Gives what is signalled then.
    unsafe fn clear_bo(&self, bo: *const Bo) -> *mut dma_fence {
        let card = self as *const Self as usize;
        let fence = fence_of(move |fence| unsafe {
            (*(card as *const Self)).clear(|_, other| other == fence as usize);
        });
        let blocks = unsafe { &(&(*bo).blocks)[..(*bo).nr_blocks] };
        for block in blocks {
            unsafe { dma_fence_get(fence) };
            self.state().clears.push((*block, fence as usize));
        }
        fence
    }
}

impl State {
    /// Takes `nr` pages in one piece, at a multiple of their number if that is a power of two.
    fn piece(&mut self, nr: usize) -> Option<Block> {
        let step = if nr.is_power_of_two() { nr } else { 1 };
        let last = self.used.len().checked_sub(nr)?;
        let mut firsts = (0..=last).step_by(step);
        let first = firsts.find(|first| !self.used[*first..first + nr].contains(&true))?;
        self.used[first..first + nr].fill(true);
        Some(Block { first, nr })
    }

    fn place(&mut self, nr: usize) -> Option<Vec<Block>> {
        if !self.fragmented || nr < 2 {
            return Some(vec![self.piece(nr)?]);
        }
        let first = self.piece(nr / 2)?;
        // The page between the two is somebody else's.
        let Some(mut second) = self.piece(nr - nr / 2 + 1) else {
            self.used[first.first..first.first + first.nr].fill(false);
            return None;
        };
        self.used[second.first] = false;
        second.first += 1;
        second.nr -= 1;
        Some(vec![first, second])
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        self.unbind();
        self.work(null_mut());
        drop(self.engine.take());
        // Pagemaps are destroyed on it.
        drop(self.destroy.take());
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        assert!(state.wrong.is_empty(), "{:?}", state.wrong);
        assert_eq!((state.counts.bos, state.counts.awake), (0, 0));
        assert!(state.clears.is_empty() && state.bos.is_empty());
    }
}

unsafe extern "C" fn pump(work: *mut work_struct) {
    unsafe {
        let card = work.byte_sub(offset_of!(Card, pump)).cast::<Card>();
        (*card).work(null_mut());
    }
}

unsafe fn kfree<T>(memory: *mut T) {
    unsafe { krealloc_node_align(memory.cast(), 0, 8, 0, NUMA_NO_NODE) };
}

/// Gives a reference up. Does not sleep.
unsafe fn bo_put(bo: *mut Bo) {
    unsafe {
        let card = &*(*bo).card;
        {
            let mut state = card.state();
            if (*bo).refs.fetch_sub(1, SeqCst) > 1 {
                return;
            }
            state.bos.retain(|other| *other != bo as usize);
        }
        let blocks = &(&(*bo).blocks)[..(*bo).nr_blocks];
        // Before somebody else has it.
        card.clear(|block, _| blocks.iter().any(|ours| ours.first == block.first));
        {
            let mut state = card.state();
            for block in blocks {
                state.used[block.first..block.first + block.nr].fill(false);
            }
            state.counts.bos -= 1;
        }
        if !(*bo).devmem.mm.is_null() {
            mmdrop((*bo).devmem.mm);
        }
        kfree(bo);
    }
}

// What the driver calls.

#[no_mangle]
unsafe extern "C" fn xe_pagemap_hw_drm(xe: *const Card) -> *mut drm_device {
    unsafe { (*xe).drm.as_ptr() }
}

#[no_mangle]
unsafe extern "C" fn xe_pagemap_hw_dev(xe: *const Card) -> *mut device {
    unsafe { (*xe).drm.device() }
}

#[no_mangle]
unsafe extern "C" fn xe_pagemap_hw_size(vr: *const Card) -> u64 {
    unsafe { (*vr).size.load(SeqCst) as u64 }
}

#[no_mangle]
unsafe extern "C" fn xe_pagemap_hw_dpa_base(_vr: *const Card) -> u64 {
    DPA_BASE
}

#[no_mangle]
unsafe extern "C" fn xe_pagemap_hw_io_start(vr: *const Card) -> u64 {
    unsafe { IO_START + ((*vr).index * SIZE) as u64 }
}

#[no_mangle]
unsafe extern "C" fn xe_pagemap_hw_io_size(_vr: *const Card) -> u64 {
    SIZE as u64
}

#[no_mangle]
unsafe extern "C" fn xe_pagemap_hw_enter(xe: *const Card, idx: *mut c_int) -> bool {
    unsafe { drm_dev_enter((*xe).drm.as_ptr(), idx) }
}

#[no_mangle]
unsafe extern "C" fn xe_pagemap_hw_exit(idx: c_int) {
    unsafe { drm_dev_exit(idx) };
}

#[no_mangle]
unsafe extern "C" fn xe_pagemap_hw_destroy_wq(vr: *const Card) -> *mut workqueue_struct {
    let queue = unsafe { &(*vr).destroy };
    queue.as_ref().map_or(null_mut(), Workqueue::as_ptr)
}

#[no_mangle]
unsafe extern "C" fn xe_pagemap_hw_owner_list() -> *mut drm_pagemap_owner_list {
    OWNERS.load(SeqCst)
}

#[no_mangle]
unsafe extern "C" fn xe_pagemap_hw_interconnect(
    one: *mut drm_pagemap_peer,
    other: *mut drm_pagemap_peer,
) -> bool {
    let device = |peer: *mut drm_pagemap_peer| unsafe {
        let pagemap = peer.byte_sub(offset_of!(Pagemap, peer)).cast::<Pagemap>();
        // All that is there of one that is being made.
        (*(*pagemap).dpagemap.drm).dev
    };
    device(one) == device(other) || !APART.load(SeqCst)
}

#[no_mangle]
unsafe extern "C" fn xe_pagemap_hw_populate_mm(
    dpagemap: *mut drm_pagemap,
    start: c_ulong,
    end: c_ulong,
    mm: *mut mm_struct,
    timeslice_ms: c_ulong,
) -> c_int {
    unsafe {
        let card = &*(*dpagemap.cast::<Pagemap>()).vr;
        let mut idx = 0;
        if !drm_dev_enter(card.drm.as_ptr(), &raw mut idx) {
            return errno(ENODEV);
        }
        let result = card
            .new_bo(start, (end - start) / PAGE_SIZE)
            .map(|bo| {
                let cleared = card.clear_bo(bo);
                mmgrab(mm);
                let devmem = &raw mut (*bo).devmem;
                let (dev, ops) = (card.drm.device(), &raw const xe_pagemap_devmem_ops);
                drm_pagemap_devmem_init(devmem, dev, mm, ops, dpagemap, end - start, cleared);
                (*bo).refs.fetch_add(1, SeqCst);
                card.state().counts.awake += 1;
                let mut details: drm_pagemap_migrate_details = std::mem::zeroed();
                details.timeslice_ms = timeslice_ms;
                // Consumes that reference.
                let err = drm_pagemap_migrate_to_devmem(devmem, mm, start, end, &raw const details);
                mutex_unlock(&raw mut (*bo).lock);
                bo_put(bo);
                err
            })
            .unwrap_or_else(|err| err);
        drm_dev_exit(idx);
        result
    }
}

#[no_mangle]
unsafe extern "C" fn xe_pagemap_hw_blocks(
    devmem: *mut drm_pagemap_devmem,
    arg: *mut c_void,
    push: unsafe extern "C" fn(*mut c_void, u64, u64) -> c_int,
) -> c_int {
    unsafe {
        let bo = devmem.cast::<Bo>();
        let blocks = &(&(*bo).blocks)[..(*bo).nr_blocks];
        let bytes = |pages: usize| (pages * PAGE_SIZE) as u64;
        if (*(*bo).card).fails(Fail::Place) {
            return push(arg, bytes(blocks[0].first), bytes(blocks[0].nr - 1));
        }
        let mut results = blocks
            .iter()
            .map(|block| push(arg, bytes(block.first), bytes(block.nr)));
        results.find(|err| *err != 0).unwrap_or(0)
    }
}

#[no_mangle]
unsafe extern "C" fn xe_pagemap_hw_release(devmem: *mut drm_pagemap_devmem) {
    unsafe {
        let bo = devmem.cast::<Bo>();
        dma_fence_put((*devmem).pre_migrate_fence);
        (*devmem).pre_migrate_fence = null_mut();
        let card = &*(*bo).card;
        let awaited = std::mem::take(&mut card.state().awaited);
        for fence in awaited {
            if !dma_fence_is_signaled(fence as *mut dma_fence) {
                card.wrong("a buffer is given back that is being cleared");
            }
            dma_fence_put(fence as *mut dma_fence);
        }
        card.state().counts.awake -= 1;
        bo_put(bo);
    }
}

#[no_mangle]
unsafe extern "C" fn xe_pagemap_hw_copy(
    vr: *const Card,
    npages: c_ulong,
    addrs: *mut drm_pagemap_addr,
    dpa: u64,
    to_vram: bool,
    after: *mut dma_fence,
) -> *mut dma_fence {
    let card = unsafe { &*vr };
    if npages == 0 || npages > MAX_RUN {
        card.wrong("more than the engine takes at once, or nothing");
        return err_ptr(EINVAL);
    }
    let not_started = {
        let mut state = card.state();
        let left = state.failing_starts;
        state.failing_starts = left.saturating_sub(1);
        left > 0
    };
    if not_started || card.fails(Fail::Start) {
        if !after.is_null() {
            unsafe { dma_fence_get(after) };
            card.state().awaited.push(after as usize);
        }
        return err_ptr(ENOMEM);
    }
    unsafe {
        let addrs = std::slice::from_raw_parts_mut(addrs, npages);
        let job = addrs.to_vec();
        // xe leaves something where nobody should look.
        let (mut first, mut left) = (0, 0);
        for addr in addrs {
            if left == 0 {
                (first, left) = (addr.addr, 1usize << addr.order());
            } else {
                addr.addr = first + 1;
            }
            left -= 1;
        }
        let addrs = job;
        let me = vr as usize;
        let fence = fence_of(move |fence| {
            let card = &*(me as *const Card);
            if !card.state().threaded {
                card.work(fence);
            }
        });
        let job = Job {
            fence: dma_fence_get(fence),
            after: dma_fence_get(after),
            dpa,
            to_vram,
            addrs,
        };
        let threaded = {
            let mut state = card.state();
            state.jobs.push_back(job);
            state.threaded
        };
        if let (true, Some(engine)) = (threaded, &card.engine) {
            let cpu = wq_misc_consts_WORK_CPU_UNBOUND as c_int;
            queue_work_on(cpu, engine.as_ptr(), card.pump.get());
        }
        fence
    }
}

#[no_mangle]
unsafe extern "C" fn xe_pagemap_hw_gone(vr: *const Card) -> bool {
    unsafe { (*vr).state() }.dead
}

#[no_mangle]
unsafe extern "C" fn xe_pagemap_hw_copied(
    vr: *const Card,
    to_vram: bool,
    npages: c_ulong,
    us: i64,
) {
    let card = unsafe { &*vr };
    if us < 0 {
        card.wrong("a copy has taken less than no time");
    }
    card.state().counts.copied[usize::from(!to_vram)] += npages;
}

#[no_mangle]
unsafe extern "C" fn xe_pagemap_hw_set_shrinker(
    xe: *const Card,
    shrinker: *mut drm_pagemap_shrinker,
) {
    unsafe { (*xe).shrinker.store(shrinker, SeqCst) };
}

#[no_mangle]
unsafe extern "C" fn xe_pagemap_hw_shrinker(tile: *const Card) -> *mut drm_pagemap_shrinker {
    unsafe { (*tile).shrinker.load(SeqCst) }
}

#[no_mangle]
unsafe extern "C" fn xe_pagemap_hw_set_cache(tile: *const Card, cache: *mut drm_pagemap_cache) {
    unsafe { (*tile).cache.store(cache, SeqCst) };
}
