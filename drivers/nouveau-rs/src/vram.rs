// SPDX-License-Identifier: GPL-2.0

//! Where memory on the card comes from, and how it is copied.

use kernel::{
    prelude::*,
    sync::atomic::{
        ordering::{
            Acquire,
            Relaxed,
            Release, //
        },
        Atomic, //
    }, //
};

use dpmem::{
    Batch,
    ChunkOffsets,
    ChunkSource,
    CopyEngine,
    DevPagemapOps,
    DmaMap,
    DmaMapped,
    Fence,
    NrPages,
    Order,
    PageOffset,
    RamPages,
    RamPagesMut,
    Transfer, //
};

use crate::{
    ffi::{
        Buffer,
        Fences,
        Gpu,
        Job,
        Waking, //
    },
    power::{
        Awake,
        Power, //
    }, //
};

/// How much is pinned at once, in bytes: what the GPU has a page size for. The memory of a larger
/// buffer would have to be found in one piece as well.
const CHUNK: usize = 2 << 20;

/// Buffers that are pinned when memory is needed.
#[pin_data]
pub(crate) struct Buffers {
    gpu: Gpu,
    order: Order,
    #[pin]
    power: Power,
}

impl Buffers {
    fn new(gpu: Gpu, order: Order) -> impl PinInit<Self> {
        pin_init!(Self {
            gpu,
            order,
            power <- Power::new(),
        })
    }

    /// Keeps the card awake; if it is asleep, it is woken up.
    ///
    /// # Errors
    ///
    /// [`EBUSY`] if it is about to wake up: who has touched a page on it tries again. [`ENODEV`] if
    /// it is not, as it cannot be woken up, or a suspend has failed and nobody undoes what it has
    /// done.
    fn awake(&self) -> Result<Awake<'_>> {
        // The first time, it may have woken up before it was asked for that.
        for _ in 0..2 {
            if let Some(awake) = self.power.awake() {
                return Ok(awake);
            }
            match self.gpu.wake() {
                Ok(Waking::Soon) => return Err(EBUSY),
                Ok(Waking::Awake) => {}
                Err(_) => break,
            }
        }
        Err(ENODEV)
    }
}

impl ChunkSource for Buffers {
    type Chunk = Buffer;

    fn pin(&self, vacant: PageOffset) -> Result<(PageOffset, Buffer)> {
        let _awake = self.awake()?;
        let size = self.order.nr_pages().to_bytes().ok_or(EINVAL)?;
        // Which pages of the pagemap it becomes says nothing of where it is on the card.
        Ok((vacant, Buffer::new(self.gpu, size)?))
    }
}

/// Memory on the card, in which processes have pages.
pub(crate) struct Vram {
    offsets: ChunkOffsets<Buffers>,
    gpu: Gpu,
    /// Whether the card is being taken away from its driver.
    closing: Atomic<bool>,
    /// How many pages came home as zeroes.
    lost: Atomic<usize>,
}

impl Vram {
    /// All that `gpu` has, which is `nr` pages. May sleep.
    pub(crate) fn new(gpu: Gpu, nr: NrPages) -> Result<Self> {
        let order = Order::new(NrPages::from_bytes(CHUNK)?.get().ilog2())?;
        Ok(Self {
            offsets: ChunkOffsets::new(nr, order, Buffers::new(gpu, order))?,
            gpu,
            closing: Atomic::new(false),
            lost: Atomic::new(0),
        })
    }

    /// All pages have to come home from now on: as long as the card is there by a copy, and as
    /// zeroes if it is gone. May sleep.
    pub(crate) fn close(&self) {
        self.closing.store(true, Release);
        if !self.gpu.is_gone() {
            // nouveau has woken it up, and what has failed before did not undo what was done for it
            // to sleep. A buffer that cannot be pinned is tried again when it is copied from.
            let _ = self.wake();
        }
    }

    fn power(&self) -> &Power {
        &self.offsets.source().power
    }

    /// The GPU's address of the page at `offset`, which is out. Does not sleep.
    pub(crate) fn address(&self, offset: PageOffset) -> Option<u64> {
        let (start, page) = self
            .offsets
            .with_chunk(offset, |buffer, page| (buffer.address(), page))?;
        start?.checked_add(u64::try_from(page.to_bytes()?).ok()?)
    }

    /// Refuses to copy anything from now on, and waits for what is being copied. May sleep.
    pub(crate) fn stop(&self) {
        self.power().sleep();
    }

