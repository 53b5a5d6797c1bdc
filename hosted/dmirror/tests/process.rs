// SPDX-License-Identifier: GPL-2.0

//! What a process may do to its memory while pages of it are on the device.

mod support;

use bindings::sim::{
    for_each_failure_of, now, restless, run, spawn, Errno, Mapped, Process, PAGE_SIZE,
};
use std::sync::Arc;
use support::{defect, load, pattern, state, Command, Device};

const EFAULT: Errno = Errno(14);
const EIO: Errno = Errno(5);
const EPERM: Errno = Errno(1);
const EBUSY: Errno = Errno(16);

/// Memory of `process`, on the device but for what `skip` says, with a pattern.
fn on_device(process: &Process, device: &Device<'_>, nr: usize) -> (usize, Vec<u8>) {
    let memory = process.mmap(nr * PAGE_SIZE);
    let bytes = pattern(nr, 3);
    process.write(memory, &bytes).unwrap();
    device.call(Command::MigrateToDev, memory, nr).unwrap();
    assert!((0..nr).all(|page| is_on_device(process, memory + page * PAGE_SIZE)));
    (memory, bytes)
}

fn is_on_device(process: &Process, addr: usize) -> bool {
    matches!(process.mapped(addr), Mapped::Device(..))
}

fn contents(process: &Process, addr: usize, nr: usize) -> Vec<u8> {
    let mut bytes = vec![0; nr * PAGE_SIZE];
    process.read(addr, &mut bytes).unwrap();
    bytes
}

#[test]
fn holes_are_filled_with_zeroes() {
    run(|| {
        let _driver = load().unwrap();
        let process = Process::new();
        let device = Device::open(&process).unwrap();
        let memory = process.mmap(8 * PAGE_SIZE);
        // One page, one page of zeroes, six holes.
        process.write(memory, &[7; PAGE_SIZE]).unwrap();
        process.read(memory + PAGE_SIZE, &mut [0]).unwrap();
        assert_eq!(process.mapped(memory + PAGE_SIZE), Mapped::Zero);

        device.call(Command::MigrateToDev, memory, 8).unwrap();
        assert!((0..8).all(|page| is_on_device(&process, memory + page * PAGE_SIZE)));
        let mut expected = vec![0; 8 * PAGE_SIZE];
        expected[..PAGE_SIZE].fill(7);
        assert_eq!(device.read(memory, 8).unwrap(), expected);
        assert_eq!(contents(&process, memory, 8), expected);
    });
}

#[test]
fn memory_is_reaped_unless_the_device_is_at_it() {
    let mut reaped = 0;
    let mut runs = 0;
    for_each_failure_of(&["mutex_trylock"], || {
        let _driver = load().unwrap();
        let process = Process::new();
        let device = Device::open(&process).unwrap();
        let (memory, bytes) = on_device(&process, &device, 4);
        assert_eq!(device.read(memory, 4).unwrap(), bytes);
        let went = process.oom_reap(memory, 4 * PAGE_SIZE);
        if went {
            // Nobody gets to see something else in its place.
            assert_eq!(device.read(memory, 4), Err(EFAULT));
            assert_eq!(process.read(memory, &mut [0]), Err(EFAULT));
        } else {
            assert_eq!(device.read(memory, 4).unwrap(), bytes);
            assert_eq!(contents(&process, memory, 4), bytes);
        }
        reaped += usize::from(went);
        runs += 1;
    });
    // Once when nothing fails, and not when the mirror is busy.
    assert!(reaped >= 1 && reaped < runs, "{reaped} of {runs}");
}

