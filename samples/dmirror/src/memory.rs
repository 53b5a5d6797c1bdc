// SPDX-License-Identifier: GPL-2.0

//! The memory of the device, and what moves bytes to and from it.
//!
//! The device is imaginary, so its private memory is simulated: blocks of system memory that nothing
//! but this file knows. Pages of it are named by their offsets, as a real device would have them.
//! Coherent memory is where its address says.

use kernel::{
    new_mutex,
    page::PAGE_SIZE,
    prelude::*,
    sync::Mutex, //
};

use dpmem::{
    Batch,
    BitmapOffsets,
    CopyEngine,
    DevPagemapOps,
    NrPages,
    PageOffset,
    RamPages,
    RamPagesMut,
    Transfer, //
};

/// The simulated memory comes in blocks of so many pages, when they are first written to.
const BLOCK: usize = 512;

/// What the driver supplies for its pagemap.
#[derive(DevPagemapOps)]
#[pin_data]
pub(crate) struct Memory {
    #[offsets]
    #[pin]
    offsets: BitmapOffsets,
    #[engine]
    #[pin]
    cells: Cells,
}

impl Memory {
    /// The memory of one device, with `size` pages.
    pub(crate) fn new(size: NrPages) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            offsets <- BitmapOffsets::new(size),
            cells <- Cells::new(size),
        })
    }

    /// What holds the bytes.
    pub(crate) fn cells(&self) -> &Cells {
        &self.cells
    }
}

/// What holds the bytes, and copies them.
#[pin_data]
pub(crate) struct Cells {
    // Taken with the lock of a mirror held, so nothing is allocated under it.
    #[pin]
    blocks: Mutex<KVVec<Option<KVVec<u8>>>>,
}

impl Cells {
    fn new(size: NrPages) -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(move || {
            let mut blocks = KVVec::new();
            for _ in 0..size.get().div_ceil(BLOCK) {
                blocks.push(None, GFP_KERNEL)?;
            }
            Ok(try_pin_init!(Self {
                blocks <- new_mutex!(blocks, "dmirror::blocks"),
            }))
        })
    }

    /// Makes sure that there is something behind `page`. May sleep.
    fn populate(&self, page: PageOffset) -> Result {
        let index = page.get() / BLOCK;
        if matches!(self.blocks.lock().get(index), Some(Some(_))) {
            return Ok(());
        }
        let block = KVVec::from_elem(0, BLOCK * PAGE_SIZE, GFP_KERNEL)?;
        let mut blocks = self.blocks.lock();
        let slot = blocks.get_mut(index).ok_or(EINVAL)?;
        // Somebody may have been faster.
        if slot.is_none() {
            *slot = Some(block);
        }
        Ok(())
    }

    /// Calls `f` with the bytes of `page`.
    ///
    /// # Errors
    ///
    /// [`EIO`] if nothing was ever written there; those of `f`.
    pub(crate) fn with<R>(
        &self,
        page: PageOffset,
        f: impl FnOnce(&mut [u8]) -> Result<R>,
    ) -> Result<R> {
        let mut blocks = self.blocks.lock();
        let block = blocks
            .get_mut(page.get() / BLOCK)
            .and_then(Option::as_mut)
            .ok_or(EIO)?;
        // OVERFLOW: The remainder is below `BLOCK`.
        let start = page.get() % BLOCK * PAGE_SIZE;
        f(block.get_mut(start..start + PAGE_SIZE).ok_or(EIO)?)
    }
}

/// Copies between pages that the CPU can address.
fn copy(src: RamPages<'_>, dst: RamPagesMut<'_>) {
    for (src, dst) in src.pages().zip(dst.pages()) {
        dst.copy_from(&src);
    }
}

impl CopyEngine for Cells {
    // The CPU copies, so everything is done when `submit` returns.
    type Fence = ();

    fn submit(&self, batch: &mut Batch<'_>) -> Result {
        for transfer in batch {
            match transfer {
                Transfer::ToDevice { src, mut dst } => match dst.mapped_mut() {
                    Some(dst) => copy(src, dst),
                    None => {
                        for (src, dst) in src.pages().zip(dst.offsets()) {
                            self.populate(dst)?;
                            self.with(dst, |page| src.read(page))?;
                        }
                    }
                },
                Transfer::Zero { mut dst } => match dst.mapped_mut() {
                    Some(dst) => dst.pages().for_each(|page| page.clear()),
                    None => {
                        for dst in dst.offsets() {
                            self.populate(dst)?;
                            self.with(dst, |page| {
                                page.fill(0);
                                Ok(())
                            })?;
                        }
                    }
                },
                Transfer::ToRam { src, dst } => match src.mapped() {
                    Some(src) => copy(src, dst),
                    None => {
                        for (src, dst) in src.offsets().zip(dst.pages()) {
                            self.with(src, |page| dst.write(page))?;
                        }
                    }
                },
            }
        }
        Ok(())
    }
}
