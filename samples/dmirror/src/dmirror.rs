// SPDX-License-Identifier: GPL-2.0

//! Two imaginary devices with memory of their own that no CPU can reach.
//!
//! Each open file of `/dev/hmm_dmirror0` or `1` is a view of the address space of the process that
//! opened it: the device reads and writes there, and memory migrates to it and back. The ioctls are
//! those of `lib/test_hmm_uapi.h`, so that upstream's hmm-tests run on it:
//!
//! ```sh
//! modprobe dmirror
//! tools/testing/selftests/mm/hmm-tests -t migrate_fault -v hmm_device_private
//! ```
//!
//! A driver for hardware looks the same, but that its copy engine rings a doorbell. What to read,
//! in this order: `memory.rs`, what the driver supplies for its memory; `device.rs`, where it
//! registers it; `file.rs`, how it uses it.

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
    Published, //
};

mod device;
mod file;
mod memory;
mod uapi;

use device::Device;
use file::DmirrorFile;

module! {
    type: Dmirror,
    name: "dmirror",
    authors: ["dpmem"],
    description: "Devices that mirror processes, with device-private memory",
    license: "GPL",
    params: {
        memory_mib: usize {
            default: 256,
            description: "How much memory each device has, in MiB",
        },
    },
}

/// How many devices there are.
const NR_DEVICES: usize = 2;

/// Where `open` finds its device.
static DEVICES: [ModuleSlot<Device>; NR_DEVICES] = [ModuleSlot::new(), ModuleSlot::new()];

#[pin_data]
struct Dmirror {
    // Dropped first, so that nobody opens a device which is about to go away.
    #[pin]
    _node0: MiscDeviceRegistration<DmirrorFile<0>>,
    #[pin]
    _node1: MiscDeviceRegistration<DmirrorFile<1>>,
    _devices: [Published<Device>; NR_DEVICES],
}

impl kernel::InPlaceModule for Dmirror {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        let [slot0, slot1] = &DEVICES;
        try_pin_init!(Self {
            _devices: {
                let size = memory_size()?;
                [
                    slot0.publish(Arc::pin_init(Device::new(module, size), GFP_KERNEL)?)?,
                    slot1.publish(Arc::pin_init(Device::new(module, size), GFP_KERNEL)?)?,
                ]
            },
            _node0 <- MiscDeviceRegistration::register(options(c"hmm_dmirror0")),
            _node1 <- MiscDeviceRegistration::register(options(c"hmm_dmirror1")),
        })
    }
}

/// What the parameter says that a device has.
fn memory_size() -> Result<NrPages> {
    let mib = module_parameters::memory_mib.value();
    match mib.checked_mul((1 << 20) / PAGE_SIZE) {
        Some(pages) if pages > 0 => Ok(NrPages::new(pages)),
        _ => {
            pr_err!(
                "memory_mib={}: a device has some memory, and less than all there is\n",
                mib
            );
            Err(EINVAL)
        }
    }
}

/// The options of the node `name`.
fn options(name: &'static CStr) -> MiscDeviceOptions {
    MiscDeviceOptions { name }
}
