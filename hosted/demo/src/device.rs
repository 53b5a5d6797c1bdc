// SPDX-License-Identifier: GPL-2.0

//! The device and its driver: memory of its own, processors that change what lies there, and the
//! rule that what was not used for longest has to leave when there is no room.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    vec::Vec,
};

use kernel::{
    mm::MmapReadGuard,
    prelude::*,
    sync::Arc, //
};

use dpmem::{
    Access,
    Batch,
    BitmapOffsets,
    CopyEngine,
    DevPagemap,
    DevPagemapOps,
    HmmBuffer,
    Location,
    MigrateBuffer,
    MigrateVma,
    Mirror,
    NrPages,
    NumaNode,
    PageOffset,
    PageState,
    Place,
    RamPage,
    RamPageMut,
    Transfer,
    UserAddr,
    UserRange,
    Visited, //
};

use bindings::sim::PAGE_SIZE;

/// How many pages are worked on at a time, and have to leave together: those of a huge page.
pub const WINDOW: NrPages = NrPages::new(512);

/// The module that the driver is: one that is built in.
// SAFETY: What is built in has no `struct module`.
static THIS_MODULE: ThisModule = unsafe { ThisModule::from_ptr(core::ptr::null_mut()) };

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The memory of the device, which no CPU can address but this file.
pub struct Cells(Mutex<Vec<u8>>);

impl Cells {
    /// Works on the page at `offset`.
    fn with<R>(&self, offset: PageOffset, f: impl FnOnce(&mut [u8]) -> R) -> Result<R> {
        let start = offset.to_bytes().ok_or(EIO)?;
        let mut cells = lock(&self.0);
        let page = cells
            .get_mut(start..)
            .and_then(|rest| rest.get_mut(..PAGE_SIZE));
        Ok(f(page.ok_or(EIO)?))
    }
}

impl CopyEngine for Cells {
    // Everything has been copied when `submit()` returns.
    type Fence<'a> = ();
    type Data = ();

    fn submit<'a>(&'a self, batch: &mut Batch<'a, Self>) -> Result {
        for transfer in batch {
            match transfer {
                Transfer::ToDevice { src, dst } => {
                    for (src, dst) in src.pages().zip(dst.offsets()) {
                        self.with(dst, |page| src.read(page))??;
                    }
                }
                Transfer::Zero { dst } => {
                    for dst in dst.offsets() {
                        self.with(dst, |page| page.fill(0))?;
                    }
                }
                Transfer::ToRam { src, dst } => {
                    for (src, dst) in src.offsets().zip(dst.pages()) {
                        self.with(src, |page| dst.write(page))??;
                    }
                }
                // There is no other device.
                Transfer::FromPeer { .. } => return Err(EIO),
            }
        }
        Ok(())
    }
}

/// What the driver supplies for its pagemap.
#[derive(DevPagemapOps)]
#[pin_data]
pub struct Vram {
    #[offsets]
    #[pin]
    offsets: BitmapOffsets,
    #[engine]
    cells: Cells,
}

/// The device.
pub struct Device {
    pagemap: Arc<DevPagemap<Vram>>,
    /// When each window of the memory was last used, as a count of jobs.
    used: Mutex<Vec<u64>>,
    jobs: Mutex<u64>,
}

impl Device {
    /// A device with `nr` pages of memory.
    ///
    /// # Errors
    ///
    /// Those of [`DevPagemap::new`].
    pub fn new(nr: NrPages) -> Result<Self> {
        let cells = Cells(Mutex::new(vec![0; nr.to_bytes().ok_or(EINVAL)?]));
        let memory = try_pin_init!(Vram {
            offsets <- BitmapOffsets::new(nr),
            cells,
        }? Error);
        let pagemap = DevPagemap::new(c"vram", nr, NumaNode::LOCAL, memory);
        Ok(Self {
            pagemap: Arc::pin_init(pagemap, GFP_KERNEL)?,
            used: Mutex::new(vec![0; nr.get().div_ceil(WINDOW.get())]),
            jobs: Mutex::new(0),
        })
    }

    /// How many pages of the memory are in use.
    pub fn nr_out(&self) -> usize {
        self.pagemap.nr_out().get()
    }
}

/// A process's view of the device.
pub struct Context {
    mirror: Pin<KBox<Mirror>>,
}

impl Context {
    /// That of the running process.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if it has no memory; [`ENOMEM`].
    pub fn new() -> Result<Self> {
        let current = current!();
        let mm = current.mm().ok_or(EINVAL)?;
        Ok(Self {
            mirror: KBox::pin_init(Mirror::new(mm, &THIS_MODULE), GFP_KERNEL)?,
        })
    }

