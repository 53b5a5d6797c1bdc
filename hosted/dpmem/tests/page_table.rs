// SPDX-License-Identifier: GPL-2.0

//! A device with a page table of its own: what it is told of it uses without asking, and what is no
//! longer true has been taken away from it in time.

mod support;

use bindings::sim::{
    self, dma_read, dma_write, for_each_failure, pass, run, Mapped, Process, HUGE_PAGE_SIZE,
    PAGE_SIZE,
};
use dpmem::{
    Access, Batch, BitmapOffsets, BoundMirrors, BoundPagemap, CopyEngine, DevPagemap,
    DevPagemapOps, DevicePlace, HmmBuffer, MigrateBuffer, MigrateVma, Mirror, NrPages, NumaNode,
    PageOffset, PageTable, PhysRange, Transfer, UserAddr, UserRange, Visited,
};
use kernel::{dma::DmaAddress, faux, prelude::*, str::CString};
use std::{
    collections::BTreeMap,
    sync::{
        atomic::{AtomicU64, Ordering},
        Arc, Mutex, MutexGuard, PoisonError,
    },
    time::Duration,
    vec::Vec,
};
use support::bound;

/// How many pages the device has.
const SIZE: usize = 1024;

/// How many pages are worked on together.
const WINDOW: usize = 512;

// SAFETY: What is built in has no module.
static THIS_MODULE: ThisModule = unsafe { ThisModule::from_ptr(core::ptr::null_mut()) };

/// The memory of the device, by CPU.
struct Cells {
    bytes: Mutex<Vec<u8>>,
    /// How many seconds each batch takes.
    pause: AtomicU64,
}

impl Cells {
    fn new(pages: usize) -> Self {
        Self {
            bytes: Mutex::new(vec![0; pages * PAGE_SIZE]),
            pause: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cell(cells: &mut [u8], offset: PageOffset) -> Result<&mut [u8]> {
    let start = offset.to_bytes().ok_or(EINVAL)?;
    cells.get_mut(start..start + PAGE_SIZE).ok_or(EINVAL)
}

impl CopyEngine for Cells {
    type Fence<'a> = ();
    type Data = ();

    fn submit<'a>(&'a self, batch: &mut Batch<'a, Self>) -> Result {
        pass(Duration::from_secs(self.pause.load(Ordering::Relaxed)));
        let mut cells = self.lock();
        for transfer in batch {
            match transfer {
                Transfer::ToDevice { src, dst } => {
                    for (page, offset) in src.pages().zip(dst.offsets()) {
                        page.read(cell(&mut cells, offset)?)?;
                    }
                }
                Transfer::ToRam { src, dst } => {
                    for (offset, page) in src.offsets().zip(dst.pages()) {
                        page.write(cell(&mut cells, offset)?)?;
                    }
                }
                Transfer::Zero { dst } => {
                    for offset in dst.offsets() {
                        cell(&mut cells, offset)?.fill(0);
                    }
                }
                Transfer::FromPeer { .. } => return Err(EINVAL),
            }
        }
        Ok(())
    }
}

#[derive(DevPagemapOps)]
#[pin_data]
struct Vram {
    #[offsets]
    #[pin]
    offsets: BitmapOffsets,
    #[engine]
    cells: Cells,
}

/// Where the device finds a page.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Bus(DmaAddress),
    Own(usize),
}

/// What the hardware has: an entry for each page, and how it was told of them.
#[derive(Default)]
struct Walker {
    entries: BTreeMap<usize, (Place, bool)>,
    /// The pieces that it was told of, since somebody asked.
    pieces: Vec<usize>,
    /// How often something was taken away from it.
    invalidations: usize,
}

/// The page table of the device, which the hardware reads.
#[derive(Clone, Default)]
struct Table(Arc<Mutex<Walker>>);

impl Table {
    fn lock(&self) -> MutexGuard<'_, Walker> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn len(&self) -> usize {
        self.lock().entries.len()
    }

    /// The device looks a page up; `None` is a fault of the device's.
    fn walk(&self, addr: usize, write: bool) -> Option<Place> {
        let walker = self.lock();
        let (place, writable) = walker.entries.get(&addr)?;
        (*writable || !write).then_some(*place)
    }

