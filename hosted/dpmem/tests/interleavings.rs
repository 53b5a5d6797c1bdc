// SPDX-License-Identifier: GPL-2.0

//! What becomes of a mirror, and of what is published, while others use it, in any order: with
//! `--features shuttle`, in hundreds of orders, which are the same each time.

use bindings::sim::{explore, run, spawn, Mapped, Process, PAGE_SIZE};
use dpmem::{
    Access, Batch, BitmapOffsets, CopyEngine, DevPagemap, DevPagemapOps, HmmBuffer, Location,
    Mirror, ModuleSlot, NrPages, UserAddr, UserRange, Visited,
};
use kernel::prelude::*;
use std::sync::Arc;

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
