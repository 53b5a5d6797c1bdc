// SPDX-License-Identifier: GPL-2.0

//! Two devices that reach each other's memory, and bring windows of pages home: what comes home is
//! of the device whose page was touched.

use super::{peers::open, scripts};
use crate::{Count, Defect, File, Op, Pages, Play, Who, WINDOW};

scripts![
    a_window_of_two_devices,
    a_window_of_two_devices_that_breaks_down,
];

const NR: usize = 2 * WINDOW;

/// Every other page is on the other device. They come first, so that windows begin with them.
fn scattered(play: &mut Play, value: u8) -> Pages {
    let memory = play.pages(NR);
    open(play);
    play.migrated(memory, value);
    for page in (1..NR).step_by(2) {
        play.parent(Op::ToDevice(memory.one(page))).by(File::Other);
    }
    play.on_device(memory);
    memory
}

/// So many pages of the first window are at home, and those of one device.
fn home(play: &mut Play, memory: Pages, nr: usize, of: usize) {
    let count = Count::away(WINDOW - nr).and(Count::system(nr));
    play.expect(Who::Parent, memory.part(0, WINDOW), count);
    play.on_device(memory.part(WINDOW, WINDOW));
    play.in_system(memory.one(of));
    play.on_device(memory.one(of ^ 1));
}

fn a_window_of_two_devices(play: &mut Play) {
    let memory = scattered(play, 1);
    play.parent(Op::Read(memory.one(4)));
    home(play, memory, WINDOW / 2, 6);
    // And the others with one of theirs.
    play.parent(Op::Read(memory.one(5)));
    play.in_system(memory.part(0, WINDOW));
    play.parent(Op::Read(memory));
}

fn a_window_of_two_devices_that_breaks_down(play: &mut Play) {
    let memory = scattered(play, 2);
    play.parent(Op::Break(Defect::TimeOut)).by(File::Other);
    // That is the other one's trouble.
    play.parent(Op::Read(memory.one(4)));
    home(play, memory, WINDOW / 2, 6);
    play.parent(Op::Read(memory.one(5)));
    // The first try was broken, the second was for the page alone.
    play.expect(
        Who::Parent,
        memory.part(0, WINDOW),
        Count::away(WINDOW / 2 - 1).and(Count::system(WINDOW / 2 + 1)),
    );
    play.parent(Op::Read(memory));
}
