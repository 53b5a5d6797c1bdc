// SPDX-License-Identifier: GPL-2.0

//! Memory of a process that has failed: neither a CPU nor the device gets it, and what lies around
//! it does not suffer.

use super::scripts;
use crate::{
    play::{EFAULT, EHWPOISON, ENOENT},
    Access, Op, Pages, Play, HUGE,
};

scripts![
    poison_stays_behind,
    poison_is_not_for_the_device,
    poison_comes_home_first,
    poison_is_not_exclusive,
    poison_in_a_huge_page,
    poison_in_a_huge_page_of_the_device,
    poison_is_for_all_who_have_the_page,
    poison_of_a_page_of_two_on_the_device,
    poison_goes_with_the_page,
];

/// How many pages the memory has, and which of them fails.
const NR: usize = 8;
const BAD: usize = 3;

/// One of the pages fails, from which moment on a CPU cannot use it.
fn poison(play: &mut Play, memory: Pages) {
    play.parent(Op::Poison(memory.first + BAD));
    bad(play, memory);
}

/// The page is bad, and nobody finds it again to say it twice.
fn bad(play: &mut Play, memory: Pages) {
    play.parent(Op::Try(memory.one(BAD))).fails(EFAULT);
    play.parent(Op::Populate(memory.one(BAD), Access::Read))
        .fails(EHWPOISON);
    play.parent(Op::Poison(memory.first + BAD))
        .says(format!("error {EFAULT}"));
}

/// Those before the bad one, and those behind it.
fn good(memory: Pages) -> [Pages; 2] {
    [memory.part(0, BAD), memory.part(BAD + 1, memory.nr)]
}

/// All others are as they were.
fn all_but(play: &mut Play, memory: Pages) {
    for pages in good(memory) {
        play.parent(Op::Read(pages));
    }
    bad(play, memory);
}

/// All but the bad one migrate to the device, which says that it cannot read that, and home again.
fn around_it(play: &mut Play, memory: Pages) {
    play.parent(Op::ToDevice(memory)).fails(ENOENT);
    for pages in good(memory) {
        play.on_device(pages);
    }
    play.parent(Op::ToSystem(memory)).says(memory.nr - 1);
    for pages in good(memory) {
        play.in_system(pages);
    }
    all_but(play, memory);
}

fn poison_stays_behind(play: &mut Play) {
    let memory = play.pages(NR);
    play.parent(Op::Write(memory, 1));
    poison(play, memory);
    around_it(play, memory);
}

fn poison_is_not_for_the_device(play: &mut Play) {
    let memory = play.pages(NR);
    let page = memory.one(BAD);
    play.parent(Op::Write(memory, 2));
    // The device has seen the page, and must not use what it has found.
    play.parent(Op::DeviceRead(memory));
    poison(play, memory);
    play.parent(Op::DeviceRead(memory)).fails(EFAULT);
    play.parent(Op::DeviceRead(page)).fails(EFAULT);
    play.parent(Op::Exclusive(page)).fails(EFAULT);
    play.parent(Op::DeviceRead(memory.part(0, BAD)));
    all_but(play, memory);
    play.parent(Op::DeviceWrite(page, 3)).fails(EFAULT);
    play.parent(Op::Try(page)).fails(EFAULT);
}

fn poison_comes_home_first(play: &mut Play) {
    let memory = play.pages(NR);
    play.migrated(memory, 3);
    play.parent(Op::Poison(memory.first + BAD));
    for pages in good(memory) {
        play.on_device(pages);
    }
    all_but(play, memory);
}

fn poison_is_not_exclusive(play: &mut Play) {
    let memory = play.pages(NR);
    play.parent(Op::Write(memory, 4));
    play.parent(Op::Exclusive(memory));
    poison(play, memory);
    all_but(play, memory);
}

fn poison_in_a_huge_page(play: &mut Play) {
    let memory = play.huge_page();
    play.parent(Op::Write(memory, 5));
    poison(play, memory);
    around_it(play, memory);
}

fn poison_in_a_huge_page_of_the_device(play: &mut Play) {
    let memory = play.huge_page();
    play.migrated(memory, 6);
    poison(play, memory);
    // It came home as a whole.
    for pages in good(memory) {
        play.in_system(pages);
    }
    assert_eq!(memory.nr, HUGE);
    around_it(play, memory);
}

fn poison_is_for_all_who_have_the_page(play: &mut Play) {
    let (memory, own) = (play.pages(NR), play.pages(NR));
    play.parent(Op::Write(memory, 7));
    play.parent(Op::Write(own, 8));
    play.parent(Op::Fork);
    // What the child has written to is another page.
    play.child(Op::Write(own.one(BAD), 9));
    poison(play, memory);
    poison(play, own);
    play.child(Op::Try(memory.one(BAD))).fails(EFAULT);
    for pages in good(memory) {
        play.child(Op::Read(pages));
    }
    play.child(Op::Read(own));
    all_but(play, memory);
    play.child(Op::Exit);
    // Who comes later has it as well.
    play.parent(Op::Fork);
    play.child(Op::Try(memory.one(BAD))).fails(EFAULT);
    play.child(Op::Exit);
}

fn poison_of_a_page_of_two_on_the_device(play: &mut Play) {
    let memory = play.pages(NR);
    play.migrated(memory, 10);
    play.parent(Op::Fork);
    poison(play, memory);
    play.child(Op::Try(memory.one(BAD))).fails(EFAULT);
    for pages in good(memory) {
        play.child(Op::Read(pages));
    }
    play.child(Op::Exit);
    all_but(play, memory);
}

fn poison_goes_with_the_page(play: &mut Play) {
    let memory = play.pages(NR);
    let page = memory.one(BAD);
    play.parent(Op::Write(memory, 11));
    poison(play, memory);
    play.parent(Op::Protect(memory, Access::Read));
    bad(play, memory);
    play.parent(Op::Protect(memory, Access::Write));
    play.parent(Op::Move(memory, 1));
    all_but(play, memory);
    // What is there then is another page.
    play.parent(Op::DontNeed(page));
    play.parent(Op::Read(memory));
    play.parent(Op::DeviceWrite(page, 12));
    play.migrate(memory);
    play.parent(Op::Read(memory));
    play.parent(Op::Poison(page.first));
    play.parent(Op::Unmap(page));
    play.parent(Op::DeviceRead(page)).fails(EFAULT);
}