    fn put(&self, range: UserRange, place: Place, writable: bool) {
        let mut walker = self.lock();
        walker.pieces.push(range.nr_pages().get());
        for i in 0..range.nr_pages().get() {
            let place = match place {
                Place::Bus(address) => Place::Bus(address + (i * PAGE_SIZE) as u64),
                Place::Own(offset) => Place::Own(offset + i * PAGE_SIZE),
            };
            let addr = range.page(i).unwrap().get();
            walker.entries.insert(addr, (place, writable));
        }
    }
}

impl PageTable for Table {
    fn invalidate(&mut self, range: UserRange) {
        let mut walker = self.lock();
        walker.invalidations += 1;
        let (start, end) = (range.start().get(), range.end().get());
        walker
            .entries
            .retain(|addr, _| *addr < start || *addr >= end);
    }
}

/// A device.
struct Gpu {
    // The first to be dropped.
    faux: Option<faux::Registration>,
    memory: BoundPagemap<Vram>,
    mirrors: BoundMirrors<Table>,
}

impl Gpu {
    fn new() -> Result<Self> {
        Self::reaching(true)
    }

    /// One that reaches all memory by itself, or does not.
    fn reaching(all: bool) -> Result<Self> {
        let faux = faux::Registration::new(c"gpu", None)?;
        let device = bound(&faux);
        let raw = std::ptr::from_ref(device).cast_mut();
        // SAFETY: It was just made.
        match all {
            true => unsafe { sim::reach_memory(raw.cast()) },
            false => unsafe { sim::reach_32_bits(raw.cast()) },
        }
        let size = NrPages::new(SIZE);
        let vram = try_pin_init!(Vram {
            offsets <- BitmapOffsets::new(size),
            cells: Cells::new(SIZE),
        }? Error);
        let pagemap = DevPagemap::new(c"gpu", size, NumaNode::of(device), vram);
        Ok(Self {
            memory: BoundPagemap::new(device, pagemap)?,
            mirrors: BoundMirrors::new(device)?,
            faux: Some(faux),
        })
    }

    fn unbind(&mut self) {
        drop(self.faux.take());
    }

    /// Opens the device for the running process.
    fn open(&self) -> Result<Context> {
        let current = current!();
        let mm = current.mm().ok_or(EINVAL)?;
        let table = Table::default();
        let mirror = KBox::pin_init(
            self.mirrors.mirror(mm, &THIS_MODULE, table.clone()),
            GFP_KERNEL,
        )?;
        let buffer = Mutex::new(HmmBuffer::new(NrPages::new(WINDOW))?);
        Ok(Context {
            mirror,
            table,
            buffer,
        })
    }

    /// Moves memory of the running process to the device.
    fn migrate(&self, range: UserRange) -> Result<usize> {
        migrate(&*self.memory.access().ok_or(ENODEV)?, range)
    }

    /// What the driver does when the device misses a translation.
    fn handle_fault(&self, context: &Context, range: UserRange, access: Access) -> Result {
        let pagemap = self.memory.access();
        let pagemap = pagemap.as_deref();
        let mut buffer = context.buffer.lock().unwrap();
        let mut rest = range;
        while let Visited::Missing(addr) = context.map(rest, access, pagemap)? {
            rest = rest.starting_at(addr).ok_or(EINVAL)?;
            context.mirror.fault(rest, access, pagemap, &mut buffer)?;
        }
        Ok(())
    }

    /// The device reads a page, or writes it.
    fn access(&self, context: &Context, addr: usize, write: Option<u8>) -> Result<u8> {
        let access = match write {
            Some(_) => Access::Write,
            None => Access::Read,
        };
        loop {
            let Some(place) = context.table.walk(addr, write.is_some()) else {
                self.handle_fault(context, pages(addr, 1), access)?;
                continue;
            };
            let mut byte = [write.unwrap_or(0)];
            match (place, write) {
                (Place::Bus(address), Some(_)) => dma_write(address, &byte),
                (Place::Bus(address), None) => dma_read(address, &mut byte),
                (Place::Own(offset), write) => {
                    let pagemap = self.memory.access().ok_or(ENODEV)?;
                    let mut cells = pagemap.ops().cells.lock();
                    match write {
                        Some(new) => cells[offset] = new,
                        None => byte = [cells[offset]],
                    }
                }
            }
            return Ok(byte[0]);
        }
    }
}

