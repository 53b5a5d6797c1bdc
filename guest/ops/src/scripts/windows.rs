// SPDX-License-Identifier: GPL-2.0

//! A driver that brings more home than the page that was touched: a window of pages around it.

use super::{left, scripts};
use crate::{
    play::EFAULT, walker::usage, Access, Count, Defect, Op, Pages, Play, Who, HUGE, WINDOW,
};

scripts![
    a_touch_brings_its_window,
    a_window_ends_where_the_mapping_ends,
    a_window_ends_where_the_protection_changes,
    a_window_with_pages_at_home,
    a_window_with_holes,
    a_window_that_two_processes_map,
    a_window_of_which_a_page_cannot_be_read,
    a_window_without_the_page_that_was_touched,
    a_window_that_breaks_down,
    a_window_cuts_no_huge_page,
    a_window_in_a_huge_page_in_pieces,
];

const NR: usize = 4 * WINDOW;

/// Of `memory`, `home` is in system memory, and nothing else.
fn only_home(play: &mut Play, memory: Pages, home: Pages) {
    let before = memory.part(0, home.first - memory.first);
    let after = memory.part(home.end() - memory.first, memory.nr);
    play.in_system(home);
    for stays in [before, after] {
        if stays.nr > 0 {
            play.on_device(stays);
        }
    }
}

fn a_touch_brings_its_window(play: &mut Play) {
    let memory = play.pages(NR);
    play.migrated(memory, 1);
    // Wherever in it the page is, and not one page more.
    let windows = [(0, 0), (2, WINDOW / 2), (3, WINDOW - 1)];
    for (done, (window, page)) in windows.into_iter().enumerate() {
        play.parent(Op::Read(memory.one(window * WINDOW + page)));
        play.in_system(memory.part(window * WINDOW, WINDOW));
        play.expect(Who::Parent, memory, left(NR, (done + 1) * WINDOW));
    }
    play.parent(Op::Read(memory));
    // A fault for each window.
    play.parent(Op::Usage).says(usage(NR, NR / WINDOW, 1));
}

fn a_window_ends_where_the_mapping_ends(play: &mut Play) {
    let memory = play.pages(NR);
    play.migrated(memory, 2);
    let end = 2 * WINDOW - 3;
    play.parent(Op::Unmap(memory.part(end, NR)));
    let rest = memory.part(0, end);
    play.parent(Op::Read(memory.one(WINDOW + 1)));
    only_home(play, rest, rest.part(WINDOW, NR));
    play.parent(Op::Read(rest));
}

fn a_window_ends_where_the_protection_changes(play: &mut Play) {
    let memory = play.pages(NR);
    play.migrated(memory, 3);
    // The first window is two mappings now.
    play.parent(Op::Protect(memory.part(0, 5), Access::Read));
    play.parent(Op::Read(memory.one(7)));
    only_home(play, memory, memory.part(5, WINDOW - 5));
    play.parent(Op::Read(memory.one(1)));
    only_home(play, memory, memory.part(0, WINDOW));
    play.parent(Op::Read(memory));
}

fn a_window_with_pages_at_home(play: &mut Play) {
    let memory = play.pages(NR);
    play.migrated(memory, 4);
    play.parent(Op::ToSystem(memory.part(WINDOW + 2, 5)));
    play.parent(Op::Write(memory.part(WINDOW + 2, 5), 5));
    play.parent(Op::Read(memory.one(WINDOW)));
    only_home(play, memory, memory.part(WINDOW, WINDOW));
    play.parent(Op::Read(memory));
}

fn a_window_with_holes(play: &mut Play) {
    let memory = play.pages(NR);
    play.migrated(memory, 6);
    play.parent(Op::DontNeed(memory.part(WINDOW + 2, 5)));
    play.parent(Op::Read(memory.one(WINDOW)));
    // A hole is no page of the device's, and stays one.
    let window = Count {
        system: WINDOW - 5,
        none: 5,
        ..Count::default()
    };
    play.expect(Who::Parent, memory.part(WINDOW, WINDOW), window);
    play.parent(Op::Read(memory));
}

fn a_window_that_two_processes_map(play: &mut Play) {
    let memory = play.pages(NR);
    play.migrated(memory, 7);
    play.parent(Op::Fork);
    play.child(Op::Read(memory.one(WINDOW + 1)));
    for who in [Who::Child, Who::Parent] {
        play.expect(who, memory, left(NR, WINDOW));
    }
    play.child(Op::Write(memory, 8));
    play.parent(Op::Read(memory));
    play.child(Op::Read(memory));
    play.child(Op::Exit);
}

/// The page that was touched comes alone.
fn a_window_of_which_a_page_cannot_be_read(play: &mut Play) {
    let memory = play.pages(NR);
    play.migrated(memory, 9);
    play.parent(Op::Break(Defect::BadPages));
    play.parent(Op::Read(memory.one(WINDOW + 1)));
    play.expect(Who::Parent, memory, left(NR, 1));
    play.parent(Op::Break(Defect::None));
    play.parent(Op::Read(memory));
}

/// The page that was touched is the one that cannot be read, and nothing else comes for it.
fn a_window_without_the_page_that_was_touched(play: &mut Play) {
    let memory = play.pages(NR);
    play.migrated(memory, 10);
    play.parent(Op::Break(Defect::BadPages));
    play.parent(Op::Try(memory.one(WINDOW))).fails(EFAULT);
    play.on_device(memory);
    play.parent(Op::Break(Defect::None));
    play.parent(Op::Read(memory));
}

/// A device that breaks down half way through the window has copied one page the next time.
fn a_window_that_breaks_down(play: &mut Play) {
    let memory = play.pages(NR);
    for defect in [Defect::BreakDown, Defect::TimeOut] {
        play.migrated(memory, 11);
        play.parent(Op::Break(defect));
        play.parent(Op::Read(memory.one(WINDOW + 3)));
        play.expect(Who::Parent, memory, left(NR, 1));
        play.parent(Op::Read(memory));
    }
}

fn a_window_cuts_no_huge_page(play: &mut Play) {
    let memory = play.huge_page();
    play.migrated(memory, 12);
    play.parent(Op::Read(memory.one(WINDOW + 1)));
    play.in_system(memory);
    play.parent(Op::Read(memory));
}

/// A large folio that is mapped page by page comes page by page, until it is split. On a stock
/// kernel the first fault splits it, and brings nothing, as it has lost the lock of its page; the
/// next one finds pages like any others.
fn a_window_in_a_huge_page_in_pieces(play: &mut Play) {
    let memory = play.huge_page();
    play.migrated(memory, 13);
    play.parent(Op::Protect(memory.one(0), Access::Read));
    play.parent(Op::Read(memory.one(WINDOW + 1)));
    play.expect(Who::Parent, memory, left(HUGE, 1))
        .or(left(HUGE, WINDOW));
    // What is left of it are pages like any others.
    play.parent(Op::Read(memory.one(2 * WINDOW)));
    play.expect(Who::Parent, memory, left(HUGE, 1 + WINDOW))
        .or(left(HUGE, 2 * WINDOW));
    play.parent(Op::Read(memory));
}
