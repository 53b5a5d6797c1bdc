// SPDX-License-Identifier: GPL-2.0

//! What the driver keeps with each folio on the device: for the sample, an object of the open file
//! that has moved it there. It must be there for as long as a part of the folio is, and be gone
//! then.

use super::scripts;
use crate::{walker::usage, File, Op, Pages, Play, HUGE};

scripts![
    data_outlives_the_file,
    data_comes_along,
    data_of_two_files,
    data_of_each_part,
    data_of_each_part_when_cut,
    data_of_shared_pages,
];

/// So many pages of `file` must have come home, after so many faults.
fn counted(play: &mut Play, file: File, home: usize, faults: usize, files: usize) {
    play.parent(Op::Usage)
        .by(file)
        .says(usage(home, faults, files));
}

/// There must be so many files, as one of them says that has moved nothing.
fn files(play: &mut Play, nr: usize) {
    counted(play, File::One, 0, 0, nr);
}

/// The parent's memory with something in it, which `file` moves to the device.
fn migrated(play: &mut Play, file: File, memory: Pages, value: u8) {
    play.parent(Op::Write(memory, value));
    play.parent(Op::ToDevice(memory)).by(file);
    play.on_device(memory);
}

/// A CPU reads one page.
fn touch(play: &mut Play, memory: Pages, page: usize) {
    play.parent(Op::Read(memory.one(page)));
}

fn data_outlives_the_file(play: &mut Play) {
    let memory = play.pages(16);
    files(play, 1);
    migrated(play, File::Two, memory, 60);
    files(play, 2);
    play.parent(Op::Close).by(File::Two);
    files(play, 2);
    play.parent(Op::DontNeed(memory.part(0, 15)));
    files(play, 2);
    touch(play, memory, 15);
    files(play, 1);
}

fn data_comes_along(play: &mut Play) {
    let memory = play.pages(16);
    let file = File::One;
    migrated(play, file, memory, 61);
    (0..3).for_each(|page| touch(play, memory, page));
    counted(play, file, 3, 3, 1);
    play.parent(Op::ToSystem(memory.part(0, 8))).says(5);
    counted(play, file, 8, 3, 1);
    play.parent(Op::Evict).says(8);
    counted(play, file, 16, 3, 1);
    // And again, in the same pages of the device.
    play.migrate(memory);
    touch(play, memory, 0);
    counted(play, file, 17, 4, 1);
    play.parent(Op::Release);
    counted(play, file, 32, 4, 1);
}

fn data_of_two_files(play: &mut Play) {
    let (mine, other) = (play.pages(4), play.pages(4));
    migrated(play, File::One, mine, 62);
    migrated(play, File::Two, other, 63);
    touch(play, mine, 1);
    counted(play, File::One, 1, 1, 2);
    counted(play, File::Two, 0, 0, 2);
    touch(play, other, 1);
    touch(play, other, 2);
    counted(play, File::One, 1, 1, 2);
    counted(play, File::Two, 2, 2, 2);
    // Who brings it home has no say in whose it is.
    play.parent(Op::ToSystem(mine)).by(File::Two).says(3);
    counted(play, File::One, 4, 1, 2);
    counted(play, File::Two, 2, 2, 2);
}

fn data_of_each_part(play: &mut Play) {
    let memory = play.huge_page();
    let half = HUGE / 2;
    files(play, 1);
    migrated(play, File::Two, memory, 64);
    // What is left of the huge page is no longer one.
    play.parent(Op::Unmap(memory.part(half, half)));
    (0..4).for_each(|page| touch(play, memory, page));
    counted(play, File::Two, 4, 4, 2);
    play.parent(Op::Close).by(File::Two);
    play.parent(Op::DontNeed(memory.part(0, half - 1)));
    files(play, 2);
    touch(play, memory, half - 1);
    files(play, 1);
}

fn data_of_each_part_when_cut(play: &mut Play) {
    let memory = play.huge_page();
    files(play, 1);
    migrated(play, File::Two, memory, 65);
    // As a whole,
    touch(play, memory, 7);
    counted(play, File::Two, HUGE, 1, 2);
    // and with the first page gone before the others.
    play.parent(Op::ToDevice(memory)).by(File::Two);
    play.on_device(memory);
    play.parent(Op::DontNeed(memory.one(0)));
    touch(play, memory, 9);
    // A stock kernel splits the folio at the first fault, and loses the lock of the page: it takes
    // another one.
    play.parent(Op::Usage)
        .by(File::Two)
        .says(usage(HUGE + 1, 2, 2))
        .or(usage(HUGE + 1, 3, 2));
    play.parent(Op::Close).by(File::Two);
    files(play, 2);
    play.parent(Op::Unmap(memory));
    files(play, 1);
}

fn data_of_shared_pages(play: &mut Play) {
    let memory = play.pages(16);
    files(play, 1);
    migrated(play, File::Two, memory, 66);
    play.parent(Op::Fork);
    play.parent(Op::Unmap(memory));
    play.parent(Op::Close).by(File::Two);
    // The child has the pages.
    files(play, 2);
    play.child(Op::Read(memory.one(3)));
    files(play, 2);
    play.child(Op::Exit);
    files(play, 1);
}