/// Moves memory of the running process to a device.
fn migrate(pagemap: &DevPagemap<Vram>, range: UserRange) -> Result<usize> {
    let mut buffer = MigrateBuffer::new(NrPages::new(WINDOW))?;
    let current = current!();
    let mmap = current.mm().ok_or(EINVAL)?.mmap_read_lock();
    let pages = MigrateVma::to_device(pagemap, &mmap, range, &mut buffer)?;
    Ok(pages.migrate()?.get())
}

/// An open device.
struct Context {
    mirror: Pin<KBox<Mirror<Table>>>,
    table: Table,
    buffer: Mutex<HmmBuffer>,
}

impl Context {
    fn map(
        &self,
        range: UserRange,
        access: Access,
        pagemap: Option<&DevPagemap<Vram>>,
    ) -> Result<Visited> {
        self.mirror
            .map(range, access, pagemap, |table, piece, location| {
                let place = match location {
                    DevicePlace::Bus(address) => Place::Bus(address),
                    DevicePlace::Device(_, offset) => Place::Own(offset.to_bytes().ok_or(EINVAL)?),
                };
                table.put(piece, place, access == Access::Write);
                Ok(())
            })
    }

    /// The sizes of the pieces that the device was told of since the last time.
    fn pieces(&self) -> Vec<usize> {
        std::mem::take(&mut self.table.lock().pieces)
    }
}

fn pages(addr: usize, nr: usize) -> UserRange {
    UserRange::new(UserAddr::new(addr).unwrap(), NrPages::new(nr)).unwrap()
}

/// `nr` small pages of `process`, each with its number in it, which do not follow each other.
fn memory(process: &Process, nr: usize) -> usize {
    let memory = process.mmap(nr * PAGE_SIZE);
    for i in 0..nr {
        let written = process.write(memory + i * PAGE_SIZE, &[i as u8]);
        let again = |_| process.write(memory + i * PAGE_SIZE, &[i as u8]);
        written.or_else(again).unwrap();
    }
    memory
}

/// A process with so many pages opens the device, and does what `play` does.
fn opened(nr: usize, play: fn(&Gpu, &Process, usize, Context)) {
    run(move || {
        let gpu = Gpu::new().unwrap();
        let process = Process::new();
        let memory = memory(&process, nr);
        process.run(|| play(&gpu, &process, memory, gpu.open().unwrap()));
    });
}

fn byte(process: &Process, addr: usize) -> u8 {
    let mut byte = [0];
    let read = process.read(addr, &mut byte);
    read.or_else(|_| process.read(addr, &mut byte)).unwrap();
    byte[0]
}

#[test]
fn the_device_uses_memory_where_it_is() {
    opened(4, |gpu, process, memory, context| {
        for i in 0..4 {
            let addr = memory + i * PAGE_SIZE;
            assert_eq!(gpu.access(&context, addr, None).unwrap(), i as u8);
            assert_eq!(
                gpu.access(&context, addr, Some(100 + i as u8)).unwrap(),
                100 + i as u8
            );
            assert_eq!(byte(process, addr), 100 + i as u8);
        }
        // What was to be read may not be written to, and was told anew.
        assert_eq!(context.pieces(), [1; 8]);
        let table = context.table.clone();
        assert_eq!(table.len(), 4);
        // Nobody forgets to say so to the device.
        drop(context);
        assert_eq!(table.len(), 0);
    });
}

#[test]
fn what_changes_is_taken_away_and_nothing_else() {
    opened(8, |gpu, process, memory, context| {
        let all = pages(memory, 8);
        gpu.handle_fault(&context, all, Access::Write).unwrap();
        let told = context.table.lock().invalidations;
        let is_there = |i| context.table.walk(memory + i * PAGE_SIZE, true).is_some();

        process.munmap(memory, PAGE_SIZE);
        process.madvise_dontneed(memory + 2 * PAGE_SIZE, PAGE_SIZE);
        process.mprotect(memory + 4 * PAGE_SIZE, PAGE_SIZE, false);
        let left: Vec<usize> = (0..8).filter(|i| is_there(*i)).collect();
        assert_eq!(left, [1, 3, 5, 6, 7]);
        // What the device knows nothing of, it is not told of.
        let other = process.mmap(PAGE_SIZE);
        process.munmap(other, PAGE_SIZE);
        process.madvise_dontneed(memory + 2 * PAGE_SIZE, PAGE_SIZE);
        assert_eq!(context.table.lock().invalidations, told + 3);

        // It asks again, and gets what is there now.
        assert_eq!(gpu.access(&context, memory + 2 * PAGE_SIZE, None), Ok(0));
        assert_eq!(gpu.access(&context, memory + 4 * PAGE_SIZE, None), Ok(4));
        let denied = gpu.access(&context, memory + 4 * PAGE_SIZE, Some(1));
        assert_eq!(denied, Err(EPERM));
        assert_eq!(gpu.access(&context, memory, None), Err(EFAULT));
    });
}

