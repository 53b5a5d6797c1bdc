// SPDX-License-Identifier: GPL-2.0

//! Imaginary devices with memory of their own: two whose memory no CPU can reach, and two, if one
//! says where, whose memory CPUs can address as well.
//!
//! Each open file of `/dev/hmm_dmirror0` is a view of the address space of the process that opened
//! it: the device reads and writes there, and memory migrates to it and back. The ioctls are those
//! of `lib/test_hmm_uapi.h`, so that upstream's hmm-tests run on it:
//!
//! ```sh
//! modprobe dmirror
//! tools/testing/selftests/mm/hmm-tests -t migrate_fault -v hmm_device_private
//! ```
//!
//! A driver for hardware looks the same, but that its copy engine rings a doorbell. What to read,
//! in this order: `memory.rs` and `offsets.rs`, what the driver supplies for its memory;
//! `device.rs`, where it registers it; `file.rs`, how it uses it.

use core::borrow::Borrow;

use kernel::{
    miscdevice::{
        MiscDeviceOptions,
        MiscDeviceRegistration, //
    },
    page::PAGE_SIZE,
    prelude::*,
    str::CStr,
    sync::Arc, //
};

use dpmem::{
    ModuleSlot,
    NrPages,
    PeerGroup,
    PhysRange,
    Published, //
};

mod client;
mod device;
mod file;
mod memory;
mod offsets;
mod uapi;

use device::{
    Device,
    Kind, //
};
use file::DmirrorFile;
use memory::{
    Memory,
    Policy, //
};
use offsets::Allocator;

module! {
    type: Dmirror,
    name: "dmirror",
    authors: ["dpmem"],
    description: "Devices that mirror processes, with device-private memory",
    license: "GPL",
    params: {
        memory_mib: usize {
            default: 256,
            description: "How much private memory a device has, in MiB",
        },
        peers: u8 {
            default: 0,
            description: "Whether the devices with private memory reach each other's (0 or 1)",
        },
        allocator: u8 {
            default: 0,
            description: "Who hands it out: 0 is a bitmap, 1 the buddy allocator of GPUs",
        },
        fault_pages: usize {
            default: 1,
            description: "How many pages come home if a CPU touches one of them (1 to 512)",
        },
        spm_addr_dev0: u64 {
            default: 0,
            description: "Physical address of 256 MiB for a device with coherent memory",
        },
        spm_addr_dev1: u64 {
            default: 0,
            description: "The same for another one",
        },
    },
}

/// How many pages are in a MiB.
const PAGES_PER_MIB: usize = (1 << 20) / PAGE_SIZE;

/// How much coherent memory a device has.
const COHERENT: NrPages = NrPages::new(256 * PAGES_PER_MIB);

/// Where `open` finds its device: two with private memory, two with coherent memory.
static DEVICES: [ModuleSlot<Device>; 4] = [const { ModuleSlot::new() }; 4];

/// What the module has when it is loaded.
#[pin_data]
struct Dmirror {
    #[pin]
    _private0: Node<0>,
    #[pin]
    _private1: Node<1>,
    _coherent0: Option<Pin<KBox<Node<2>>>>,
    _coherent1: Option<Pin<KBox<Node<3>>>>,
}

impl kernel::InPlaceModule for Dmirror {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        let group = match is_set(module_parameters::peers.value()) {
            true => PeerGroup::new().map(Some),
            false => Ok(None),
        };
        try_pin_init!(Self {
            _private0 <- Node::new(c"hmm_dmirror0", module, private(&group)?),
            _private1 <- Node::new(c"hmm_dmirror1", module, private(&group)?),
            _coherent0: Node::coherent(
                c"hmm_dmirror2",
                module,
                module_parameters::spm_addr_dev0.value(),
            )?,
            _coherent1: Node::coherent(
                c"hmm_dmirror3",
                module,
                module_parameters::spm_addr_dev1.value(),
            )?,
        })
    }
}

/// Device `N`, and how user space gets at it.
#[pin_data]
struct Node<const N: usize> {
    // Dropped first, so that nobody opens a device which is about to go away.
    #[pin]
    _misc: MiscDeviceRegistration<DmirrorFile<N>>,
    _device: Published<Device>,
}

impl<const N: usize> Node<N> {
    /// The device with memory of `kind`, as `name`.
    fn new(
        name: &'static CStr,
        module: &'static ThisModule,
        kind: Kind,
    ) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            _device: {
                let slot = DEVICES.get(N).ok_or(ENODEV)?;
                let device = Device::new(module, kind, policy()?);
                slot.publish(Arc::pin_init(device, GFP_KERNEL)?)?
            },
            _misc <- MiscDeviceRegistration::register(MiscDeviceOptions { name }),
        })
    }

    /// The device with coherent memory at `addr`, unless that is zero. A parameter of 7.2 gives its
    /// value by reference, one of 7.3 gives the value.
    fn coherent(
        name: &'static CStr,
        module: &'static ThisModule,
        addr: impl Borrow<u64>,
    ) -> Result<Option<Pin<KBox<Self>>>> {
        let addr = *addr.borrow();
        if addr == 0 {
            return Ok(None);
        }
        let range = PhysRange::new(addr, COHERENT)
            .inspect_err(|_| pr_err!("{:#x} is not where memory can begin\n", addr))?;
        let node = Self::new(name, module, Kind::Coherent(range));
        Ok(Some(KBox::pin_init(node, GFP_KERNEL)?))
    }
}

/// Whether a parameter of 0 or 1 is set; as in [`Node::coherent`], it may come by reference.
fn is_set(value: impl Borrow<u8>) -> bool {
    *value.borrow() != 0
}

/// How the parameters say that memory is used.
fn policy() -> Result<Policy> {
    Ok(Policy {
        allocator: allocator(module_parameters::allocator.value())?,
        fault_pages: window(module_parameters::fault_pages.value())?,
    })
}

/// How many pages come home at once, as the parameter says, which is given as in
/// `Node::coherent()`. As many as a huge page has, at most: a fault makes room for them.
fn window(parameter: impl Borrow<usize>) -> Result<NrPages> {
    match *parameter.borrow() {
        nr @ 1..=512 => Ok(NrPages::new(nr)),
        nr => {
            pr_err!(
                "fault_pages={}: it is one page at least, and 512 at most\n",
                nr
            );
            Err(EINVAL)
        }
    }
}

/// The allocator that the parameter names, which is given as in `Node::coherent()`.
fn allocator(parameter: impl Borrow<u8>) -> Result<Allocator> {
    let parameter = *parameter.borrow();
    Allocator::from_parameter(parameter)
        .inspect_err(|_| pr_err!("allocator={}: there is no such allocator\n", parameter))
}

/// What private memory the parameters say that a device has.
fn private(group: &Result<Option<Arc<PeerGroup<Memory>>>>) -> Result<Kind> {
    let group = group.clone()?;

    let mib = module_parameters::memory_mib.value();
    match mib.checked_mul(PAGES_PER_MIB) {
        Some(pages) if pages > 0 => Ok(Kind::Private(NrPages::new(pages), group)),
        _ => {
            pr_err!(
                "memory_mib={}: a device has some memory, and less than all there is\n",
                mib
            );
            Err(EINVAL)
        }
    }
}
