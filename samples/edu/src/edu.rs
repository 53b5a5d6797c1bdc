// SPDX-License-Identifier: GPL-2.0

//! The PCI device `edu` of QEMU: a page of memory that no CPU can address, and an engine that
//! copies to it and from it by DMA.
//!
//! A small driver for hardware, from `probe` to what unbinding it leaves behind. QEMU needs
//! `-device edu,dma_mask=0xffffffff`: by default the device reaches 28 bits of addresses, and a PCI
//! device is expected to reach 32. What to read, in this order: `engine.rs`, how the device copies;
//! here, where its memory is registered; `file.rs`, how a process uses it; `tlb.rs`, how the device
//! finds memory of a process where it is.
//!
//! For 7.3: an older kernel has other ways to tell a driver about its device.

use kernel::{
    device::Core,
    dma::DmaAddress,
    miscdevice::{
        MiscDeviceOptions,
        MiscDeviceRegistration, //
    },
    pci,
    prelude::*,
    sync::Arc, //
};

use dpmem::{
    BitmapOffsets,
    BoundMirrors,
    BoundPagemap,
    DevPagemap,
    DevPagemapOps,
    ModuleSlot,
    NumaNode,
    OffsetAllocator,
    Order,
    Published, //
};

mod engine;
mod file;
mod tlb;

use engine::{
    Engine,
    VRAM, //
};
use file::EduFile;
use tlb::Tlb;

kernel::module_pci_driver! {
    type: EduDriver,
    name: "edu",
    authors: ["dpmem"],
    description: "The edu device of QEMU, with device-private memory",
    license: "GPL",
}

/// What the driver supplies for its pagemap.
#[derive(DevPagemapOps)]
#[pin_data]
pub(crate) struct Vram {
    #[offsets]
    #[pin]
    offsets: BitmapOffsets,
    #[engine]
    #[pin]
    engine: Engine,
}

impl Vram {
    fn new(pdev: &pci::Device<Core<'_>>) -> Result<impl PinInit<Self, Error>> {
        let engine = Engine::new(pdev)?;
        Ok(try_pin_init!(Self {
            offsets <- BitmapOffsets::new(VRAM),
            engine <- engine,
        }))
    }

    /// The device copies a page of system memory to another one, by way of its own memory. Sleeps.
    ///
    /// # Errors
    ///
    /// [`EBUSY`] if a process has a page there; those of [`Engine::copy_through`].
    pub(crate) fn copy(&self, src: DmaAddress, dst: DmaAddress) -> Result {
        let offset = self.offsets.allocate(Order::ZERO).ok_or(EBUSY)?;
        let copied = self.engine.copy_through(src, offset, dst);
        self.offsets.free(offset, Order::ZERO);
        copied
    }
}

/// The device, as open files know it. They may outlive its driver.
pub(crate) struct Edu {
    memory: BoundPagemap<Vram>,
    mirrors: Option<BoundMirrors<Tlb>>,
}

impl Edu {
    /// The memory of the device.
    pub(crate) fn memory(&self) -> &BoundPagemap<Vram> {
        &self.memory
    }

    /// The memory of processes that the device reaches, or `None` if it reaches too little for that.
    pub(crate) fn mirrors(&self) -> Option<&BoundMirrors<Tlb>> {
        self.mirrors.as_ref()
    }
}

/// Where `open` finds the device.
static DEVICE: ModuleSlot<Edu> = ModuleSlot::new();

/// What the driver has while it is bound.
#[pin_data]
struct EduData {
    // Dropped first, so that nobody opens a device which is about to go away.
    #[pin]
    _misc: MiscDeviceRegistration<EduFile>,
    _published: Published<Edu>,
    edu: Arc<Edu>,
}

struct EduDriver;

// The vendor is no member of the PCI-SIG, and the kernel has no name for it: `probe` looks at its
// number.
kernel::pci_device_table!(
    PCI_TABLE,
    <EduDriver as pci::Driver>::IdInfo,
    [(pci::DeviceId::from_class(CLASS, CLASS_MASK), ())]
);

/// Devices from before there were classes, and what the device takes for "others".
const CLASS: u32 = 0x00ff << 8;
/// Base class and subclass.
const CLASS_MASK: u32 = 0xffff << 8;

/// Vendor and device.
const QEMU_EDU: (u16, u16) = (0x1234, 0x11e8);

impl pci::Driver for EduDriver {
    type IdInfo = ();
    type Data<'bound> = EduData;

    const ID_TABLE: pci::IdTable<Self::IdInfo> = &PCI_TABLE;

    fn probe<'bound>(
        pdev: &'bound pci::Device<Core<'_>>,
        _info: Option<&'bound Self::IdInfo>,
    ) -> impl PinInit<Self::Data<'bound>, Error> + 'bound {
        pin_init::pin_init_scope(move || {
            if (pdev.vendor_id().as_raw(), pdev.device_id()) != QEMU_EDU {
                return Err(ENODEV);
            }
            pdev.enable_device_mem()?;
            pdev.set_master();

            let vram = Vram::new(pdev)?;
            let node = NumaNode::of(pdev.as_ref());
            let pagemap = DevPagemap::new(c"edu", VRAM, node, vram);
            let memory = BoundPagemap::new(pdev.as_ref(), pagemap)
                .inspect_err(|err| dev_err!(pdev, "no device memory: {:?}\n", err))?;
            let mirrors = match BoundMirrors::new(pdev.as_ref()) {
                Ok(mirrors) => Some(mirrors),
                Err(EOPNOTSUPP) => {
                    dev_info!(
                        pdev,
                        "it needs bounce buffers, and so copies no pages where they are\n"
                    );
                    None
                }
                Err(err) => return Err(err),
            };
            let edu = Arc::new(Edu { memory, mirrors }, GFP_KERNEL)?;
            let published = DEVICE
                .publish(edu.clone())
                .inspect_err(|_| dev_err!(pdev, "there is one such device already\n"))?;
            Ok(try_pin_init!(EduData {
                _misc <- MiscDeviceRegistration::register(MiscDeviceOptions { name: c"edu0" }),
                _published: published,
                edu,
            }))
        })
    }

    fn unbind<'bound>(pdev: &'bound pci::Device<Core<'_>>, this: Pin<&Self::Data<'bound>>) {
        let memory = this.edu.memory();
        if let Some(pagemap) = memory.access() {
            // Nobody can copy what was on it any more, and unbinding would wait for that.
            if pagemap.ops().engine.give_up_if_gone() == Ok(true) {
                let lost = pagemap.nr_out().get();
                dev_warn!(
                    pdev,
                    "it was pulled out: {} pages of processes are lost\n",
                    lost
                );
            }
        }
        // Otherwise the device can still copy.
        memory.close();
        if let Some(mirrors) = this.edu.mirrors() {
            mirrors.close();
        }
    }
}
