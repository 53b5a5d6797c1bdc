// SPDX-License-Identifier: GPL-2.0

//! An open file: the device's view of the process that opened it.

use kernel::{
    fs::File,
    miscdevice::{
        MiscDevice,
        MiscDeviceRegistration, //
    },
    mm::{
        virt::{
            flags,
            VmaNew, //
        },
        MmapReadGuard, //
    },
    page::{
        Page,
        PAGE_SIZE, //
    },
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    }, //
};

use dpmem::{
    Access,
    Collected,
    Filled,
    HmmBuffer,
    Location,
    MigrateBuffer,
    MigrateVma,
    Mirror,
    NrPages,
    RamPage,
    RamPageMut,
    UserAddr,
    UserRange,
    Visited, //
};

use crate::{
    client::Client,
    device::{
        Device,
        Pagemap, //
    },
    memory::{
        Defect,
        Memory, //
    },
    uapi::{
        self,
        Command, //
    },
    DEVICES, //
};

/// How many pages are worked on at a time, at most.
const WINDOW: NrPages = NrPages::new(512);

/// How many pages are handed to the process at a time, or taken from it.
const BOUNCE: NrPages = NrPages::new(8);

/// An open file of device `N`.
#[pin_data]
pub(crate) struct DmirrorFile<const N: usize> {
    device: Arc<Device>,
    client: Arc<Client>,
    #[pin]
    mirror: Mirror,
    // Whether there is to be no place for the next large folio.
    no_large: Atomic<bool>,
}

#[vtable]
impl<const N: usize> MiscDevice for DmirrorFile<N> {
    type Ptr = Pin<KBox<Self>>;

    fn open(_file: &File, _misc: &MiscDeviceRegistration<Self>) -> Result<Self::Ptr> {
        let device = DEVICES.get(N).and_then(|slot| slot.get()).ok_or(ENODEV)?;
        let current = current!();
        let mm = current.mm().ok_or(EINVAL)?;
        KBox::try_pin_init(
            try_pin_init!(Self {
                mirror <- Mirror::new(mm, device.module()),
                device,
                client: Client::new()?,
                no_large: Atomic::new(false),
            }),
            GFP_KERNEL,
        )
    }

    fn ioctl(this: Pin<&Self>, _file: &File, cmd: u32, arg: usize) -> Result<isize> {
        let this = this.get_ref();
        let mut command = Command::read(arg)?;
        match cmd {
            // The kernel gives up the lock for any read, if it can.
            uapi::READ | uapi::READ_UNLOCKED => this.read(&mut command)?,
            uapi::WRITE => this.write(&mut command)?,
            uapi::MIGRATE_TO_DEV => this.migrate_to_device(&mut command)?,
            uapi::MIGRATE_TO_SYS => this.migrate_to_ram(&mut command)?,
            uapi::SNAPSHOT => this.inspect(&mut command)?,
            uapi::EXCLUSIVE => this.make_exclusive(&mut command)?,
            uapi::CHECK_EXCLUSIVE => {
                if !this.mirror.is_shared(command.range) {
                    return Err(EPERM);
                }
            }
            uapi::RELEASE => this.device.release(),
            uapi::EVICT => command.cpages = this.device.evict()?.get(),
            uapi::USAGE => {
                command.cpages = this.client.came_home();
                command.faults = this.client.faults();
                // CAST: A count.
                command.ptr = Client::count() as u64;
            }
            uapi::FLAGS => {
                let flags = command.range.nr_pages().get();
                this.no_large
                    .store(flags & uapi::FLAG_FAIL_ALLOC != 0, Relaxed);
                let defects = [
                    (uapi::FLAG_BREAK_DOWN, Defect::BreakDown),
                    (uapi::FLAG_TIME_OUT, Defect::TimeOut),
                    (uapi::FLAG_BAD_PAGES, Defect::BadPages),
                ];
                let defect = defects.iter().find(|(flag, _)| flags & flag != 0);
                if defect.is_some() {
                    this.device.memory()?.into_result()?;
                }
                if let Some(pagemap) = this.device.pagemap() {
                    let cells = pagemap.ops().cells();
                    cells.set_defect(defect.map(|(_, defect)| *defect));
                }
            }
            _ => return Err(EINVAL),
        }
        command.write(arg)?;
        Ok(0)
    }

