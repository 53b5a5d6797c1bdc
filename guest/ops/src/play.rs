// SPDX-License-Identifier: GPL-2.0

//! What is played: memory, and the steps that are taken in it, with what must come of them.

#[cfg(feature = "walks")]
use crate::{steps::walk_of, NR};
use crate::{Count, File, Op, Pages, Step, Who, HUGE};

/// The memory of a play.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// How many of its first pages may be huge ones.
    pub huge: usize,
    /// How many pages it has.
    pub nr: usize,
}

/// What is said of pages in which something else was read than was written there.
pub(crate) const WRONG: &str = "WRONG";

/// A step, and what must come of it.
#[derive(Clone, Debug)]
pub struct Line {
    step: Step,
    /// One of these must be said; anything may, if there is none.
    expected: Vec<String>,
}

/// No such file.
pub(crate) const ENOENT: i32 = 2;
/// A broken device.
pub(crate) const EIO: i32 = 5;
/// Nothing is there, or it is not for a CPU to read.
pub(crate) const EFAULT: i32 = 14;
/// Nonsense.
pub(crate) const EINVAL: i32 = 22;
/// It is not permitted.
pub(crate) const EPERM: i32 = 1;
/// The memory has failed.
pub(crate) const EHWPOISON: i32 = 133;
/// The device does not say that it is done.
pub(crate) const ETIMEDOUT: i32 = 110;

impl Line {
    fn new(who: Who, op: Op) -> Self {
        Self {
            step: Step {
                who,
                file: File::One,
                op,
            },
            expected: usual(op).into_iter().collect(),
        }
    }

    /// The step.
    #[must_use]
    pub fn step(&self) -> Step {
        self.step
    }

    /// It is not the first file that is asked.
    pub fn by(&mut self, file: File) -> &mut Self {
        self.step.file = file;
        self
    }

    /// This must be said.
    pub fn says(&mut self, said: impl ToString) -> &mut Self {
        self.expected = vec![said.to_string()];
        self
    }

    /// Or this.
    pub fn or(&mut self, said: impl ToString) -> &mut Self {
        self.expected.push(said.to_string());
        self
    }

    /// It must fail with `errno`, and before anything was done.
    pub fn fails(&mut self, errno: i32) -> &mut Self {
        self.says(format!("error {errno} after 0, 0"))
    }

    /// Whether it is right that `said` was said.
    ///
    /// # Errors
    ///
    /// What should have been.
    pub(crate) fn check(&self, said: &str) -> Result<(), String> {
        // What is read must be what was written, whatever else may be said.
        let anything = self.expected.is_empty() && !said.contains(WRONG);
        match anything || self.expected.iter().any(|expected| expected == said) {
            true => Ok(()),
            false if self.expected.is_empty() => Err("right".to_owned()),
            false => Err(self.expected.join(" or ")),
        }
    }
}

/// What is said if all is well; none if that depends.
fn usual(op: Op) -> Option<String> {
    match op {
        Op::Write(pages, _)
        | Op::Read(pages)
        | Op::Try(pages)
        | Op::Populate(pages, _)
        | Op::DeviceWrite(pages, _)
        | Op::DeviceRead(pages)
        | Op::ToDevice(pages)
        | Op::ToSystem(pages)
        | Op::Exclusive(pages)
        | Op::Protect(pages, _)
        | Op::Move(pages, _)
        | Op::Unmap(pages)
        | Op::DontNeed(pages)
        | Op::FreeLazily(pages)
        | Op::PageOut(pages)
        | Op::Huge(pages) => Some(pages.nr.to_string()),
        Op::Poison(_) | Op::Release | Op::Break(_) | Op::Close | Op::Fork | Op::Exit => {
            Some("done".to_owned())
        }
        Op::Evict | Op::Refuse(_) | Op::Usage | Op::Counters | Op::Count(_) => None,
    }
}

/// Memory, and steps.
#[derive(Clone, Debug)]
pub struct Play {
    room: usize,
    memory: Memory,
    lines: Vec<Line>,
    wary: bool,
}

impl Play {
    /// A play without a step, for a device that has room for `room` pages.
    pub(crate) fn new(room: usize) -> Self {
        Self {
            room,
            memory: Memory::default(),
            lines: Vec::new(),
            wary: false,
        }
    }

    /// The walk that `seed` stands for.
    ///
    /// # Errors
    ///
    /// There is none.
    #[cfg(feature = "walks")]
    pub fn walk(seed: u64) -> Result<Self, String> {
        walk_of(seed).map(Self::of)
    }

    /// A walk of these steps.
    #[cfg(feature = "walks")]
    #[must_use]
    pub fn of(steps: Vec<Step>) -> Self {
        let lines: Vec<_> = steps
            .into_iter()
            .map(|step| Line {
                step,
                expected: Vec::new(),
            })
            .collect();
        Self {
            room: 0,
            memory: Memory {
                huge: 2 * HUGE,
                nr: NR,
            },
            wary: lines.iter().any(|line| line.step.op.is_harmful()),
            lines,
        }
    }

    /// How many pages the device has room for.
    pub(crate) fn room(&self) -> usize {
        self.room
    }

    /// `nr` pages more of memory, behind what there is.
    pub(crate) fn pages(&mut self, nr: usize) -> Pages {
        let first = self.memory.nr;
        self.memory.nr += nr;
        Pages { first, nr }
    }

    /// The same, which may be a huge page. They come first.
    pub(crate) fn huge_page(&mut self) -> Pages {
        assert_eq!(
            self.memory.huge, self.memory.nr,
            "there are small ones already"
        );
        let pages = self.pages(HUGE);
        self.memory.huge = pages.end();
        pages
    }

    /// What the parent does next.
    pub(crate) fn parent(&mut self, op: Op) -> &mut Line {
        self.add(Who::Parent, op)
    }

    /// What the child does next.
    pub(crate) fn child(&mut self, op: Op) -> &mut Line {
        self.add(Who::Child, op)
    }

    /// The pages must be there, as the kernel says it.
    pub(crate) fn expect(&mut self, who: Who, pages: Pages, count: Count) -> &mut Line {
        self.add(who, Op::Count(pages)).says(count)
    }

    /// All the pages must be on the device, as far as the parent sees.
    pub(crate) fn on_device(&mut self, pages: Pages) {
        self.expect(Who::Parent, pages, Count::away(pages.nr));
    }

    /// The same, of system memory.
    pub(crate) fn in_system(&mut self, pages: Pages) {
        self.expect(Who::Parent, pages, Count::system(pages.nr));
    }

    /// The parent writes to the pages, and they migrate to the device.
    pub(crate) fn migrated(&mut self, pages: Pages, value: u8) {
        self.parent(Op::Write(pages, value));
        self.migrate(pages);
    }

    /// The parent's pages migrate to the device.
    pub(crate) fn migrate(&mut self, pages: Pages) {
        self.parent(Op::ToDevice(pages));
        self.on_device(pages);
    }

    fn add(&mut self, who: Who, op: Op) -> &mut Line {
        self.lines.push(Line::new(who, op));
        match self.lines.last_mut() {
            Some(line) => line,
            None => unreachable!("it was put there just now"),
        }
    }

    /// Its memory.
    #[must_use]
    pub fn memory(&self) -> Memory {
        self.memory
    }

    /// Its steps.
    #[must_use]
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Step `number`.
    #[must_use]
    pub fn step(&self, number: usize) -> Option<Step> {
        self.lines.get(number).map(Line::step)
    }

    /// Whether any access of a CPU may be one that is an error.
    #[must_use]
    pub fn is_wary(&self) -> bool {
        self.wary
    }
}
