// SPDX-License-Identifier: GPL-2.0

//! A process of a simulated machine that takes steps.

use std::{
    collections::BTreeMap,
    sync::{
        atomic::{AtomicBool, Ordering::Relaxed},
        Arc,
    },
};

use bindings::sim::{debugfs, read_debugfs, Errno, Mapped, OpenFile, Process, PAGE_SIZE};
use dpmem_ops::{
    About, Access, Answer, Counted, File, Place, Play, Request, Walker, HUGE, MEMORY, ROOM,
};

/// Where nothing can be.
const NOWHERE: usize = 1 << 62;

/// How large a command is: five numbers.
const COMMAND: usize = 40;

/// A process, its open files, and room for a command and its buffer.
pub(crate) struct Simulated {
    // Closed before the process is gone.
    files: [Option<OpenFile<Arc<Process>>>; File::NR],
    process: Arc<Process>,
    command: usize,
    buffer: usize,
}

impl Simulated {
    /// A process with the memory of `play`, which walks.
    pub(crate) fn walker(play: &Play) -> Walker<Self> {
        let memory = play.memory();
        let process = Process::new();
        let this = Self {
            files: Default::default(),
            command: process.mmap(PAGE_SIZE),
            buffer: process.mmap(memory.nr.max(HUGE) * PAGE_SIZE),
            process: Arc::new(process),
        };
        this.process.mmap_at(MEMORY, memory.nr * PAGE_SIZE);
        if memory.huge > 0 {
            this.process
                .madvise_hugepage(MEMORY, memory.huge * PAGE_SIZE);
        }
        Walker::new(this, play, MEMORY, ROOM)
    }

    /// A child, which has no file open.
    pub(crate) fn fork(&self) -> Self {
        Self {
            files: Default::default(),
            process: Arc::new(self.process.fork()),
            ..*self
        }
    }

    /// The file, which is opened if it is not open.
    fn file(&mut self, file: File) -> Result<&OpenFile<Arc<Process>>, Errno> {
        let name = match file {
            File::One | File::Two | File::Witness => "hmm_dmirror0",
            File::Other => "hmm_dmirror1",
        };
        let slot = &mut self.files[file as usize];
        Ok(match slot {
            Some(open) => open,
            None => slot.insert(OpenFile::of(self.process.clone(), name)?),
        })
    }

    /// Gives the device a command, and has the answer.
    fn command(
        &mut self,
        file: File,
        request: Request,
        command: [usize; 5],
    ) -> Result<[usize; 5], Errno> {
        let process = self.process.clone();
        let at = self.command;
        let mut raw: Vec<u8> = command.iter().flat_map(|n| n.to_ne_bytes()).collect();
        process.write(at, &raw)?;
        // `_IOWR('H', request, struct hmm_dmirror_cmd)`.
        let number = 3 << 30 | (COMMAND as u32) << 16 | u32::from(b'H') << 8 | request as u32;
        self.file(file)?.ioctl(number, at)?;
        process.read(at, &mut raw)?;
        let mut answer = command;
        for (number, bytes) in answer.iter_mut().zip(raw.chunks_exact(size_of::<usize>())) {
            *number = bytes.try_into().map_or(0, usize::from_ne_bytes);
        }
        Ok(answer)
    }
}

/// An error as walks have it.
fn errno(Errno(number): Errno) -> dpmem_ops::Errno {
    dpmem_ops::Errno(number as i32)
}

/// The same, of an access that would be a signal on a CPU: who lets the kernel do it is not told
/// which.
fn fault(Errno(_): Errno) -> dpmem_ops::Errno {
    const EFAULT: i32 = 14;
    dpmem_ops::Errno(EFAULT)
}

/// Whether the kernel copies as arm64's does: what cannot be copied is tried once more, byte by byte,
/// so that a device that breaks down once is not noticed.
static COPIES_AGAIN: AtomicBool = AtomicBool::new(false);

/// From now on, the kernel copies as arm64's does.
pub(crate) fn copy_like_arm64() {
    COPIES_AGAIN.store(true, Relaxed);
}

/// What the kernel does for a process, which is told of nothing but `EFAULT`.
fn copied(mut copy: impl FnMut() -> Result<(), Errno>) -> Done<()> {
    let result = match copy() {
        Err(_) if COPIES_AGAIN.load(Relaxed) => copy(),
        result => result,
    };
    result.map_err(fault)
}

type Done<T> = Result<T, dpmem_ops::Errno>;

