// SPDX-License-Identifier: GPL-2.0

//! Huge pages: they are on the device as one folio, and come back as one, or in pieces.

use super::{left, scripts};
use crate::{Access, Op, Pages, Play, Who, HUGE};

scripts![
    huge_there_and_back_at_a_touch,
    huge_home_on_request,
    huge_hole,
    huge_zero_page,
    huge_copy_on_write,
    huge_released,
    huge_cut_by_unmapping,
    huge_cut_by_dontneed,
    huge_cut_by_protection,
    huge_cut_and_touched_behind_its_head,
    huge_in_part_requested_home,
    huge_where_small_ones_are_left,
    huge_and_shared_where_small_ones_are_left,
];

fn huge_there_and_back_at_a_touch(play: &mut Play) {
    let memory = play.huge_page();
    for value in 1..4 {
        play.migrated(memory, value);
        play.parent(Op::Read(memory.one(100 + usize::from(value))));
        // One fault was enough.
        play.in_system(memory);
        play.parent(Op::Read(memory));
    }
}

fn huge_home_on_request(play: &mut Play) {
    let memory = play.huge_page();
    play.migrated(memory, 3);
    play.parent(Op::ToSystem(memory));
    play.in_system(memory);
    play.parent(Op::Read(memory));
}

/// Memory that nobody has touched, where the device's pages were used before, and have to be
/// cleared.
fn fresh(play: &mut Play) -> Pages {
    let used = play.huge_page();
    let memory = play.huge_page();
    play.migrated(used, 4);
    play.parent(Op::Unmap(used));
    memory
}

fn huge_hole(play: &mut Play) {
    let memory = fresh(play);
    play.migrate(memory);
    play.parent(Op::Read(memory));
}

fn huge_zero_page(play: &mut Play) {
    let memory = fresh(play);
    play.parent(Op::Read(memory.one(3)));
    play.migrate(memory);
    play.parent(Op::Read(memory));
    play.parent(Op::Write(memory, 6));
    play.parent(Op::Read(memory));
}

fn huge_copy_on_write(play: &mut Play) {
    let memory = play.huge_page();
    play.migrated(memory, 7);
    play.parent(Op::Fork);
    play.parent(Op::Read(memory));
    play.child(Op::Read(memory));
    play.child(Op::Write(memory, 8));
    play.child(Op::Read(memory));
    play.child(Op::Exit);
    play.parent(Op::Read(memory));
}

fn huge_released(play: &mut Play) {
    let memory = play.huge_page();
    play.migrated(memory, 9);
    play.parent(Op::Release);
    play.in_system(memory);
    play.parent(Op::Read(memory));
}

fn huge_cut_by_unmapping(play: &mut Play) {
    let memory = play.huge_page();
    let half = memory.part(0, HUGE / 2);
    play.migrated(memory, 10);
    play.parent(Op::Unmap(memory.part(HUGE / 2, HUGE)));
    play.on_device(half);
    play.parent(Op::Read(half));
}

fn huge_cut_by_dontneed(play: &mut Play) {
    let memory = play.huge_page();
    play.migrated(memory, 11);
    play.parent(Op::DontNeed(memory.part(7, 2)));
    play.parent(Op::Read(memory));
}

fn huge_cut_by_protection(play: &mut Play) {
    let memory = play.huge_page();
    play.migrated(memory, 12);
    play.parent(Op::Protect(memory.part(100, 100), Access::Read));
    play.parent(Op::Read(memory));
    play.parent(Op::Protect(memory, Access::Write));
    play.migrated(memory, 13);
    play.parent(Op::Read(memory));
}

/// The fault is at a page that is not the first of its folio, which is split on the way: what comes
/// home must be the page that was touched.
fn huge_cut_and_touched_behind_its_head(play: &mut Play) {
    let pages = [1, 255, 511];
    let memory = pages.map(|_| play.huge_page());
    for (memory, page) in memory.into_iter().zip(pages) {
        play.migrated(memory, 19);
        // From now on it is mapped page by page, and still one folio.
        play.parent(Op::Protect(memory.one(0), Access::Read));
        play.parent(Op::Read(memory.one(page)));
        play.expect(Who::Parent, memory, left(HUGE, 1));
        play.parent(Op::Read(memory));
    }
}

fn huge_in_part_requested_home(play: &mut Play) {
    let memory = play.huge_page();
    play.migrated(memory, 14);
    play.parent(Op::ToSystem(memory.part(0, 5)));
    play.parent(Op::Read(memory));
}

/// All of the device's memory, of which every other half of a huge page is idle: no idle run is as
/// large as one.
fn fragments(play: &mut Play) -> Pages {
    let small = play.pages(play.room());
    play.migrated(small, 15);
    for page in (0..small.nr).step_by(HUGE) {
        play.parent(Op::DontNeed(small.part(page, HUGE / 2)));
    }
    small
}

fn huge_where_small_ones_are_left(play: &mut Play) {
    let memory = play.huge_page();
    let small = fragments(play);
    play.migrated(memory, 16);
    play.parent(Op::Read(memory));
    play.parent(Op::Read(small));
}

fn huge_and_shared_where_small_ones_are_left(play: &mut Play) {
    let memory = play.huge_page();
    fragments(play);
    play.parent(Op::Write(memory, 17));
    // Two processes map it as one, and it is split for one of them.
    play.parent(Op::Fork);
    play.migrate(memory);
    play.child(Op::Read(memory));
    play.child(Op::Write(memory, 18));
    play.child(Op::Read(memory));
    play.child(Op::Exit);
    play.parent(Op::Read(memory));
}
