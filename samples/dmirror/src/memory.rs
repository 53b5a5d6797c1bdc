// SPDX-License-Identifier: GPL-2.0

//! The memory of the device, and what moves bytes to and from it.
//!
//! The device is imaginary, so its private memory is simulated: blocks of system memory that
//! nothing but this file knows. Pages of it are named by their offsets, as a real device would have
//! them. Coherent memory is where its address says.

use kernel::{
    new_mutex,
    new_spinlock,
    page::Page,
    prelude::*,
    sync::{
        Arc,
        Mutex,
        MutexGuard,
        SpinLock, //
    }, //
};

use dpmem::{
    Batch,
    CopyEngine,
    DevPagemapOps,
    DevicePages,
    Fault,
    FaultAnswer,
    Fence,
    NrPages,
    PageOffset,
    RamPage,
    RamPageMut,
    RamPages,
    RamPagesMut,
    Transfer, //
};

use crate::{
    client::Client,
    offsets::{
        Allocator,
        Offsets, //
    }, //
};

/// Pages of a device.
type Pages<'a> = DevicePages<'a, Arc<Client>>;

/// The simulated memory is kept in blocks of so many pages.
const BLOCK: usize = 512;

/// How the memory of a device is used.
#[derive(Clone, Copy)]
pub(crate) struct Policy {
    /// Who hands it out.
    pub(crate) allocator: Allocator,
    /// With a page that a CPU touches come the others of so many.
    pub(crate) fault_pages: NrPages,
}

/// What the driver supplies for its pagemap.
#[derive(DevPagemapOps)]
#[migrate_to_ram(Self::fault)]
#[pin_data]
pub(crate) struct Memory {
    #[offsets]
    offsets: Offsets,
    #[engine]
    #[pin]
    cells: Cells,
    fault_pages: NrPages,
}

impl Memory {
    /// The memory of one device, which has `size` pages.
    pub(crate) fn new(size: NrPages, policy: Policy) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            offsets: Offsets::new(size, policy.allocator)?,
            cells <- Cells::new(size),
            fault_pages: policy.fault_pages,
        })
    }

    /// A CPU has touched a page: its owner takes note, and the page comes home.
    fn fault(fault: Fault<'_, Self>) -> FaultAnswer<'_> {
        if let Some(client) = fault.data() {
            client.faulted();
        }
        let nr = fault.pagemap().ops().fault_pages;
        fault.migrate_around(nr)
    }

    /// What holds the bytes.
    pub(crate) fn cells(&self) -> &Cells {
        &self.cells
    }
}

/// What goes wrong with a device.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defect {
    /// It breaks down with the next batch, when the first transfer is done.
    BreakDown,
    /// It stops in the next batch, when the first transfer is done, and does not say so.
    TimeOut,
    /// One in sixteen of its pages cannot be read.
    BadPages,
}

/// What tells that the device has copied a batch, or what went wrong.
pub(crate) struct CellsFence(Option<Defect>);

impl Fence for CellsFence {
    fn wait(self) -> Result {
        match self.0 {
            Some(Defect::BreakDown | Defect::TimeOut) => Err(ETIMEDOUT),
            Some(Defect::BadPages) | None => Ok(()),
        }
    }
}

/// What holds the bytes, and copies them.
#[pin_data]
pub(crate) struct Cells {
    // What is to go wrong.
    #[pin]
    defect: SpinLock<Option<Defect>>,
    // Taken with the lock of a mirror held, so nothing is allocated under it.
    #[pin]
    blocks: Mutex<Blocks>,
}

impl Cells {
    fn new(size: NrPages) -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(move || {
            let mut blocks = KVVec::new();
            for _ in 0..size.get().div_ceil(BLOCK) {
                blocks.push(KVec::new(), GFP_KERNEL)?;
            }
            Ok(try_pin_init!(Self {
                defect <- new_spinlock!(None, "dmirror::defect"),
                blocks <- new_mutex!(Blocks(blocks), "dmirror::blocks"),
            }))
        })
    }

    /// Lets something go wrong, or nothing any more.
    pub(crate) fn set_defect(&self, defect: Option<Defect>) {
        *self.defect.lock() = defect;
    }

    /// What goes wrong with this batch.
    fn next_defect(&self) -> Option<Defect> {
        let mut defect = self.defect.lock();
        match *defect {
            Some(Defect::BadPages) => Some(Defect::BadPages),
            _ => defect.take(),
        }
    }

    /// Calls `f` with what is behind the page at `offset`, all of which it is to write. The lock is
    /// `held` afterwards, and given up meanwhile if there is nothing there yet. May sleep.
    fn fill<'a>(
        &'a self,
        held: &mut Option<Held<'a>>,
        offset: PageOffset,
        f: impl FnOnce(RamPageMut<'_>),
    ) -> Result {
        let mut blocks = held.take().unwrap_or_else(|| self.blocks.lock());
        if blocks.page(offset).is_err() {
            drop(blocks);
            self.populate(offset)?;
            blocks = self.blocks.lock();
        }
        f(RamPageMut::of(held.insert(blocks).page(offset)?));
        Ok(())
    }

    /// Puts something behind the page at `offset`. May sleep.
    fn populate(&self, offset: PageOffset) -> Result {
        if !self.blocks.lock().has_block(offset) {
            let block = Blocks::block()?;
            self.blocks.lock().insert_block(offset, block)?;
        }
        let page = Page::alloc_page(GFP_KERNEL)?;
        self.blocks.lock().insert(offset, page)
    }

    /// Copies from the memory of another device. The pages go through system memory one by one, so
    /// that the locks of two devices are never held at once.
    fn copy_from(&self, peer: &Self, src: &Pages<'_>, dst: &Pages<'_>) -> Result {
        let mut bounce = Page::alloc_page(GFP_KERNEL)?;
        for (src, dst) in src.offsets().zip(dst.offsets()) {
            let to = RamPageMut::of(&mut bounce);
            to.copy_from(&RamPage::of(peer.blocks.lock().page(src)?));
            self.fill(&mut None, dst, |page| page.copy_from(&to))?;
        }
        Ok(())
    }

    /// Reads the page at `offset`; [`EIO`] if nothing was ever written there.
    pub(crate) fn read(&self, offset: PageOffset, to: &mut [u8]) -> Result {
        RamPage::of(self.blocks.lock().page(offset)?).read(to)
    }

    /// Writes the page at `offset`; [`EIO`] if nothing was ever written there.
    pub(crate) fn write(&self, offset: PageOffset, from: &[u8]) -> Result {
        RamPageMut::of(self.blocks.lock().page(offset)?).write(from)
    }
}

