// SPDX-License-Identifier: GPL-2.0

//! What becomes of a mirror, and of what is published, while others use it, in any order: with
//! `--features shuttle`, in hundreds of orders, which are the same each time.

mod support;

use bindings::sim::{dma_write, explore, reach_memory, run, spawn, Mapped, Process, PAGE_SIZE};
use dpmem::{
    Access, Batch, BitmapOffsets, BoundMirrors, CopyEngine, DevPagemap, DevPagemapOps, DevicePlace,
    HmmBuffer, Location, Mirror, ModuleSlot, NrPages, PageTable, UserAddr, UserRange, Visited,
};
use kernel::{
    dma::DmaAddress,
    faux, new_spinlock,
    prelude::*,
    sync::{Arc as KernelArc, SpinLock},
};
use std::sync::Arc;
use support::bound;

/// How many orders are tried.
const TIMES: usize = 400;

/// The tests are built in.
// SAFETY: What is built in has no module.
static THIS_MODULE: ThisModule = unsafe { ThisModule::from_ptr(core::ptr::null_mut()) };

/// An engine that has nothing to do.
struct Idle;

impl CopyEngine for Idle {
    type Fence<'a> = ();
    type Data = ();

    fn submit<'a>(&'a self, _batch: &mut Batch<'a, Self>) -> Result {
        Err(EIO)
    }
}

#[derive(DevPagemapOps)]
#[pin_data]
struct Vram {
    #[offsets]
    #[pin]
    offsets: BitmapOffsets,
    #[engine]
    engine: Idle,
}

/// What the mirrors are used with, which is a device without memory.
const DEVICE: Option<&DevPagemap<Vram>> = None;

/// A process with a page, and its mirror.
struct Mirrored {
    // Dropped first, as by a file that a process has open.
    mirror: Pin<KBox<Mirror>>,
    process: Process,
    page: UserRange,
}

impl Mirrored {
    fn new() -> Arc<Self> {
        let process = Process::new();
        let memory = process.mmap(PAGE_SIZE);
        process.write(memory, &[1]).unwrap();
        let mirror = process.run(|| {
            let current = current!();
            KBox::pin_init(Mirror::new(current.mm().unwrap(), &THIS_MODULE), GFP_KERNEL)
        });
        let start = UserAddr::new(memory).unwrap();
        Arc::new(Self {
            mirror: mirror.unwrap(),
            process,
            page: UserRange::new(start, NrPages::new(1)).unwrap(),
        })
    }

    fn addr(&self) -> usize {
        self.page.start().get()
    }

    /// The device asks for the page.
    fn fault(&self) -> Result {
        self.process.run(|| {
            let mut buffer = HmmBuffer::new(NrPages::new(1))?;
            self.mirror
                .fault(self.page, Access::Read, DEVICE, &mut buffer)
        })
    }

    /// The device takes the page away from all CPUs.
    fn take(&self) -> Result {
        self.process.run(|| self.mirror.make_exclusive(self.page))
    }

    /// The mirror says of the page what the page table does.
    fn check(&self) {
        let taken = self.process.mapped(self.addr()) == Mapped::Exclusive;
        assert_eq!(self.mirror.is_shared(self.page), !taken);
        // It may be there or not, but not be somebody else's.
        let visited = self.mirror.read(self.page, DEVICE, |_, location| {
            let Location::Ram(page) = location else {
                return Err(EIO);
            };
            page.read(&mut [0; PAGE_SIZE])
        });
        assert!(!taken || visited == Ok(Visited::All));
    }
}

#[test]
fn a_page_is_taken_while_it_is_asked_for() {
    explore(TIMES, || {
        run(|| {
            let this = Mirrored::new();
            let other = this.clone();
            let thread = spawn(move || other.fault());
            assert!(this.take().is_ok());
            assert!(thread.join().is_ok());
            this.check();
        });
    });
}

#[test]
fn a_page_is_taken_while_it_is_unmapped() {
    explore(TIMES, || {
        run(|| {
            let this = Mirrored::new();
            let other = this.clone();
            let thread = spawn(move || other.process.madvise_dontneed(other.addr(), PAGE_SIZE));
            // It may go at the wrong moment.
            let taken = this.take();
            assert!(matches!(taken, Ok(()) | Err(EBUSY)));
            thread.join();
            this.check();
        });
    });
}

/// The page table of a device that looks at one page: where it is. What the device does under this
/// lock is what hardware does with a translation at hand, and who takes it away waits for.
#[derive(Clone)]
struct Tlb(KernelArc<SpinLock<Option<DmaAddress>>>);

