// SPDX-License-Identifier: GPL-2.0

//! A PCI device with one register, and a driver for it, as one in C would be.

// What is true of the pointers of a driver of C's is said in one place: the device is there while
// its driver is called.
#![allow(clippy::missing_safety_doc, clippy::undocumented_unsafe_blocks)]
// Not each test uses all of it.
#![allow(dead_code)]

use bindings::{
    sim::{Hardware, PciDevice, PciId, Register, Slot, PAGE_SIZE},
    *,
};
use std::{
    ffi::c_void,
    ptr::null_mut,
    sync::{
        atomic::{AtomicU32, Ordering::SeqCst},
        Arc,
    },
};

pub const ID: PciId = PciId {
    vendor: 0x1af4,
    device: 1,
    class: 0x0b_4000,
    revision: 1,
};

/// A device whose only register has what was written to it. A 1 raises an interrupt; what is more
/// is an address, which the device reads from, or writes to if it is odd.
#[derive(Default)]
pub struct Simple(AtomicU32);

impl Hardware for Simple {
    fn read(&self, _slot: &Slot, register: Register) -> u64 {
        assert_eq!((register.bar, register.size), (0, 4));
        self.0.load(SeqCst).into()
    }

    fn write(self: Arc<Self>, slot: &Slot, register: Register, value: u64) {
        assert_eq!((register.bar, register.size), (0, 4));
        self.0.store(value as u32, SeqCst);
        match value {
            0 => {}
            1 => slot.interrupt(0),
            addr if addr % 2 == 0 => slot.dma_read(addr, &mut [0]),
            addr => slot.dma_write(addr, &[0]),
        }
    }
}

/// What a driver does in its `probe`.
pub type Probe = unsafe fn(pdev: *mut pci_dev);

unsafe extern "C" fn probe(pdev: *mut pci_dev, id: *const pci_device_id) -> i32 {
    unsafe {
        let probe: Probe = std::mem::transmute((*id).driver_data);
        probe(pdev);
    }
    0
}

/// A driver for `ID` that does what `f` says.
pub fn with_driver(f: Probe, then: impl FnOnce(&PciDevice)) {
    let device = PciDevice::plug(ID, &[PAGE_SIZE], Arc::new(Simple::default()));
    let mut ids: [pci_device_id; 2] = unsafe { std::mem::zeroed() };
    ids[0].vendor = ID.vendor.into();
    ids[0].device = ID.device.into();
    (ids[0].subvendor, ids[0].subdevice) = (u32::MAX, u32::MAX);
    ids[0].driver_data = f as usize;
    let mut driver = pci_driver {
        id_table: ids.as_ptr(),
        probe: Some(probe),
        ..pci_driver::default()
    };
    unsafe {
        assert_eq!(
            __pci_register_driver(&raw mut driver, null_mut(), c"simple".as_ptr().cast()),
            0
        );
        then(&device);
        pci_unregister_driver(&raw mut driver);
    }
}

/// A driver that is bound and unbound.
pub fn driven(f: Probe) {
    with_driver(f, |device| assert!(device.is_bound()));
}

/// Maps the registers.
pub unsafe fn map(pdev: *mut pci_dev) -> *mut c_void {
    unsafe {
        assert_eq!(pci_enable_device_mem(pdev), 0);
        assert_eq!(pci_request_region(pdev, 0, c"simple".as_ptr().cast()), 0);
        pci_iomap(pdev, 0, 0)
    }
}

/// Gives them back.
pub unsafe fn unmap(pdev: *mut pci_dev, registers: *mut c_void) {
    unsafe {
        pci_iounmap(pdev, registers);
        pci_release_region(pdev, 0);
    }
}
