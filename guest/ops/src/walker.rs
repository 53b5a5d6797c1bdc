// SPDX-License-Identifier: GPL-2.0

//! A process that takes steps, with what it knows of its pages.

use crate::{
    play::WRONG,
    seen::{all_counted, hash, Seen},
    About, Access, Answer, Count, Errno, File, Nonsense, Op, Pages, Place, Play, Process, Request,
    Step, HUGE, PAGE_SIZE,
};

/// What a page of a process is.
#[derive(Clone, Copy, Debug)]
struct Page {
    addr: usize,
    /// Whether anything is mapped there.
    mapped: bool,
    access: Access,
    /// What must be in it, zero if nobody has written to it; or nobody knows.
    value: Option<u8>,
}

impl Page {
    /// Whether the process can read it.
    fn is_readable(&self) -> bool {
        self.mapped && self.access != Access::None
    }

    /// Whether it can write to it.
    fn is_writable(&self) -> bool {
        self.mapped && self.access == Access::Write
    }
}

/// A process that walks.
#[derive(Clone, Debug)]
pub struct Walker<P> {
    /// The process.
    pub process: P,
    pages: Vec<Page>,
    /// Where the next pages can be moved to.
    room: usize,
    /// Whether any access may be an error.
    wary: bool,
}

/// How far apart places are that pages are moved to: twice as much as all pages, and a huge page.
const APART: usize = 8 << 20;

/// Some pages that lie one behind the other: which is the first, and how many there are.
type Run = (usize, usize);

/// The run in pieces that are not too large to be copied at once, each with how many bytes are
/// before it.
fn parts((first, nr): Run) -> impl Iterator<Item = (usize, Run)> {
    let starts = (0..nr).step_by(HUGE);
    starts.map(move |at| (at * PAGE_SIZE, (first + at, HUGE.min(nr - at))))
}

/// Whatever goes wrong with one of several runs of pages, or how many pages of all runs were dealt
/// with.
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

/// How it is said that a step without a number is done.
fn done(result: Result<(), Errno>) -> String {
    match result {
        Ok(()) => "done".to_owned(),
        Err(Errno(number)) => format!("error {number}"),
    }
}

/// What page `page` is filled with if `value` is written.
fn fill(page: usize, value: u8) -> u8 {
    match value {
        0 => 0,
        value => (page.wrapping_mul(31).wrapping_add(usize::from(value) * 97) % 251 + 1) as u8,
    }
}

impl<P: Process> Walker<P> {
    /// A walker with the process, whose memory is that of `play`, begins at `addr`, where a huge
    /// page can be, and is untouched. At `room`, where a huge page can be, there is room.
    pub fn new(process: P, play: &Play, addr: usize, room: usize) -> Self {
        let page = |i| Page {
            addr: addr + i * PAGE_SIZE,
            mapped: true,
            access: Access::Write,
            value: Some(0),
        };
        Self {
            process,
            pages: (0..play.memory().nr).map(page).collect(),
            room,
            wary: play.is_wary(),
        }
    }

    /// The walker's child.
    pub fn fork<Q>(&self, process: Q) -> Walker<Q> {
        Walker {
            process,
            pages: self.pages.clone(),
            room: self.room,
            wary: self.wary,
        }
    }

    fn page(&self, i: usize) -> Page {
        // All that are asked for are there.
        self.pages.get(i).copied().unwrap_or(Page {
            addr: 0,
            mapped: false,
            access: Access::None,
            value: None,
        })
    }

    fn change(&mut self, (first, nr): Run, change: impl FnMut(&mut Page)) {
        self.pages.iter_mut().skip(first).take(nr).for_each(change);
    }

