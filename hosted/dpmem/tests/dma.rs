// SPDX-License-Identifier: GPL-2.0

//! A device that copies by itself: system memory is mapped for it until it is done, and its memory
//! belongs to a driver that may be unbound.

mod support;

use bindings::sim::{
    self, dma_read, dma_write, for_each_failure, run, Mapped, Process, HUGE_PAGE_SIZE, PAGE_SIZE,
};
use dpmem::{
    Batch, BitmapOffsets, BoundPagemap, CopyEngine, DevPagemap, DevPagemapOps, DmaMap, DmaMapped,
    Fence, MigrateBuffer, MigrateVma, NrPages, NumaNode, PageOffset, RamPages, RamPagesMut,
    Transfer, UserAddr, UserRange,
};
use kernel::{faux, prelude::*};
use std::{
    sync::{
        atomic::{AtomicUsize, Ordering},
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
    },
    vec::Vec,
};

use support::bound;

/// How many pages the device has.
const SIZE: usize = 2048;

/// What the device is told: addresses as it sees them, and places in its own memory.
enum Order {
    Read { from: u64, to: usize, len: usize },
    Write { from: usize, to: u64, len: usize },
    Clear { at: usize, len: usize },
}

/// The ring of orders of a device, and its memory.
struct Ring {
    memory: Mutex<Vec<u8>>,
    /// Whether it does not do what it is told.
    broken: bool,
    /// How many pages it can be told of at once.
    room: AtomicUsize,
    bad: Arc<Bad>,
}

/// A page of the device that cannot be read any more.
#[derive(Default)]
struct Bad {
    /// Where it is, and how often somebody has tried.
    page: Mutex<(Option<usize>, usize)>,
    tried: Condvar,
}

impl Bad {
    fn lock(&self) -> MutexGuard<'_, (Option<usize>, usize)> {
        self.page.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, page: Option<usize>) {
        *self.lock() = (page, 0);
    }

    /// Whether the page is among the `nr` pages from `first` on.
    fn is_among(&self, first: usize, nr: usize) -> bool {
        let mut page = self.lock();
        let among = page
            .0
            .is_some_and(|page| (first..first + nr).contains(&page));
        page.1 += usize::from(among);
        self.tried.notify_all();
        among
    }

    /// Mends it when somebody has tried so often.
    fn mend_after(&self, times: usize) {
        let page = self.lock();
        let waited = self.tried.wait_while(page, |page| page.1 < times);
        *waited.unwrap_or_else(PoisonError::into_inner) = (None, 0);
    }
}

impl Ring {
    fn new(broken: bool) -> Self {
        Self {
            memory: Mutex::new(vec![0; SIZE * PAGE_SIZE]),
            broken,
            room: AtomicUsize::new(usize::MAX),
            bad: Arc::default(),
        }
    }

    /// What the hardware does.
    fn work(&self, orders: &[Order]) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        for order in orders {
            match *order {
                Order::Read { from, to, len } => dma_read(from, &mut memory[to..to + len]),
                Order::Write { from, to, len } => dma_write(to, &memory[from..from + len]),
                Order::Clear { at, len } => memory[at..at + len].fill(0),
            }
        }
    }
}

/// A batch that the device works on. The memory is mapped as long as this lives.
struct Batched<'a> {
    ring: &'a Ring,
    orders: Vec<Order>,
    _from: Option<DmaMapped<'a, RamPages<'a>>>,
    _to: Option<DmaMapped<'a, RamPagesMut<'a>>>,
}

impl Fence for Batched<'_> {
    fn wait(self) -> Result {
        if self.ring.broken {
            return Err(ETIMEDOUT);
        }
        self.ring.work(&self.orders);
        Ok(())
    }
}

impl CopyEngine for Ring {
    type Fence<'a> = Batched<'a>;
    type Data = ();

    fn submit<'a>(&'a self, batch: &mut Batch<'a, Self>) -> Result<Batched<'a>> {
        let device = batch.device().ok_or(ENODEV)?;
        let nr = batch.nr_pages();
        if nr.get() > self.room.load(Ordering::Relaxed) {
            return Err(ENOMEM);
        }
        let mut from = None;
        let mut to = None;
        let mut orders = Vec::new();
        for transfer in batch {
            orders.push(match transfer {
                Transfer::ToDevice { src, dst } => {
                    let len = src.nr_pages().to_bytes().ok_or(EINVAL)?;
                    if from.is_none() {
                        from = Some(DmaMap::new(device, nr)?);
                    }
                    let map = from.as_mut().ok_or(EINVAL)?;
                    Order::Read {
                        from: map.map(src)?,
                        to: dst.offset().to_bytes().ok_or(EINVAL)?,
                        len,
                    }
                }
                Transfer::ToRam { src, dst } => {
                    let len = dst.nr_pages().to_bytes().ok_or(EINVAL)?;
                    if self.bad.is_among(src.offset().get(), src.nr_pages().get()) {
                        return Err(EIO);
                    }
                    if to.is_none() {
                        to = Some(DmaMap::new(device, nr)?);
                    }
                    let map = to.as_mut().ok_or(EINVAL)?;
                    Order::Write {
                        from: src.offset().to_bytes().ok_or(EINVAL)?,
                        to: map.map(dst)?,
                        len,
                    }
                }
                Transfer::Zero { dst } => Order::Clear {
                    at: dst.offset().to_bytes().ok_or(EINVAL)?,
                    len: dst.nr_pages().to_bytes().ok_or(EINVAL)?,
                },
                Transfer::FromPeer { .. } => return Err(EINVAL),
            });
        }
        Ok(Batched {
            ring: self,
            orders,
            _from: from.map(DmaMap::sync).transpose()?,
            _to: to.map(DmaMap::sync).transpose()?,
        })
    }
}