/// The lock of the simulated memory, held.
type Held<'a> = MutexGuard<'a, Blocks>;

/// The pages of the simulated memory, as far as they were ever written to.
struct Blocks(KVVec<KVec<Option<Page>>>);

impl Blocks {
    /// A block without a page.
    fn block() -> Result<KVec<Option<Page>>> {
        let mut block = KVec::with_capacity(BLOCK, GFP_KERNEL)?;
        for _ in 0..BLOCK {
            block.push_within_capacity(None)?;
        }
        Ok(block)
    }

    /// The page at `offset`; [`EIO`] if it was never written to.
    fn page(&mut self, offset: PageOffset) -> Result<&mut Page> {
        let block = self.0.get_mut(offset.get() / BLOCK).ok_or(EIO)?;
        let page = block.get_mut(offset.get() % BLOCK).ok_or(EIO)?;
        page.as_mut().ok_or(EIO)
    }

    /// Whether there is a block for the page at `offset`.
    fn has_block(&self, offset: PageOffset) -> bool {
        let block = self.0.get(offset.get() / BLOCK);
        block.is_some_and(|block| !block.is_empty())
    }

    /// Puts `block` where `offset` lies. Somebody may have been faster: then it is dropped.
    fn insert_block(&mut self, offset: PageOffset, block: KVec<Option<Page>>) -> Result {
        let slot = self.0.get_mut(offset.get() / BLOCK).ok_or(EINVAL)?;
        if slot.is_empty() {
            *slot = block;
        }
        Ok(())
    }

    /// Puts `page` at `offset`, which has a block. Somebody may have been faster: then it is
    /// dropped.
    fn insert(&mut self, offset: PageOffset, page: Page) -> Result {
        let block = self.0.get_mut(offset.get() / BLOCK).ok_or(EINVAL)?;
        let slot = block.get_mut(offset.get() % BLOCK).ok_or(EINVAL)?;
        slot.get_or_insert(page);
        Ok(())
    }
}

/// Copies between pages that the CPU can address.
fn copy(src: RamPages<'_>, dst: RamPagesMut<'_>) {
    for (src, dst) in src.pages().zip(dst.pages()) {
        dst.copy_from(&src);
    }
}

impl CopyEngine for Cells {
    // The CPU copies, so everything is done when `submit` returns; but the device does not always
    // say so.
    type Fence<'a> = CellsFence;
    type Data = Arc<Client>;

    fn submit<'a>(&'a self, batch: &mut Batch<'a, Self>) -> Result<CellsFence> {
        let defect = self.next_defect();
        // Not given up between pages, unless one has nothing behind it yet, or comes from another
        // device: who reads or writes here meanwhile waits for the batch.
        let mut held = None;
        for (i, transfer) in batch.enumerate() {
            match defect.filter(|_| i > 0) {
                Some(Defect::BreakDown) => return Err(EIO),
                Some(Defect::TimeOut) => continue,
                _ => {}
            }
            match transfer {
                Transfer::ToDevice { src, mut dst } => match dst.mapped_mut() {
                    Some(dst) => copy(src, dst),
                    None => {
                        for (src, dst) in src.pages().zip(dst.offsets()) {
                            self.fill(&mut held, dst, |page| page.copy_from(&src))?;
                        }
                    }
                },
                Transfer::Zero { mut dst } => match dst.mapped_mut() {
                    Some(dst) => dst.pages().for_each(|page| page.clear()),
                    None => {
                        for dst in dst.offsets() {
                            self.fill(&mut held, dst, |page| page.clear())?;
                        }
                    }
                },
                Transfer::FromPeer { peer, src, dst, .. } => {
                    held = None;
                    self.copy_from(peer, &src, &dst)?;
                }
                Transfer::ToRam { src, dst } => {
                    let bad = |offset: PageOffset| offset.get() % 16 == 0;
                    if defect == Some(Defect::BadPages) && src.offsets().any(bad) {
                        return Err(EIO);
                    }
                    if let Some(client) = src.data() {
                        client.comes_home(src.nr_pages());
                    }
                    match src.mapped() {
                        Some(src) => copy(src, dst),
                        None => {
                            let blocks = held.get_or_insert_with(|| self.blocks.lock());
                            for (src, dst) in src.offsets().zip(dst.pages()) {
                                dst.copy_from(&RamPage::of(blocks.page(src)?));
                            }
                        }
                    }
                }
            }
        }
        Ok(CellsFence(defect))
    }
}
