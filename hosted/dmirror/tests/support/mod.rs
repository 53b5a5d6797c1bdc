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
}

/// A process with an open file of the first device, and room for a command and its buffer.
pub struct Device<'p> {
    process: &'p Process,
    file: OpenFile<'p>,
    command: usize,
    buffer: usize,
}

/// How many pages a buffer has room for.
const BUFFER: usize = 64;

impl<'p> Device<'p> {
    /// Opens the device.
    pub fn open(process: &'p Process) -> Result<Self, Errno> {
        Ok(Self {
            process,
            file: process.open("hmm_dmirror0")?,
            command: process.mmap(PAGE_SIZE),
            buffer: process.mmap(BUFFER * PAGE_SIZE),
        })
    }

    /// Gives the device a command for `nr` pages at `addr`. Gives the number of pages that it says it has handled.
    pub fn call(&self, command: Command, addr: usize, nr: usize) -> Result<usize, Errno> {
        let raw = [addr, self.buffer, nr, 0, 0];
        let bytes: Vec<u8> = raw.iter().flat_map(|word| word.to_ne_bytes()).collect();
        self.process.write(self.command, &bytes)?;
        // `_IOWR('H', command, struct hmm_dmirror_cmd)`.
        let number = 3 << 30 | 40 << 16 | u32::from(b'H') << 8 | command as u32;
        self.file.ioctl(number, self.command)?;
        let mut pages = [0; 8];
        self.process.read(self.command + 24, &mut pages)?;
        Ok(usize::from_ne_bytes(pages))
    }

    /// What the device has read from the `nr` pages at `addr`.
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
pub fn pattern(nr: usize, seed: u8) -> Vec<u8> {
    (0..nr * PAGE_SIZE)
        .map(|i| (i / PAGE_SIZE) as u8 ^ (i % 251) as u8 ^ seed)
        .collect()
}