#[derive(DevPagemapOps)]
#[pin_data]
struct Vram {
    #[offsets]
    #[pin]
    offsets: BitmapOffsets,
    #[engine]
    ring: Ring,
}

impl Vram {
    /// What cannot be read.
    fn ring_bad(&self) -> Arc<Bad> {
        self.ring.bad.clone()
    }
}

/// A device, and its memory.
struct Gpu {
    // The first to be dropped.
    faux: Option<faux::Registration>,
    memory: BoundPagemap<Vram>,
}

impl Gpu {
    fn new(broken: bool) -> Result<Self> {
        let faux = faux::Registration::new(c"gpu", None)?;
        // SAFETY: It was just made.
        unsafe { sim::reach_memory(std::ptr::from_ref(bound(&faux)).cast_mut().cast()) };
        let size = NrPages::new(SIZE);
        let vram = try_pin_init!(Vram {
            offsets <- BitmapOffsets::new(size),
            ring: Ring::new(broken),
        }? Error);
        let pagemap = DevPagemap::new(c"gpu", size, NumaNode::of(bound(&faux)), vram);
        Ok(Self {
            memory: BoundPagemap::new(bound(&faux), pagemap)?,
            faux: Some(faux),
        })
    }

    /// Moves the `nr` pages at `addr` of the running process.
    fn migrate(&self, addr: usize, nr: usize, there: bool) -> Result<usize> {
        let pagemap = self.memory.access().ok_or(ENODEV)?;
        let window = NrPages::new(512);
        let mut buffer = MigrateBuffer::new(window)?;
        let range = UserRange::new(UserAddr::new(addr)?, NrPages::new(nr))?;
        let current = current!();
        let mm = current.mm().ok_or(EINVAL)?;
        let mm = mm.mmget_not_zero().ok_or(EINVAL)?;
        let mmap = mm.mmap_read_lock();
        let mut moved = 0;
        // Each of these lies in one mapping.
        for range in range.windows(window) {
            let pages = match there {
                true => MigrateVma::to_device(&pagemap, &mmap, range, &mut buffer)?,
                false => MigrateVma::to_ram(&pagemap, &mmap, range, &mut buffer)?,
            };
            moved += pages.migrate()?.get();
        }
        Ok(moved)
    }
}

/// Memory of `process` with a pattern: a huge page, small ones, and a hole, 1024 pages together.
fn memory(process: &Process) -> (usize, Vec<u8>) {
    let memory = process.mmap(2 * HUGE_PAGE_SIZE);
    process.madvise_hugepage(memory, HUGE_PAGE_SIZE);
    let pattern = (0..HUGE_PAGE_SIZE + 32 * PAGE_SIZE).map(|i| (i / 4093) as u8);
    let mut bytes: Vec<u8> = pattern.collect();
    // One that fails is not failed again.
    let written = process.write(memory, &bytes);
    written.or_else(|_| process.write(memory, &bytes)).unwrap();
    bytes.resize(2 * HUGE_PAGE_SIZE, 0);
    (memory, bytes)
}

fn contents(process: &Process, memory: usize) -> Vec<u8> {
    let mut bytes = vec![0; 2 * HUGE_PAGE_SIZE];
    let read = process.read(memory, &mut bytes);
    read.or_else(|_| process.read(memory, &mut bytes)).unwrap();
    bytes
}

fn on_device(process: &Process, memory: usize) -> usize {
    let pages = (0..1024).map(|page| process.mapped(memory + page * PAGE_SIZE));
    pages
        .filter(|mapped| matches!(mapped, Mapped::Device(..)))
        .count()
}