impl dpmem_ops::Process for Simulated {
    fn write(&mut self, addr: usize, bytes: &[u8]) -> Done<()> {
        self.process.write(addr, bytes).map_err(errno)
    }

    fn read(&mut self, addr: usize, bytes: &mut [u8]) -> Done<()> {
        self.process.read(addr, bytes).map_err(errno)
    }

    fn try_write(&mut self, addr: usize, bytes: &[u8]) -> Done<()> {
        copied(|| self.process.write(addr, bytes))
    }

    fn try_read(&mut self, addr: usize, bytes: &mut [u8]) -> Done<()> {
        copied(|| self.process.read(addr, bytes))
    }

    fn ask(&mut self, file: File, request: Request, about: About<'_>) -> Done<Answer> {
        let About { addr, nr, bytes } = about;
        let buffer = match bytes.len() {
            0 => NOWHERE,
            _ => self.buffer,
        };
        self.process.write(self.buffer, bytes).map_err(errno)?;
        let command = [addr, buffer, nr, 0, 0];
        let answer = self.command(file, request, command).map_err(errno)?;
        self.process.read(self.buffer, bytes).map_err(errno)?;
        let [_, files, _, done, faults] = answer;
        Ok(Answer {
            done,
            faults,
            files,
        })
    }

    fn close(&mut self, file: File) {
        self.files[file as usize] = None;
    }

    fn places(&mut self, addr: usize, nr: usize) -> Done<Vec<Place>> {
        let pages = (0..nr).map(|page| self.process.mapped(addr + page * PAGE_SIZE));
        let places = pages.map(|mapped| match mapped {
            Mapped::None => Place::None,
            Mapped::Zero | Mapped::Ram(_) | Mapped::Coherent(..) => Place::System,
            Mapped::Device(..) | Mapped::Exclusive | Mapped::Migrating | Mapped::Poisoned => {
                Place::Away
            }
        });
        Ok(places.collect())
    }

    fn counters(&mut self) -> Done<Vec<Counted>> {
        let mut all: BTreeMap<usize, Counted> = BTreeMap::new();
        for path in debugfs() {
            // "dpmem/NAME-NUMBER/COUNTER", or "dpmem/NAME-NUMBER/failures/COUNTER".
            let mut parts = path.split('/').skip(1);
            let pagemap = parts.next().and_then(|part| part.rsplit_once('-'));
            let (Some((name, number)), Some(counter)) = (pagemap, parts.last()) else {
                continue;
            };
            let Some(Ok(count)) = read_debugfs(&path).map(|count| count.trim().parse()) else {
                continue;
            };
            let counted = all.entry(number.parse().unwrap_or(0)).or_default();
            counted.name = name.to_owned();
            counted.counts.insert(counter.to_owned(), count);
        }
        Ok(all.into_values().collect())
    }

    fn protect(&mut self, addr: usize, nr: usize, access: Access) -> Done<()> {
        let len = nr * PAGE_SIZE;
        match access {
            Access::None => self.process.mprotect_none(addr, len),
            Access::Read => self.process.mprotect(addr, len, false),
            Access::Write => self.process.mprotect(addr, len, true),
        }
        Ok(())
    }

    fn remap(&mut self, addr: usize, nr: usize, to: usize) -> Done<()> {
        self.process.mremap(addr, nr * PAGE_SIZE, to);
        Ok(())
    }

    fn unmap(&mut self, addr: usize, nr: usize) -> Done<()> {
        self.process.munmap(addr, nr * PAGE_SIZE);
        Ok(())
    }

    fn drop_pages(&mut self, addr: usize, nr: usize) -> Done<()> {
        self.process.madvise_dontneed(addr, nr * PAGE_SIZE);
        Ok(())
    }

    fn free_lazily(&mut self, addr: usize, nr: usize) -> Done<()> {
        self.process.madvise_free(addr, nr * PAGE_SIZE);
        Ok(())
    }

    fn page_out(&mut self, addr: usize, nr: usize) -> Done<()> {
        self.process.madvise_pageout(addr, nr * PAGE_SIZE);
        Ok(())
    }

    fn want_huge(&mut self, addr: usize, nr: usize) -> Done<()> {
        self.process.madvise_hugepage(addr, nr * PAGE_SIZE);
        Ok(())
    }

    fn populate(&mut self, addr: usize, nr: usize, write: bool) -> Done<()> {
        let len = nr * PAGE_SIZE;
        self.process.populate(addr, len, write).map_err(errno)
    }

    fn poison(&mut self, addr: usize) -> Done<()> {
        self.process.poison(addr).map_err(errno)
    }
}
