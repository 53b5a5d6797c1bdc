// SPDX-License-Identifier: GPL-2.0

//! How the device copies.
//!
//! It does one copy after the other, and tells in a register whether it is at it. Nothing can stop
//! it but its end, so whoever has started a copy waits for that before the memory is given to
//! somebody else.

use kernel::{
    device::{
        Core,
        Device, //
    },
    dma::{
        Coherent,
        DmaAddress, //
    },
    io::{
        poll::read_poll_timeout,
        Io, //
    },
    new_mutex,
    page::PAGE_SIZE,
    pci,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Release, //
        },
        Mutex,
        MutexGuard, //
    },
    time::Delta, //
};

use dpmem::{
    Batch,
    CopyEngine,
    DmaDevice,
    DmaMap,
    DmaMapped,
    Fence,
    NrPages,
    PageOffset,
    RamPages,
    RamPagesMut,
    Transfer, //
};

/// How much memory the device has: 4 KiB.
pub(crate) const VRAM: NrPages = NrPages::new(1);

/// Its registers: offsets into BAR 0. They have 64 bits, and can be written with 32.
mod registers {
    /// Where a copy begins: an address of the bus, or of the device.
    pub(super) const SOURCE: usize = 0x80;
    /// Where it goes.
    pub(super) const DESTINATION: usize = 0x88;
    /// How many bytes.
    pub(super) const COUNT: usize = 0x90;
    /// [`RUN`] starts a copy, and is clear when it is done.
    pub(super) const COMMAND: usize = 0x98;
    pub(super) const END: usize = 0xa0;

    pub(super) const RUN: u32 = 1 << 0;
    /// Towards the bus.
    pub(super) const TO_BUS: u32 = 1 << 1;
    /// What a register reads as when the device is gone.
    pub(super) const GONE: u32 = u32::MAX;
}

use registers::*;

/// Where the memory of the device begins, for the device.
const VRAM_BASE: u32 = 0x40000;

/// How often it is asked whether it is done.
const POLL: Delta = Delta::from_millis(1);

/// A copy takes a tenth of a second. What takes so long is worth a message.
const SLOW: Delta = Delta::from_secs(5);

type Bar<'a> = pci::Bar<'a, END>;

/// What copies.
#[pin_data]
pub(crate) struct Engine {
    bar: pci::DevresBar<END>,
    // What is copied where there was nothing.
    zeroes: Coherent<[u8]>,
    // Who has it, may start a copy, and waits for its end. It comes behind the lock of a mirror, which
    // the kernel takes to reclaim memory: nobody allocates who has it.
    #[pin]
    idle: Mutex<()>,
    // The device was pulled out, and what was on it is given up.
    lost: Atomic<bool>,
}

impl Engine {
    /// The engine of the device `pdev`. May sleep.
    pub(crate) fn new(pdev: &pci::Device<Core<'_>>) -> Result<impl PinInit<Self, Error>> {
        let bar = pdev.iomap_region_sized::<END>(0, c"edu")?.into_devres()?;
        let zeroes = Coherent::zeroed_slice(pdev.as_ref(), PAGE_SIZE, GFP_KERNEL)?;
        Ok(try_pin_init!(Self {
            bar,
            zeroes,
            idle <- new_mutex!((), "edu::idle"),
            lost: Atomic::new(false),
        }))
    }

    /// If the device was pulled out, gives up what is on it: zeroes come home from now on. Returns
    /// whether it was. Does not sleep.
    ///
    /// # Errors
    ///
    /// [`ENODEV`] if the driver has its registers no more.
    pub(crate) fn give_up_if_gone(&self) -> Result<bool> {
        let gone = self.with_bar(|bar| bar.read32(COMMAND))? == GONE;
        if gone {
            self.lost.store(true, Release);
        }
        Ok(gone)
    }

