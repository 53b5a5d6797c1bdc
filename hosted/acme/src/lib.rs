// SPDX-License-Identifier: GPL-2.0

//! The driver of *acme*, a device with some memory: the smallest there can be.
//! `Documentation/first-driver.rst` begins here.

#![no_std]

use kernel::{
    new_mutex,
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    }, //
};

use dpmem::{
    Batch,
    BitmapOffsets,
    CopyEngine,
    DevPagemap,
    DevPagemapOps,
    MigrateBuffer,
    MigrateVma,
    NrPages,
    NumaNode,
    PageOffset,
    Transfer,
    UserRange, //
};

/// What moves bytes to the memory of the device and back. Here a CPU does it, and the memory is an
/// array.
#[pin_data]
struct Engine {
    #[pin]
    memory: Mutex<KVVec<u8>>,
}

impl Engine {
    fn new(size: NrPages) -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(move || {
            let bytes = size.to_bytes().ok_or(EINVAL)?;
            let memory = KVVec::from_elem(0, bytes, GFP_KERNEL)?;
            Ok(try_pin_init!(Self {
                memory <- new_mutex!(memory, "acme::memory"),
            }))
        })
    }

    /// The page at `offset` of `memory`.
    fn page(memory: &mut [u8], offset: PageOffset) -> Result<&mut [u8]> {
        let start = offset.to_bytes().ok_or(EIO)?;
        let end = start.checked_add(PAGE_SIZE).ok_or(EIO)?;
        memory.get_mut(start..end).ok_or(EIO)
    }
}

impl CopyEngine for Engine {
    // All is done when `submit()` returns.
    type Fence<'a> = ();
    type Data = ();

    fn submit<'a>(&'a self, batch: &mut Batch<'a, Self>) -> Result {
        let mut memory = self.memory.lock();
        for transfer in batch {
            match transfer {
                Transfer::ToDevice { src, dst } => {
                    for (src, dst) in src.pages().zip(dst.offsets()) {
                        src.read(Self::page(&mut memory, dst)?)?;
                    }
                }
                Transfer::ToRam { src, dst } => {
                    for (src, dst) in src.offsets().zip(dst.pages()) {
                        dst.write(Self::page(&mut memory, src)?)?;
                    }
                }
                Transfer::Zero { dst } => {
                    for dst in dst.offsets() {
                        Self::page(&mut memory, dst)?.fill(0);
                    }
                }
                // There is one device.
                Transfer::FromPeer { .. } => return Err(EINVAL),
            }
        }
        Ok(())
    }
}

/// What the driver supplies for the memory.
#[derive(DevPagemapOps)]
#[pin_data]
struct Vram {
    #[offsets]
    #[pin]
    offsets: BitmapOffsets,
    #[engine]
    #[pin]
    engine: Engine,
}

/// The device.
pub struct Acme {
    pagemap: Arc<DevPagemap<Vram>>,
}

impl Acme {
    /// A device with `size` pages.
    ///
    /// # Errors
    ///
    /// Those of [`DevPagemap::new`].
    pub fn new(size: NrPages) -> Result<Self> {
        let vram = try_pin_init!(Vram {
            offsets <- BitmapOffsets::new(size),
            engine <- Engine::new(size),
        }? Error);
        let pagemap = DevPagemap::new(c"acme", size, NumaNode::LOCAL, vram);
        Ok(Self {
            pagemap: Arc::pin_init(pagemap, GFP_KERNEL)?,
        })
    }

    /// Moves memory of the running process to the device, and gives the number of pages that have
    /// moved.
    ///
    /// # Errors
    ///
    /// Those of [`MigrateVma::to_device`].
    pub fn prefetch(&self, range: UserRange) -> Result<NrPages> {
        let mut buffer = MigrateBuffer::new(range.nr_pages())?;
        let current = current!();
        let mm = current.mm().ok_or(EINVAL)?;
        let mm = mm.mmget_not_zero().ok_or(EINVAL)?;
        let mmap = mm.mmap_read_lock();
        let pages = MigrateVma::to_device(&self.pagemap, &mmap, range, &mut buffer)?;
        let moved = pages.migrate()?;
        Ok(moved)
    }
}