impl PageTable for Tlb {
    fn invalidate(&mut self, _range: UserRange) {
        *self.0.lock() = None;
    }
}

/// A process with a page, and a device that reaches it by itself.
struct Reached {
    mirror: Pin<KBox<Mirror<Tlb>>>,
    tlb: Tlb,
    process: Process,
    page: UserRange,
}

impl Reached {
    fn new(mirrors: &BoundMirrors<Tlb>) -> Arc<Self> {
        let process = Process::new();
        let memory = process.mmap(PAGE_SIZE);
        process.write(memory, &[1]).unwrap();
        let tlb = Tlb(KernelArc::pin_init(new_spinlock!(None), GFP_KERNEL).unwrap());
        let mirror = process.run(|| {
            let current = current!();
            let mm = current.mm().unwrap();
            let mirror = mirrors.mirror(mm, &THIS_MODULE, tlb.clone());
            KBox::pin_init(mirror, GFP_KERNEL)
        });
        let start = UserAddr::new(memory).unwrap();
        Arc::new(Self {
            mirror: mirror.unwrap(),
            tlb,
            process,
            page: UserRange::new(start, NrPages::new(1)).unwrap(),
        })
    }

    /// The device writes to the page, after a fault of its own if it has to.
    fn write(&self) -> Result {
        let mut buffer = HmmBuffer::new(NrPages::new(1))?;
        loop {
            let at = self.tlb.0.lock();
            if let Some(address) = *at {
                dma_write(address, &[2]);
                return Ok(());
            }
            drop(at);
            self.process.run(|| {
                let (page, access) = (self.page, Access::Write);
                self.mirror.fault(page, access, DEVICE, &mut buffer)?;
                // What is missing again is asked for in the next round.
                let _ = self.mirror.map(page, access, DEVICE, |tlb, _, location| {
                    let DevicePlace::Bus(address) = location else {
                        return Err(EIO);
                    };
                    *tlb.0.lock() = Some(address);
                    Ok(())
                })?;
                Ok::<_, Error>(())
            })?;
        }
    }

    fn byte(&self) -> u8 {
        let mut byte = [0];
        self.process
            .read(self.page.start().get(), &mut byte)
            .unwrap();
        byte[0]
    }
}

/// A device, and its mirrors.
fn device() -> (faux::Registration, BoundMirrors<Tlb>) {
    let faux = faux::Registration::new(c"gpu", None).unwrap();
    // SAFETY: It was just made.
    unsafe { reach_memory(std::ptr::from_ref(bound(&faux)).cast_mut().cast()) };
    let mirrors = BoundMirrors::new(bound(&faux)).unwrap();
    (faux, mirrors)
}

#[test]
fn the_device_writes_to_a_page_that_goes() {
    explore(TIMES, || {
        run(|| {
            let (faux, mirrors) = device();
            let this = Reached::new(&mirrors);
            let other = this.clone();
            let thread = spawn(move || other.write());
            this.process
                .madvise_dontneed(this.page.start().get(), PAGE_SIZE);
            assert!(thread.join().is_ok());
            // It was written to before it went, or is a new one, which was written to, or not.
            assert!(matches!(this.byte(), 0 | 2));
            drop(this);
            drop(faux);
        });
    });
}

#[test]
fn the_device_goes_while_it_writes() {
    explore(TIMES, || {
        run(|| {
            let (faux, mirrors) = device();
            let this = Reached::new(&mirrors);
            let other = this.clone();
            let thread = spawn(move || other.write());
            drop(faux);
            let written = thread.join();
            assert!(matches!(written, Ok(()) | Err(ENODEV)));
            let expected = if written.is_ok() { 2 } else { 1 };
            assert_eq!(this.byte(), expected);
            assert!(this.tlb.0.lock().is_none());
        });
    });
}

#[test]
fn a_file_is_closed_while_the_device_goes() {
    explore(TIMES, || {
        run(|| {
            let (faux, mirrors) = device();
            let this = Reached::new(&mirrors);
            assert_eq!(this.write(), Ok(()));
            let thread = spawn(move || drop(this));
            drop(faux);
            thread.join();
        });
    });
}

static SLOT: ModuleSlot<u32> = ModuleSlot::new();

#[test]
fn what_is_published_goes_while_somebody_looks() {
    explore(TIMES, || {
        run(|| {
            let value = kernel::sync::Arc::new(7, GFP_KERNEL).unwrap();
            let published = SLOT.publish(value).unwrap();
            let looks = spawn(|| SLOT.get().map(|value| *value));
            drop(published);
            assert!(matches!(looks.join(), None | Some(7)));
        });
    });
}
