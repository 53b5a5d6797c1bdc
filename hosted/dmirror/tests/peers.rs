// SPDX-License-Identifier: GPL-2.0

//! Devices that reach each other's memory.

mod support;

use bindings::sim::{run, Mapped, Process, PAGE_SIZE};
use support::{load, pattern, state, Command, Device};

const NR: usize = 8;

fn contents(process: &Process, addr: usize, nr: usize) -> Vec<u8> {
    let mut bytes = vec![0; nr * PAGE_SIZE];
    process.read(addr, &mut bytes).unwrap();
    bytes
}

/// Runs `f` with a process that has two devices of one group.
fn with_peers(f: impl FnOnce(&Process, &Device<'_>, &Device<'_>)) {
    // A parameter is set once, before the driver is loaded for the first time.
    let _ = dmirror::set_parameter("peers", c"1");
    run(|| {
        let _driver = load().unwrap();
        let process = Process::new();
        let one = Device::open(&process).unwrap();
        let other = Device::open_as(&process, "hmm_dmirror1").unwrap();
        f(&process, &one, &other);
    });
}

fn is_on_device(process: &Process, addr: usize) -> bool {
    matches!(process.mapped(addr), Mapped::Device(..))
}

#[test]
fn from_one_to_the_other() {
    with_peers(|process, one, other| {
        let memory = process.mmap(NR * PAGE_SIZE);
        let bytes = pattern(NR, 1);
        process.write(memory, &bytes).unwrap();
        one.call(Command::MigrateToDev, memory, NR).unwrap();
        // Directly: nobody has faulted, and what is there goes on.
        assert_eq!(other.call(Command::MigrateToDev, memory, NR), Ok(NR));
        assert!((0..NR).all(|page| is_on_device(process, memory + page * PAGE_SIZE)));
        assert_eq!(other.call(Command::Evict, 0, 1), Ok(NR));
        assert!(!is_on_device(process, memory));
        assert_eq!(contents(process, memory, NR), bytes);
    });
}

#[test]
fn one_uses_what_the_other_has() {
    with_peers(|process, one, other| {
        let memory = process.mmap(NR * PAGE_SIZE);
        let mut bytes = pattern(NR, 1);
        process.write(memory, &bytes).unwrap();
        one.call(Command::MigrateToDev, memory, NR).unwrap();
        // It has to have memory of its own to be a peer.
        let own = process.mmap(PAGE_SIZE);
        other.call(Command::MigrateToDev, own, 1).unwrap();

        assert_eq!(other.read(memory, NR).unwrap(), bytes);
        other.write(memory, &pattern(1, 9)).unwrap();
        bytes[..PAGE_SIZE].copy_from_slice(&pattern(1, 9));
        assert!((0..NR).all(|page| is_on_device(process, memory + page * PAGE_SIZE)));
        let seen = other.snapshot(memory, NR).unwrap();
        assert!(seen.iter().all(|page| *page != state::NONE), "{seen:x?}");
        assert_eq!(one.read(memory, NR).unwrap(), bytes);
        assert_eq!(contents(process, memory, NR), bytes);
    });
}

#[test]
fn each_brings_home_what_is_its_own() {
    with_peers(|process, one, other| {
        let memory = process.mmap(2 * NR * PAGE_SIZE);
        let bytes = pattern(2 * NR, 1);
        process.write(memory, &bytes).unwrap();
        one.call(Command::MigrateToDev, memory, NR).unwrap();
        let upper = memory + NR * PAGE_SIZE;
        other.call(Command::MigrateToDev, upper, NR).unwrap();
        one.call(Command::MigrateToSys, memory, 2 * NR).unwrap();
        assert!(!is_on_device(process, memory) && is_on_device(process, upper));
        assert_eq!(contents(process, memory, 2 * NR), bytes);
    });
}