#[test]
fn the_device_writes_and_the_cpu_sees_it() {
    run(|| {
        let _driver = load().unwrap();
        let process = Process::new();
        let device = Device::open(&process).unwrap();
        let (memory, mut bytes) = on_device(&process, &device, 4);

        let new = pattern(2, 9);
        device.write(memory + PAGE_SIZE, &new).unwrap();
        bytes[PAGE_SIZE..3 * PAGE_SIZE].copy_from_slice(&new);
        // It wrote to its own memory.
        assert!((0..4).all(|page| is_on_device(&process, memory + page * PAGE_SIZE)));
        assert_eq!(contents(&process, memory, 4), bytes);
        // And now to that of the system.
        device.write(memory, &new).unwrap();
        bytes[..2 * PAGE_SIZE].copy_from_slice(&new);
        assert!(!is_on_device(&process, memory));
        assert_eq!(contents(&process, memory, 4), bytes);
    });
}

#[test]
fn a_child_shares_pages_until_somebody_writes() {
    run(|| {
        let _driver = load().unwrap();
        let parent = Process::new();
        let device = Device::open(&parent).unwrap();
        let (memory, bytes) = on_device(&parent, &device, 3);

        let child = parent.fork();
        assert!(is_on_device(&child, memory));
        // The child writes: its page comes home, and is copied. The parent's is in system memory as
        // well, and unchanged.
        child.write(memory, &[0xcc]).unwrap();
        assert_eq!(child.mapped(memory), Mapped::Ram(true));
        assert_eq!(contents(&parent, memory, 3), bytes);
        let mut changed = bytes.clone();
        changed[0] = 0xcc;
        assert_eq!(contents(&child, memory, 3), changed);
        // The parent's device writes to a page that both have: the child keeps the old one.
        device.write(memory + PAGE_SIZE, &pattern(1, 0x55)).unwrap();
        assert_eq!(contents(&child, memory, 3), changed);
        assert_eq!(contents(&parent, memory + PAGE_SIZE, 1), pattern(1, 0x55));
    });
}

#[test]
fn pages_of_two_processes_move_together() {
    run(|| {
        let _driver = load().unwrap();
        let parent = Process::new();
        let device = Device::open(&parent).unwrap();
        let memory = parent.mmap(2 * PAGE_SIZE);
        let bytes = pattern(2, 4);
        parent.write(memory, &bytes).unwrap();
        let child = parent.fork();

        device.call(Command::MigrateToDev, memory, 2).unwrap();
        assert_eq!(child.mapped(memory), parent.mapped(memory));
        assert!(matches!(child.mapped(memory), Mapped::Device(_, false)));
        assert_eq!(contents(&child, memory, 2), bytes);
        assert_eq!(contents(&parent, memory, 2), bytes);
    });
}

#[test]
fn what_is_unmapped_goes_back_to_the_allocator() {
    run(|| {
        let _driver = load().unwrap();
        let process = Process::new();
        let device = Device::open(&process).unwrap();
        let (memory, bytes) = on_device(&process, &device, 4);
        let Mapped::Device(offset, _) = process.mapped(memory + PAGE_SIZE) else {
            panic!("the page is on the device");
        };

        process.munmap(memory + PAGE_SIZE, PAGE_SIZE);
        process.madvise_dontneed(memory + 2 * PAGE_SIZE, PAGE_SIZE);
        assert_eq!(process.read(memory + PAGE_SIZE, &mut [0]), Err(EFAULT));
        assert_eq!(
            contents(&process, memory + 2 * PAGE_SIZE, 1),
            [0; PAGE_SIZE]
        );
        assert_eq!(contents(&process, memory, 1), bytes[..PAGE_SIZE]);
        // The lowest idle page is the one that came back first.
        let (other, _) = on_device(&process, &device, 1);
        assert!(matches!(process.mapped(other), Mapped::Device(at, _) if at <= offset));
    });
}

#[test]
fn read_only_memory_stays_read_only() {
    run(|| {
        let _driver = load().unwrap();
        let process = Process::new();
        let device = Device::open(&process).unwrap();
        let (memory, bytes) = on_device(&process, &device, 2);

        process.mprotect(memory, 2 * PAGE_SIZE, false);
        assert!(matches!(process.mapped(memory), Mapped::Device(_, false)));
        // It has a translation now, which is for reading.
        assert_eq!(device.read(memory, 1).unwrap(), bytes[..PAGE_SIZE]);
        assert_eq!(device.write(memory, &pattern(1, 1)), Err(EPERM));
        assert_eq!(process.write(memory, &[1]), Err(EFAULT));
        assert_eq!(contents(&process, memory, 2), bytes);
        process.mprotect(memory, 2 * PAGE_SIZE, true);
        process.write(memory, &[1]).unwrap();
        device.write(memory + PAGE_SIZE, &pattern(1, 2)).unwrap();
        assert_eq!(contents(&process, memory + PAGE_SIZE, 1), pattern(1, 2));
    });
}

