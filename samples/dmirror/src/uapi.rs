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
    Order,
    PageState,
    Place,
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
/// What the kernel knows of the memory of the process.
pub(crate) const SNAPSHOT: u32 = _IOWR::<RawCommand>('H' as u32, 0x04);
/// The device takes memory of the process for itself.
pub(crate) const EXCLUSIVE: u32 = _IOWR::<RawCommand>('H' as u32, 0x05);
/// Whether the device has given back what it took for itself.
pub(crate) const CHECK_EXCLUSIVE: u32 = _IOWR::<RawCommand>('H' as u32, 0x06);
/// The device gives up its memory.
pub(crate) const RELEASE: u32 = _IOWR::<RawCommand>('H' as u32, 0x07);

/// What is to go wrong; the flags are where the number of pages is otherwise.
pub(crate) const FLAGS: u32 = _IOWR::<RawCommand>('H' as u32, 0x08);
/// The device reads memory of the process that may have to come from a userfaultfd. Since 7.3.
pub(crate) const READ_UNLOCKED: u32 = _IOWR::<RawCommand>('H' as u32, 0x09);

/// The device's memory migrates home, whoever uses it, and stays registered. This one is not
/// upstream's.
pub(crate) const EVICT: u32 = _IOWR::<RawCommand>('H' as u32, 0x40);
/// What has become of the memory that the file has moved to the device: how many pages were copied
/// home, and how many CPU faults there were. Where the address of a buffer is otherwise, the number
/// of clients. This one is not upstream's either.
pub(crate) const USAGE: u32 = _IOWR::<RawCommand>('H' as u32, 0x41);

/// In [`FLAGS`]: there is to be no place for the next large folio.
pub(crate) const FLAG_FAIL_ALLOC: usize = 1 << 0;
/// In [`FLAGS`], and not of `lib/test_hmm.c`: the device breaks down during the next copy.
pub(crate) const FLAG_BREAK_DOWN: usize = 1 << 16;
/// The same: the device does not say that the next copy is done.
pub(crate) const FLAG_TIME_OUT: usize = 1 << 17;
/// The same: the device cannot read one in sixteen of its pages, until the flags are set again.
pub(crate) const FLAG_BAD_PAGES: usize = 1 << 18;

/// What [`SNAPSHOT`] says of a page, as a byte, if the device's memory is `coherent` or not.
pub(crate) fn protection(state: PageState, coherent: bool) -> u8 {
    const ERROR: u8 = 0xff;
    const NONE: u8 = 0x00;
    const READ: u8 = 0x01;
    const WRITE: u8 = 0x02;
    const PMD: u8 = 0x04;
    const PUD: u8 = 0x08;
    const ZERO: u8 = 0x10;
    const DEV_PRIVATE_LOCAL: u8 = 0x20;
    const DEV_COHERENT_LOCAL: u8 = 0x40;
    const DEV_COHERENT_REMOTE: u8 = 0x50;

    let PageState::Present {
        place,
        writable,
        order,
    } = state
    else {
        return if state == PageState::Error {
            ERROR
        } else {
            NONE
        };
    };
    let place = match place {
        Place::Ram => NONE,
        Place::Zero => ZERO,
        Place::Device(_) if coherent => DEV_COHERENT_LOCAL,
        Place::Device(_) => DEV_PRIVATE_LOCAL,
        Place::OtherDevice => DEV_COHERENT_REMOTE,
    };
    let access = if writable { WRITE } else { READ };
    let size = match order {
        order if order == Order::of_pmd() => PMD,
        order if order == Order::of_pud() => PUD,
        _ => 0,
    };
    place | access | size
}

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

    /// Where the process keeps one byte for each page.
    ///
    /// # Errors
    ///
    /// [`EFAULT`] if there is no such address.
    pub(crate) fn bytes(&self) -> Result<UserSlice> {
        let addr = UserPtr::from_addr(usize::try_from(self.ptr)?);
        Ok(UserSlice::new(addr, self.range.nr_pages().get()))
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
