// SPDX-License-Identifier: GPL-2.0

//! What the tests of the sample share: the driver, and its ioctls as a process calls them.

use bindings::sim::{Errno, Mapped, Module, OpenFile, Process, PAGE_SIZE};

extern crate edu;

extern "C" {
    fn __edu_init() -> i32;
    fn __edu_exit();
}

/// Loads the driver.
pub fn load() -> Result<Module, Errno> {
    // SAFETY: These are the two functions that `module!` makes for the driver.
    unsafe { Module::load(__edu_init, __edu_exit) }
}

/// `_IOW('e', nr, u64[2])`.
const fn number(nr: u32) -> u32 {
    1 << 30 | 16 << 16 | (b'e' as u32) << 8 | nr
}

pub const TO_DEVICE: u32 = number(0);
pub const TO_RAM: u32 = number(1);
#[allow(dead_code, reason = "not every test needs it")]
pub const COPY: u32 = number(2);
#[allow(dead_code, reason = "not every test needs it")]
pub const UNKNOWN: u32 = number(9);

/// A process with an open file of the device, and room for what an ioctl is told.
pub struct Device<'p> {
    process: &'p Process,
    file: OpenFile<&'p Process>,
    range: usize,
}

impl<'p> Device<'p> {
    /// Opens the device.
    pub fn open(process: &'p Process) -> Result<Self, Errno> {
        Ok(Self {
            process,
            file: process.open("edu0")?,
            range: process.mmap(PAGE_SIZE),
        })
    }

    /// An ioctl, which says how many pages have moved.
    pub fn raw(&self, request: u32, range: [u64; 2]) -> Result<usize, Errno> {
        self.raw_by(self.process, request, range)
    }

    /// An ioctl of a process that has inherited the file.
    pub fn raw_by(&self, process: &Process, request: u32, range: [u64; 2]) -> Result<usize, Errno> {
        let bytes: Vec<u8> = range.iter().flat_map(|word| word.to_ne_bytes()).collect();
        process.write(self.range, &bytes)?;
        self.file.ioctl_by(process, request, self.range)
    }

    /// The `nr` pages at `addr` move to the device, as far as there is room.
    pub fn to_device(&self, addr: usize, nr: usize) -> Result<usize, Errno> {
        self.raw(TO_DEVICE, [addr as u64, nr as u64])
    }

    /// The `nr` pages at `addr` come home.
    #[allow(dead_code, reason = "not every test needs it")]
    pub fn to_ram(&self, addr: usize, nr: usize) -> Result<usize, Errno> {
        self.raw(TO_RAM, [addr as u64, nr as u64])
    }

    /// The device copies the page at `from` to that at `to`.
    #[allow(dead_code, reason = "not every test needs it")]
    pub fn copy(&self, from: usize, to: usize) -> Result<usize, Errno> {
        self.raw(COPY, [from as u64, to as u64])
    }
}

/// What the `nr` pages of pattern `seed` have in them.
pub fn pattern(nr: usize, seed: usize) -> Vec<u8> {
    let byte = |i: usize| i.wrapping_mul(31) ^ (i / PAGE_SIZE) ^ seed.wrapping_mul(97);
    (0..nr * PAGE_SIZE).map(|i| byte(i) as u8).collect()
}

/// A new mapping of `nr` pages with pattern `seed`.
#[allow(dead_code, reason = "not every test needs it")]
pub fn filled(process: &Process, nr: usize, seed: usize) -> usize {
    let memory = process.mmap(nr * PAGE_SIZE);
    process.write(memory, &pattern(nr, seed)).unwrap();
    memory
}

/// What a process reads.
#[allow(dead_code, reason = "not every test needs it")]
pub fn contents(process: &Process, memory: usize, nr: usize) -> Vec<u8> {
    let mut bytes = vec![0; nr * PAGE_SIZE];
    process.read(memory, &mut bytes).unwrap();
    bytes
}

/// Checks that the `nr` pages have pattern `seed`.
#[allow(dead_code, reason = "not every test needs it")]
pub fn check(process: &Process, memory: usize, nr: usize, seed: usize) {
    assert!(contents(process, memory, nr) == pattern(nr, seed));
}

/// Whether the page is on the device.
#[allow(dead_code, reason = "not every test needs it")]
pub fn is_there(process: &Process, memory: usize) -> bool {
    matches!(process.mapped(memory), Mapped::Device(..))
}
