// SPDX-License-Identifier: GPL-2.0

//! An open file: a process that lets its memory migrate to the device, and back.

use kernel::{
    fs::File,
    ioctl::_IOW,
    miscdevice::{
        MiscDevice,
        MiscDeviceRegistration, //
    },
    prelude::*,
    sync::Arc,
    uaccess::{
        UserPtr,
        UserSlice, //
    }, //
};

use dpmem::{
    MigrateBuffer,
    MigrateVma,
    NrPages,
    UserAddr,
    UserRange, //
};

use crate::{
    Edu,
    DEVICE, //
};

/// An address, and a number of pages.
type RawRange = [u64; 2];

/// Memory of the process migrates to the device, as far as there is room. Returns the number of
/// pages that have moved.
const MIGRATE_TO_DEV: u32 = _IOW::<RawRange>(b'e' as u32, 0);
/// Memory of the process migrates from the device. Returns the number of pages that have moved.
const MIGRATE_TO_SYS: u32 = _IOW::<RawRange>(b'e' as u32, 1);

/// How many pages are worked on at a time.
const WINDOW: NrPages = NrPages::new(64);

/// An open file.
pub(crate) struct EduFile(Arc<Edu>);

#[vtable]
impl MiscDevice for EduFile {
    type Ptr = KBox<Self>;

    fn open(_file: &File, _misc: &MiscDeviceRegistration<Self>) -> Result<Self::Ptr> {
        let edu = DEVICE.get().ok_or(ENODEV)?;
        Ok(KBox::new(Self(edu), GFP_KERNEL)?)
    }

    fn ioctl(this: &Self, _file: &File, cmd: u32, arg: usize) -> Result<isize> {
        let current = current!();
        let mm = current.mm().ok_or(EINVAL)?;
        let mut buffer = MigrateBuffer::new(WINDOW)?;
        let mut moved = 0usize;
        let mut migrate = |to_device| {
            read_range(arg)?.for_each_vma(mm, WINDOW, |mmap, _, window| {
                // Unbinding waits until this is dropped: for a window, and not for all that a
                // process asks for.
                let pagemap = this.0.memory().access().ok_or(ENODEV)?;
                let pages = match to_device {
                    true => MigrateVma::to_device(&pagemap, mmap, window, &mut buffer),
                    false => MigrateVma::to_ram(&pagemap, mmap, window, &mut buffer),
                }?;
                moved = moved.saturating_add(pages.migrate()?.get());
                Ok(())
            })
        };
        match cmd {
            MIGRATE_TO_DEV => migrate(true),
            MIGRATE_TO_SYS => migrate(false),
            _ => Err(ENOTTY),
        }?;
        Ok(isize::try_from(moved)?)
    }
}

/// The range that the process is talking about.
///
/// # Errors
///
/// [`EFAULT`] if it cannot be read; [`EINVAL`] if it is empty, wraps around, or does not begin at a
/// page.
fn read_range(arg: usize) -> Result<UserRange> {
    let slice = UserSlice::new(UserPtr::from_addr(arg), size_of::<RawRange>());
    let [addr, nr] = slice.reader().read::<RawRange>()?;
    UserRange::new(
        UserAddr::new(addr.try_into()?)?,
        NrPages::new(nr.try_into()?),
    )
}
