// SPDX-License-Identifier: GPL-2.0

//! A device that breaks down in the middle of a copy, or that does not say when it is done.

use super::{left, scripts};
use crate::{
    play::{EFAULT, EIO, ETIMEDOUT},
    Access, Defect, Op, Pages, Play, Who,
};

scripts![
    broken_on_the_way_there,
    broken_on_the_way_home,
    broken_at_an_access,
    broken_when_released,
    broken_pages,
];

const NR: usize = 64;

/// Calls `scene` with everything that can go wrong, and what the process is told then, and with
/// small pages and a huge one.
fn for_each(play: &mut Play, scene: impl Fn(&mut Play, Pages, Defect, i32)) {
    let huge = play.huge_page();
    let (small, more) = (play.pages(NR), play.pages(NR));
    for (memory, defect, errno) in [
        (small, Defect::BreakDown, EIO),
        (more, Defect::TimeOut, ETIMEDOUT),
        (huge, Defect::TimeOut, ETIMEDOUT),
    ] {
        play.parent(Op::Write(memory, 1));
        scene(play, memory, defect, errno);
        play.parent(Op::Read(memory));
    }
}

fn broken_on_the_way_there(play: &mut Play) {
    for_each(play, |play, memory, defect, errno| {
        play.parent(Op::Break(defect));
        play.parent(Op::ToDevice(memory)).fails(errno);
        play.in_system(memory);
        play.parent(Op::Read(memory));
        play.migrate(memory);
    });
}

fn broken_on_the_way_home(play: &mut Play) {
    for_each(play, |play, memory, defect, errno| {
        play.migrate(memory);
        play.parent(Op::Break(defect));
        play.parent(Op::ToSystem(memory)).fails(errno);
        play.on_device(memory);
    });
}

fn broken_at_an_access(play: &mut Play) {
    for_each(play, |play, memory, defect, _| {
        play.migrate(memory);
        play.parent(Op::Break(defect));
        // One page alone cannot break down half way, but it can come to nothing. A system call that
        // copies would not do: arm64 tries again before it says that nothing can be copied.
        play.parent(Op::Populate(memory.one(0), Access::Read))
            .fails(EFAULT);
        // Nothing is lost.
        play.on_device(memory);
    });
}

fn broken_when_released(play: &mut Play) {
    for_each(play, |play, memory, defect, _| {
        play.migrate(memory);
        play.parent(Op::Break(defect));
        // It is tried until it works.
        play.parent(Op::Release);
        play.in_system(memory);
    });
}

/// The pages that the device cannot read keep no others on the device.
fn broken_pages(play: &mut Play) {
    let memory = play.pages(NR);
    play.migrated(memory, 2);
    play.parent(Op::Break(Defect::BadPages));
    play.parent(Op::Evict).fails(EIO);
    // As many as there are, wherever the memory is on the device.
    let bad = NR / 16;
    play.expect(Who::Parent, memory, left(NR, NR - bad));
    play.parent(Op::Break(Defect::None));
    play.parent(Op::Evict).says(bad);
    play.in_system(memory);
    play.parent(Op::Read(memory));
}