    /// Calls `f`, which must not sleep, with the registers.
    ///
    /// # Errors
    ///
    /// [`ENODEV`] if the driver has them no more, because it has been unbound.
    fn with_bar<R>(&self, f: impl FnOnce(&Bar<'_>) -> R) -> Result<R> {
        self.bar.try_access_with(f).ok_or(ENODEV)
    }

    /// Waits until the device is idle. May sleep.
    ///
    /// # Errors
    ///
    /// [`ENODEV`] if it was pulled out.
    fn wait_until_idle(&self, device: &Device) -> Result {
        let command = || self.with_bar(|bar| bar.read32(COMMAND));
        loop {
            let done = |command: &u32| *command == GONE || command & RUN == 0;
            match read_poll_timeout(command, done, POLL, SLOW) {
                Ok(GONE) => return Err(ENODEV),
                Ok(_) => return Ok(()),
                // It may still write to memory, and cannot be told to stop.
                Err(ETIMEDOUT) => dev_warn!(device, "a copy takes its time\n"),
                Err(err) => return Err(err),
            }
        }
    }
}

impl Engine {
    /// Copies a page from `src` to `dst`, which are addresses of the bus, through the device's own
    /// memory at `offset`. Sleeps, until it is done.
    ///
    /// # Errors
    ///
    /// [`EOVERFLOW`] if one of the addresses has more than 32 bits; [`ENODEV`] if the device was
    /// pulled out, or has no driver any more.
    pub(crate) fn copy_through(
        &self,
        src: DmaAddress,
        offset: PageOffset,
        dst: DmaAddress,
    ) -> Result {
        let (inside, count) = (address(offset)?, count(VRAM)?);
        let copies = [
            Descriptor {
                command: RUN,
                source: bus(src)?,
                destination: inside,
                count,
            },
            Descriptor {
                command: RUN | TO_BUS,
                source: inside,
                destination: bus(dst)?,
                count,
            },
        ];
        let _idle = self.idle.lock();
        for copy in &copies {
            self.wait_until_idle(self.bar.device())?;
            self.with_bar(|bar| copy.start(bar))?;
        }
        self.wait_until_idle(self.bar.device())
    }
}

/// A copy that is to be made.
struct Descriptor {
    command: u32,
    source: u32,
    destination: u32,
    count: u32,
}

impl Descriptor {
    fn start(&self, bar: &Bar<'_>) {
        bar.write32(self.source, SOURCE);
        bar.write32(self.destination, DESTINATION);
        bar.write32(self.count, COUNT);
        bar.write32(self.command, COMMAND);
    }
}

/// Where the page at `offset` is, for the device.
fn address(offset: PageOffset) -> Result<u32> {
    let bytes = count(NrPages::new(offset.get()))?;
    VRAM_BASE.checked_add(bytes).ok_or(EINVAL)
}

/// How many bytes `nr` pages are, for the device.
fn count(nr: NrPages) -> Result<u32> {
    Ok(nr.to_bytes().ok_or(EINVAL)?.try_into()?)
}

/// An address of the bus, of which the device is given no more than 32 bits.
fn bus(address: DmaAddress) -> Result<u32> {
    Ok(address.try_into()?)
}

/// The last copy of a batch. The device may be at it for as long as nobody has waited.
pub(crate) struct Copying<'a> {
    engine: &'a Engine,
    device: DmaDevice<'a>,
    _to_device: DmaMapped<'a, RamPages<'a>>,
    _to_ram: DmaMapped<'a, RamPagesMut<'a>>,
    _idle: MutexGuard<'a, ()>,
}

impl Fence for Copying<'_> {
    fn wait(self) -> Result {
        self.engine.wait_until_idle(&self.device)
    }
}

impl CopyEngine for Engine {
    type Fence<'a> = Option<Copying<'a>>;
    type Data = ();

    fn submit<'a>(&'a self, batch: &mut Batch<'a, Self>) -> Result<Option<Copying<'a>>> {
        if self.lost.load(Acquire) {
            batch.bring_zeroes()?;
            return Ok(None);
        }
        let device = batch.device().ok_or(ENODEV)?;
        let nr = batch.nr_pages();

        // All that can fail comes before the first copy.
        let mut to_device = DmaMap::<RamPages<'a>>::new(device, nr)?;
        let mut to_ram = DmaMap::<RamPagesMut<'a>>::new(device, nr)?;
        let mut descriptors = KVec::new();
        for transfer in batch {
            let descriptor = match transfer {
                Transfer::ToDevice { src, dst } => {
                    let count = count(src.nr_pages())?;
                    Descriptor {
                        command: RUN,
                        source: bus(to_device.map(src)?)?,
                        destination: address(dst.offset())?,
                        count,
                    }
                }
                Transfer::Zero { dst } => Descriptor {
                    command: RUN,
                    source: bus(self.zeroes.dma_address())?,
                    destination: address(dst.offset())?,
                    // There is one page, so no destination is larger.
                    count: count(VRAM)?,
                },
                Transfer::ToRam { src, dst } => {
                    let count = count(src.nr_pages())?;
                    Descriptor {
                        command: RUN | TO_BUS,
                        source: address(src.offset())?,
                        destination: bus(to_ram.map(dst)?)?,
                        count,
                    }
                }
                // It has no peers.
                Transfer::FromPeer { .. } => return Err(EINVAL),
            };
            descriptors.push(descriptor, GFP_KERNEL)?;
        }
        let to_device = to_device.sync()?;
        let to_ram = to_ram.sync()?;

        let idle = self.idle.lock();
        for descriptor in &descriptors {
            // For the one before it.
            self.wait_until_idle(&device)?;
            self.with_bar(|bar| descriptor.start(bar))?;
        }
        Ok(Some(Copying {
            engine: self,
            device,
            _to_device: to_device,
            _to_ram: to_ram,
            _idle: idle,
        }))
    }
}
