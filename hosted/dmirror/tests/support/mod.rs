// SPDX-License-Identifier: GPL-2.0

//! What the tests of the sample share: the driver, and its ioctls as a process calls them.

use bindings::sim::{Errno, Module, OpenFile, Process, PAGE_SIZE};

extern crate dmirror;

extern "C" {
    fn __dmirror_init() -> i32;
    fn __dmirror_exit();
}

/// Loads the driver.
pub fn load() -> Result<Module, Errno> {
    // SAFETY: These are the two functions that `module!` makes for the driver.
    unsafe { Module::load(__dmirror_init, __dmirror_exit) }
}

/// The commands, in the order of `lib/test_hmm_uapi.h`.
#[derive(Clone, Copy)]
#[allow(dead_code, reason = "not every test needs every command")]
pub enum Command {
    Read,
    Write,
    MigrateToDev,
    MigrateToSys,
    Snapshot,
    Exclusive,
    CheckExclusive,
    Release,
    Flags,
    ReadUnlocked,
    Evict = 0x40,
    Usage = 0x41,
}

/// What [`Device::snapshot`] says of a page.
#[allow(dead_code, reason = "not every test needs it")]
pub mod state {
    pub const NONE: u8 = 0x00;
    pub const READ: u8 = 0x01;
    pub const WRITE: u8 = 0x02;
    pub const PMD: u8 = 0x04;
    pub const ZERO: u8 = 0x10;
    pub const DEV_PRIVATE: u8 = 0x20;
    pub const DEV_COHERENT: u8 = 0x40;
    pub const ERROR: u8 = 0xff;
}

/// What is to go wrong, for [`Command::Flags`].
#[allow(dead_code, reason = "not every test needs it")]
pub mod defect {
    pub const NO_LARGE: usize = 1 << 0;
    pub const BREAK_DOWN: usize = 1 << 16;
    pub const TIME_OUT: usize = 1 << 17;
}

/// A process with an open file of the first device, and room for a command and its buffer.
pub struct Device<'p> {
    process: &'p Process,
    file: OpenFile<&'p Process>,
    command: usize,
    buffer: usize,
}

/// How many pages a buffer has room for.
const BUFFER: usize = 2048;

impl<'p> Device<'p> {
    /// Opens the device.
    #[allow(dead_code, reason = "not every test needs it")]
    pub fn open(process: &'p Process) -> Result<Self, Errno> {
        Self::open_as(process, "hmm_dmirror0")
    }

    /// Opens the device `name`.
    pub fn open_as(process: &'p Process, name: &str) -> Result<Self, Errno> {
        Ok(Self {
            process,
            file: process.open(name)?,
            command: process.mmap(PAGE_SIZE),
            buffer: process.mmap(BUFFER * PAGE_SIZE),
        })
    }

    /// Gives the device a command for `nr` pages at `addr`. Gives the number of pages that it says
    /// it has handled.
    pub fn call(&self, command: Command, addr: usize, nr: usize) -> Result<usize, Errno> {
        let raw = [addr, self.buffer, nr, 0, 0];
        let bytes: Vec<u8> = raw.iter().flat_map(|word| word.to_ne_bytes()).collect();
        self.process.write(self.command, &bytes)?;
        // `_IOWR('H', command, struct hmm_dmirror_cmd)`.
        let number = 3 << 30 | 40 << 16 | u32::from(b'H') << 8 | command as u32;
        self.file.ioctl(number, self.command)?;
        Ok(self.answer()?[3])
    }

    /// What the device has made of the last command: the five numbers that it consists of.
    pub fn answer(&self) -> Result<[usize; 5], Errno> {
        let mut bytes = [0; 40];
        self.process.read(self.command, &mut bytes)?;
        let mut numbers = [0; 5];
        for (number, bytes) in numbers.iter_mut().zip(bytes.chunks_exact(8)) {
            *number = usize::from_ne_bytes(bytes.try_into().unwrap());
        }
        Ok(numbers)
    }

    /// Lets something go wrong.
    #[allow(dead_code, reason = "not every test needs it")]
    pub fn break_next(&self, defect: usize) -> Result<(), Errno> {
        self.call(Command::Flags, 0, defect).map(|_| ())
    }

    /// What the kernel knows of the `nr` pages at `addr`.
    #[allow(dead_code, reason = "not every test needs it")]
    pub fn snapshot(&self, addr: usize, nr: usize) -> Result<Vec<u8>, Errno> {
        self.call(Command::Snapshot, addr, nr)?;
        let mut bytes = vec![0; nr];
        self.process.read(self.buffer, &mut bytes)?;
        Ok(bytes)
    }

    /// What the device has read from the `nr` pages at `addr`.
    #[allow(dead_code, reason = "not every test needs it")]
    pub fn read(&self, addr: usize, nr: usize) -> Result<Vec<u8>, Errno> {
        self.call(Command::Read, addr, nr)?;
        let mut bytes = vec![0; nr * PAGE_SIZE];
        self.process.read(self.buffer, &mut bytes)?;
        Ok(bytes)
    }

    /// Maps `len` bytes of the file.
    #[allow(dead_code, reason = "not every test needs it")]
    pub fn mmap(&self, len: usize) -> Result<usize, Errno> {
        self.file.mmap(len)
    }

    /// The device writes `bytes` to `addr`.
    #[allow(dead_code, reason = "not every test needs it")]
    pub fn write(&self, addr: usize, bytes: &[u8]) -> Result<(), Errno> {
        self.process.write(self.buffer, bytes)?;
        self.call(Command::Write, addr, bytes.len() / PAGE_SIZE)
            .map(|_| ())
    }
}

/// `nr` pages, all different.
#[allow(dead_code, reason = "not every test needs it")]
pub fn pattern(nr: usize, seed: u8) -> Vec<u8> {
    (0..nr * PAGE_SIZE)
        .map(|i| (i / PAGE_SIZE) as u8 ^ (i % 251) as u8 ^ seed)
        .collect()
}
