// SPDX-License-Identifier: GPL-2.0

//! An open file: a process that lets its memory migrate to the device, and back.

use kernel::{
    fs::File,
    ioctl::_IOW,
    miscdevice::{
        MiscDevice,
        MiscDeviceRegistration, //
    },
    mm::MmapReadGuard,
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

/// Memory of the process migrates to the device, as far as there is room. Returns the number of pages that have moved.
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
        // Unbinding waits until this is dropped.
        let pagemap = this.0.memory().access().ok_or(ENODEV)?;
        let mut buffer = MigrateBuffer::new(WINDOW)?;
        let moved = match cmd {
            MIGRATE_TO_DEV => for_each_vma(read_range(arg)?, |mmap, window| {
                MigrateVma::to_device(&pagemap, mmap, window, &mut buffer)?.migrate()
            }),
            MIGRATE_TO_SYS => for_each_vma(read_range(arg)?, |mmap, window| {
                MigrateVma::to_ram(&pagemap, mmap, window, &mut buffer)?.migrate()
            }),
            _ => Err(ENOTTY),
        }?;
        Ok(isize::try_from(moved)?)
    }
}

/// The range that the process is talking about.
///
/// # Errors
///
/// [`EFAULT`] if it cannot be read; [`EINVAL`] if it is empty, wraps around, or does not begin at a page.
fn read_range(arg: usize) -> Result<UserRange> {
    let slice = UserSlice::new(UserPtr::from_addr(arg), size_of::<RawRange>());
    let [addr, nr] = slice.reader().read::<RawRange>()?;
    UserRange::new(
        UserAddr::new(addr.try_into()?)?,
        NrPages::new(nr.try_into()?),
    )
}

/// Calls `f` for the pieces of `range`, each of which lies in one mapping, and sums up what it returns.
fn for_each_vma(
    range: UserRange,
    mut f: impl FnMut(&MmapReadGuard<'_>, UserRange) -> Result<NrPages>,
) -> Result<usize> {
    let current = current!();
    let mm = current.mm().ok_or(EINVAL)?;
    let mut moved = 0usize;
    let mut rest = Some(range);
    while let Some(range) = rest {
        if current.signal_pending() {
            return Err(EINTR);
        }
        let mmap = mm.mmap_read_lock();
        let vma = mmap.vma_lookup(range.start().get()).ok_or(EINVAL)?;
        let window = range
            .ending_at(UserAddr::new(vma.end())?)
            .and_then(|range| range.first(WINDOW))
            .ok_or(EINVAL)?;
        moved = moved.saturating_add(f(&mmap, window)?.get());
        rest = range.starting_at(window.end());
    }
    Ok(moved)
}
