// SPDX-License-Identifier: GPL-2.0

//! This process, as one that takes the steps of `dpmem-ops`.

use std::{
    num::NonZeroUsize,
    os::fd::AsRawFd as _,
    path::{
        Path,
        PathBuf, //
    },
    ptr::{
        with_exposed_provenance,
        with_exposed_provenance_mut,
        NonNull, //
    },
};

use anyhow::{
    Context as _,
    Result, //
};
use dpmem_ops::{
    About,
    Access,
    Answer,
    Counted,
    File,
    Place,
    Request,
    PAGE_SIZE, //
};
use nix::{
    errno::Errno,
    libc,
    sys::{
        mman::{
            madvise,
            mmap_anonymous,
            mprotect,
            mremap,
            munmap,
            MRemapFlags,
            MapFlags,
            MmapAdvise,
            ProtFlags, //
        },
        signal::{
            signal,
            SigHandler,
            Signal, //
        },
    },
};
use os_pipe::{
    PipeReader,
    PipeWriter, //
};

use crate::{
    debugfs::Counters,
    device::{
        Command,
        Device, //
    },
    pagemap,
};

/// Where nothing can be.
const NOWHERE: u64 = 1 << 62;

/// This process, with the files that it has open.
pub(crate) struct Native {
    path: PathBuf,
    files: [Option<Device>; File::NR],
    // Through which the kernel reads and writes memory for us, which is an error where a touch
    // would be a signal.
    reader: PipeReader,
    writer: PipeWriter,
}

impl Native {
    /// This process, which has no file open.
    pub(crate) fn new(path: &Path) -> Result<Self> {
        let (reader, writer) = os_pipe::pipe()?;
        Ok(Self {
            path: path.to_owned(),
            files: Default::default(),
            reader,
            writer,
        })
    }

    /// A child of it, which calls this, and closes what its parent has open.
    pub(crate) fn child(&mut self) -> Result<Self> {
        self.files = Default::default();
        Self::new(&self.path)
    }

    /// The file, which is opened if it is not open.
    fn file(&mut self, file: File) -> Done<&Device> {
        let slot = self.files.get_mut(file as usize);
        let slot = slot.ok_or_else(|| errno(Errno::EBADF))?;
        Ok(match slot {
            Some(open) => open,
            None => {
                let device = match file {
                    File::One | File::Two | File::Witness => Device::open(&self.path),
                    File::Other => Device::open_other(&self.path),
                };
                slot.insert(device.map_err(|_| errno(Errno::ENODEV))?)
            }
        })
    }

    /// Puts `bytes` into the pipe.
    ///
    /// # Safety
    ///
    /// They are a page's, and either can be read, or nobody has a reference to what is there, if
    /// something is.
    unsafe fn send(&self, bytes: *const u8) -> Done<()> {
        // SAFETY: The pipe is open, and the kernel checks what it reads.
        let sent = unsafe { libc::write(self.writer.as_raw_fd(), bytes.cast(), PAGE_SIZE) };
        page(sent)
    }

    /// Has what is in the pipe.
    ///
    /// # Safety
    ///
    /// They are a page's, and either can be written, or nobody has a reference to what is there, if
    /// something is.
    unsafe fn receive(&self, bytes: *mut u8) -> Done<()> {
        // SAFETY: As above.
        let received = unsafe { libc::read(self.reader.as_raw_fd(), bytes.cast(), PAGE_SIZE) };
        page(received)
    }
}

/// Whether these are the bytes of a page, which is what is transferred at once.
fn whole(bytes: &[u8]) -> Done<()> {
    match bytes.len() {
        PAGE_SIZE => Ok(()),
        _ => Err(errno(Errno::EINVAL)),
    }
}

/// Whether the page was transferred.
fn page(transferred: isize) -> Done<()> {
    match usize::try_from(transferred) {
        Ok(PAGE_SIZE) => Ok(()),
        Ok(_) => Err(errno(Errno::EIO)),
        Err(_) => Err(errno(Errno::last())),
    }
}

/// An error as walks have it.
fn errno(errno: Errno) -> dpmem_ops::Errno {
    dpmem_ops::Errno(errno as i32)
}

type Done<T> = std::result::Result<T, dpmem_ops::Errno>;

fn part(addr: usize) -> Done<NonNull<std::ffi::c_void>> {
    NonNull::new(with_exposed_provenance_mut(addr)).ok_or_else(|| errno(Errno::EFAULT))
}

/// Gives the kernel advice about pages.
fn advise(addr: usize, nr: usize, advice: MmapAdvise) -> Done<()> {
    // SAFETY: The walk has this memory, and no reference to it.
    unsafe { madvise(part(addr)?, nr * PAGE_SIZE, advice) }.map_err(errno)
}

/// What a signal does that is expected.
extern "C" fn nothing(_signal: libc::c_int) {}

/// Lets SIGBUS be handled by `handler`.
fn on_sigbus(handler: SigHandler) -> Done<()> {
    // SAFETY: The only function of ours that comes here does nothing.
    unsafe { signal(Signal::SIGBUS, handler) }
        .map(|_| ())
        .map_err(errno)
}

impl dpmem_ops::Process for Native {
    fn write(&mut self, addr: usize, bytes: &[u8]) -> Done<()> {
        let to = with_exposed_provenance_mut::<u8>(addr);
        // SAFETY: The walk has this memory, can write to it, and has no reference to it.
        unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(())
    }

