// SPDX-License-Identifier: GPL-2.0

//! Steps of which it is known how much of everything happens in them, and what the counters in
//! debugfs say of them.

use std::collections::BTreeMap;

use super::scripts;
use crate::{play::ENOENT, seen::all_counted, Counted, Defect, File, Op, Play, HUGE};

scripts![
    counters_of_single_pages,
    counters_of_a_huge_page,
    counters_of_no_room,
    counters_of_two_pagemaps,
];

/// What the counters of a pagemap must say.
struct Expected(BTreeMap<&'static str, usize>);

impl Expected {
    /// What those of a pagemap say that nobody has used.
    fn fresh(play: &Play) -> Self {
        Self(BTreeMap::from([("pages", play.room())]))
    }

    /// More has happened.
    fn more(&mut self, changes: &[(&'static str, usize)]) {
        for (name, change) in changes {
            *self.0.entry(name).or_default() += change;
        }
    }

    /// So many pages have gone to the device.
    fn came(&mut self, pages: usize) {
        self.more(&[
            ("requested", pages),
            ("migrated_in", pages),
            ("in_service", pages),
        ]);
    }

    /// So many are idle again.
    fn freed(&mut self, pages: usize) {
        self.more(&[("freed", pages)]);
        *self.0.entry("in_service").or_default() -= pages;
    }

    /// So many pages have come home.
    fn went(&mut self, pages: usize) {
        self.more(&[("migrated_out", pages)]);
        self.freed(pages);
    }

    fn counted(&self) -> Counted {
        let counts = self
            .0
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count as u64));
        Counted {
            name: "dmirror".to_owned(),
            counts: counts.collect(),
        }
    }
}

/// All counters must be these, one for each pagemap.
fn check(play: &mut Play, expected: &[&Expected]) {
    let all: Vec<_> = expected.iter().map(|expected| expected.counted()).collect();
    play.parent(Op::Counters).says(all_counted(&all));
}

/// No memory is registered.
fn open(play: &mut Play) {
    play.parent(Op::Release);
    play.parent(Op::Release).by(File::Other);
    check(play, &[]);
}

fn counters_of_single_pages(play: &mut Play) {
    let memory = play.pages(64);
    open(play);
    play.migrated(memory, 40);
    let mut expected = Expected::fresh(play);
    expected.came(64);
    check(play, &[&expected]);

    for page in 0..10 {
        play.parent(Op::Read(memory.one(page)));
    }
    expected.more(&[("faults", 10)]);
    expected.went(10);
    check(play, &[&expected]);

    // Ten of them were at home already.
    play.parent(Op::ToSystem(memory.part(0, 20))).says(10);
    expected.went(10);
    check(play, &[&expected]);

    play.parent(Op::Evict).says(44);
    expected.more(&[("evicted", 44)]);
    expected.went(44);
    check(play, &[&expected]);
    play.parent(Op::Read(memory));

    // Pages that nobody wants any more do not migrate.
    play.migrate(memory);
    expected.came(64);
    check(play, &[&expected]);
    play.parent(Op::Unmap(memory));
    expected.freed(64);
    check(play, &[&expected]);

    // The counters do not outlive their pagemap.
    play.parent(Op::Release);
    check(play, &[]);
}

fn counters_of_a_huge_page(play: &mut Play) {
    let (memory, other) = (play.huge_page(), play.huge_page());
    open(play);
    play.migrated(memory, 41);
    let mut expected = Expected::fresh(play);
    expected.came(HUGE);
    check(play, &[&expected]);

    play.parent(Op::Read(memory.one(5)));
    expected.more(&[("faults", 1)]);
    expected.went(HUGE);
    check(play, &[&expected]);

    play.migrate(memory);
    expected.came(HUGE);
    play.parent(Op::Evict).says(HUGE);
    expected.more(&[("evicted", HUGE)]);
    expected.went(HUGE);
    check(play, &[&expected]);

    // In pieces, once in either direction.
    play.parent(Op::Break(Defect::Large));
    play.migrate(memory);
    expected.more(&[("splits", 1)]);
    expected.came(HUGE);
    check(play, &[&expected]);
    play.parent(Op::Unmap(memory));
    expected.freed(HUGE);

    play.migrated(other, 42);
    expected.came(HUGE);
    play.parent(Op::Break(Defect::Large));
    play.parent(Op::ToSystem(other));
    expected.more(&[("splits", 1)]);
    expected.went(HUGE);
    check(play, &[&expected]);
    play.parent(Op::Read(other));
}

fn counters_of_no_room(play: &mut Play) {
    let memory = play.huge_page();
    let small = play.pages(play.room());
    open(play);
    play.migrated(small, 43);
    let mut expected = Expected::fresh(play);
    expected.came(small.nr);
    check(play, &[&expected]);

    play.parent(Op::Write(memory, 44));
    play.parent(Op::ToDevice(memory)).fails(ENOENT);
    // None for the huge page, nor for a part of it, so that it was not split for nothing.
    expected.more(&[("no_room", 2)]);
    check(play, &[&expected]);
    play.parent(Op::Read(memory));
}

fn counters_of_two_pagemaps(play: &mut Play) {
    let (one, two) = (play.pages(1), play.pages(2));
    open(play);
    play.migrated(one, 46);
    play.parent(Op::Write(two, 47));
    play.parent(Op::ToDevice(two)).by(File::Other);
    play.on_device(two);
    let [mut first, mut second] = [Expected::fresh(play), Expected::fresh(play)];
    first.came(1);
    second.came(2);
    check(play, &[&first, &second]);
    // The counters of one live as long as it does.
    play.parent(Op::Release);
    check(play, &[&second]);
    play.parent(Op::Release).by(File::Other);
    check(play, &[]);
}
