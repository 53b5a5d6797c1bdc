// SPDX-License-Identifier: GPL-2.0

//! The steps of a walk, which are made from a number.

use crate::{Access, Defect, File, Op, Pages, Step, Who, HUGE, NR};

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

    /// A few of them.
    fn few(&mut self) -> Pages {
        let first = self.below(NR);
        Pages {
            first,
            nr: (1 + self.below(20)).min(NR - first),
        }
    }

    /// Never zero, which is what fresh memory has.
    fn value(&mut self) -> u8 {
        (1 + self.below(255)) as u8
    }

    fn file(&mut self) -> File {
        match self.below(8) {
            0 => File::Two,
            1 => File::Other,
            _ => File::One,
        }
    }

    fn access(&mut self) -> Access {
        match self.below(2) {
            0 => Access::Read,
            _ => Access::Write,
        }
    }

    /// What can go wrong with a device in a walk: which of its pages are bad depends on who has used them before.
    fn defect(&mut self) -> Defect {
        match self.below(3) {
            0 => Defect::Large,
            1 => Defect::BreakDown,
            _ => Defect::TimeOut,
        }
    }

    /// One that comes in few walks, as all accesses are made one by one there.
    fn harmful(&mut self) -> Op {
        match self.below(3) {
            0 => Op::Break(self.defect()),
            _ => Op::Poison(self.below(NR)),
        }
    }

    fn op(&mut self, harmful: bool) -> Op {
        if harmful && self.below(12) == 0 {
            return self.harmful();
        }
        match self.below(38) {
            0..=4 => Op::Write(self.pages(), self.value()),
            5..=7 => Op::Read(self.pages()),
            8..=9 => Op::DeviceWrite(self.pages(), self.value()),
            10..=11 => Op::DeviceRead(self.pages()),
            12..=17 => Op::ToDevice(self.pages()),
            18..=20 => Op::ToSystem(self.pages()),
            21 => Op::Exclusive(self.pages()),
            22..=24 => Op::Protect(self.pages(), self.access()),
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
            32 => Op::Populate(self.pages(), self.access()),
            33 => Op::Unmap(self.few()),
            34 => Op::Release,
            35 => Op::Close,
            _ => Op::Exit,
        }
    }
}

/// Whether memory fails in the walk from `seed`, and the device.
fn is_harmful(seed: u64) -> bool {
    seed % 3 == 0
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
        let op = random.op(is_harmful(seed));
        let file = match op.asks() {
            true => random.file(),
            false => File::One,
        };
        let who = match op {
            Op::Fork if child => continue,
            Op::Exit if !child => continue,
            Op::Fork => Who::Parent,
            Op::Exit => Who::Child,
            _ => who,
        };
        child = match op {
            Op::Fork => true,
            Op::Exit => false,
            _ => child,
        };
        steps.push(Step { who, file, op });
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
            "unmaps",
            "drops",
            "wants",
            "populates",
            "evicts",
            "give up",
            "closes",
            "fail",
            "breaks",
            "another file",
            "other device",
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
            let pages = [random.pages(), random.few()];
            assert!(pages
                .iter()
                .all(|pages| pages.nr > 0 && pages.first + pages.nr <= NR));
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