    /// Maps fresh pages, which are nobody's but the mapping's.
    fn mmap(_this: Pin<&Self>, _file: &File, vma: &VmaNew) -> Result {
        let mapping = vma.set_mixedmap();
        for addr in (vma.start()..vma.end()).step_by(PAGE_SIZE) {
            let page = Page::alloc_page(GFP_KERNEL | __GFP_ZERO)?;
            mapping.vm_insert_page(addr, &page)?;
        }
        Ok(())
    }
}

impl<const N: usize> DmirrorFile<N> {
    /// The device reads the range, and hands to the process what it has read.
    fn read(&self, command: &mut Command) -> Result {
        let pagemap = self.device.pagemap();
        let pagemap = pagemap.as_deref();
        let mut bounce = bounce()?;
        for window in command.range.windows(BOUNCE) {
            self.access(command, window, Access::Read, pagemap, |todo| {
                self.mirror.read(todo, pagemap, |addr, location| {
                    load(slot(&mut bounce, window, addr)?, location)
                })
            })?;
            hand_out(command, window, &bounce)?;
        }
        Ok(())
    }

    /// The device writes to the range what the process has handed to it.
    fn write(&self, command: &mut Command) -> Result {
        let pagemap = self.device.pagemap();
        let pagemap = pagemap.as_deref();
        let mut bounce = bounce()?;
        for window in command.range.windows(BOUNCE) {
            let len = window.nr_pages().to_bytes().ok_or(EINVAL)?;
            let bytes = bounce.get_mut(..len).ok_or(EINVAL)?;
            command.buffer(window)?.reader().read_slice(bytes)?;
            self.access(command, window, Access::Write, pagemap, |todo| {
                self.mirror.write(todo, pagemap, |addr, location| {
                    store(slot(&mut bounce, window, addr)?, location)
                })
            })?;
        }
        Ok(())
    }

    /// Memory of the process migrates to the device, which then reads it and hands it to the
    /// process.
    fn migrate_to_device(&self, command: &mut Command) -> Result {
        let pagemap = self.device.memory()?.into_result()?;
        let mut buffer = MigrateBuffer::new(window_of(command.range))?;
        self.for_each_vma(command.range, |mmap, window| {
            let pages = MigrateVma::to_device(&pagemap, mmap, window, &mut buffer)?;
            self.fill(pages).copy()?.commit();
            Ok(())
        })?;

        let mut hmm = HmmBuffer::new(window_of(command.range))?;
        for window in command.range.windows(WINDOW) {
            self.mirror.snapshot(window, Some(&*pagemap), &mut hmm)?;
        }
        self.read_what_is_there(command, |location| match location {
            // It has not moved: it is shared, say, or somebody is using it.
            Location::Ram(_) => false,
            Location::Device(..) | Location::Coherent(..) => true,
        })
    }

    /// The device reads the range, without faulting anything in, and hands it to the process;
    /// [`ENOENT`] if a page is not where `there` wants it to be.
    fn read_what_is_there(
        &self,
        command: &mut Command,
        there: impl Fn(&Location<'_, RamPage<'_>, Memory>) -> bool,
    ) -> Result {
        let pagemap = self.device.pagemap();
        let pagemap = pagemap.as_deref();
        let mut bounce = bounce()?;
        for window in command.range.windows(BOUNCE) {
            let visited = self.mirror.read(window, pagemap, |addr, location| {
                if !there(&location) {
                    return Err(ENOENT);
                }
                load(slot(&mut bounce, window, addr)?, location)
            })?;
            if visited != Visited::All {
                return Err(ENOENT);
            }
            hand_out(command, window, &bounce)?;
            command.cpages += window.nr_pages().get();
        }
        Ok(())
    }

    /// Memory of the process migrates from the device.
    fn migrate_to_ram(&self, command: &mut Command) -> Result {
        let Some(pagemap) = self.device.pagemap() else {
            return Ok(());
        };
        let mut buffer = MigrateBuffer::new(window_of(command.range))?;
        let cpages = &mut command.cpages;
        self.for_each_vma(command.range, |mmap, window| {
            let pages = MigrateVma::to_ram(&pagemap, mmap, window, &mut buffer)?;
            *cpages += self.fill(pages).copy()?.commit().nr_moved().get();
            Ok(())
        })
    }

