// SPDX-License-Identifier: GPL-2.0

//! What two do at once, in any order: with `--features shuttle`, in hundreds of orders, which are
//! the same each time.

mod support;

use bindings::sim::{explore, run, spawn, Errno, Mapped, Process, HUGE_PAGE_SIZE, PAGE_SIZE};
use std::sync::Arc;
use support::{load, pattern, Command, Device};

/// How many orders are tried.
const TIMES: usize = 400;

/// How many pages are used by two.
const NR: usize = 3;

/// A process with a pattern in its memory, which is on the device.
fn on_device() -> (Arc<Process>, usize, Vec<u8>) {
    let process = Arc::new(Process::new());
    let memory = process.mmap(NR * PAGE_SIZE);
    let bytes = pattern(NR, 1);
    process.write(memory, &bytes).unwrap();
    call(&process, Command::MigrateToDev, memory).unwrap();
    (process, memory, bytes)
}

fn call(process: &Process, command: Command, addr: usize) -> Result<usize, bindings::sim::Errno> {
    Device::open(process)?.call(command, addr, NR)
}

fn contents(process: &Process, addr: usize) -> Vec<u8> {
    let mut bytes = vec![0; NR * PAGE_SIZE];
    process.read(addr, &mut bytes).unwrap();
    bytes
}

#[test]
fn two_cpus_touch_what_is_on_the_device() {
    explore(TIMES, || {
        run(|| {
            let _driver = load().unwrap();
            let (process, memory, bytes) = on_device();
            let other = process.clone();
            let thread = spawn(move || contents(&other, memory));
            assert!(contents(&process, memory) == bytes);
            assert!(thread.join() == bytes);
            assert_eq!(process.mapped(memory), Mapped::Ram(true));
        });
    });
}

#[test]
fn a_cpu_touches_what_is_evicted() {
    explore(TIMES, || {
        run(|| {
            let _driver = load().unwrap();
            let (process, memory, bytes) = on_device();
            let other = process.clone();
            let thread = spawn(move || contents(&other, memory));
            call(&process, Command::Evict, 0).unwrap();
            assert!(thread.join() == bytes);
            assert!(contents(&process, memory) == bytes);
        });
    });
}

#[test]
fn a_child_writes_while_the_parent_migrates() {
    explore(TIMES, || {
        run(|| {
            let _driver = load().unwrap();
            let (process, memory, bytes) = on_device();
            let child = process.fork();
            let thread = spawn(move || {
                child.write(memory, &[0xee; PAGE_SIZE]).unwrap();
                contents(&child, memory)
            });
            // What is shared may stay where it is.
            let _ = call(&process, Command::MigrateToDev, memory);
            let mut expected = bytes.clone();
            expected[..PAGE_SIZE].fill(0xee);
            assert!(thread.join() == expected);
            assert!(contents(&process, memory) == bytes);
        });
    });
}

#[test]
fn memory_is_given_up_while_it_migrates() {
    explore(TIMES, || {
        run(|| {
            let _driver = load().unwrap();
            let (process, memory, bytes) = on_device();
            let other = process.clone();
            let thread = spawn(move || {
                other.madvise_dontneed(memory, PAGE_SIZE);
                other.munmap(memory + PAGE_SIZE, PAGE_SIZE);
            });
            let _ = call(&process, Command::MigrateToSys, memory);
            thread.join();
            let mut page = [1; PAGE_SIZE];
            process.read(memory, &mut page).unwrap();
            assert!(page == [0; PAGE_SIZE]);
            assert!(process.read(memory + PAGE_SIZE, &mut page).is_err());
            process.read(memory + 2 * PAGE_SIZE, &mut page).unwrap();
            assert!(page == bytes[2 * PAGE_SIZE..]);
        });
    });
}

#[test]
fn the_device_writes_while_memory_comes_and_goes() {
    explore(TIMES, || {
        run(|| {
            let _driver = load().unwrap();
            let process = Arc::new(Process::new());
            let memory = process.mmap(PAGE_SIZE);
            process.write(memory, &[1; PAGE_SIZE]).unwrap();
            let mover = Device::open(&process).unwrap();
            let other = process.clone();
            let thread = spawn(move || {
                let device = Device::open(&other).unwrap();
                for number in 0..4 {
                    device.write(memory, &[number; PAGE_SIZE]).unwrap();
                    assert!(device.read(memory, 1).unwrap() == [number; PAGE_SIZE]);
                }
            });
            for _ in 0..4 {
                // It may be in use.
                let _ = mover.call(Command::MigrateToDev, memory, 1);
                let _ = mover.call(Command::MigrateToSys, memory, 1);
            }
            thread.join();
            let mut page = [0; PAGE_SIZE];
            process.read(memory, &mut page).unwrap();
            assert!(page == [3; PAGE_SIZE]);
        });
    });
}