#[test]
fn a_huge_page_is_one_piece_and_goes_as_one() {
    run(|| {
        let gpu = Gpu::new().unwrap();
        let process = Process::new();
        let memory = process.mmap(HUGE_PAGE_SIZE);
        process.madvise_hugepage(memory, HUGE_PAGE_SIZE);
        process.write(memory, &[7; HUGE_PAGE_SIZE]).unwrap();
        process.run(|| {
            let context = gpu.open().unwrap();
            let all = pages(memory, WINDOW);
            gpu.handle_fault(&context, all, Access::Write).unwrap();
            assert_eq!(context.pieces(), [WINDOW]);
            // A part of it is all of it, which was mapped as one.
            process.madvise_dontneed(memory + 5 * PAGE_SIZE, PAGE_SIZE);
            assert_eq!(context.table.len(), 0);
            assert_eq!(gpu.access(&context, memory + 5 * PAGE_SIZE, None), Ok(0));
            assert_eq!(gpu.access(&context, memory + 6 * PAGE_SIZE, None), Ok(7));
            // A window that begins in the middle.
            process.write(memory, &[8; HUGE_PAGE_SIZE]).unwrap();
            gpu.handle_fault(&context, pages(memory + 3 * PAGE_SIZE, 4), Access::Read)
                .unwrap();
            assert_eq!(gpu.access(&context, memory + 6 * PAGE_SIZE, None), Ok(8));
        });
    });
}

#[test]
fn pages_move_to_the_device_and_back() {
    opened(8, |gpu, process, memory, context| {
        let all = pages(memory, 8);
        gpu.handle_fault(&context, all, Access::Read).unwrap();
        assert_eq!(gpu.migrate(all).unwrap(), 8);
        // Where they were, they are not any more.
        assert_eq!(context.table.len(), 0);
        context.pieces();
        gpu.handle_fault(&context, all, Access::Write).unwrap();
        // Neighbours on the device are one piece.
        assert_eq!(context.pieces(), [8]);
        for i in 0..8 {
            let addr = memory + i * PAGE_SIZE;
            assert!(matches!(
                context.table.walk(addr, true),
                Some(Place::Own(_))
            ));
            assert_eq!(
                gpu.access(&context, addr, Some(i as u8 + 50)),
                Ok(i as u8 + 50)
            );
            assert!(matches!(process.mapped(addr), Mapped::Device(..)));
        }
        // A CPU touches one, and the device has lost it.
        assert_eq!(byte(process, memory + 3 * PAGE_SIZE), 53);
        assert!(context.table.walk(memory + 3 * PAGE_SIZE, false).is_none());
        assert_eq!(gpu.access(&context, memory + 3 * PAGE_SIZE, None), Ok(53));
    });
}

#[test]
fn a_child_has_pages_of_its_own() {
    opened(1, |gpu, process, memory, context| {
        gpu.access(&context, memory, Some(9)).unwrap();
        let child = process.fork();
        assert!(context.table.walk(memory, true).is_none());
        gpu.access(&context, memory, Some(10)).unwrap();
        assert_eq!(byte(&child, memory), 9);
        assert_eq!(byte(process, memory), 10);
    });
}

#[test]
fn the_device_alone_has_a_page() {
    opened(1, |gpu, process, memory, context| {
        let page = pages(memory, 1);
        context.mirror.make_exclusive(page).unwrap();
        assert_eq!(context.map(page, Access::Write, None), Ok(Visited::All));
        assert_eq!(gpu.access(&context, memory, Some(77)), Ok(77));
        assert!(!context.mirror.is_shared(page));
        assert_eq!(byte(process, memory), 77);
        assert!(context.mirror.is_shared(page));
        assert_eq!(context.table.len(), 0);
    });
}

