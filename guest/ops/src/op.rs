// SPDX-License-Identifier: GPL-2.0

//! What can be done in a step, and how that is said.

use std::fmt;

/// Who does something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The process that is there from the beginning.
    Parent,
    /// Its child.
    Child,
}

/// By which open file of a device a process asks it. A file is opened when it is used for the first
/// time, and stays open until it is closed or its process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    /// Of the device.
    One,
    /// Of the device as well.
    Two,
    /// Of the other device.
    Other,
    /// The one that a process looks through when it is asked what it sees.
    Witness,
}

impl File {
    /// How many there are.
    pub const NR: usize = 4;
}

/// Some pages, counted from the beginning of the memory, wherever they have been moved to since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pages {
    /// The first one.
    pub first: usize,
    /// How many; not beyond the end.
    pub nr: usize,
}

impl Pages {
    /// The one behind the last one.
    #[must_use]
    pub fn end(self) -> usize {
        self.first + self.nr
    }

    /// `nr` of them, from the one on that is called `first` here; fewer, if they end before.
    #[must_use]
    pub fn part(self, first: usize, nr: usize) -> Self {
        let first = self.first + first;
        let nr = nr.min(self.end().saturating_sub(first));
        Self { first, nr }
    }

    /// One of them.
    #[must_use]
    pub fn one(self, page: usize) -> Self {
        self.part(page, 1)
    }
}

/// What a process may do with its pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing.
    None,
    /// Read them.
    Read,
    /// Read them, and write to them.
    Write,
}

/// What goes wrong with a device. The numbers are flags of its ioctl.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// It has no place for the next large folio.
    Large = 1 << 0,
    /// Nothing any more: a flag that means nothing.
    None = 1 << 1,
    /// It breaks down during the next copy.
    BreakDown = 1 << 16,
    /// It does not say that the next copy is done.
    TimeOut = 1 << 17,
    /// It cannot read one in sixteen of its pages.
    BadPages = 1 << 18,
}

/// A request that makes no sense, about the first page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nonsense {
    /// The address is one inside the page.
    Inside,
    /// It is about no page at all.
    NoPage,
    /// The pages wrap around.
    Wraps,
    /// There are more pages than bytes can be counted.
    TooMany,
    /// There is no such request.
    Unknown,
    /// Nothing is mapped there.
    NothingThere,
    /// There is no place for what the device reads.
    NowhereTo,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// The process writes something to each of the pages that it may write to, which depends on
    /// this number.
    Write(Pages, u8),
    /// It reads those that it may read.
    Read(Pages),
    /// It reads them one by one, also where it cannot, or may not.
    Try(Pages),
    /// `madvise(MADV_POPULATE_READ)`, or `MADV_POPULATE_WRITE` of those that it may write to.
    Populate(Pages, Access),
    /// The device writes.
    DeviceWrite(Pages, u8),
    /// The device reads.
    DeviceRead(Pages),
    /// The pages are to migrate to the device.
    ToDevice(Pages),
    /// They are to migrate to system memory.
    ToSystem(Pages),
    /// The device is to have them for itself.
    Exclusive(Pages),
    /// `mprotect()`.
    Protect(Pages, Access),
    /// `mremap()` to an address that is so many pages above a huge page's.
    Move(Pages, usize),
    /// `munmap()`. What is asked of the device about them goes to where they were.
    Unmap(Pages),
    /// `madvise(MADV_DONTNEED)`.
    DontNeed(Pages),
    /// `madvise(MADV_FREE)`: what is written then is kept, and all else may become zeroes.
    FreeLazily(Pages),
    /// `madvise(MADV_PAGEOUT)`.
    PageOut(Pages),
    /// `madvise(MADV_HUGEPAGE)`.
    Huge(Pages),
    /// `madvise(MADV_HWPOISON)`: the memory of this page fails, if something was ever written to
    /// it.
    Poison(usize),
    /// All memory of the device migrates home.
    Evict,
    /// The device gives up its memory, and registers it anew when it needs some.
    Release,
    /// Something goes wrong with the device.
    Break(Defect),
    /// The device is asked for what it must refuse.
    Refuse(Nonsense),
    /// What the driver has counted for the file: pages that were copied home and CPU faults; and
    /// how many files there are, with those of which only memory is left.
    Usage,
    /// What the layer has counted of each pagemap.
    Counters,
    /// The process closes the file.
    Close,
    /// The kernel says, without the driver, where the pages are.
    Count(Pages),
    /// The parent has a child, if it has none.
    Fork,
    /// The child ends.
    Exit,
}