fn there_and_back() {
    let gpu = Gpu::new(false).unwrap();
    let process = Process::new();
    let (memory, bytes) = memory(&process);
    process.run(|| {
        assert!(gpu.migrate(memory, 1024, true).unwrap() == 1024);
        assert_eq!(on_device(&process, memory), 1024);
        // A page by itself, a large folio as a whole, and the rest together.
        let mut page = [0; PAGE_SIZE];
        process
            .read(memory + HUGE_PAGE_SIZE + PAGE_SIZE, &mut page)
            .unwrap();
        process.read(memory + 9 * PAGE_SIZE, &mut page).unwrap();
        assert_eq!(on_device(&process, memory), 511);
        assert!(gpu.migrate(memory, 1024, false).unwrap() == 511);
    });
    assert!(contents(&process, memory) == bytes);
}

#[test]
fn page_by_page() {
    run(there_and_back);
}

#[test]
fn through_an_iommu() {
    run(|| {
        sim::iommu();
        there_and_back();
    });
}

#[test]
fn what_does_not_fit_at_once_is_evicted_folio_by_folio() {
    run(|| {
        let gpu = Gpu::new(false).unwrap();
        let process = Process::new();
        let (memory, bytes) = memory(&process);
        process.run(|| assert_eq!(gpu.migrate(memory, 1024, true).unwrap(), 1024));
        let pagemap = gpu.memory.access().unwrap();
        let room = &pagemap.ops().ring.room;
        // The large folio has to be split for that.
        room.store(1, Ordering::Relaxed);
        let all = pagemap.nr_pages();
        assert_eq!(pagemap.evict(PageOffset::ZERO, all).unwrap().get(), 1024);
        assert_eq!(on_device(&process, memory), 0);
        assert!(contents(&process, memory) == bytes);

        // Where nothing fits, all is tried, and nothing is lost.
        process.run(|| {
            room.store(usize::MAX, Ordering::Relaxed);
            assert_eq!(gpu.migrate(memory, 1024, true).unwrap(), 1024);
        });
        room.store(0, Ordering::Relaxed);
        assert!(pagemap.evict(PageOffset::ZERO, all) == Err(ENOMEM));
        assert_eq!(on_device(&process, memory), 1024);
        room.store(usize::MAX, Ordering::Relaxed);
        assert!(contents(&process, memory) == bytes);
    });
}

#[test]
fn no_pages_are_evicted_if_none_are_named() {
    run(|| {
        let gpu = Gpu::new(false).unwrap();
        let process = Process::new();
        let (memory, _) = memory(&process);
        process.run(|| assert_eq!(gpu.migrate(memory, 1024, true).unwrap(), 1024));
        let pagemap = gpu.memory.access().unwrap();
        for offset in [0, 3, 512, SIZE] {
            let none = (PageOffset::new(offset), NrPages::ZERO);
            assert_eq!(pagemap.evict_list([none, none]).unwrap().get(), 0);
        }
        assert_eq!(on_device(&process, memory), 1024);
    });
}

/// Each of many blocks goes home, also one that is named twice, and nothing else.
#[test]
fn a_list_of_blocks_is_evicted() {
    run(|| {
        let gpu = Gpu::new(false).unwrap();
        let process = Process::new();
        let (memory, bytes) = memory(&process);
        process.run(|| assert_eq!(gpu.migrate(memory, 1024, true).unwrap(), 1024));
        let page = |i| memory + HUGE_PAGE_SIZE + i * PAGE_SIZE;
        let is_there = |i: &usize| matches!(process.mapped(page(*i)), Mapped::Device(..));
        // Every other page, more than are looked at together, and a run of three.
        let offset_of = |i| PageOffset::new(offset(&process, page(i)));
        let singles = (0..512).step_by(2).map(|i| (offset_of(i), NrPages::new(1)));
        let run = (offset_of(100), NrPages::new(3));
        assert_eq!(offset_of(102).get(), offset_of(100).get() + 2);
        let list: Vec<_> = Iterator::chain(singles, [run]).collect();
        let pagemap = gpu.memory.access().unwrap();
        assert_eq!(pagemap.evict_list(list).unwrap().get(), 256 + 1);
        let left: Vec<_> = (0..512).filter(is_there).collect();
        let expected: Vec<_> = (1..512).step_by(2).filter(|i| *i != 101).collect();
        assert_eq!(left, expected);
        assert!(process.is_huge(memory));
        assert!(contents(&process, memory) == bytes);
    });
}

#[test]
fn each_step_fails() {
    let failures = for_each_failure(|| {
        sim::iommu();
        let process = Process::new();
        let memory = process.mmap(4 * PAGE_SIZE);
        let bytes = [7; 3 * PAGE_SIZE];
        let written = process.write(memory, &bytes);
        written.or_else(|_| process.write(memory, &bytes)).unwrap();
        let Ok(gpu) = Gpu::new(false) else { return };
        let there = process.run(|| gpu.migrate(memory, 4, true));
        let back = process.run(|| gpu.migrate(memory, 4, false));
        let _ = (there, back);
        let mut now = [0; 4 * PAGE_SIZE];
        let read = process.read(memory, &mut now);
        read.or_else(|_| process.read(memory, &mut now)).unwrap();
        assert!(now[..3 * PAGE_SIZE] == bytes && now[3 * PAGE_SIZE..] == [0; PAGE_SIZE]);
    });
    println!("{failures} failures");
}