#[test]
fn what_the_device_wrote_is_not_thrown_away() {
    opened(1, |gpu, process, memory, context| {
        let page = pages(memory, 1);
        // Its content is not needed any more, unless somebody writes.
        process.madvise_free(memory, PAGE_SIZE);
        let device = None::<&DevPagemap<Vram>>;
        let mut buffer = context.buffer.lock().unwrap();
        context.mirror.snapshot(page, device, &mut buffer).unwrap();
        drop(buffer);
        assert_eq!(context.map(page, Access::Write, None), Ok(Visited::All));
        assert_eq!(gpu.access(&context, memory, Some(5)), Ok(5));
        process.madvise_pageout(memory, PAGE_SIZE);
        assert_eq!(byte(process, memory), 5);
    });
}

#[test]
fn who_is_reaped_waits_for_no_device() {
    opened(2, |gpu, process, memory, context| {
        gpu.access(&context, memory, None).unwrap();
        assert!(!process.oom_reap(memory, PAGE_SIZE));
        assert_eq!(context.table.len(), 1);
        // What the device knows nothing of goes.
        assert!(process.oom_reap(memory + PAGE_SIZE, PAGE_SIZE));
    });
}

#[test]
fn a_device_that_goes_has_lost_everything_before() {
    run(|| {
        let mut gpu = Gpu::new().unwrap();
        let process = Process::new();
        let memory = memory(&process, 4);
        process.run(|| {
            let (one, other) = (gpu.open().unwrap(), gpu.open().unwrap());
            let all = pages(memory, 4);
            assert_eq!(gpu.migrate(pages(memory, 2)).unwrap(), 2);
            gpu.handle_fault(&one, all, Access::Write).unwrap();
            gpu.handle_fault(&other, all, Access::Write).unwrap();
            // One that ends before, of which nothing is left.
            let before = gpu.open().unwrap();
            let table = before.table.clone();
            drop(before);
            assert_eq!(Arc::strong_count(&table.0), 1);
            assert_eq!((one.table.len(), other.table.len()), (4, 4));
            gpu.unbind();
            assert_eq!((one.table.len(), other.table.len()), (0, 0));
            assert_eq!(one.map(all, Access::Read, None), Err(ENODEV));
            assert_eq!(gpu.handle_fault(&one, all, Access::Read), Err(ENODEV));
            assert_eq!(gpu.open().err(), Some(ENODEV));
            drop(one);
            for i in 0..4 {
                assert_eq!(byte(&process, memory + i * PAGE_SIZE), i as u8);
            }
            drop(other);
        });
    });
}

#[test]
fn a_driver_may_close_them_first() {
    run(|| {
        let mut gpu = Gpu::new().unwrap();
        let process = Process::new();
        let memory = memory(&process, 1);
        process.run(|| {
            let context = gpu.open().unwrap();
            gpu.access(&context, memory, None).unwrap();
            gpu.mirrors.close();
            assert_eq!(context.table.len(), 0);
            gpu.mirrors.close();
            assert_eq!(gpu.open().err(), Some(ENODEV));
            gpu.unbind();
        });
    });
}

#[test]
fn a_device_that_needs_bounce_buffers_is_refused() {
    let not_supported = kernel::error::Error::from_errno(-(bindings::EOPNOTSUPP as i32));
    run(move || assert_eq!(Gpu::reaching(false).err(), Some(not_supported)));
    run(|| {
        // With addresses of its own it needs none.
        sim::iommu();
        let gpu = Gpu::reaching(false).unwrap();
        let process = Process::new();
        let memory = memory(&process, 1);
        process.run(|| {
            let context = gpu.open().unwrap();
            assert_eq!(gpu.access(&context, memory, Some(3)), Ok(3));
        });
        assert_eq!(byte(&process, memory), 3);
    });
}

/// Memory of another device that CPUs can address.
fn coherent() -> Result<kernel::sync::Arc<DevPagemap<Vram>>> {
    let size = NrPages::new(512);
    let range = PhysRange::new(sim::coherent_memory(512), size)?;
    let region = range.request(CString::try_from(c"coherent")?)?;
    let vram = try_pin_init!(Vram {
        offsets <- BitmapOffsets::new(size),
        cells: Cells::new(512),
    }? Error);
    let pagemap = DevPagemap::coherent(c"coherent", region, NumaNode::LOCAL, vram);
    kernel::sync::Arc::pin_init(pagemap, GFP_KERNEL)
}

