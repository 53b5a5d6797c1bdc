// SPDX-License-Identifier: GPL-2.0

//! What processes do to memory that is on the device, page by page.

use super::scripts;
use crate::{
    play::{EFAULT, EINVAL, ENOENT, EPERM},
    Access, Count, File, Nonsense, Op, Play, Who,
};

scripts![
    there_and_back,
    the_device_writes_where_the_memory_is,
    home_on_request,
    holes_come_back_as_zeroes,
    copy_on_write_of_shared_pages,
    a_child_inherits_memory_on_the_device,
    dontneed_drops_what_is_on_the_device,
    freed_lazily_then_written_by_the_device,
    unmapping_half,
    protected_and_permitted_again,
    exit_with_memory_on_the_device,
    the_other_device_reads_it,
    release_brings_everything_home,
    more_than_the_device_has,
    bad_requests_are_refused,
];

const NR: usize = 256;

fn there_and_back(play: &mut Play) {
    let memory = play.pages(NR);
    for value in 1..4 {
        play.migrated(memory, value);
        play.parent(Op::Read(memory));
        play.in_system(memory);
    }
}

fn the_device_writes_where_the_memory_is(play: &mut Play) {
    let memory = play.pages(NR);
    play.migrated(memory, 1);
    play.parent(Op::DeviceWrite(memory, 2));
    play.on_device(memory);
    play.parent(Op::DeviceRead(memory));
    play.parent(Op::Read(memory));
}

fn home_on_request(play: &mut Play) {
    let memory = play.pages(NR);
    play.migrated(memory, 3);
    play.parent(Op::ToSystem(memory));
    play.in_system(memory);
    play.parent(Op::Read(memory));
}

fn holes_come_back_as_zeroes(play: &mut Play) {
    let nr = NR / 4;
    let (used, memory) = (play.pages(nr), play.pages(nr));
    // Pages of the device that were used before, and have to be cleared.
    play.migrated(used, 4);
    play.parent(Op::Unmap(used));
    // Something, the page of zeroes, and nothing at all.
    for page in 0..nr {
        match page % 3 {
            0 => play.parent(Op::Write(memory.one(page), 5)),
            1 => play.parent(Op::Read(memory.one(page))),
            _ => continue,
        };
    }
    play.migrate(memory);
    play.parent(Op::Read(memory));
}

fn copy_on_write_of_shared_pages(play: &mut Play) {
    let memory = play.pages(NR);
    play.parent(Op::Write(memory, 6));
    // Both have the pages, read-only; they migrate; both fault them back; each writes.
    play.parent(Op::Fork);
    play.migrate(memory);
    play.parent(Op::Read(memory));
    play.child(Op::Read(memory));
    play.child(Op::Write(memory, 7));
    play.child(Op::Read(memory));
    play.child(Op::Exit);
    play.parent(Op::Read(memory));
}

fn a_child_inherits_memory_on_the_device(play: &mut Play) {
    let memory = play.pages(NR);
    play.migrated(memory, 8);
    play.parent(Op::Fork);
    play.expect(Who::Child, memory, Count::away(NR));
    play.child(Op::Read(memory));
    play.child(Op::Write(memory, 9));
    play.child(Op::Read(memory));
    play.child(Op::Exit);
    play.parent(Op::Read(memory));
}

fn dontneed_drops_what_is_on_the_device(play: &mut Play) {
    let memory = play.pages(NR);
    play.migrated(memory, 10);
    play.parent(Op::DontNeed(memory));
    play.expect(Who::Parent, memory, Count::none(NR));
    play.parent(Op::DeviceRead(memory));
    play.parent(Op::Read(memory));
}

