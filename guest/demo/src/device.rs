// SPDX-License-Identifier: GPL-2.0

//! The device, as a process sees it: `lib/test_hmm_uapi.h`.

use std::{
    fs::File,
    os::fd::AsRawFd,
    path::Path, //
};

use anyhow::{
    Context as _,
    Result, //
};
use nix::errno::Errno;

use crate::mapping::{
    page_size,
    Mapping, //
};

/// `struct hmm_dmirror_cmd`.
#[repr(C)]
#[derive(Default)]
pub(crate) struct Command {
    pub(crate) addr: u64,
    pub(crate) ptr: u64,
    pub(crate) npages: u64,
    pub(crate) cpages: u64,
    pub(crate) faults: u64,
}

mod ioctl {
    #![allow(missing_docs)]
    use super::Command;
    use nix::ioctl_readwrite;

    ioctl_readwrite!(read, b'H', 0x00, Command);
    ioctl_readwrite!(write, b'H', 0x01, Command);
    ioctl_readwrite!(migrate_to_device, b'H', 0x02, Command);
    ioctl_readwrite!(migrate_to_ram, b'H', 0x03, Command);
    ioctl_readwrite!(snapshot, b'H', 0x04, Command);
    ioctl_readwrite!(exclusive, b'H', 0x05, Command);
    ioctl_readwrite!(release, b'H', 0x07, Command);
    ioctl_readwrite!(flags, b'H', 0x08, Command);
    ioctl_readwrite!(evict, b'H', 0x40, Command);
    ioctl_readwrite!(usage, b'H', 0x41, Command);
    ioctl_readwrite!(unknown, b'H', 0x7f, Command);
}

/// What the device is asked to do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Request {
    /// Read memory of the process.
    Read,
    /// Write to memory of the process.
    Write,
    /// Take memory of the process, then read it.
    MigrateToDevice,
    /// Give memory of the process back.
    MigrateToRam,
    /// Tell what the kernel knows of memory of the process, one byte for each page.
    Snapshot,
    /// Take memory of the process for itself, then read it.
    Exclusive,
    /// Give up all its memory.
    Release,
    /// Let something go wrong.
    Fail,
    /// Let all its memory go, and keep it registered.
    Evict,
    /// Tell what has become of the memory that it has taken for this file.
    Usage,
    /// Something that it does not know.
    Unknown,
}

impl From<dpmem_ops::Request> for Request {
    fn from(request: dpmem_ops::Request) -> Self {
        use dpmem_ops::Request as Of;

        match request {
            Of::Read => Self::Read,
            Of::Write => Self::Write,
            Of::ToDevice => Self::MigrateToDevice,
            Of::ToSystem => Self::MigrateToRam,
            Of::Snapshot => Self::Snapshot,
            Of::Exclusive => Self::Exclusive,
            Of::Release => Self::Release,
            Of::Flags => Self::Fail,
            Of::Evict => Self::Evict,
            Of::Usage => Self::Usage,
            Of::Unknown => Self::Unknown,
        }
    }
}

/// What goes wrong with a device. The numbers are flags of the ioctl.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Failure {
    /// It has no place for a large folio.
    Large = 1 << 0,
    /// It breaks down during a copy.
    BreakDown = 1 << 16,
    /// It does not say that a copy is done.
    TimeOut = 1 << 17,
}

/// An open device.
pub(crate) struct Device {
    file: File,
    /// Whether CPUs can address its memory.
    coherent: bool,
}