    /// The runs of pages among `pages` that lie one behind the other, and for which `wants` says
    /// so.
    fn runs(&self, pages: Pages, wants: impl Fn(&Page) -> bool) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for i in pages.first..pages.end() {
            let page = self.page(i);
            if !wants(&page) {
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
    fn bytes((first, nr): Run, value: u8) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(nr * PAGE_SIZE);
        for page in first..first + nr {
            bytes.resize(bytes.len() + PAGE_SIZE, fill(page, value));
        }
        bytes
    }

    /// Calls `f` for each run of `pages`.
    fn each(
        &mut self,
        pages: Pages,
        wants: impl Fn(&Page) -> bool,
        f: impl FnMut(&mut Self, usize, Run) -> Result<usize, Errno>,
    ) -> String {
        let runs = self.runs(pages, wants);
        self.all(runs, f)
    }

    /// Calls `f` for each of `pages`.
    fn each_one(
        &mut self,
        pages: Pages,
        wants: impl Fn(&Page) -> bool,
        f: impl FnMut(&mut Self, usize, Run) -> Result<usize, Errno>,
    ) -> String {
        let runs = self.runs(pages, wants).into_iter();
        let ones = runs.flat_map(|(first, nr)| (first..first + nr).map(|page| (page, 1)));
        self.all(ones.collect(), f)
    }

    fn all(
        &mut self,
        runs: Vec<Run>,
        mut f: impl FnMut(&mut Self, usize, Run) -> Result<usize, Errno>,
    ) -> String {
        let results = runs.into_iter().map(|run| {
            let addr = self.page(run.0).addr;
            f(self, addr, run)
        });
        sum(results.collect::<Vec<_>>())
    }

    /// What was read in a run must be what was written there. How many pages that are not so is
    /// what is said.
    fn check(&self, run: Run, bytes: &[u8]) -> usize {
        let pages = (run.0..run.0 + run.1).zip(bytes.chunks(PAGE_SIZE));
        let wrong = pages.filter(|(i, bytes)| {
            let expected = self.page(*i).value.map(|value| fill(*i, value));
            expected.is_some_and(|expected| bytes.iter().any(|byte| *byte != expected))
        });
        wrong.count()
    }

    /// Asks a device about pages.
    fn request(
        &mut self,
        file: File,
        request: Request,
        addr: usize,
        nr: usize,
        bytes: &mut [u8],
    ) -> Result<usize, Errno> {
        let about = About { addr, nr, bytes };
        Ok(self.process.ask(file, request, about)?.done)
    }

    /// Asks a device about nothing in particular.
    fn ask(&mut self, file: File, request: Request, nr: usize) -> Result<Answer, Errno> {
        let mut bytes = [0; PAGE_SIZE];
        let about = About {
            addr: self.page(0).addr,
            nr,
            bytes: &mut bytes,
        };
        self.process.ask(file, request, about)
    }

    /// Asks the device about these runs; what it has read is compared, if it is the content of
    /// memory.
    fn ask_of(&mut self, file: File, request: Request, runs: Vec<Run>) -> String {
        let reads = matches!(
            request,
            Request::Read | Request::ToDevice | Request::Exclusive
        );
        let mut wrong = 0;
        let said = self.all(runs, |this, addr, run| {
            let mut bytes = vec![0; run.1 * PAGE_SIZE];
            let done = this.request(file, request, addr, run.1, &mut bytes)?;
            if reads {
                wrong += this.check(run, &bytes);
            }
            Ok(done)
        });
        with_wrong(said, wrong)
    }

    /// As [`Self::ask_of`], of all of the pages, whatever is there.
    fn ask_all(&mut self, file: File, request: Request, pages: Pages) -> String {
        let runs = self.runs(pages, |_| true);
        self.ask_of(file, request, runs)
    }

    fn write(&mut self, pages: Pages, value: u8) -> String {
        let all = |this: &mut Self, addr, run: Run| {
            for (at, part) in parts(run) {
                let bytes = Self::bytes(part, value);
                match this.wary {
                    true => this.process.try_write(addr + at, &bytes)?,
                    false => this.process.write(addr + at, &bytes)?,
                }
                this.change(part, |page| page.value = Some(value));
            }
            Ok(run.1)
        };
        match self.wary {
            true => self.each_one(pages, Page::is_writable, all),
            false => self.each(pages, Page::is_writable, all),
        }
    }

    fn read(&mut self, pages: Pages) -> String {
        match self.wary {
            true => self.try_read(pages, Page::is_readable),
            false => {
                let mut wrong = 0;
                let said = self.each(pages, Page::is_readable, |this, addr, run| {
                    for (at, part) in parts(run) {
                        let mut bytes = vec![0; part.1 * PAGE_SIZE];
                        this.process.read(addr + at, &mut bytes)?;
                        wrong += this.check(part, &bytes);
                    }
                    Ok(run.1)
                });
                with_wrong(said, wrong)
            }
        }
    }

    fn try_read(&mut self, pages: Pages, wants: impl Fn(&Page) -> bool) -> String {
        let mut wrong = 0;
        let said = self.each_one(pages, wants, |this, addr, run| {
            let mut bytes = [0; PAGE_SIZE];
            this.process.try_read(addr, &mut bytes)?;
            wrong += this.check(run, &bytes);
            Ok(run.1)
        });
        with_wrong(said, wrong)
    }

    /// The device writes where the process may; if it may not at all, the device is asked
    /// nevertheless.
    fn device_write(&mut self, file: File, pages: Pages, value: u8) -> String {
        let mut runs = self.runs(pages, Page::is_writable);
        if runs.is_empty() {
            runs = self.runs(pages, |_| true);
        }
        self.all(runs, |this, addr, run| {
            let mut bytes = Self::bytes(run, value);
            let done = this.request(file, Request::Write, addr, run.1, &mut bytes);
            match done {
                Ok(_) => this.change(run, |page| page.value = Some(value)),
                // Up to where, it does not say.
                Err(_) => this.change(run, |page| {
                    if page.is_writable() {
                        page.value = None;
                    }
                }),
            }
            done
        })
    }

    fn poison(&mut self, i: usize) -> String {
        let page = self.page(i);
        // What was never written to may be the page of zeroes, which is everybody's.
        if !page.is_readable() || matches!(page.value, None | Some(0)) {
            return "nothing of its own".to_owned();
        }
        done(self.process.poison(page.addr))
    }

    fn refuse(&mut self, file: File, nonsense: Nonsense) -> String {
        let mut bytes = [0; PAGE_SIZE];
        let mut about = About {
            addr: self.page(0).addr,
            nr: 1,
            bytes: &mut bytes,
        };
        let mut request = Request::Read;
        match nonsense {
            Nonsense::Inside => about.addr += 1,
            Nonsense::NoPage => about.nr = 0,
            Nonsense::Wraps => about.nr = usize::MAX / PAGE_SIZE,
            Nonsense::TooMany => {
                request = Request::Write;
                about.nr = usize::MAX;
            }
            Nonsense::Unknown => request = Request::Unknown,
            Nonsense::NothingThere => {
                request = Request::ToDevice;
                about.addr = 0;
            }
            Nonsense::NowhereTo => about.bytes = &mut [],
        }
        done(self.process.ask(file, request, about).map(|_| ()))
    }

    fn usage(&mut self, file: File) -> String {
        match self.ask(file, Request::Usage, 1) {
            Ok(answer) => usage(answer.done, answer.faults, answer.files),
            Err(Errno(number)) => format!("error {number}"),
        }
    }

    fn count(&mut self, pages: Pages) -> String {
        match self.places(pages) {
            Ok(places) => Count::of(&places).to_string(),
            Err(Errno(number)) => format!("error {number}"),
        }
    }

    fn places(&mut self, pages: Pages) -> Result<Vec<Place>, Errno> {
        let mut places = Vec::with_capacity(pages.nr);
        for (first, nr) in self.runs(pages, |_| true) {
            let addr = self.page(first).addr;
            places.extend(self.process.places(addr, nr)?);
        }
        Ok(places)
    }

    /// Does it, and says what came of it.
    pub fn act(&mut self, step: Step) -> String {
        let file = step.file;
        match step.op {
            Op::Write(pages, value) => self.write(pages, value),
            Op::Read(pages) => self.read(pages),
            Op::Try(pages) => self.try_read(pages, |_| true),
            Op::Populate(pages, access) => {
                let write = access == Access::Write;
                let wants = match write {
                    true => Page::is_writable,
                    false => Page::is_readable,
                };
                self.each(pages, wants, |this, addr, run| {
                    this.process.populate(addr, run.1, write).map(|()| run.1)
                })
            }
            Op::DeviceWrite(pages, value) => self.device_write(file, pages, value),
            Op::DeviceRead(pages) => self.ask_all(file, Request::Read, pages),
            Op::ToDevice(pages) => self.ask_all(file, Request::ToDevice, pages),
            Op::ToSystem(pages) => self.ask_all(file, Request::ToSystem, pages),
            Op::Exclusive(pages) => {
                // It is a write as far as the process's rights go.
                let runs = self.runs(pages, Page::is_writable);
                self.ask_of(file, Request::Exclusive, runs)
            }
            Op::Protect(pages, access) => self.each(
                pages,
                |page| page.mapped,
                |this, addr, run| {
                    this.process.protect(addr, run.1, access)?;
                    this.change(run, |page| page.access = access);
                    Ok(run.1)
                },
            ),
            Op::Move(pages, by) => self.each(
                pages,
                |page| page.mapped,
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
            Op::Unmap(pages) => self.each(
                pages,
                |page| page.mapped,
                |this, addr, run| {
                    this.process.unmap(addr, run.1)?;
                    this.change(run, |page| page.mapped = false);
                    Ok(run.1)
                },
            ),
            Op::DontNeed(pages) => self.each(
                pages,
                |page| page.mapped,
                |this, addr, run| {
                    this.process.drop_pages(addr, run.1)?;
                    this.change(run, |page| page.value = Some(0));
                    Ok(run.1)
                },
            ),
            Op::FreeLazily(pages) => self.each(
                pages,
                |page| page.mapped,
                |this, addr, run| {
                    this.process.free_lazily(addr, run.1)?;
                    this.change(run, |page| page.value = None);
                    Ok(run.1)
                },
            ),
            Op::PageOut(pages) => self.each(
                pages,
                |page| page.mapped,
                |this, addr, run| this.process.page_out(addr, run.1).map(|()| run.1),
            ),
            Op::Huge(pages) => self.each(
                pages,
                |page| page.mapped,
                |this, addr, run| this.process.want_huge(addr, run.1).map(|()| run.1),
            ),
            Op::Poison(page) => self.poison(page),
            Op::Evict => sum([self.ask(file, Request::Evict, 1).map(|answer| answer.done)]),
            Op::Release => done(self.ask(file, Request::Release, 1).map(|_| ())),
            Op::Break(defect) => {
                let flags = defect as usize;
                done(self.ask(file, Request::Flags, flags).map(|_| ()))
            }
            Op::Refuse(nonsense) => self.refuse(file, nonsense),
            Op::Usage => self.usage(file),
            Op::Counters => match self.process.counters() {
                Ok(counted) => all_counted(&counted),
                Err(Errno(number)) => format!("error {number}"),
            },
            Op::Close => {
                self.process.close(file);
                done(Ok(()))
            }
            Op::Count(pages) => self.count(pages),
            Op::Fork | Op::Exit => "is not for a process alone".to_owned(),
        }
    }

    /// What is seen: for each run of pages of which the same is said, which these are, what the
    /// kernel says of them, and a number that stands for their content.
    pub fn state(&mut self) -> String {
        let mut said = String::new();
        let all = Pages {
            first: 0,
            nr: self.pages.len(),
        };
        for (first, nr) in self.runs(all, |_| true) {
            match self.seen(first, nr) {
                Ok(seen) => self.tell(first, &seen, &mut said),
                Err(Errno(number)) => said += &format!(" {first}+{nr} error {number}"),
            }
        }
        // What a file has seen before ends with it.
        self.process.close(File::Witness);
        said.trim_start().to_owned()
    }

    /// What is seen of pages that lie one behind the other.
    fn seen(&mut self, first: usize, nr: usize) -> Result<Vec<Seen>, Errno> {
        let addr = self.page(first).addr;
        let mut kinds = vec![0; nr];
        self.request(File::Witness, Request::Snapshot, addr, nr, &mut kinds)?;
        let places = self.process.places(addr, nr)?;
        let both = kinds.into_iter().zip(places);
        Ok(both.map(|(kind, place)| Seen { kind, place }).collect())
    }

    /// Says it of the pages from `first` on, which lie one behind the other.
    fn tell(&mut self, first: usize, seen: &[Seen], said: &mut String) {
        let mut first = first;
        for same in seen.chunk_by(|one, other| one == other) {
            let nr = same.len();
            let Some(seen) = same.first() else { continue };
            *said += &format!(" {first}+{nr} {seen}");
            if seen.is_readable() {
                // The device does not have to bring anything home, or in, to read this.
                let mut bytes = vec![0; nr * PAGE_SIZE];
                let addr = self.page(first).addr;
                match self.request(File::Witness, Request::Read, addr, nr, &mut bytes) {
                    Ok(_) => *said += &format!(" #{:08x}", hash(&bytes)),
                    Err(Errno(number)) => *said += &format!(" error {number}"),
                }
            }
            first += nr;
        }
    }
}

/// With how many pages were not what they should have been.
fn with_wrong(said: String, wrong: usize) -> String {
    match wrong {
        0 => said,
        wrong => format!("{said}, {wrong} {WRONG}"),
    }
}

/// How it is said what a driver has counted for a file.
pub(crate) fn usage(home: usize, faults: usize, files: usize) -> String {
    format!("{home} home, {faults} faults, {files} files")
}
