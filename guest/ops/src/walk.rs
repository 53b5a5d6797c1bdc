// SPDX-License-Identifier: GPL-2.0

//! Taking steps, and saying what is seen.

use crate::{steps, Op, Pages, Step, Who, NR, PAGE_SIZE};

/// The number of an error, as user space knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

/// What a device is asked for, by the number that its ioctl has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// It reads memory.
    Read = 0,
    /// It writes to memory.
    Write = 1,
    /// It takes memory, and reads it.
    ToDevice = 2,
    /// It gives memory back.
    ToSystem = 3,
    /// It tells what the kernel knows of memory.
    Snapshot = 4,
    /// It takes memory for itself, and reads it.
    Exclusive = 5,
    /// It gives all memory back, of all processes.
    Evict = 0x40,
}

/// A process, as a walk needs it. Addresses are those of pages.
pub trait Process {
    /// It writes `bytes`, which are whole pages.
    ///
    /// # Errors
    ///
    /// What is the matter; the same as of all that follows.
    fn write(&mut self, addr: usize, bytes: &[u8]) -> Result<(), Errno>;

    /// It reads as much as fits into `bytes`.
    ///
    /// # Errors
    ///
    /// What is the matter.
    fn read(&mut self, addr: usize, bytes: &mut [u8]) -> Result<(), Errno>;

    /// It asks the device for something, which is about `nr` pages. What the device reads, or is to write, is in `bytes`,
    /// which has room for all of it. Gives how many pages the device has dealt with.
    ///
    /// # Errors
    ///
    /// What is the matter.
    fn device(
        &mut self,
        request: Request,
        addr: usize,
        nr: usize,
        bytes: &mut [u8],
    ) -> Result<usize, Errno>;

    /// `mprotect()`.
    ///
    /// # Errors
    ///
    /// What is the matter.
    fn protect(&mut self, addr: usize, nr: usize, write: bool) -> Result<(), Errno>;

    /// `mremap()`; there is nothing at `to`.
    ///
    /// # Errors
    ///
    /// What is the matter.
    fn remap(&mut self, addr: usize, nr: usize, to: usize) -> Result<(), Errno>;

    /// `madvise(MADV_DONTNEED)`.
    ///
    /// # Errors
    ///
    /// What is the matter.
    fn drop_pages(&mut self, addr: usize, nr: usize) -> Result<(), Errno>;

    /// `madvise(MADV_HUGEPAGE)`.
    ///
    /// # Errors
    ///
    /// What is the matter.
    fn want_huge(&mut self, addr: usize, nr: usize) -> Result<(), Errno>;
}

/// The processes of a walk.
pub trait World {
    /// A process takes step `number`, which is neither `Fork` nor `Exit`. Gives what it says of it.
    fn act(&mut self, who: Who, number: usize, op: Op) -> String;

    /// What a process sees.
    fn state(&mut self, who: Who) -> String;

    /// There is a child from now on.
    fn fork(&mut self);

    /// And now there is none any more.
    fn exit(&mut self);
}

/// Takes `nr` steps, and says two or three lines of each: what is done, and what its processes see then.
pub fn walk(seed: u64, nr: usize, world: &mut impl World, mut say: impl FnMut(&str)) {
    let mut child = false;
    for (number, step) in steps(seed, nr).into_iter().enumerate() {
        let Step { who, op } = step;
        let said = match op {
            Op::Fork => {
                world.fork();
                child = true;
                "done".to_owned()
            }
            Op::Exit => {
                world.exit();
                child = false;
                "done".to_owned()
            }
            _ => world.act(who, number, op),
        };
        say(&format!("{seed}.{number} {step}: {said}"));
        say(&format!(
            "{seed}.{number} parent: {}",
            world.state(Who::Parent)
        ));
        if child {
            say(&format!(
                "{seed}.{number} child: {}",
                world.state(Who::Child)
            ));
        }
    }
    if child {
        world.exit();
    }
}

/// What a page of a process is.
#[derive(Clone, Copy, Debug)]
struct Page {
    addr: usize,
    /// Whether the process may write to it.
    write: bool,
    /// What must be in it; zero if nobody has written to it.
    value: u8,
}

/// A process that walks.
#[derive(Clone, Debug)]
pub struct Walker<P> {
    /// The process.
    pub process: P,
    pages: Vec<Page>,
    /// Where the next pages can be moved to.
    room: usize,
}

/// How far apart places are that pages are moved to: twice as much as all pages, and a huge page.
const APART: usize = 8 << 20;

/// Whatever goes wrong with one of several runs of pages, or how many pages of all runs were dealt with.
fn sum(results: impl IntoIterator<Item = Result<usize, Errno>>) -> String {
    let mut all = 0;
    let mut said = String::new();
    for result in results {
        match result {
            Ok(nr) => all += nr,
            // It says which run it was, by where the sum is.
            Err(Errno(number)) => {
                said += &format!("error {number} after {all}, ");
            }
        }
    }
    format!("{said}{all}")
}