/// Each page takes longer to come home than a device waits for a process that does not rest.
#[test]
fn pages_that_take_long_to_come_home() {
    const NR: usize = 12;
    run(|| {
        let (gpu, slow) = (Gpu::new().unwrap(), Gpu::new().unwrap());
        let pause = |seconds| {
            let pagemap = slow.memory.access().unwrap();
            let cells = &pagemap.ops().cells;
            cells.pause.store(seconds, Ordering::Relaxed);
        };
        let process = Process::new();
        let memories = [(); 3].map(|()| memory(&process, NR));
        process.run(|| {
            let context = gpu.open().unwrap();
            let accesses = [Some(Access::Read), Some(Access::Write), None];
            for (memory, access) in memories.into_iter().zip(accesses) {
                let range = pages(memory, NR);
                assert_eq!(slow.migrate(range).unwrap(), NR);
                pause(7);
                match access {
                    Some(access) => gpu.handle_fault(&context, range, access).unwrap(),
                    None => context.mirror.make_exclusive(range).unwrap(),
                }
                pause(0);
                for i in 0..NR {
                    let byte = gpu.access(&context, memory + i * PAGE_SIZE, None);
                    assert_eq!(usize::from(byte.unwrap()), i);
                }
            }
        });
    });
}

#[test]
fn memory_of_another_device_is_not_mapped() {
    let not_supported = kernel::error::Error::from_errno(-(bindings::EOPNOTSUPP as i32));
    run(move || {
        let (gpu, other) = (Gpu::new().unwrap(), coherent().unwrap());
        let process = Process::new();
        let memory = memory(&process, 2);
        process.run(|| {
            let context = gpu.open().unwrap();
            migrate(&other, pages(memory, 1)).unwrap();
            assert!(matches!(process.mapped(memory), Mapped::Coherent(..)));
            assert_eq!(gpu.access(&context, memory, None), Err(not_supported));
            assert_eq!(gpu.access(&context, memory + PAGE_SIZE, None), Ok(1));
            assert_eq!(context.table.len(), 1);
        });
    });
}

/// What is there already is not taken away to be brought back.
#[test]
fn a_page_that_is_there_is_not_asked_for() {
    opened(4, |gpu, process, memory, context| {
        let all = pages(memory, 4);
        gpu.handle_fault(&context, all, Access::Write).unwrap();
        let told = context.table.lock().invalidations;
        gpu.handle_fault(&context, pages(memory + PAGE_SIZE, 2), Access::Read)
            .unwrap();
        gpu.handle_fault(&context, all, Access::Write).unwrap();
        assert_eq!(context.table.lock().invalidations, told);
        process.munmap(memory + PAGE_SIZE, PAGE_SIZE);
        let missing = gpu.handle_fault(&context, all, Access::Write);
        assert_eq!(missing, Err(EFAULT));
    });
}

#[test]
fn a_mirror_without_a_device_maps_nothing() {
    run(|| {
        let process = Process::new();
        let memory = memory(&process, 1);
        process.run(|| {
            let current = current!();
            let mm = current.mm().unwrap();
            let mirror = KBox::pin_init(Mirror::new(mm, &THIS_MODULE), GFP_KERNEL).unwrap();
            let mut buffer = HmmBuffer::new(NrPages::new(1)).unwrap();
            let device = None::<&DevPagemap<Vram>>;
            let page = pages(memory, 1);
            mirror
                .fault(page, Access::Read, device, &mut buffer)
                .unwrap();
            let mapped = mirror.map(page, Access::Read, device, |(), _, _| Ok(()));
            assert_eq!(mapped, Err(ENODEV));
        });
    });
}

#[test]
fn each_step_fails() {
    let failures = for_each_failure(|| {
        let process = Process::new();
        let memory = memory(&process, 3);
        let Ok(mut gpu) = Gpu::new() else { return };
        process.run(|| {
            let Ok(context) = gpu.open() else { return };
            let all = pages(memory, 3);
            let _ = gpu.handle_fault(&context, all, Access::Write);
            let _ = context.mirror.make_exclusive(pages(memory, 1));
            let _ = gpu.migrate(pages(memory, 1));
            let _ = gpu.handle_fault(&context, all, Access::Read);
            gpu.unbind();
            assert_eq!(context.table.len(), 0);
        });
        for i in 0..3 {
            assert_eq!(byte(&process, memory + i * PAGE_SIZE), i as u8);
        }
    });
    println!("{failures} failures");
}