#[test]
fn an_exit_gives_everything_back() {
    run(|| {
        let _driver = load().unwrap();
        let witness = Process::new();
        let device = Device::open(&witness).unwrap();
        for _ in 0..3 {
            let process = Process::new();
            let other = Device::open(&process).unwrap();
            on_device(&process, &other, 16);
        }
        let (memory, _) = on_device(&witness, &device, 1);
        assert!(matches!(witness.mapped(memory), Mapped::Device(0, _)));
    });
}

#[test]
fn the_device_gives_up_its_memory() {
    run(|| {
        let _driver = load().unwrap();
        let process = Process::new();
        let device = Device::open(&process).unwrap();
        let (memory, bytes) = on_device(&process, &device, 16);
        let child = process.fork();

        device.call(Command::Release, memory, 1).unwrap();
        assert!((0..16).all(|page| !is_on_device(&process, memory + page * PAGE_SIZE)));
        assert_eq!(contents(&process, memory, 16), bytes);
        assert_eq!(contents(&child, memory, 16), bytes);
        // It is registered anew.
        on_device(&process, &device, 4);
    });
}

#[test]
fn exclusive_access_to_what_has_to_be_copied_first() {
    run(|| {
        let _driver = load().unwrap();
        let process = Process::new();
        let device = Device::open(&process).unwrap();
        let memory = process.mmap(4 * PAGE_SIZE);
        // The page of zeroes, one that a child has as well, and one that is on the device.
        process.write(memory + PAGE_SIZE, &[1]).unwrap();
        let child = process.fork();
        process.write(memory + 2 * PAGE_SIZE, &[2]).unwrap();
        device
            .call(Command::MigrateToDev, memory + 2 * PAGE_SIZE, 1)
            .unwrap();
        process.read(memory, &mut [0]).unwrap();
        assert_eq!(device.call(Command::Exclusive, memory, 3), Ok(3));
        for page in 0..3 {
            let addr = memory + page * PAGE_SIZE;
            assert_eq!(process.mapped(addr), Mapped::Exclusive);
            let mut byte = [0];
            process.read(addr, &mut byte).unwrap();
            assert_eq!(usize::from(byte[0]), page);
        }
        drop(child);
    });
}

#[test]
fn exclusive_access_ends_with_the_first_access() {
    run(|| {
        let _driver = load().unwrap();
        let process = Process::new();
        let device = Device::open(&process).unwrap();
        let memory = process.mmap(2 * PAGE_SIZE);
        process.write(memory, &pattern(2, 6)).unwrap();

        device.call(Command::Exclusive, memory, 2).unwrap();
        assert_eq!(process.mapped(memory), Mapped::Exclusive);
        assert_eq!(device.call(Command::CheckExclusive, memory, 2), Err(EPERM));
        let new = pattern(2, 8);
        device.write(memory, &new).unwrap();
        assert_eq!(process.mapped(memory), Mapped::Exclusive);
        assert_eq!(contents(&process, memory, 2), new);
        assert_eq!(process.mapped(memory), Mapped::Ram(true));
        device.call(Command::CheckExclusive, memory, 2).unwrap();
    });
}

#[test]
fn a_mapping_of_the_driver_does_not_migrate() {
    run(|| {
        let _driver = load().unwrap();
        let process = Process::new();
        let device = Device::open(&process).unwrap();
        let memory = device.mmap(2 * PAGE_SIZE).unwrap();
        process.write(memory, &[3; PAGE_SIZE]).unwrap();
        assert!(device.call(Command::MigrateToDev, memory, 2).is_err());
        assert_eq!(contents(&process, memory, 1), [3; PAGE_SIZE]);
        assert_eq!(device.read(memory, 1).unwrap(), [3; PAGE_SIZE]);
        process.munmap(memory, 2 * PAGE_SIZE);
    });
}

