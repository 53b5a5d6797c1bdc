// SPDX-License-Identifier: GPL-2.0

//! Where pages of a process are, for the device.
//!
//! The device has no page table, and is given addresses of the bus. So the driver looks them up in
//! its stead, in a few entries that it keeps for each open file, and copies under the lock under
//! which it looks them up. A driver of a device with page tables writes to those instead, and has
//! [`PageTable::invalidate`] wait until the device has seen it.

use kernel::dma::DmaAddress;

use dpmem::{
    Access,
    PageTable,
    UserAddr,
    UserRange, //
};

/// How many pages are kept.
const ENTRIES: usize = 4;

/// A page of the process.
struct Entry {
    addr: UserAddr,
    access: Access,
    at: DmaAddress,
}

/// A few pages of a process.
pub(crate) struct Tlb {
    entries: [Option<Entry>; ENTRIES],
    // Which of them is the next to be given to another page.
    next: usize,
}

impl Tlb {
    pub(crate) fn new() -> Self {
        Self {
            entries: [const { None }; ENTRIES],
            next: 0,
        }
    }

    /// Where the page at `addr` is, if it is known, and may be used so.
    pub(crate) fn find(&self, addr: UserAddr, access: Access) -> Option<DmaAddress> {
        let mut entries = self.entries.iter().flatten();
        let allows = |entry: &Entry| entry.access == Access::Write || access == Access::Read;
        entries
            .find(|entry| entry.addr == addr && allows(entry))
            .map(|entry| entry.at)
    }

    /// Notes that the page at `addr` is `at` an address of the bus.
    pub(crate) fn insert(&mut self, addr: UserAddr, access: Access, at: DmaAddress) {
        if let Some(entry) = self.entries.get_mut(self.next) {
            *entry = Some(Entry { addr, access, at });
        }
        self.next = self.next.wrapping_add(1) % ENTRIES;
    }
}

impl PageTable for Tlb {
    fn invalidate(&mut self, range: UserRange) {
        // No copy is going on: it would have the lock that is held here.
        for entry in &mut self.entries {
            entry.take_if(|entry| range.index_of(entry.addr).is_some());
        }
    }
}
