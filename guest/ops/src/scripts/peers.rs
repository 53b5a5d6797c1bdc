// SPDX-License-Identifier: GPL-2.0

//! Two devices that reach each other's memory.

use super::{left, scripts};
use crate::{Count, Defect, File, Op, Pages, Play, Who, HUGE};

scripts![
    a_peer_reads_it_where_it_is,
    a_peer_writes_to_it_where_it_is,
    from_peer_to_peer,
    from_everywhere_to_one,
    huge_from_peer_to_peer,
    huge_from_peer_to_peer_in_pieces,
    a_peer_goes_while_the_other_looks,
    shared_pages_from_peer_to_peer,
];

const NR: usize = 256;

/// Registers the memory of both devices: one that has none is nobody's peer.
pub(super) fn open(play: &mut Play) {
    for file in [File::One, File::Other] {
        let page = play.pages(1);
        play.parent(Op::Write(page, 1));
        play.parent(Op::ToDevice(page)).by(file);
        play.on_device(page);
        play.parent(Op::Unmap(page));
    }
}

/// The parent's pages migrate to the device of `file`.
fn migrate(play: &mut Play, file: File, pages: Pages) {
    play.parent(Op::ToDevice(pages)).by(file);
    play.on_device(pages);
}

/// The memory must be on the device of `here` as a whole, by way of what a device gives up: nothing
/// of it belongs to that of `there`.
fn expect_on(play: &mut Play, here: File, there: File, memory: Pages) {
    play.parent(Op::Release).by(there);
    play.on_device(memory);
    play.parent(Op::Release).by(here);
    play.in_system(memory);
    play.parent(Op::Read(memory));
}

fn a_peer_reads_it_where_it_is(play: &mut Play) {
    open(play);
    let memory = play.pages(NR);
    play.migrated(memory, 1);
    play.parent(Op::DeviceRead(memory)).by(File::Other);
    play.on_device(memory);
    expect_on(play, File::One, File::Other, memory);
}

fn a_peer_writes_to_it_where_it_is(play: &mut Play) {
    open(play);
    let memory = play.pages(NR);
    play.migrated(memory, 2);
    play.parent(Op::DeviceWrite(memory, 3)).by(File::Other);
    play.on_device(memory);
    play.parent(Op::DeviceRead(memory));
    expect_on(play, File::One, File::Other, memory);
}

fn from_peer_to_peer(play: &mut Play) {
    open(play);
    let memory = play.pages(NR);
    play.migrated(memory, 4);
    for file in [File::Other, File::One, File::Other] {
        migrate(play, file, memory);
    }
    expect_on(play, File::Other, File::One, memory);
}

fn from_everywhere_to_one(play: &mut Play) {
    open(play);
    // A quarter on each of the devices, one in system memory, and one is not there at all.
    let quarter = NR / 4;
    let memory = play.pages(NR);
    play.parent(Op::Write(memory.part(0, 3 * quarter), 5));
    play.parent(Op::ToDevice(memory.part(0, 2 * quarter)));
    play.parent(Op::ToDevice(memory.part(0, quarter)))
        .by(File::Other);
    let everywhere = Count {
        system: quarter,
        away: 2 * quarter,
        none: quarter,
    };
    play.expect(Who::Parent, memory, everywhere);
    migrate(play, File::Other, memory);
    expect_on(play, File::Other, File::One, memory);
}

fn huge_from_peer_to_peer(play: &mut Play) {
    let memory = play.huge_page();
    open(play);
    play.migrated(memory, 6);
    migrate(play, File::Other, memory);
    // It still is one folio: a touch brings all of it home.
    play.parent(Op::Read(memory.one(9)));
    play.in_system(memory);
    play.parent(Op::Read(memory));
}

fn huge_from_peer_to_peer_in_pieces(play: &mut Play) {
    let memory = play.huge_page();
    open(play);
    play.migrated(memory, 7);
    play.parent(Op::Break(Defect::Large)).by(File::Other);
    migrate(play, File::Other, memory);
    play.parent(Op::Read(memory.one(9)));
    play.expect(Who::Parent, memory, left(HUGE, 1));
    play.parent(Op::Read(memory));
}

fn a_peer_goes_while_the_other_looks(play: &mut Play) {
    open(play);
    let (memory, usurper) = (play.pages(NR), play.pages(NR));
    play.migrated(memory, 8);
    // Now the other device has translations to the first one's memory.
    play.parent(Op::DeviceRead(memory)).by(File::Other);
    play.parent(Op::Release);
    play.in_system(memory);
    // The memory is registered anew, and other pages are where ours were.
    play.migrated(usurper, 9);
    play.parent(Op::DeviceRead(memory)).by(File::Other);
    play.parent(Op::DeviceWrite(memory, 10)).by(File::Other);
    play.parent(Op::Read(memory));
    play.parent(Op::Read(usurper));
}

fn shared_pages_from_peer_to_peer(play: &mut Play) {
    open(play);
    let memory = play.pages(NR);
    play.migrated(memory, 11);
    // The child has the pages as well, and takes them to the other device; then both write.
    play.parent(Op::Fork);
    play.child(Op::ToDevice(memory)).by(File::Other);
    play.expect(Who::Child, memory, Count::away(NR));
    play.child(Op::Write(memory, 12));
    play.child(Op::Read(memory));
    play.child(Op::Exit);
    play.parent(Op::DeviceRead(memory)).by(File::Other);
    play.parent(Op::Write(memory, 13));
    play.parent(Op::Read(memory));
}