/// Threads that store to memory, while it moves to the device and back all the time: no store is
/// lost.
#[test]
fn threads_use_what_moves() {
    const NR: usize = 8;
    const ROUNDS: u8 = 50;
    run(|| {
        let _driver = load().unwrap();
        let process = Arc::new(Process::new());
        let memory = process.mmap(NR * PAGE_SIZE);
        let threads: Vec<_> = (0..2)
            .map(|half| {
                let process = process.clone();
                spawn(move || {
                    for round in 1..=ROUNDS {
                        for page in (0..NR).filter(|page| page % 2 == half) {
                            let addr = memory + page * PAGE_SIZE + page;
                            let mut before = [0];
                            process.read(addr, &mut before).unwrap();
                            assert_eq!(before, [round - 1], "page {page}");
                            process.write(addr, &[round]).unwrap();
                        }
                    }
                })
            })
            .collect();
        {
            let device = Device::open(&process).unwrap();
            for _ in 0..ROUNDS {
                // Pages that a thread is looking at stay.
                let _ = device.call(Command::MigrateToDev, memory, NR);
                let _ = device.call(Command::MigrateToSys, memory, NR);
            }
        }
        threads.into_iter().for_each(|thread| thread.join());
        for page in 0..NR {
            assert_eq!(
                contents(&process, memory + page * PAGE_SIZE, 1)[page],
                ROUNDS
            );
        }
    });
}

/// A process that never lets go: the device gives up after a while, and can have it later.
#[test]
fn a_process_that_never_rests() {
    run(|| {
        let _driver = load().unwrap();
        let process = Process::new();
        let device = Device::open(&process).unwrap();
        let memory = process.mmap(2 * PAGE_SIZE);
        let bytes = pattern(2, 6);
        process.write(memory, &bytes).unwrap();
        restless(true);
        let begun = now();
        assert_eq!(device.read(memory, 2).map(drop), Err(EBUSY));
        // Not before, and not much later.
        let seconds = (now() - begun).as_secs_f64();
        assert!((5.0..6.0).contains(&seconds), "{seconds} s");
        assert_eq!(device.snapshot(memory, 2).map(drop), Err(EBUSY));
        restless(false);
        assert!(device.read(memory, 2) == Ok(bytes));
    });
}

/// A device that writes to memory, while that moves to its own memory and back all the time: no
/// store is lost.
#[test]
fn the_device_uses_what_moves() {
    const ROUNDS: u8 = 100;
    run(|| {
        let _driver = load().unwrap();
        let process = Arc::new(Process::new());
        let memory = process.mmap(2 * PAGE_SIZE);
        let thread = {
            let process = process.clone();
            spawn(move || {
                let device = Device::open(&process).unwrap();
                for round in 1..=ROUNDS {
                    // A busy machine may take longer than the device is patient.
                    while device.write(memory, &[round; 2 * PAGE_SIZE]) == Err(EBUSY) {}
                    assert_eq!(contents(&process, memory, 2), [round; 2 * PAGE_SIZE]);
                }
            })
        };
        {
            let device = Device::open(&process).unwrap();
            for _ in 0..ROUNDS {
                let _ = device.call(Command::MigrateToDev, memory, 2);
                let _ = device.call(Command::MigrateToSys, memory, 2);
            }
        }
        thread.join();
    });
}