#[test]
fn a_large_folio_is_split_while_it_is_touched() {
    // It has many pages.
    explore(TIMES / 40, || {
        run(|| {
            let _driver = load().unwrap();
            let process = Arc::new(Process::new());
            let memory = process.mmap(HUGE_PAGE_SIZE);
            process.madvise_hugepage(memory, HUGE_PAGE_SIZE);
            process.write(memory, &[7; 4 * PAGE_SIZE]).unwrap();
            let nr = HUGE_PAGE_SIZE / PAGE_SIZE;
            let device = Device::open(&process).unwrap();
            device.call(Command::MigrateToDev, memory, nr).unwrap();
            let other = process.clone();
            let thread = spawn(move || {
                other.munmap(memory + HUGE_PAGE_SIZE - PAGE_SIZE, PAGE_SIZE);
                contents(&other, memory)
            });
            let seen = contents(&process, memory + PAGE_SIZE);
            assert!(seen == [7; NR * PAGE_SIZE]);
            assert!(thread.join() == [7; NR * PAGE_SIZE]);
        });
    });
}

/// What becomes of page 1 of memory that is all the same, when it fails while somebody else does
/// what `f` says.
fn fails_while(command: Command, f: impl Fn(&Process, usize) + Clone + Send + Sync + 'static) {
    explore(TIMES, move || {
        let f = f.clone();
        run(move || {
            let _driver = load().unwrap();
            let (process, memory, bytes) = on_device();
            let _ = call(&process, command, memory);
            let other = process.clone();
            let thread = spawn(move || f(&other, memory));
            let bad = memory + PAGE_SIZE;
            // It may just be on its way home and not come.
            let failed = process.poison(bad).is_ok();
            thread.join();
            let mut page = [0; PAGE_SIZE];
            let result = match failed {
                true => Err(Errno(5)),
                false => Ok(()),
            };
            assert_eq!(process.read(bad, &mut page), result);
            for at in [0, 2 * PAGE_SIZE] {
                process.read(memory + at, &mut page).unwrap();
                assert!(page == bytes[at..at + PAGE_SIZE]);
            }
        });
    });
}

#[test]
fn memory_fails_while_it_migrates() {
    let there = |process: &Process, memory: usize| {
        let _ = call(process, Command::MigrateToDev, memory);
    };
    let back = |process: &Process, memory: usize| {
        let _ = call(process, Command::MigrateToSys, memory);
    };
    fails_while(Command::MigrateToSys, there);
    fails_while(Command::MigrateToDev, back);
}

#[test]
fn memory_fails_while_the_device_uses_it() {
    fails_while(Command::MigrateToSys, |process, memory| {
        let device = Device::open(process).unwrap();
        // Either all of it, or an error.
        if let Ok(bytes) = device.read(memory, NR) {
            assert!(bytes == pattern(NR, 1));
        }
    });
    fails_while(Command::MigrateToSys, |process, memory| {
        let _ = call(process, Command::Exclusive, memory);
    });
}

#[test]
fn memory_fails_twice_at_once() {
    explore(TIMES, || {
        run(|| {
            let process = Arc::new(Process::new());
            let memory = process.mmap(PAGE_SIZE);
            process.write(memory, &[1]).unwrap();
            let child = process.fork();
            let thread = spawn(move || {
                let failed = child.poison(memory).is_ok();
                assert_eq!(child.read(memory, &mut [0]), Err(Errno(5)));
                failed
            });
            let one = process.poison(memory).is_ok();
            let copied = process.fork();
            assert!(one != thread.join());
            assert_eq!(process.read(memory, &mut [0]), Err(Errno(5)));
            assert_eq!(copied.read(memory, &mut [0]), Err(Errno(5)));
        });
    });
}

#[test]
fn memory_fails_while_it_is_copied() {
    explore(TIMES, || {
        run(|| {
            let process = Process::new();
            let memory = process.mmap(PAGE_SIZE);
            process.write(memory, &[1; 2]).unwrap();
            let child = process.fork();
            let thread = spawn(move || {
                let mut page = [0; 2];
                // It has a page of its own, or none.
                match child.write(memory, &[2]) {
                    Ok(()) => {
                        child.read(memory, &mut page).unwrap();
                        assert_eq!(page, [2, 1]);
                    }
                    Err(err) => assert_eq!(err, Errno(5)),
                }
            });
            process.poison(memory).unwrap();
            thread.join();
            assert_eq!(process.read(memory, &mut [0]), Err(Errno(5)));
        });
    });
}