impl Op {
    /// Whether an access of a CPU may be one that is an error then.
    #[must_use]
    pub fn is_harmful(self) -> bool {
        matches!(self, Self::Poison(_) | Self::Break(_))
    }

    /// Whether a device is asked.
    #[must_use]
    pub fn asks(self) -> bool {
        match self {
            Self::DeviceWrite(..)
            | Self::DeviceRead(_)
            | Self::ToDevice(_)
            | Self::ToSystem(_)
            | Self::Exclusive(_)
            | Self::Evict
            | Self::Release
            | Self::Break(_)
            | Self::Refuse(_)
            | Self::Usage
            | Self::Close => true,
            Self::Write(..)
            | Self::Read(_)
            | Self::Try(_)
            | Self::Populate(..)
            | Self::Protect(..)
            | Self::Move(..)
            | Self::Unmap(_)
            | Self::DontNeed(_)
            | Self::FreeLazily(_)
            | Self::PageOut(_)
            | Self::Huge(_)
            | Self::Poison(_)
            | Self::Count(_)
            | Self::Counters
            | Self::Fork
            | Self::Exit => false,
        }
    }
}

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Who does it.
    pub who: Who,
    /// By which file, if it is one that has to do with the device.
    pub file: File,
    /// What it is.
    pub op: Op,
}

impl fmt::Display for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.first, self.nr)
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write(pages, value) => write!(f, "writes {value} to {pages}"),
            Self::Read(pages) => write!(f, "reads {pages}"),
            Self::Try(pages) => write!(f, "tries to read {pages}"),
            Self::Populate(pages, Access::Write) => write!(f, "populates {pages} to write"),
            Self::Populate(pages, _) => write!(f, "populates {pages}"),
            Self::DeviceWrite(pages, value) => write!(f, "has the device write {value} to {pages}"),
            Self::DeviceRead(pages) => write!(f, "has the device read {pages}"),
            Self::ToDevice(pages) => write!(f, "migrates {pages} to the device"),
            Self::ToSystem(pages) => write!(f, "migrates {pages} to system memory"),
            Self::Exclusive(pages) => write!(f, "lets the device have {pages} alone"),
            Self::Protect(pages, Access::Write) => write!(f, "permits writing to {pages}"),
            Self::Protect(pages, Access::Read) => write!(f, "forbids writing to {pages}"),
            Self::Protect(pages, Access::None) => write!(f, "forbids all with {pages}"),
            Self::Move(pages, by) => write!(f, "moves {pages} to somewhere, and {by} pages"),
            Self::Unmap(pages) => write!(f, "unmaps {pages}"),
            Self::DontNeed(pages) => write!(f, "drops {pages}"),
            Self::FreeLazily(pages) => write!(f, "frees {pages} lazily"),
            Self::PageOut(pages) => write!(f, "pages {pages} out"),
            Self::Huge(pages) => write!(f, "wants huge pages at {pages}"),
            Self::Poison(page) => write!(f, "lets the memory of {page} fail"),
            Self::Evict => write!(f, "evicts all from the device"),
            Self::Release => write!(f, "has the device give up its memory"),
            Self::Break(Defect::None) => write!(f, "mends the device"),
            Self::Break(defect) => write!(f, "breaks the device, {defect:?}"),
            Self::Refuse(nonsense) => write!(f, "asks for nonsense, {nonsense:?}"),
            Self::Usage => write!(f, "asks what was counted"),
            Self::Counters => write!(f, "reads the counters"),
            Self::Close => write!(f, "closes the device"),
            Self::Count(pages) => write!(f, "looks where {pages} are"),
            Self::Fork => write!(f, "forks"),
            Self::Exit => write!(f, "exits"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = match self.who {
            Who::Parent => "parent",
            Who::Child => "child",
        };
        let file = match self.file {
            File::One => "",
            File::Two => " by another file",
            File::Other => " with the other device",
            File::Witness => " as a witness",
        };
        write!(f, "{who}{file} {}", self.op)
    }
}
