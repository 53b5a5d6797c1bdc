// SPDX-License-Identifier: GPL-2.0

//! An open file: a process that lets its memory migrate to the device, and back.

use kernel::{
    fs::File,
    ioctl::_IOW,
    miscdevice::{
        MiscDevice,
        MiscDeviceRegistration, //
    },
    mm::Mm,
    module::this_module,
    prelude::*,
    sync::Arc,
    uaccess::{
        UserPtr,
        UserSlice, //
    }, //
};

use dpmem::{
    Access,
    DevPagemap,
    DevicePlace,
    HmmBuffer,
    MigrateBuffer,
    MigrateVma,
    Mirror,
    NrPages,
    UserAddr,
    UserRange,
    Visited, //
};

use crate::{
    tlb::Tlb,
    Edu,
    LocalModule,
    Vram,
    DEVICE, //
};

/// An address, and a number of pages.
type RawRange = [u64; 2];

/// Memory of the process migrates to the device, as far as there is room. Returns the number of
/// pages that have moved.
const MIGRATE_TO_DEV: u32 = _IOW::<RawRange>(b'e' as u32, 0);
/// Memory of the process migrates from the device. Returns the number of pages that have moved.
const MIGRATE_TO_SYS: u32 = _IOW::<RawRange>(b'e' as u32, 1);

/// The device copies a page of the process that has opened the file to another one, where they are:
/// at the first address, and at the second. What is on the device comes home before.
const COPY: u32 = _IOW::<[u64; 2]>(b'e' as u32, 2);

/// How many pages are worked on at a time.
const WINDOW: NrPages = NrPages::new(64);

/// An open file.
pub(crate) struct EduFile {
    // What the device reaches of the process, if it reaches all memory.
    mirror: Option<Pin<KBox<Mirror<Tlb>>>>,
    edu: Arc<Edu>,
}

#[vtable]
impl MiscDevice for EduFile {
    type Ptr = KBox<Self>;

    fn open(_file: &File, _misc: &MiscDeviceRegistration<Self>) -> Result<Self::Ptr> {
        let edu = DEVICE.get().ok_or(ENODEV)?;
        let current = current!();
        let mm = current.mm().ok_or(EINVAL)?;
        let mirror = match edu.mirrors() {
            Some(mirrors) => {
                let mirror = mirrors.mirror(mm, this_module::<LocalModule>(), Tlb::new());
                Some(KBox::pin_init(mirror, GFP_KERNEL)?)
            }
            None => None,
        };
        Ok(KBox::new(Self { mirror, edu }, GFP_KERNEL)?)
    }

    fn ioctl(this: &Self, _file: &File, cmd: u32, arg: usize) -> Result<isize> {
        match cmd {
            MIGRATE_TO_DEV => this.migrate(arg, true),
            MIGRATE_TO_SYS => this.migrate(arg, false),
            COPY => this.copy(arg),
            _ => Err(ENOTTY),
        }
    }
}

impl EduFile {
    /// Memory of the process migrates.
    fn migrate(&self, arg: usize, to_device: bool) -> Result<isize> {
        let current = current!();
        let mm = current.mm().ok_or(EINVAL)?;
        let mut buffer = MigrateBuffer::new(WINDOW)?;
        let mut moved = 0usize;
        read_range(arg)?.for_each_vma(mm, WINDOW, |mmap, _, window| {
            // Unbinding waits until this is dropped: for a window, and not for all that a process
            // asks for.
            let pagemap = self.edu.memory().access().ok_or(ENODEV)?;
            let pages = match to_device {
                true => MigrateVma::to_device(&pagemap, mmap, window, &mut buffer),
                false => MigrateVma::to_ram(&pagemap, mmap, window, &mut buffer),
            }?;
            moved = moved.saturating_add(pages.migrate()?.get());
            Ok(())
        })?;
        Ok(isize::try_from(moved)?)
    }

    /// The device copies a page of the process.
    fn copy(&self, arg: usize) -> Result<isize> {
        let mirror = self.mirror.as_deref().ok_or(EOPNOTSUPP)?;
        let current = current!();
        let mm: &Mm = current.mm().ok_or(EINVAL)?;
        if !core::ptr::eq(mm, mirror.mm()) {
            // It was handed a file that is about somebody else's memory.
            return Err(EPERM);
        }
        let [from, to] = read_words(arg)?;
        let page = |addr: u64| UserRange::new(UserAddr::new(addr.try_into()?)?, NrPages::new(1));
        let (from, to) = (page(from)?, page(to)?);
        let mut buffer = HmmBuffer::new(NrPages::new(1))?;
        while let Some((page, access)) = self.try_copy(mirror, from, to)? {
            // It has one page, which it needs to copy: what is there comes home. User space may have
            // to supply a page, so nothing that unbinding waits for is held.
            let none = None::<&DevPagemap<Vram>>;
            loop {
                mirror.fault(page, access, none, &mut buffer)?;
                let visited = mirror.map(page, access, none, |tlb, page, place| match place {
                    DevicePlace::Bus(address) => {
                        tlb.insert(page.start(), access, address);
                        Ok(())
                    }
                    DevicePlace::Device(..) => Err(EIO),
                })?;
                // Otherwise the process has changed its memory meanwhile.
                if visited == Visited::All {
                    break;
                }
            }
        }
        Ok(0)
    }

    /// Copies a page, or tells which one the device has no translation for.
    fn try_copy(
        &self,
        mirror: &Mirror<Tlb>,
        from: UserRange,
        to: UserRange,
    ) -> Result<Option<(UserRange, Access)>> {
        let pagemap = self.edu.memory().access().ok_or(ENODEV)?;
        // The kernel takes no page away from the process before this is over.
        mirror.with_page_table(|tlb| {
            let Some(src) = tlb.find(from.start(), Access::Read) else {
                return Ok(Some((from, Access::Read)));
            };
            let Some(dst) = tlb.find(to.start(), Access::Write) else {
                return Ok(Some((to, Access::Write)));
            };
            pagemap.ops().copy(src, dst).map(|()| None)
        })
    }
}

/// The range that the process is talking about.
///
/// # Errors
///
/// [`EFAULT`] if it cannot be read; [`EINVAL`] if it is empty, wraps around, or does not begin at a
/// page.
fn read_range(arg: usize) -> Result<UserRange> {
    let [addr, nr] = read_words(arg)?;
    UserRange::new(
        UserAddr::new(addr.try_into()?)?,
        NrPages::new(nr.try_into()?),
    )
}

/// What the process has handed over.
fn read_words(arg: usize) -> Result<RawRange> {
    UserSlice::new(UserPtr::from_addr(arg), size_of::<RawRange>())
        .reader()
        .read()
}
