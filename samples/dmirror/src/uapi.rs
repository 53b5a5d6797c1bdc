// SPDX-License-Identifier: GPL-2.0

//! What user space says to the device.
//!
//! C header: [`lib/test_hmm_uapi.h`](srctree/lib/test_hmm_uapi.h)

use kernel::{
    ioctl::_IOWR,
    prelude::*,
    uaccess::UserSlice, //
};

use dpmem::{
    NrPages,
    UserAddr,
    UserRange, //
};

/// `struct hmm_dmirror_cmd`, as the five numbers that it consists of.
type RawCommand = [u64; 5];

/// How many bytes a command has.
const COMMAND_SIZE: usize = size_of::<RawCommand>();

/// The device reads the memory of the process.
pub(crate) const READ: u32 = _IOWR::<RawCommand>('H' as u32, 0x00);
/// The device writes to the memory of the process.
pub(crate) const WRITE: u32 = _IOWR::<RawCommand>('H' as u32, 0x01);
/// Memory of the process migrates to the device.
pub(crate) const MIGRATE_TO_DEV: u32 = _IOWR::<RawCommand>('H' as u32, 0x02);
/// Memory of the process migrates from the device.
pub(crate) const MIGRATE_TO_SYS: u32 = _IOWR::<RawCommand>('H' as u32, 0x03);
/// The device gives up its memory.
pub(crate) const RELEASE: u32 = _IOWR::<RawCommand>('H' as u32, 0x07);

/// A command, and what became of it.
pub(crate) struct Command {
    raw_addr: u64,
    /// The pages that the command is about.
    pub(crate) range: UserRange,
    /// Where the process keeps what the device reads or writes.
    pub(crate) ptr: u64,
    /// How many pages were copied or moved.
    pub(crate) cpages: usize,
    /// How often the device missed a translation.
    pub(crate) faults: usize,
}

impl Command {
    /// Reads a command from the process.
    ///
    /// # Errors
    ///
    /// [`EFAULT`] if it cannot be read; [`EINVAL`] if its range is empty, wraps around, or does
    /// not begin at a page.
    pub(crate) fn read(arg: usize) -> Result<Self> {
        let slice = UserSlice::new(UserPtr::from_addr(arg), COMMAND_SIZE);
        let [raw_addr, ptr, npages, _, _] = slice.reader().read::<RawCommand>()?;
        let addr = UserAddr::new(raw_addr.try_into()?)?;
        Ok(Self {
            raw_addr,
            range: UserRange::new(addr, NrPages::new(npages.try_into()?))?,
            ptr,
            cpages: 0,
            faults: 0,
        })
    }

    /// Writes a command that has succeeded back to the process.
    ///
    /// # Errors
    ///
    /// [`EFAULT`] if it cannot be written.
    pub(crate) fn write(&self, arg: usize) -> Result {
        let slice = UserSlice::new(UserPtr::from_addr(arg), COMMAND_SIZE);
        // CAST: Counts of pages, far below the limit of either type.
        let raw: RawCommand = [
            self.raw_addr,
            self.ptr,
            self.range.nr_pages().get() as u64,
            self.cpages as u64,
            self.faults as u64,
        ];
        slice.writer().write(&raw)
    }

    /// Where the process keeps what belongs to `window` of the range, as an address and a length.
    ///
    /// # Errors
    ///
    /// [`EFAULT`] if there is no such address.
    pub(crate) fn buffer(&self, window: UserRange) -> Result<UserSlice> {
        let skip = window
            .start()
            .get()
            .checked_sub(self.range.start().get())
            .ok_or(EFAULT)?;
        let addr = usize::try_from(self.ptr)?.checked_add(skip).ok_or(EFAULT)?;
        let len = window.nr_pages().to_bytes().ok_or(EFAULT)?;
        Ok(UserSlice::new(UserPtr::from_addr(addr), len))
    }
}