#[test]
fn a_device_that_breaks_down_loses_nothing() {
    run(|| {
        let _driver = load().unwrap();
        let process = Process::new();
        let device = Device::open(&process).unwrap();
        let memory = process.mmap(4 * PAGE_SIZE);
        let bytes = pattern(4, 3);
        process.write(memory, &bytes).unwrap();
        for defect in [defect::BREAK_DOWN, defect::TIME_OUT] {
            device.break_next(defect).unwrap();
            assert!(device.call(Command::MigrateToDev, memory, 4).is_err());
            assert_eq!(process.mapped(memory), Mapped::Ram(true));
        }
        device.call(Command::MigrateToDev, memory, 4).unwrap();
        // A CPU that touches it meanwhile gets a bus error, and the page is still there.
        device.break_next(defect::TIME_OUT).unwrap();
        assert_eq!(process.read(memory, &mut [0]), Err(EIO));
        assert!(is_on_device(&process, memory));
        device.break_next(defect::TIME_OUT).unwrap();
        assert!(device.call(Command::Evict, 0, 1).is_err());
        assert_eq!(contents(&process, memory, 4), bytes);
    });
}

#[test]
fn what_the_kernel_knows_of_each_page() {
    run(|| {
        let _driver = load().unwrap();
        let process = Process::new();
        let device = Device::open(&process).unwrap();
        let other = Device::open_as(&process, "hmm_dmirror1").unwrap();
        let memory = process.mmap(6 * PAGE_SIZE);
        let at = |page: usize| memory + page * PAGE_SIZE;
        process.write(at(1), &[1]).unwrap();
        process.read(at(2), &mut [0]).unwrap();
        device.call(Command::MigrateToDev, at(3), 1).unwrap();
        other.call(Command::MigrateToDev, at(4), 1).unwrap();
        process.write(at(5), &[1]).unwrap();
        process.mprotect(at(5), PAGE_SIZE, false);
        let seen = device.snapshot(memory, 6).unwrap();
        let expected = [
            state::NONE,
            state::READ | state::WRITE,
            state::READ | state::ZERO,
            state::READ | state::WRITE | state::DEV_PRIVATE,
            // What another device has is as good as nowhere.
            state::NONE,
            state::READ,
        ];
        let access = |seen: u8| match seen & 0x03 {
            // To write is more than to read.
            0 => seen,
            _ => seen & 0xfc | if seen & state::WRITE != 0 { 3 } else { 1 },
        };
        let seen: Vec<u8> = seen.into_iter().map(access).collect();
        assert_eq!(seen, expected);
        // Beyond the end nothing is mapped.
        process.munmap(at(5), PAGE_SIZE);
        let seen = device.snapshot(at(4), 2).unwrap();
        assert_eq!(seen, [state::NONE, state::ERROR]);
    });
}

#[test]
fn clients_know_what_comes_home() {
    run(|| {
        let _driver = load().unwrap();
        let process = Process::new();
        let device = Device::open(&process).unwrap();
        let (memory, bytes) = on_device(&process, &device, 8);
        process.read(memory, &mut [0]).unwrap();
        process.read(memory + 4 * PAGE_SIZE, &mut [0]).unwrap();
        device.call(Command::MigrateToSys, memory, 8).unwrap();
        device.call(Command::Usage, 0, 1).unwrap();
        let [_, clients, _, home, faults] = device.answer().unwrap();
        assert_eq!((clients, home, faults), (1, 8, 2));
        assert_eq!(contents(&process, memory, 8), bytes);
    });
}

#[test]
fn what_is_freed_lazily_goes_if_nobody_writes_to_it() {
    run(|| {
        let process = Process::new();
        let memory = process.mmap(3 * PAGE_SIZE);
        process.write(memory, &[7; 3 * PAGE_SIZE]).unwrap();
        process.madvise_free(memory, 2 * PAGE_SIZE);
        process.write(memory, &[8]).unwrap();
        process.madvise_pageout(memory, 3 * PAGE_SIZE);
        assert_eq!(process.mapped(memory), Mapped::Ram(true));
        assert_eq!(process.mapped(memory + PAGE_SIZE), Mapped::None);
        assert_eq!(contents(&process, memory + PAGE_SIZE, 1), [0; PAGE_SIZE]);
        assert_eq!(
            contents(&process, memory + 2 * PAGE_SIZE, 1),
            [7; PAGE_SIZE]
        );
    });
}
