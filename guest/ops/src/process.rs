// SPDX-License-Identifier: GPL-2.0

//! A process, as those need it who have it take steps: on a kernel, or on a simulated one.

use std::collections::BTreeMap;

use crate::{Access, File};

/// The number of an error, as user space knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

/// What a device is asked for, by the number that its ioctl has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// It reads memory.
    Read = 0,
    /// It writes to memory.
    Write = 1,
    /// It takes memory, and reads it.
    ToDevice = 2,
    /// It gives memory back.
    ToSystem = 3,
    /// It tells what the kernel knows of memory.
    Snapshot = 4,
    /// It takes memory for itself, and reads it.
    Exclusive = 5,
    /// It gives up its memory.
    Release = 7,
    /// Something goes wrong, or nothing: flags, where the number of pages is otherwise.
    Flags = 8,
    /// It gives all memory back, of all processes.
    Evict = 0x40,
    /// It tells what was counted.
    Usage = 0x41,
    /// It knows no such request.
    Unknown = 0x7f,
}

/// What a request is about.
#[derive(Debug)]
pub struct About<'a> {
    /// An address.
    pub addr: usize,
    /// How many pages.
    pub nr: usize,
    /// What the device reads, or is to write; if it is empty, the device is told an address where
    /// nothing can be.
    pub bytes: &'a mut [u8],
}

/// What a device has answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// With how many pages it has dealt.
    pub done: usize,
    /// How often somebody has faulted.
    pub faults: usize,
    /// Where the address of the bytes was: how many files there are, if that was the question.
    pub files: usize,
}

/// Where a page is, as the kernel says, and not the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nowhere.
    None,
    /// In system memory, where CPUs find it.
    System,
    /// Somewhere else: on a device, or a device's alone, or its memory has failed.
    Away,
}

/// What the layer has counted of a pagemap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// What the driver calls the pagemap.
    pub name: String,
    /// The counters by their names, those of failures among them.
    pub counts: BTreeMap<String, u64>,
}

/// A process. Addresses are those of pages, and numbers are of pages as well.
#[allow(clippy::missing_errors_doc, reason = "each gives what is the matter")]
pub trait Process {
    /// It writes `bytes`, which are whole pages, and must be allowed to.
    fn write(&mut self, addr: usize, bytes: &[u8]) -> Result<(), Errno>;

    /// It reads as much as fits into `bytes`, and must be allowed to.
    fn read(&mut self, addr: usize, bytes: &mut [u8]) -> Result<(), Errno>;

    /// As `write()`, of one page, but what would be a signal is `EFAULT`.
    fn try_write(&mut self, addr: usize, bytes: &[u8]) -> Result<(), Errno>;

    /// As `read()`, of one page, but what would be a signal is `EFAULT`.
    fn try_read(&mut self, addr: usize, bytes: &mut [u8]) -> Result<(), Errno>;

    /// It asks a device for something, by `file`, which is opened if it is not open.
    fn ask(&mut self, file: File, request: Request, about: About<'_>) -> Result<Answer, Errno>;

    /// It closes `file`, if it is open.
    fn close(&mut self, file: File);

    /// Where the pages are.
    fn places(&mut self, addr: usize, nr: usize) -> Result<Vec<Place>, Errno>;

    /// What debugfs has of all pagemaps, in the order in which they were registered.
    fn counters(&mut self) -> Result<Vec<Counted>, Errno>;

    /// `mprotect()`.
    fn protect(&mut self, addr: usize, nr: usize, access: Access) -> Result<(), Errno>;

    /// `mremap()`; there is nothing at `to`.
    fn remap(&mut self, addr: usize, nr: usize, to: usize) -> Result<(), Errno>;

    /// `munmap()`.
    fn unmap(&mut self, addr: usize, nr: usize) -> Result<(), Errno>;

    /// `madvise(MADV_DONTNEED)`.
    fn drop_pages(&mut self, addr: usize, nr: usize) -> Result<(), Errno>;

    /// `madvise(MADV_FREE)`.
    fn free_lazily(&mut self, addr: usize, nr: usize) -> Result<(), Errno>;

    /// `madvise(MADV_PAGEOUT)`.
    fn page_out(&mut self, addr: usize, nr: usize) -> Result<(), Errno>;

    /// `madvise(MADV_HUGEPAGE)`.
    fn want_huge(&mut self, addr: usize, nr: usize) -> Result<(), Errno>;

    /// `madvise(MADV_POPULATE_READ)`, or `MADV_POPULATE_WRITE`.
    fn populate(&mut self, addr: usize, nr: usize, write: bool) -> Result<(), Errno>;

    /// `madvise(MADV_HWPOISON)` of one page.
    fn poison(&mut self, addr: usize) -> Result<(), Errno>;
}