    /// Finds places for `pages`: not for large folios, if that is to fail once.
    fn fill<'m>(&self, pages: Collected<'m, Memory>) -> Filled<'m, Memory> {
        match self.no_large.xchg(false, Relaxed) {
            true => pages.fill_split_with(|_| self.client.clone()),
            false => pages.fill_with(|_| self.client.clone()),
        }
    }

    /// Tells the process what the kernel knows of its memory, one byte for each page.
    fn inspect(&self, command: &mut Command) -> Result {
        let pagemap = self.device.pagemap();
        let coherent = self.device.is_coherent();
        let mut hmm = HmmBuffer::new(window_of(command.range))?;
        let mut seen = KVVec::with_capacity(window_of(command.range).get(), GFP_KERNEL)?;
        let mut writer = command.bytes()?.writer();
        for window in command.range.windows(WINDOW) {
            seen.clear();
            self.mirror
                .inspect(window, pagemap.as_deref(), &mut hmm, |_, state| {
                    Ok(seen.push_within_capacity(uapi::protection(state, coherent))?)
                })?;
            writer.write_slice(&seen)?;
            command.cpages += window.nr_pages().get();
        }
        Ok(())
    }

    /// The device takes the range for itself, reads it, and hands to the process what it has read.
    fn make_exclusive(&self, command: &mut Command) -> Result {
        self.mirror.make_exclusive(command.range)?;
        self.read_what_is_there(command, |_| true)
    }

    /// Calls `f` for the pieces of `range`, each of which lies in one readable mapping.
    fn for_each_vma(
        &self,
        range: UserRange,
        mut f: impl FnMut(&MmapReadGuard<'_>, UserRange) -> Result,
    ) -> Result {
        let mm = self.mirror.mm().mmget_not_zero().ok_or(EINVAL)?;
        range.for_each_vma(&mm, WINDOW, |mmap, vma, window| {
            match vma.flags() & flags::READ {
                0 => Err(EINVAL),
                _ => f(mmap, window),
            }
        })
    }

    /// Calls `visit` for `window`, and again for what is left of it. Where the device has no
    /// translation, it faults in all of the command's range from there on.
    fn access(
        &self,
        command: &mut Command,
        window: UserRange,
        access: Access,
        pagemap: Option<&Pagemap>,
        mut visit: impl FnMut(UserRange) -> Result<Visited>,
    ) -> Result {
        if current!().signal_pending() {
            return Err(EINTR);
        }
        let mut rest = Some(window);
        while let Some(todo) = rest {
            match visit(todo)? {
                Visited::All => break,
                Visited::Missing(addr) => {
                    let range = command.range.starting_at(addr).ok_or(EINVAL)?;
                    let mut hmm = HmmBuffer::new(window_of(range))?;
                    self.mirror.fault(range, access, pagemap, &mut hmm)?;
                    command.faults += 1;
                    rest = window.starting_at(addr);
                }
            }
        }
        command.cpages += window.nr_pages().get();
        Ok(())
    }
}

/// How many pages of `range` are worked on at a time.
fn window_of(range: UserRange) -> NrPages {
    WINDOW.min(range.nr_pages())
}

/// Room for what is handed to the process.
fn bounce() -> Result<KVVec<u8>> {
    let size = BOUNCE.to_bytes().ok_or(EINVAL)?;
    Ok(KVVec::from_elem(0, size, GFP_KERNEL)?)
}

/// The place of the page at `addr` in a bounce buffer for `window`.
fn slot(bounce: &mut [u8], window: UserRange, addr: UserAddr) -> Result<&mut [u8]> {
    let start = addr.get().checked_sub(window.start().get()).ok_or(EIO)?;
    let end = start.checked_add(PAGE_SIZE).ok_or(EIO)?;
    bounce.get_mut(start..end).ok_or(EIO)
}

/// Reads the page at `location`.
fn load(to: &mut [u8], location: Location<'_, RamPage<'_>, Memory>) -> Result {
    match location {
        Location::Ram(page) | Location::Coherent(_, page) => page.read(to),
        Location::Device(memory, offset) => memory.cells().read(offset, to),
    }
}

/// Writes the page at `location`.
fn store(from: &[u8], location: Location<'_, RamPageMut<'_>, Memory>) -> Result {
    match location {
        Location::Ram(page) | Location::Coherent(_, page) => page.write(from),
        Location::Device(memory, offset) => memory.cells().write(offset, from),
    }
}

/// Hands what was read of `window` to the process.
fn hand_out(command: &Command, window: UserRange, bounce: &[u8]) -> Result {
    let len = window.nr_pages().to_bytes().ok_or(EINVAL)?;
    let bytes = bounce.get(..len).ok_or(EINVAL)?;
    command.buffer(window)?.writer().write_slice(bytes)
}