#[test]
fn what_a_broken_device_was_given_stays_where_it_was() {
    run(|| {
        let gpu = Gpu::new(true).unwrap();
        let process = Process::new();
        let (memory, bytes) = memory(&process);
        process.run(|| assert!(gpu.migrate(memory, 1024, true).err() == Some(ETIMEDOUT)));
        assert_eq!(on_device(&process, memory), 0);
        assert!(contents(&process, memory) == bytes);
    });
}

#[test]
fn unbinding_brings_everything_home() {
    run(|| {
        let mut gpu = Gpu::new(false).unwrap();
        let process = Process::new();
        let (memory, bytes) = memory(&process);
        let child = process.run(|| {
            gpu.migrate(memory, 1024, true).unwrap();
            process.fork()
        });
        drop(gpu.faux.take());
        assert!(gpu.memory.access().is_none());
        assert_eq!(on_device(&process, memory), 0);
        process.run(|| assert!(gpu.migrate(memory, 1024, true).err() == Some(ENODEV)));
        drop(gpu);
        assert!(contents(&process, memory) == bytes);
        assert!(contents(&child, memory) == bytes);
    });
}

/// The pages from `first` on go home.
fn evict(gpu: &Gpu, first: usize, nr: usize) -> Result<usize> {
    let pagemap = gpu.memory.access().ok_or(ENODEV)?;
    let moved = pagemap.evict(PageOffset::new(first), NrPages::new(nr))?;
    Ok(moved.get())
}

/// On which page of the device a page of a process is.
fn offset(process: &Process, addr: usize) -> usize {
    match process.mapped(addr) {
        Mapped::Device(offset, _) => offset,
        other => panic!("it is {other:?}"),
    }
}

#[test]
fn a_range_that_cuts_a_large_folio_takes_all_of_it() {
    run(|| {
        let gpu = Gpu::new(false).unwrap();
        let process = Process::new();
        let (memory, bytes) = memory(&process);
        process.run(|| gpu.migrate(memory, 1024, true).unwrap());
        let large = offset(&process, memory);
        let small = offset(&process, memory + HUGE_PAGE_SIZE);
        // The end of it, and its beginning, and small pages one by one.
        assert!(evict(&gpu, large + 500, 1).unwrap() == 512);
        assert!(process.is_huge(memory));
        process.run(|| gpu.migrate(memory, 512, true).unwrap());
        let large = offset(&process, memory);
        assert!(evict(&gpu, large.saturating_sub(1), 2).unwrap() >= 512);
        if matches!(process.mapped(memory + HUGE_PAGE_SIZE), Mapped::Device(..)) {
            assert!(evict(&gpu, small, 1).unwrap() == 1);
        }
        assert!(evict(&gpu, SIZE, 1).is_err());
        assert!(contents(&process, memory) == bytes);
    });
}

#[test]
fn a_page_that_cannot_be_read_keeps_no_other() {
    run(|| {
        let gpu = Gpu::new(false).unwrap();
        let process = Process::new();
        let (memory, bytes) = memory(&process);
        process.run(|| gpu.migrate(memory, 1024, true).unwrap());
        let pagemap = gpu.memory.access().unwrap();
        let bad = pagemap.ops().ring_bad();
        drop(pagemap);
        let page = memory + HUGE_PAGE_SIZE + 7 * PAGE_SIZE;
        bad.set(Some(offset(&process, page)));
        assert!(evict(&gpu, 0, SIZE).err() == Some(EIO));
        assert_eq!(on_device(&process, memory), 1);
        assert!(process.read(page, &mut [0]).is_err());
        bad.set(None);
        assert!(contents(&process, memory) == bytes);
    });
}

#[test]
fn unbinding_waits_for_a_page_that_cannot_be_read() {
    run(|| {
        let mut gpu = Gpu::new(false).unwrap();
        let process = Process::new();
        let (memory, bytes) = memory(&process);
        process.run(|| gpu.migrate(memory, 1024, true).unwrap());
        let pagemap = gpu.memory.access().unwrap();
        let bad = pagemap.ops().ring_bad();
        drop(pagemap);
        bad.set(Some(offset(&process, memory + HUGE_PAGE_SIZE)));
        let mender = sim::spawn(move || bad.mend_after(4));
        drop(gpu.faux.take());
        mender.join();
        assert_eq!(on_device(&process, memory), 0);
        drop(gpu);
        assert!(contents(&process, memory) == bytes);
    });
}
