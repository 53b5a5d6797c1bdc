// SPDX-License-Identifier: GPL-2.0

//! The steps of a walk.

use std::fmt;

use crate::{HUGE, NR};

/// Who does something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The process that is there from the beginning.
    Parent,
    /// Its child.
    Child,
}

/// Some pages, counted from the beginning of the memory, wherever they have been moved to since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pages {
    /// The first one.
    pub first: usize,
    /// How many; not beyond the end.
    pub nr: usize,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// The process writes something to each of the pages that it may write to, which depends on this number.
    Write(Pages, u8),
    /// It reads them.
    Read(Pages),
    /// The device writes.
    DeviceWrite(Pages, u8),
    /// The device reads.
    DeviceRead(Pages),
    /// The pages are to migrate to the device.
    ToDevice(Pages),
    /// They are to migrate to system memory.
    ToSystem(Pages),
    /// The device is to have them for itself.
    Exclusive(Pages),
    /// `mprotect()`: whether they may be written to.
    Protect(Pages, bool),
    /// `mremap()` to an address that is so many pages above a huge page's.
    Move(Pages, usize),
    /// `madvise(MADV_DONTNEED)`.
    DontNeed(Pages),
    /// `madvise(MADV_HUGEPAGE)`.
    Huge(Pages),
    /// All memory of the device migrates home.
    Evict,
    /// The parent has a child, if it has none.
    Fork,
    /// The child ends.
    Exit,
}

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Who does it.
    pub who: Who,
    /// What it is.
    pub op: Op,
}

impl fmt::Display for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.first, self.nr)
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write(pages, value) => write!(f, "writes {value} to {pages}"),
            Self::Read(pages) => write!(f, "reads {pages}"),
            Self::DeviceWrite(pages, value) => write!(f, "has the device write {value} to {pages}"),
            Self::DeviceRead(pages) => write!(f, "has the device read {pages}"),
            Self::ToDevice(pages) => write!(f, "migrates {pages} to the device"),
            Self::ToSystem(pages) => write!(f, "migrates {pages} to system memory"),
            Self::Exclusive(pages) => write!(f, "lets the device have {pages} alone"),
            Self::Protect(pages, true) => write!(f, "permits writing to {pages}"),
            Self::Protect(pages, false) => write!(f, "forbids writing to {pages}"),
            Self::Move(pages, by) => write!(f, "moves {pages} to somewhere, and {by} pages"),
            Self::DontNeed(pages) => write!(f, "drops {pages}"),
            Self::Huge(pages) => write!(f, "wants huge pages at {pages}"),
            Self::Evict => write!(f, "evicts all from the device"),
            Self::Fork => write!(f, "forks"),
            Self::Exit => write!(f, "exits"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = match self.who {
            Who::Parent => "parent",
            Who::Child => "child",
        };
        write!(f, "{who} {}", self.op)
    }
}

/// Numbers that look random and are the same for the same seed, on any machine.
struct Random(u64);

impl Random {
    /// A number below `limit`: `splitmix64`.
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        // The high bits, so that it fits whatever size a number has.
        (z >> 33) as usize % limit
    }

    fn pages(&mut self) -> Pages {
        let first = match self.below(5) {
            0 => 0,
            1 => HUGE,
            _ => self.below(NR),
        };
        let nr = match self.below(6) {
            0 => HUGE,
            1 => NR,
            _ => 1 + self.below(20),
        };
        Pages {
            first,
            nr: nr.min(NR - first),
        }
    }

    /// Never zero, which is what fresh memory has.
    fn value(&mut self) -> u8 {
        (1 + self.below(255)) as u8
    }

    fn op(&mut self) -> Op {
        match self.below(34) {
            0..=4 => Op::Write(self.pages(), self.value()),
            5..=7 => Op::Read(self.pages()),
            8..=9 => Op::DeviceWrite(self.pages(), self.value()),
            10..=11 => Op::DeviceRead(self.pages()),
            12..=17 => Op::ToDevice(self.pages()),
            18..=20 => Op::ToSystem(self.pages()),
            21 => Op::Exclusive(self.pages()),
            22..=24 => Op::Protect(self.pages(), self.below(2) == 1),
            25 => {
                let pages = Pages { first: 0, nr: HUGE };
                let by = self.below(2);
                match self.below(2) {
                    0 => Op::Move(pages, by),
                    _ => Op::Move(self.pages(), by),
                }
            }
            26..=27 => Op::DontNeed(self.pages()),
            28 => Op::Huge(self.pages()),
            29 => Op::Evict,
            30..=31 => Op::Fork,
            _ => Op::Exit,
        }
    }
}

/// `nr` steps, which depend on `seed` alone.
#[must_use]
pub fn steps(seed: u64, nr: usize) -> Vec<Step> {
    let mut random = Random(seed);
    let mut child = false;
    let mut steps = Vec::with_capacity(nr);
    while steps.len() < nr {
        let who = match child && random.below(2) == 1 {
            true => Who::Child,
            false => Who::Parent,
        };
        let op = random.op();
        let step = match op {
            Op::Fork if child => continue,
            Op::Exit if !child => continue,
            Op::Fork => Step {
                who: Who::Parent,
                op,
            },
            Op::Exit => Step {
                who: Who::Child,
                op,
            },
            _ => Step { who, op },
        };
        child = match op {
            Op::Fork => true,
            Op::Exit => false,
            _ => child,
        };
        steps.push(step);
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_for_the_same_seed() {
        assert_eq!(steps(7, 100), steps(7, 100));
        assert_ne!(steps(7, 100), steps(8, 100));
    }

    #[test]
    fn all_of_them_come() {
        let all: String = (0..20)
            .flat_map(|seed| steps(seed, 100))
            .map(|step| format!("{step}\n"))
            .collect();
        for words in [
            "parent writes",
            "child writes",
            "parent reads",
            "device write",
            "device read",
            "to the device",
            "to system memory",
            "alone",
            "permits",
            "forbids",
            "moves",
            "drops",
            "wants",
            "evicts",
            "parent forks",
            "child exits",
        ] {
            assert!(all.contains(words), "nobody {words}");
        }
    }

    #[test]
    fn pages_are_there() {
        let mut random = Random(1);
        for _ in 0..10_000 {
            let pages = random.pages();
            assert!(pages.nr > 0 && pages.first + pages.nr <= NR);
        }
    }

    #[test]
    fn who_is_there() {
        for seed in 0..100 {
            let mut child = false;
            for step in steps(seed, 200) {
                match step.op {
                    Op::Fork => child = true,
                    Op::Exit => child = false,
                    _ => assert!(child || step.who == Who::Parent),
                }
            }
        }
    }
}
