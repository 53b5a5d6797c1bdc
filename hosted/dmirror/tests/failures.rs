// SPDX-License-Identifier: GPL-2.0

//! Each thing that can fail does so in turn. An error may come of it, and nothing else: no byte is
//! lost, and nothing is left over, which is for the machine to say.

mod support;

use bindings::sim::{for_each_failure, Errno, Process, PAGE_SIZE};
use support::{load, pattern, Command, Device};

/// How many pages are moved.
const NR: usize = 4;

/// Reads memory of a process, as often as it takes: at most one thing fails.
fn read(process: &Process, memory: usize) -> Vec<u8> {
    let mut bytes = vec![0; NR * PAGE_SIZE];
    let read = process.read(memory, &mut bytes);
    read.or_else(|_| process.read(memory, &mut bytes))
        .expect("the second time nothing fails");
    bytes
}

fn there_and_back() -> Result<(), Errno> {
    let _driver = load()?;
    let process = Process::new();
    let memory = process.mmap(NR * PAGE_SIZE);
    let bytes = pattern(NR, 1);
    process.write(memory, &bytes)?;
    let device = Device::open(&process)?;

    let there = device.call(Command::MigrateToDev, memory, NR);
    assert_eq!(read(&process, memory), bytes);
    there?;
    device.call(Command::MigrateToDev, memory, NR)?;
    let seen = device.read(memory, NR);
    let back = device.call(Command::MigrateToSys, memory, NR);
    assert_eq!(read(&process, memory), bytes);
    assert_eq!(seen?, bytes);
    back?;
    Ok(())
}

#[test]
fn a_round_trip() {
    let mut good = 0;
    let failures = for_each_failure(|| good += usize::from(there_and_back().is_ok()));
    println!("{failures} failures, of which {good} could be hidden");
    // Without a failure, it works; and most failures cannot be hidden.
    assert!(good > 0 && failures > 2 * good, "{good} of {failures}");
}