/// The kernel may throw away what was freed lazily and is clean, but not what the device has
/// written since: neither where it is, nor after a stay on the device.
fn freed_lazily_then_written_by_the_device(play: &mut Play) {
    for on_device in [false, true] {
        let memory = play.pages(NR);
        play.parent(Op::Write(memory, 30));
        play.parent(Op::FreeLazily(memory));
        if on_device {
            play.migrate(memory);
        }
        play.parent(Op::DeviceWrite(memory, 31));
        if on_device {
            play.parent(Op::ToSystem(memory));
        }
        play.parent(Op::PageOut(memory));
        play.in_system(memory);
        play.parent(Op::Read(memory));
    }
}

fn unmapping_half(play: &mut Play) {
    let memory = play.pages(NR);
    let (half, rest) = (memory.part(0, NR / 2), memory.part(NR / 2, NR));
    play.migrated(memory, 11);
    play.parent(Op::Unmap(rest));
    play.parent(Op::DeviceRead(rest.one(0))).fails(EFAULT);
    play.parent(Op::Try(rest.one(0))).fails(EFAULT);
    play.on_device(half);
    play.parent(Op::Read(half));
}

fn protected_and_permitted_again(play: &mut Play) {
    let memory = play.pages(NR);
    play.migrated(memory, 12);
    play.parent(Op::Protect(memory, Access::Read));
    play.parent(Op::DeviceWrite(memory, 12)).fails(EPERM);
    play.parent(Op::Protect(memory, Access::None));
    play.parent(Op::DeviceRead(memory)).fails(EFAULT);
    play.parent(Op::Try(memory.one(0))).fails(EFAULT);
    play.parent(Op::Protect(memory, Access::Write));
    play.parent(Op::DeviceWrite(memory, 13));
    play.parent(Op::Read(memory));
    // The same of what is in system memory.
    play.in_system(memory);
    play.parent(Op::Protect(memory, Access::None));
    play.parent(Op::Try(memory.one(0))).fails(EFAULT);
    play.parent(Op::Protect(memory, Access::Read));
    play.parent(Op::Read(memory));
}

fn exit_with_memory_on_the_device(play: &mut Play) {
    let memory = play.pages(NR);
    for value in 14..18 {
        play.parent(Op::Fork);
        play.child(Op::Write(memory, value));
        play.child(Op::ToDevice(memory));
        play.expect(Who::Child, memory, Count::away(NR));
        // It is still there when the process ends.
        play.child(Op::Exit);
    }
    play.parent(Op::Release);
}

fn the_other_device_reads_it(play: &mut Play) {
    let memory = play.pages(NR);
    play.migrated(memory, 18);
    play.parent(Op::DeviceRead(memory)).by(File::Other);
    // It had to come home for that.
    play.in_system(memory);
    play.parent(Op::ToDevice(memory)).by(File::Other);
    play.on_device(memory);
    play.parent(Op::DeviceRead(memory));
    play.parent(Op::Read(memory));
}

fn release_brings_everything_home(play: &mut Play) {
    let memory = play.pages(NR);
    play.migrated(memory, 19);
    play.parent(Op::Release);
    play.in_system(memory);
    play.parent(Op::Read(memory));
    // And all begins anew.
    play.migrate(memory);
    play.parent(Op::Read(memory));
}

fn more_than_the_device_has(play: &mut Play) {
    let room = play.room();
    let more = 2 * NR;
    let memory = play.pages(room + more);
    play.parent(Op::Write(memory, 25));
    play.parent(Op::ToDevice(memory)).fails(ENOENT);
    play.expect(
        Who::Parent,
        memory,
        Count::away(room).and(Count::system(more)),
    );
    play.parent(Op::Read(memory));
}

fn bad_requests_are_refused(play: &mut Play) {
    play.pages(1);
    for nonsense in [
        Nonsense::Inside,
        Nonsense::NoPage,
        Nonsense::Wraps,
        Nonsense::TooMany,
        Nonsense::Unknown,
        Nonsense::NothingThere,
    ] {
        play.parent(Op::Refuse(nonsense))
            .says(format!("error {EINVAL}"));
    }
    play.parent(Op::Refuse(Nonsense::NowhereTo))
        .says(format!("error {EFAULT}"));
}