/// What page `page` is filled with if `value` is written.
fn fill(page: usize, value: u8) -> u8 {
    match value {
        0 => 0,
        value => (page.wrapping_mul(31).wrapping_add(usize::from(value) * 97) % 251 + 1) as u8,
    }
}

impl<P: Process> Walker<P> {
    /// A walker with the process, whose memory begins at `addr`, where a huge page can be, and is untouched. All but the last
    /// 16 pages may be huge. At `room`, where a huge page can be, there is room.
    pub fn new(process: P, addr: usize, room: usize) -> Self {
        let page = |i| Page {
            addr: addr + i * PAGE_SIZE,
            write: true,
            value: 0,
        };
        Self {
            process,
            pages: (0..NR).map(page).collect(),
            room,
        }
    }

    /// The walker's child.
    pub fn fork<Q>(&self, process: Q) -> Walker<Q> {
        Walker {
            process,
            pages: self.pages.clone(),
            room: self.room,
        }
    }

    fn page(&self, i: usize) -> Page {
        // All that are asked for are there.
        self.pages.get(i).copied().unwrap_or(Page {
            addr: 0,
            write: false,
            value: 0,
        })
    }

    fn change(&mut self, (first, nr): (usize, usize), change: impl FnMut(&mut Page)) {
        self.pages.iter_mut().skip(first).take(nr).for_each(change);
    }

    /// The runs of pages among `pages` that lie one behind the other, and for which `wants` says so: which is the first, and
    /// how many there are.
    fn runs(&self, pages: Pages, wants: impl Fn(Page) -> bool) -> Vec<(usize, usize)> {
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for i in pages.first..pages.first + pages.nr {
            let page = self.page(i);
            if !wants(page) {
                continue;
            }
            match runs.last_mut() {
                Some((first, nr))
                    if *first + *nr == i && self.page(i - 1).addr + PAGE_SIZE == page.addr =>
                {
                    *nr += 1;
                }
                _ => runs.push((i, 1)),
            }
        }
        runs
    }

    /// The bytes of pages that `value` was written to.
    fn bytes(run: (usize, usize), value: u8) -> Vec<u8> {
        (run.0..run.0 + run.1)
            .flat_map(|page| [fill(page, value); PAGE_SIZE])
            .collect()
    }

    /// Calls `f` for each run of `pages`.
    fn each(
        &mut self,
        pages: Pages,
        wants: impl Fn(Page) -> bool,
        mut f: impl FnMut(&mut Self, usize, (usize, usize)) -> Result<usize, Errno>,
    ) -> String {
        let runs = self.runs(pages, wants);
        let results = runs.into_iter().map(|run| {
            let addr = self.page(run.0).addr;
            f(self, addr, run)
        });
        sum(results.collect::<Vec<_>>())
    }

    /// What was read in a run must be what was written there. How many pages that are not so is what is said.
    fn check(&self, run: (usize, usize), bytes: &[u8]) -> usize {
        let pages = (run.0..run.0 + run.1).zip(bytes.chunks(PAGE_SIZE));
        let wrong = pages.filter(|(i, bytes)| {
            let expected = fill(*i, self.page(*i).value);
            bytes.iter().any(|byte| *byte != expected)
        });
        wrong.count()
    }

    /// Asks the device; what it has read is compared, if it is the content of memory.
    fn ask(&mut self, request: Request, pages: Pages) -> String {
        let reads = matches!(
            request,
            Request::Read | Request::ToDevice | Request::Exclusive
        );
        let mut wrong = 0;
        let said = self.each(
            pages,
            |_| true,
            |this, addr, run| {
                let mut bytes = vec![0; run.1 * PAGE_SIZE];
                let done = this.process.device(request, addr, run.1, &mut bytes)?;
                if reads {
                    wrong += this.check(run, &bytes);
                }
                Ok(done)
            },
        );
        match wrong {
            0 => said,
            wrong => format!("{said}, {wrong} WRONG"),
        }
    }