    /// Gives back what nobody uses, and lets the card put what is left wherever it likes. The GPU
    /// must have been told that it is not where it was. May sleep.
    pub(crate) fn unpin(&self) {
        self.offsets.shrink();
        // Nobody pins meanwhile, and what nouveau does not unpin stays where it is.
        let _ = self.offsets.for_each_chunk(|_, buffer| {
            if let Err(err) = buffer.unpin() {
                pr_err!("a buffer of device memory stays pinned: {:?}\n", err);
            }
            Ok(())
        });
    }

    /// Undoes [`Vram::stop`] and [`Vram::unpin`]. May sleep.
    ///
    /// # Errors
    ///
    /// Those of the first buffer that cannot be pinned again. The others are.
    pub(crate) fn wake(&self) -> Result {
        let result = self.pin_all();
        self.power().wake();
        result
    }

    /// Pins what is not. May sleep.
    fn pin_all(&self) -> Result {
        let mut result = Ok(());
        self.offsets.for_each_chunk(|_, buffer| {
            result = result.and(buffer.pin());
            Ok(())
        })?;
        result
    }

    /// As [`Vram::address`]; tries to pin what could not be pinned when the card was woken up. May
    /// sleep.
    fn pinned_address(&self, offset: PageOffset) -> Result<u64> {
        match self.address(offset) {
            Some(address) => Ok(address),
            None => {
                self.pin_all()?;
                self.address(offset).ok_or(EIO)
            }
        }
    }
}

impl DevPagemapOps for Vram {
    type Offsets = ChunkOffsets<Buffers>;
    type Data = ();
    // It has to know where the chunks are.
    type Engine = Self;

    fn offsets(&self) -> &ChunkOffsets<Buffers> {
        &self.offsets
    }

    fn engine(&self) -> &Self {
        self
    }
}

impl CopyEngine for Vram {
    type Fence<'a> = Copying<'a>;
    type Data = ();

    fn submit<'a>(&'a self, batch: &mut Batch<'a, Self>) -> Result<Copying<'a>> {
        if self.closing.load(Acquire) && self.gpu.is_gone() {
            let nr = batch.nr_pages();
            batch.bring_zeroes()?;
            self.lost.fetch_add(nr.get(), Relaxed);
            return Ok(Copying(None));
        }
        let awake = self.offsets.source().awake()?;
        let device = self.gpu.device();
        let nr = batch.nr_pages();
        let mut sources = DmaMap::<RamPages<'a>>::new(device, nr)?;
        let mut targets = DmaMap::<RamPagesMut<'a>>::new(device, nr)?;
        let mut jobs = KVVec::new();
        for transfer in batch {
            let job = match transfer {
                Transfer::ToDevice { src, dst } => {
                    let vram = self.pinned_address(dst.offset())?;
                    Job::to_vram(sources.map(src)?, vram, dst.nr_pages())?
                }
                Transfer::Zero { dst } => {
                    Job::clear_vram(self.pinned_address(dst.offset())?, dst.nr_pages())?
                }
                Transfer::ToRam { src, dst } => {
                    let vram = self.pinned_address(src.offset())?;
                    Job::to_host(vram, targets.map(dst)?, src.nr_pages())?
                }
                // Each card is its own owner.
                Transfer::FromPeer { .. } => return Err(EINVAL),
            };
            jobs.push(job, GFP_KERNEL)?;
        }
        let (sources, targets) = (sources.sync()?, targets.sync()?);
        Ok(Copying(Some(UnderWay {
            fences: self.gpu.submit(&jobs)?,
            _sources: sources,
            _targets: targets,
            _awake: awake,
        })))
    }
}

impl Drop for Vram {
    fn drop(&mut self) {
        let lost = self.lost.load(Relaxed);
        if lost > 0 {
            pr_err!("{} pages of processes are lost with the card\n", lost);
        }
    }
}

/// What a batch needs that the card is at.
struct UnderWay<'a> {
    // Waited for, if nobody has, before the memory is unmapped.
    fences: Fences,
    _sources: DmaMapped<'a, RamPages<'a>>,
    _targets: DmaMapped<'a, RamPagesMut<'a>>,
    _awake: Awake<'a>,
}

/// A batch that the card is at, if there is a card.
pub(crate) struct Copying<'a>(Option<UnderWay<'a>>);

impl Fence for Copying<'_> {
    fn wait(self) -> Result {
        self.0.map_or(Ok(()), |batch| batch.fences.wait())
    }
}