impl Device {
    /// Opens the device at `path`, for this process.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::options().read(true).write(true).open(path);
        Ok(Self {
            file: file.with_context(|| format!("cannot open {}", path.display()))?,
            coherent: number_of(path)?.1 >= FIRST_COHERENT,
        })
    }

    /// Whether CPUs can address its memory.
    pub(crate) fn is_coherent(&self) -> bool {
        self.coherent
    }

    /// Opens the other device of the pair that the one at `path` belongs to.
    pub(crate) fn open_other(path: &Path) -> Result<Self> {
        let (stem, number) = number_of(path)?;
        Self::open(Path::new(&format!("{stem}{}", number ^ 1)))
    }

    /// How many pages of `memory` are on this device, as it says itself: also those that CPUs can
    /// address, of which nobody else tells.
    pub(crate) fn count(&self, memory: &Mapping) -> Result<usize> {
        /// What a byte of a snapshot says of where its page is.
        const PLACE: u8 = 0xf0;
        /// In private memory of this device, and in coherent memory of it.
        const HERE: [u8; 2] = [0x20, 0x40];

        let mut buffer = vec![0; memory.pages() * page_size()];
        self.ask(Request::Snapshot, memory, memory.pages(), &mut buffer)
            .context("a snapshot")?;
        let pages = buffer.iter().take(memory.pages());
        Ok(pages
            .filter(|page| HERE.contains(&(**page & PLACE)))
            .count())
    }

    /// Asks for `request`, with the numbers in `command`, and has the results there.
    pub(crate) fn raw(&self, request: Request, command: &mut Command) -> Result<(), Errno> {
        let call = match request {
            Request::Read => ioctl::read,
            Request::Write => ioctl::write,
            Request::MigrateToDevice => ioctl::migrate_to_device,
            Request::MigrateToRam => ioctl::migrate_to_ram,
            Request::Snapshot => ioctl::snapshot,
            Request::Exclusive => ioctl::exclusive,
            Request::Release => ioctl::release,
            Request::Fail => ioctl::flags,
            Request::Evict => ioctl::evict,
            Request::Usage => ioctl::usage,
            Request::Unknown => ioctl::unknown,
        };
        loop {
            // SAFETY: The file is open, and the command is as the device expects it. What the
            // addresses in it mean is checked by the kernel; the callers own the memory there.
            match unsafe { call(self.file.as_raw_fd(), command) } {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Asks for `request` on the first `pages` pages of `memory`; `buffer` is where the device puts
    /// what it has read, or finds what it is to write.
    pub(crate) fn ask(
        &self,
        request: Request,
        memory: &Mapping,
        pages: usize,
        buffer: &mut [u8],
    ) -> Result<Command, Errno> {
        assert!(
            buffer.len() >= pages * page_size(),
            "the buffer is too small"
        );
        let mut command = Command {
            addr: memory.addr() as u64,
            ptr: buffer.as_mut_ptr().addr() as u64,
            npages: pages as u64,
            ..Command::default()
        };
        self.raw(request, &mut command)?;
        Ok(command)
    }

    /// Lets something go wrong the next time.
    pub(crate) fn fail(&self, failure: Failure) -> Result<(), Errno> {
        let mut command = Command {
            // Where the flags are.
            npages: failure as u64,
            ..Command::default()
        };
        self.raw(Request::Fail, &mut command)
    }

    /// Moves all of the device's memory home, and gives the number of pages that have moved.
    pub(crate) fn evict(&self) -> Result<u64, Errno> {
        let mut command = Command {
            npages: 1,
            ..Command::default()
        };
        self.raw(Request::Evict, &mut command)?;
        Ok(command.cpages)
    }

    /// How many files there are, of all devices, with those of which only memory is left.
    pub(crate) fn clients(&self) -> Result<u64, Errno> {
        let mut command = Command {
            npages: 1,
            ..Command::default()
        };
        self.raw(Request::Usage, &mut command)?;
        Ok(command.ptr)
    }

    /// The device gives up all its memory.
    pub(crate) fn release(&self) -> Result<(), Errno> {
        let mut command = Command {
            npages: 1,
            ..Command::default()
        };
        self.raw(Request::Release, &mut command)
    }
}

/// The first device whose memory CPUs can address.
const FIRST_COHERENT: usize = 2;

/// The number of the device at `path`, and what is before it.
fn number_of(path: &Path) -> Result<(&str, usize)> {
    let name = path.to_str().context("the path of the device is no text")?;
    let stem = name.trim_end_matches(|digit: char| digit.is_ascii_digit());
    let number = name.strip_prefix(stem).unwrap_or_default().parse();
    Ok((stem, number.context("the device has no number")?))
}