    /// Does it, and says what came of it.
    pub fn act(&mut self, op: Op) -> String {
        match op {
            Op::Write(pages, value) => self.each(
                pages,
                |page| page.write,
                |this, addr, run| {
                    this.process.write(addr, &Self::bytes(run, value))?;
                    this.change(run, |page| page.value = value);
                    Ok(run.1)
                },
            ),
            Op::Read(pages) => {
                let mut wrong = 0;
                let said = self.each(
                    pages,
                    |_| true,
                    |this, addr, run| {
                        let mut bytes = vec![0; run.1 * PAGE_SIZE];
                        this.process.read(addr, &mut bytes)?;
                        wrong += this.check(run, &bytes);
                        Ok(run.1)
                    },
                );
                match wrong {
                    0 => said,
                    wrong => format!("{said}, {wrong} WRONG"),
                }
            }
            Op::DeviceWrite(pages, value) => self.each(
                pages,
                |page| page.write,
                |this, addr, run| {
                    let mut bytes = Self::bytes(run, value);
                    let done = this
                        .process
                        .device(Request::Write, addr, run.1, &mut bytes)?;
                    this.change(run, |page| page.value = value);
                    Ok(done)
                },
            ),
            Op::DeviceRead(pages) => self.ask(Request::Read, pages),
            Op::ToDevice(pages) => self.ask(Request::ToDevice, pages),
            Op::ToSystem(pages) => self.ask(Request::ToSystem, pages),
            Op::Exclusive(pages) => {
                // It is a write as far as the process's rights go.
                let runs = self.runs(pages, |page| page.write);
                let said = runs.into_iter().map(|(first, nr)| {
                    let said = self.ask(Request::Exclusive, Pages { first, nr });
                    format!("{said} ")
                });
                said.collect::<String>().trim_end().to_owned()
            }
            Op::Protect(pages, write) => self.each(
                pages,
                |_| true,
                |this, addr, run| {
                    this.process.protect(addr, run.1, write)?;
                    this.change(run, |page| page.write = write);
                    Ok(run.1)
                },
            ),
            Op::Move(pages, by) => self.each(
                pages,
                |_| true,
                |this, addr, run| {
                    let to = this.room + by * PAGE_SIZE;
                    this.room += APART;
                    this.process.remap(addr, run.1, to)?;
                    let mut next = to;
                    this.change(run, |page| {
                        page.addr = next;
                        next += PAGE_SIZE;
                    });
                    Ok(run.1)
                },
            ),
            Op::DontNeed(pages) => self.each(
                pages,
                |_| true,
                |this, addr, run| {
                    this.process.drop_pages(addr, run.1)?;
                    this.change(run, |page| page.value = 0);
                    Ok(run.1)
                },
            ),
            Op::Huge(pages) => self.each(
                pages,
                |_| true,
                |this, addr, run| this.process.want_huge(addr, run.1).map(|()| run.1),
            ),
            Op::Evict => {
                let mut bytes = [0; PAGE_SIZE];
                let addr = self.page(0).addr;
                sum([self.process.device(Request::Evict, addr, 1, &mut bytes)])
            }
            Op::Fork | Op::Exit => "is not for a process alone".to_owned(),
        }
    }

    /// What is seen: for each run of pages of which the same is said, which these are, what the kernel says of them, and a
    /// number that stands for their content.
    pub fn state(&mut self) -> String {
        let mut said = String::new();
        let all = Pages { first: 0, nr: NR };
        for (first, nr) in self.runs(all, |_| true) {
            let addr = self.page(first).addr;
            let mut kinds = vec![0; nr];
            match self.process.device(Request::Snapshot, addr, nr, &mut kinds) {
                Ok(_) => self.tell(first, &kinds, &mut said),
                Err(Errno(number)) => said += &format!(" {first}+{nr} error {number}"),
            }
        }
        said.trim_start().to_owned()
    }

    /// Says it of the pages from `first` on, which lie one behind the other.
    fn tell(&mut self, first: usize, kinds: &[u8], said: &mut String) {
        let mut first = first;
        for same in kinds.chunk_by(|one, other| one == other) {
            let (kind, nr) = (same.first().copied().unwrap_or(0), same.len());
            *said += &format!(" {first}+{nr} {}", Kind(kind));
            if Kind(kind).is_readable() {
                // The device does not have to bring anything home, or in, to read this.
                let mut bytes = vec![0; nr * PAGE_SIZE];
                let addr = self.page(first).addr;
                match self.process.device(Request::Read, addr, nr, &mut bytes) {
                    Ok(_) => *said += &format!(" #{:08x}", hash(&bytes)),
                    Err(Errno(number)) => *said += &format!(" error {number}"),
                }
            }
            first += nr;
        }
    }
}

/// What a device says of a page.
struct Kind(u8);

impl Kind {
    fn is_readable(&self) -> bool {
        self.0 != 0xff && self.0 & 3 != 0
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = match self.0 {
            0xff => return f.write_str("error"),
            0 => return f.write_str("none"),
            kind => match kind & 0xf0 {
                0 => "system",
                0x10 => "zero",
                0x20 => "device",
                _ => "elsewhere",
            },
        };
        let huge = if self.0 & 4 != 0 { " huge" } else { "" };
        let write = if self.0 & 2 != 0 { " rw" } else { " ro" };
        write!(f, "{place}{huge}{write}")
    }
}

/// FNV-1a, of words.
fn hash(bytes: &[u8]) -> u32 {
    let words = bytes.chunks_exact(size_of::<u64>());
    let words = words.filter_map(|word| Some(u64::from_le_bytes(word.try_into().ok()?)));
    let hash = words.fold(0xcbf2_9ce4_8422_2325, |hash: u64, word| {
        (hash ^ word).wrapping_mul(0x0100_0000_01b3)
    });
    // Both halves.
    (hash >> 32) as u32 ^ hash as u32
}