    fn read(&mut self, addr: usize, bytes: &mut [u8]) -> Done<()> {
        let from = with_exposed_provenance::<u8>(addr);
        // SAFETY: As above.
        unsafe { from.copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }

    fn try_write(&mut self, addr: usize, bytes: &[u8]) -> Done<()> {
        whole(bytes)?;
        // SAFETY: They can be read, and are a page's.
        unsafe { self.send(bytes.as_ptr()) }?;
        // SAFETY: The walk has no reference to what is there.
        let written = unsafe { self.receive(with_exposed_provenance_mut(addr)) };
        if written.is_err() {
            // They are still in the pipe.
            let mut unused = [0; PAGE_SIZE];
            // SAFETY: It can be written, and is as large as a page.
            unsafe { self.receive(unused.as_mut_ptr()) }?;
        }
        written
    }

    fn try_read(&mut self, addr: usize, bytes: &mut [u8]) -> Done<()> {
        whole(bytes)?;
        // SAFETY: The walk has no reference to what is there.
        unsafe { self.send(with_exposed_provenance(addr)) }?;
        // SAFETY: They can be written, and are a page's.
        unsafe { self.receive(bytes.as_mut_ptr()) }
    }

    fn ask(&mut self, file: File, request: Request, about: About<'_>) -> Done<Answer> {
        let ptr = match about.bytes.len() {
            0 => NOWHERE,
            _ => about.bytes.as_mut_ptr().expose_provenance() as u64,
        };
        let mut command = Command {
            addr: about.addr as u64,
            ptr,
            npages: about.nr as u64,
            ..Command::default()
        };
        let device = self.file(file)?;
        device.raw(request.into(), &mut command).map_err(errno)?;
        let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        Ok(Answer {
            done: number(command.cpages),
            faults: number(command.faults),
            files: number(command.ptr),
        })
    }

    fn close(&mut self, file: File) {
        if let Some(slot) = self.files.get_mut(file as usize) {
            *slot = None;
        }
    }

    fn places(&mut self, addr: usize, nr: usize) -> Done<Vec<Place>> {
        pagemap::places(addr, nr).map_err(|_| errno(Errno::EIO))
    }

    fn counters(&mut self) -> Done<Vec<Counted>> {
        let counted = |counters: &Counters| {
            Ok(Counted {
                name: counters.name()?.to_owned(),
                counts: counters.read()?,
            })
        };
        let all = Counters::all().and_then(|all| all.iter().map(counted).collect());
        all.map_err(|_: anyhow::Error| errno(Errno::EIO))
    }

    fn protect(&mut self, addr: usize, nr: usize, access: Access) -> Done<()> {
        let prot = match access {
            Access::None => ProtFlags::PROT_NONE,
            Access::Read => ProtFlags::PROT_READ,
            Access::Write => ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
        };
        // SAFETY: The walk has this memory, and no reference to it.
        unsafe { mprotect(part(addr)?, nr * PAGE_SIZE, prot) }.map_err(errno)
    }

    fn remap(&mut self, addr: usize, nr: usize, to: usize) -> Done<()> {
        let flags = MRemapFlags::MREMAP_MAYMOVE | MRemapFlags::MREMAP_FIXED;
        let size = nr * PAGE_SIZE;
        // SAFETY: As above, and there is nothing where it goes to.
        unsafe { mremap(part(addr)?, size, size, flags, Some(part(to)?)) }
            .map(|_| ())
            .map_err(errno)
    }

    fn unmap(&mut self, addr: usize, nr: usize) -> Done<()> {
        // SAFETY: As above, and the walk does not touch it any more.
        unsafe { munmap(part(addr)?, nr * PAGE_SIZE) }.map_err(errno)
    }

    fn drop_pages(&mut self, addr: usize, nr: usize) -> Done<()> {
        advise(addr, nr, MmapAdvise::MADV_DONTNEED)
    }

    fn free_lazily(&mut self, addr: usize, nr: usize) -> Done<()> {
        advise(addr, nr, MmapAdvise::MADV_FREE)
    }

    fn page_out(&mut self, addr: usize, nr: usize) -> Done<()> {
        advise(addr, nr, MmapAdvise::MADV_PAGEOUT)
    }

    fn want_huge(&mut self, addr: usize, nr: usize) -> Done<()> {
        advise(addr, nr, MmapAdvise::MADV_HUGEPAGE)
    }

    fn populate(&mut self, addr: usize, nr: usize, write: bool) -> Done<()> {
        let advice = match write {
            true => MmapAdvise::MADV_POPULATE_WRITE,
            false => MmapAdvise::MADV_POPULATE_READ,
        };
        advise(addr, nr, advice)
    }

    fn poison(&mut self, addr: usize) -> Done<()> {
        // Who says that memory fails is told at once that it has.
        on_sigbus(SigHandler::Handler(nothing))?;
        let done = advise(addr, 1, MmapAdvise::MADV_HWPOISON);
        // From now on it is deadly to touch it.
        on_sigbus(SigHandler::SigDfl)?;
        done
    }
}

/// Memory for a play at `addr`, of which the first `huge` pages may be huge ones.
pub(crate) fn map(addr: usize, huge: usize, nr: usize) -> Result<()> {
    let map = |first: usize, nr: usize, advice| {
        let Some(size) = NonZeroUsize::new(nr * PAGE_SIZE) else {
            return Ok(());
        };
        let addr = NonZeroUsize::new(addr + first * PAGE_SIZE);
        let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_FIXED_NOREPLACE;
        // SAFETY: Nothing is replaced.
        let memory = unsafe { mmap_anonymous(addr, size, prot, flags) }.context("mmap")?;
        // SAFETY: What is there was mapped just now.
        unsafe { madvise(memory, size.get(), advice) }.context("madvise")
    };
    map(0, huge, MmapAdvise::MADV_HUGEPAGE)?;
    map(huge, nr - huge, MmapAdvise::MADV_NOHUGEPAGE)
}