    /// The device adds `number` to each byte of the range, which moves to its memory, as far as
    /// there is any.
    ///
    /// # Errors
    ///
    /// [`EFAULT`] if it may not be written to; [`ENOMEM`].
    pub fn run(&self, device: &Device, range: UserRange, number: u8) -> Result {
        let now = {
            let mut jobs = lock(&device.jobs);
            *jobs += 1;
            *jobs
        };
        for window in range.windows(WINDOW) {
            self.bring(device, window, now)?;
            self.add(device, window, number)?;
        }
        Ok(())
    }

    /// Brings the window to the device, and others home if there is no room.
    fn bring(&self, device: &Device, window: UserRange, now: u64) -> Result {
        let mut buffer = MigrateBuffer::new(WINDOW)?;
        // One window is in the way of another, at most; then what is not there is used where it is.
        for _ in 0..3 {
            {
                let mm = self.mirror.mm().mmget_not_zero().ok_or(EFAULT)?;
                let mmap = mm.mmap_read_lock();
                for piece in pieces(&mmap, window)? {
                    MigrateVma::to_device(&device.pagemap, &mmap, piece, &mut buffer)?.migrate()?;
                }
            }
            if self.count(device, window, now)? == window.nr_pages().get() {
                break;
            }
            let victim = {
                let used = lock(&device.used);
                let old = used.iter().enumerate().filter(|(_, last)| **last < now);
                old.min_by_key(|(_, last)| **last).map(|(i, _)| i)
            };
            let Some(victim) = victim else { break };
            let offset = PageOffset::new(victim * WINDOW.get());
            device.pagemap.evict(offset, WINDOW)?;
            // It is empty, and so as good as any.
            if let Some(last) = lock(&device.used).get_mut(victim) {
                *last = now;
            }
        }
        Ok(())
    }

    /// Counts the pages of the window that are on the device, and notes that they are used.
    fn count(&self, device: &Device, window: UserRange, now: u64) -> Result<usize> {
        let mut nr = 0;
        let mut hmm = HmmBuffer::new(WINDOW)?;
        let mut used = lock(&device.used);
        let look = |_: UserAddr, state: PageState| {
            if let PageState::Present {
                place: Place::Device(offset),
                ..
            } = state
            {
                nr += 1;
                if let Some(last) = used.get_mut(offset.get() / WINDOW.get()) {
                    *last = now;
                }
            }
            Ok(())
        };
        self.mirror
            .inspect(window, Some(&*device.pagemap), &mut hmm, look)?;
        Ok(nr)
    }

    /// Adds `number` to each byte of the window, wherever it is.
    fn add(&self, device: &Device, window: UserRange, number: u8) -> Result {
        let add = |page: &mut [u8]| {
            for byte in page {
                *byte = byte.wrapping_add(number);
            }
        };
        let mut hmm = HmmBuffer::new(WINDOW)?;
        let mut rest = Some(window);
        while let Some(todo) = rest {
            let pagemap = Some(&*device.pagemap);
            let visited = self
                .mirror
                .write(todo, pagemap, |_, location| match location {
                    Location::Device(vram, offset) => vram.cells.with(offset, add),
                    Location::Ram(page) | Location::Coherent(_, page) => in_ram(&page, add),
                })?;
            let Visited::Missing(addr) = visited else {
                break;
            };
            let range = window.starting_at(addr).ok_or(EINVAL)?;
            self.mirror.fault(range, Access::Write, pagemap, &mut hmm)?;
            rest = Some(range);
        }
        Ok(())
    }
}

/// Works on a page of system memory, as a device does over its bus.
fn in_ram(page: &RamPageMut<'_>, f: impl FnOnce(&mut [u8])) -> Result {
    let mut bytes = [0; PAGE_SIZE];
    let from: &RamPage<'_> = page;
    from.read(&mut bytes)?;
    f(&mut bytes);
    page.write(&bytes)
}

/// The parts of `window` that lie in one mapping each.
fn pieces(mmap: &MmapReadGuard<'_>, window: UserRange) -> Result<Vec<UserRange>> {
    let mut pieces = Vec::new();
    let mut rest = Some(window);
    while let Some(range) = rest {
        let vma = mmap.vma_lookup(range.start().get()).ok_or(EFAULT)?;
        let end = UserAddr::new(vma.end())?;
        pieces.push(range.ending_at(end).ok_or(EINVAL)?);
        rest = range.starting_at(end);
    }
    Ok(pieces)
}
