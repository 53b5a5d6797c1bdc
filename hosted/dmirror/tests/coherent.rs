// SPDX-License-Identifier: GPL-2.0

//! Devices whose memory CPUs can reach.

mod support;

use bindings::sim::{coherent_memory, run, Errno, Mapped, Process, PAGE_SIZE};
use std::{
    ffi::CString,
    sync::{Mutex, PoisonError},
};
use support::{load, pattern, state, Command, Device};

/// How many pages such a device has.
const SIZE: usize = (256 << 20) / PAGE_SIZE;

/// Runs `f` on a machine with two devices that have coherent memory, and their driver.
fn run_with_memory(f: impl FnOnce()) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    // The next machine has the memory at the same addresses, and parameters are set once.
    let _memory = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    run(|| {
        for name in ["spm_addr_dev0", "spm_addr_dev1"] {
            let address = CString::new(coherent_memory(SIZE).to_string()).unwrap();
            let _ = dmirror::set_parameter(name, &address);
        }
        let _driver = load().unwrap();
        f();
    });
}

fn contents(process: &Process, addr: usize, nr: usize) -> Vec<u8> {
    let mut bytes = vec![0; nr * PAGE_SIZE];
    process.read(addr, &mut bytes).unwrap();
    bytes
}

/// How many of the `nr` pages at `addr` are on a device.
fn on_device(process: &Process, addr: usize, nr: usize) -> usize {
    let pages = (0..nr).map(|i| process.mapped(addr + i * PAGE_SIZE));
    pages
        .filter(|mapped| matches!(mapped, Mapped::Coherent(..)))
        .count()
}

const NR: usize = 16;

#[test]
fn cpus_use_it_where_it_is() {
    run_with_memory(|| {
        let process = Process::new();
        let device = Device::open_as(&process, "hmm_dmirror2").unwrap();
        let memory = process.mmap(NR * PAGE_SIZE);
        // Pages, and holes.
        let mut bytes = pattern(NR / 2, 1);
        process.write(memory, &bytes).unwrap();
        bytes.resize(NR * PAGE_SIZE, 0);

        device.call(Command::MigrateToDev, memory, NR).unwrap();
        assert_eq!(on_device(&process, memory, NR), NR);
        let seen = device.snapshot(memory, NR).unwrap();
        assert!(seen.iter().all(|page| page & 0xf0 == state::DEV_COHERENT));
        assert_eq!(contents(&process, memory, NR), bytes);
        process.write(memory, &[9]).unwrap();
        bytes[0] = 9;
        device.write(memory + PAGE_SIZE, &pattern(1, 3)).unwrap();
        bytes[PAGE_SIZE..2 * PAGE_SIZE].copy_from_slice(&pattern(1, 3));
        assert_eq!(on_device(&process, memory, NR), NR);
        assert_eq!(device.read(memory, NR).unwrap(), bytes);

        device.call(Command::MigrateToSys, memory, NR).unwrap();
        assert_eq!(on_device(&process, memory, NR), 0);
        assert_eq!(contents(&process, memory, NR), bytes);
    });
}

#[test]
fn a_child_shares_it_until_somebody_writes() {
    run_with_memory(|| {
        let process = Process::new();
        let device = Device::open_as(&process, "hmm_dmirror2").unwrap();
        let memory = process.mmap(NR * PAGE_SIZE);
        let bytes = pattern(NR, 1);
        process.write(memory, &bytes).unwrap();
        device.call(Command::MigrateToDev, memory, NR).unwrap();
        let child = process.fork();
        child.write(memory, &[0xaa]).unwrap();
        assert_eq!(on_device(&process, memory, NR), NR);
        assert_eq!(on_device(&child, memory, NR), NR - 1);
        assert_eq!(contents(&process, memory, NR), bytes);
        assert_eq!(contents(&child, memory, 1)[0], 0xaa);
    });
}

#[test]
fn evicted_with_all_who_use_it() {
    run_with_memory(|| {
        let process = Process::new();
        let device = Device::open_as(&process, "hmm_dmirror3").unwrap();
        let memory = process.mmap(NR * PAGE_SIZE);
        let bytes = pattern(NR, 1);
        process.write(memory, &bytes).unwrap();
        device.call(Command::MigrateToDev, memory, NR).unwrap();
        let child = process.fork();
        assert_eq!(device.call(Command::Evict, 0, 1), Ok(NR));
        assert_eq!(on_device(&child, memory, NR), 0);
        assert_eq!(contents(&process, memory, NR), bytes);
        assert_eq!(contents(&child, memory, NR), bytes);
    });
}

#[test]
fn what_another_device_has_stays_there() {
    run_with_memory(|| {
        let process = Process::new();
        let one = Device::open_as(&process, "hmm_dmirror2").unwrap();
        let other = Device::open_as(&process, "hmm_dmirror3").unwrap();
        let memory = process.mmap(NR * PAGE_SIZE);
        let bytes = pattern(NR, 1);
        process.write(memory, &bytes).unwrap();
        one.call(Command::MigrateToDev, memory, NR).unwrap();
        // It reads what CPUs can read.
        assert_eq!(other.read(memory, NR).unwrap(), bytes);
        assert_eq!(other.call(Command::MigrateToDev, memory, NR), Err(Errno(2)));
        assert_eq!(on_device(&process, memory, NR), NR);
        let private = Device::open(&process).unwrap();
        assert_eq!(private.read(memory, NR).unwrap(), bytes);
    });
}

#[test]
fn what_fails_is_for_the_driver_to_handle() {
    run_with_memory(|| {
        let process = Process::new();
        let device = Device::open_as(&process, "hmm_dmirror2").unwrap();
        let memory = process.mmap(NR * PAGE_SIZE);
        let bytes = pattern(NR, 1);
        process.write(memory, &bytes).unwrap();
        device.call(Command::MigrateToDev, memory, NR).unwrap();
        // This one has nothing to say.
        assert_eq!(process.poison(memory), Err(Errno(6)));
        assert_eq!(on_device(&process, memory, NR), NR);
        assert_eq!(contents(&process, memory, NR), bytes);
    });
}
