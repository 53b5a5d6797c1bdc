// SPDX-License-Identifier: GPL-2.0

//! Registers of devices, mapped into the address space of CPUs.
//!
//! Real: that an access needs a mapping, which ends with the BAR and is aligned, and a device that
//! is enabled; that a device which is not there any more reads as ones. An address is only a
//! number, and no address is used for a second mapping, so that one which is kept for too long is
//! found. Not simulated: write buffers and their order, `ioremap()`, blocks.

use std::{collections::BTreeMap, sync::Arc};

use ffi::*;

use crate::{
    consts::PAGE_SHIFT,
    dma::phys_addr_t,
    machine::with,
    mm::PAGE_SIZE,
    pci::{pci_dev, target, Hardware, Register, Slot},
    report::report,
};

/// A BAR that a driver has mapped.
struct Mapping {
    pdev: *mut pci_dev,
    bar: usize,
    len: usize,
}

/// What is mapped on a machine, by the addresses.
#[derive(Default)]
pub(crate) struct Mmio {
    mapped: BTreeMap<usize, Mapping>,
    /// How many pages have been given addresses so far.
    given: usize,
}

/// Where the first mapping is: where no program of the host has anything.
const FIRST: usize = 0xffff_c900_0000_0000;

impl Mmio {
    /// Maps `len` bytes of a BAR, and gives the address.
    pub(crate) fn map(&mut self, pdev: *mut pci_dev, bar: usize, len: usize) -> usize {
        let addr = FIRST + (self.given << PAGE_SHIFT);
        // With a hole between two of them.
        self.given += len.div_ceil(PAGE_SIZE) + 1;
        self.mapped.insert(addr, Mapping { pdev, bar, len });
        addr
    }

    /// Undoes [`Mmio::map`]. False if it was not mapped so.
    pub(crate) fn unmap(&mut self, pdev: *mut pci_dev, addr: usize) -> bool {
        match self.mapped.get(&addr) {
            Some(mapping) if mapping.pdev == pdev => self.mapped.remove(&addr).is_some(),
            _ => false,
        }
    }

    /// How many mappings there are of a device, or of all.
    pub(crate) fn in_use(&self, pdev: Option<*mut pci_dev>) -> usize {
        let mut nr = 0;
        for mapping in self.mapped.values() {
            nr += usize::from(pdev.is_none_or(|pdev| pdev == mapping.pdev));
        }
        nr
    }

    /// Which register is at `addr`.
    fn find(&self, addr: usize, size: usize) -> Option<(*mut pci_dev, Register)> {
        let (start, mapping) = self.mapped.range(..=addr).next_back()?;
        let register = Register {
            bar: mapping.bar,
            offset: addr - start,
            size,
        };
        let inside = register.offset + size <= mapping.len;
        inside.then_some((mapping.pdev, register))
    }
}

/// The hardware that an access of `size` bytes at `addr` reaches, if any. `what` is for people.
fn access(addr: usize, size: usize, what: &str) -> Option<(Arc<dyn Hardware>, Slot, Register)> {
    with(|m| {
        let Some((pdev, register)) = m.mmio.find(addr, size) else {
            report(format!("`{what}()` where no registers are mapped"));
            return None;
        };
        if addr % size != 0 {
            report(format!(
                "`{what}()` at an address that is not a multiple of {size}"
            ));
        }
        let (hardware, slot) = unsafe { target(m, pdev) }?;
        Some((hardware, slot, register))
    })
}

fn read(addr: usize, size: usize, what: &str) -> u64 {
    match access(addr, size, what) {
        Some((hardware, slot, register)) => hardware.read(&slot, register),
        None => u64::MAX,
    }
}

fn write(addr: usize, size: usize, value: u64, what: &str) {
    if let Some((hardware, slot, register)) = access(addr, size, what) {
        hardware.write(&slot, register, value);
    }
}

macro_rules! accessors {
    ($($ty:ident $read:ident $read_relaxed:ident $write:ident $write_relaxed:ident)*) => {$(
        pub unsafe extern "C" fn $read(addr: *const c_void) -> $ty {
            read(addr as usize, size_of::<$ty>(), stringify!($read)) as $ty
        }

        pub unsafe extern "C" fn $read_relaxed(addr: *const c_void) -> $ty {
            read(addr as usize, size_of::<$ty>(), stringify!($read_relaxed)) as $ty
        }

        pub unsafe extern "C" fn $write(value: $ty, addr: *mut c_void) {
            write(addr as usize, size_of::<$ty>(), value.into(), stringify!($write));
        }

        pub unsafe extern "C" fn $write_relaxed(value: $ty, addr: *mut c_void) {
            write(addr as usize, size_of::<$ty>(), value.into(), stringify!($write_relaxed));
        }
    )*};
}

accessors! {
    u8 readb readb_relaxed writeb writeb_relaxed
    u16 readw readw_relaxed writew writew_relaxed
    u32 readl readl_relaxed writel writel_relaxed
    u64 readq readq_relaxed writeq writeq_relaxed
}

not_simulated! {
    fn ioremap(phys_addr_t, usize) -> *mut c_void;
    fn ioremap_np(phys_addr_t, usize) -> *mut c_void;
    fn iounmap(*mut c_void);
    fn memcpy(*mut c_void, *const c_void, usize) -> *mut c_void;
    fn memcpy_fromio(*mut c_void, *const c_void, usize);
    fn memcpy_toio(*mut c_void, *const c_void, usize);
}
