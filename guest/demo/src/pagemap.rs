// SPDX-License-Identifier: GPL-2.0

//! Where the kernel says that pages of this process are: `/proc/self/pagemap`.

use std::{
    fs::File,
    os::unix::fs::FileExt, //
};

use anyhow::{
    Context as _,
    Result, //
};
use dpmem_ops::Place;

use crate::mapping::{
    page_size,
    Mapping, //
};

/// The entry is one of a page that is present.
const PRESENT: u64 = 1 << 63;
/// The entry is one of a page that is swapped out, on a device, a device's alone, or whose memory
/// has failed.
const SWAP: u64 = 1 << 62;

/// How many pages of a mapping are where.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// In system memory.
    pub(crate) ram: usize,
    /// On a device; nothing is swapped in the virtual machine, which has nowhere to swap to.
    pub(crate) device: usize,
    /// Nowhere.
    pub(crate) none: usize,
}

/// Counts the pages of `memory`.
pub(crate) fn count(memory: &Mapping) -> Result<Count> {
    let mut count = Count::default();
    for place in places(memory.addr(), memory.pages())? {
        match place {
            Place::System => count.ram += 1,
            Place::Away => count.device += 1,
            Place::None => count.none += 1,
        }
    }
    Ok(count)
}

/// Where the `pages` pages from `addr` on are.
pub(crate) fn places(addr: usize, pages: usize) -> Result<Vec<Place>> {
    Pagemap::open()?.places(addr, pages)
}

/// The open file.
pub(crate) struct Pagemap(File);

impl Pagemap {
    /// That of this process.
    pub(crate) fn open() -> Result<Self> {
        let file = File::open("/proc/self/pagemap");
        Ok(Self(file.context("cannot open /proc/self/pagemap")?))
    }

    /// Where the `pages` pages from `addr` on are.
    pub(crate) fn places(&self, addr: usize, pages: usize) -> Result<Vec<Place>> {
        let first = (addr / page_size()) as u64;
        let mut entries = vec![0u8; pages * size_of::<u64>()];
        self.0
            .read_exact_at(&mut entries, first * size_of::<u64>() as u64)
            .context("cannot read /proc/self/pagemap")?;
        let place = |entry: &[u8]| {
            let entry = u64::from_ne_bytes(entry.try_into().context("a torn entry")?);
            Ok(match (entry & PRESENT != 0, entry & SWAP != 0) {
                (true, _) => Place::System,
                (false, true) => Place::Away,
                (false, false) => Place::None,
            })
        };
        entries.chunks_exact(size_of::<u64>()).map(place).collect()
    }
}
