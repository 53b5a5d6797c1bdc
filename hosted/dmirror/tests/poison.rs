// SPDX-License-Identifier: GPL-2.0

//! Memory of a process that has failed: neither a CPU nor the device gets it, and what lies around
//! it does not suffer.

mod support;

use bindings::sim::{for_each_failure, run, Errno, Mapped, Process, HUGE_PAGE_SIZE, PAGE_SIZE};
use support::{load, pattern, state, Command, Device};

const ENOENT: Errno = Errno(2);
const EIO: Errno = Errno(5);
const EFAULT: Errno = Errno(14);
const EBUSY: Errno = Errno(16);

/// How many pages the memory has, and which of them fails.
const NR: usize = 8;
const BAD: usize = 3;

/// How many pages a huge page has.
const HUGE_NR: usize = HUGE_PAGE_SIZE / PAGE_SIZE;

fn page_at(memory: usize, page: usize) -> usize {
    memory + page * PAGE_SIZE
}

/// Memory of `process` with a pattern.
fn filled(process: &Process) -> (usize, Vec<u8>) {
    let memory = process.mmap(NR * PAGE_SIZE);
    let bytes = pattern(NR, 7);
    process.write(memory, &bytes).unwrap();
    (memory, bytes)
}

/// That the process has `bytes` at `memory`, but for page `bad`, which it cannot use.
fn assert_all_but(process: &Process, memory: usize, bytes: &[u8], bad: usize) {
    for (page, expected) in bytes.chunks(PAGE_SIZE).enumerate() {
        let mut found = vec![0; PAGE_SIZE];
        let read = process.read(page_at(memory, page), &mut found);
        if page == bad {
            assert_eq!(read, Err(EIO));
            assert_eq!(process.write(page_at(memory, page), &[1]), Err(EIO));
            assert_eq!(process.mapped(page_at(memory, page)), Mapped::Poisoned);
        } else {
            assert_eq!(read, Ok(()));
            assert!(found == expected, "page {page}");
        }
    }
}

fn on_device(process: &Process, memory: usize, nr: usize) -> Vec<usize> {
    let is_there =
        |page: &usize| matches!(process.mapped(page_at(memory, *page)), Mapped::Device(..));
    (0..nr).filter(is_there).collect()
}

/// Moves all pages to the device but the bad one, which it says that it cannot read then.
fn migrate_around(device: &Device<'_>, memory: usize, nr: usize) {
    let there = device.call(Command::MigrateToDev, memory, nr);
    assert_eq!(there, Err(ENOENT));
}

/// All pages but the bad one.
fn good(nr: usize) -> Vec<usize> {
    (0..nr).filter(|page| *page != BAD).collect()
}

#[test]
fn it_migrates_around_it_and_back() {
    run(|| {
        let _driver = load().unwrap();
        let process = Process::new();
        let device = Device::open(&process).unwrap();
        let (memory, bytes) = filled(&process);
        process.poison(page_at(memory, BAD)).unwrap();
        assert_all_but(&process, memory, &bytes, BAD);
        // It is known, and nobody finds the page again to say it twice.
        assert_eq!(process.poison(page_at(memory, BAD)), Err(EFAULT));

        migrate_around(&device, memory, NR);
        assert_eq!(on_device(&process, memory, NR), good(NR));
        assert_eq!(process.mapped(page_at(memory, BAD)), Mapped::Poisoned);
        device.call(Command::MigrateToSys, memory, NR).unwrap();
        assert_eq!(on_device(&process, memory, NR), []);
        assert_all_but(&process, memory, &bytes, BAD);
    });
}

#[test]
fn the_device_gets_an_error() {
    run(|| {
        let _driver = load().unwrap();
        let process = Process::new();
        let device = Device::open(&process).unwrap();
        let (memory, bytes) = filled(&process);
        // The device has seen the page, and must not use what it has found.
        assert_eq!(device.read(memory, NR), Ok(bytes.clone()));
        process.poison(page_at(memory, BAD)).unwrap();

        assert_eq!(device.read(memory, NR), Err(EFAULT));
        assert_eq!(device.read(page_at(memory, BAD), 1), Err(EFAULT));
        assert_eq!(
            device.write(page_at(memory, BAD), &pattern(1, 1)),
            Err(EFAULT)
        );
        assert_eq!(
            device.call(Command::Exclusive, page_at(memory, BAD), 1),
            Err(EFAULT)
        );
        assert_eq!(
            device.read(memory, BAD),
            Ok(bytes[..BAD * PAGE_SIZE].to_vec())
        );
        // Who only asks is told that nothing is there.
        let seen = device.snapshot(memory, NR).unwrap();
        let expected: Vec<u8> = (0..NR)
            .map(|page| {
                if page == BAD {
                    state::NONE
                } else {
                    state::WRITE
                }
            })
            .collect();
        assert_eq!(seen, expected);
        assert_all_but(&process, memory, &bytes, BAD);
    });
}

#[test]
fn it_comes_home_to_fail() {
    run(|| {
        let _driver = load().unwrap();
        let process = Process::new();
        let device = Device::open(&process).unwrap();
        let (memory, bytes) = filled(&process);
        device.call(Command::MigrateToDev, memory, NR).unwrap();
        process.poison(page_at(memory, BAD)).unwrap();
        assert_eq!(on_device(&process, memory, NR), good(NR));
        assert_all_but(&process, memory, &bytes, BAD);
    });
}

#[test]
fn it_is_everybodys_again_to_fail() {
    run(|| {
        let _driver = load().unwrap();
        let process = Process::new();
        let device = Device::open(&process).unwrap();
        let (memory, bytes) = filled(&process);
        device.call(Command::Exclusive, memory, NR).unwrap();
        assert_eq!(process.mapped(page_at(memory, BAD)), Mapped::Exclusive);
        process.poison(page_at(memory, BAD)).unwrap();
        assert_eq!(process.mapped(memory), Mapped::Exclusive);
        assert_all_but(&process, memory, &bytes, BAD);
    });
}

#[test]
fn a_huge_page_is_split_first() {
    run(|| {
        let _driver = load().unwrap();
        let process = Process::new();
        let device = Device::open(&process).unwrap();
        let memory = process.mmap(HUGE_PAGE_SIZE);
        process.madvise_hugepage(memory, HUGE_PAGE_SIZE);
        let bytes = pattern(HUGE_NR, 7);
        process.write(memory, &bytes).unwrap();
        assert!(process.is_huge(memory));

        process.poison(page_at(memory, BAD)).unwrap();
        assert!(!process.is_huge(memory));
        migrate_around(&device, memory, HUGE_NR);
        assert_eq!(on_device(&process, memory, HUGE_NR), good(HUGE_NR));
        device.call(Command::MigrateToSys, memory, HUGE_NR).unwrap();
        assert_all_but(&process, memory, &bytes, BAD);
    });
}

#[test]
fn a_huge_page_on_the_device_comes_home_first() {
    run(|| {
        let _driver = load().unwrap();
        let process = Process::new();
        let device = Device::open(&process).unwrap();
        let memory = process.mmap(HUGE_PAGE_SIZE);
        process.madvise_hugepage(memory, HUGE_PAGE_SIZE);
        let bytes = pattern(HUGE_NR, 7);
        process.write(memory, &bytes).unwrap();
        device.call(Command::MigrateToDev, memory, HUGE_NR).unwrap();
        assert!(process.is_huge(memory));

        process.poison(page_at(memory, BAD)).unwrap();
        assert!(!process.is_huge(memory));
        assert_eq!(on_device(&process, memory, HUGE_NR), []);
        assert_all_but(&process, memory, &bytes, BAD);
    });
}

#[test]
fn a_page_of_zeroes_in_a_huge_page_fails_as_well() {
    run(|| {
        let process = Process::new();
        let memory = process.mmap(HUGE_PAGE_SIZE);
        process.madvise_hugepage(memory, HUGE_PAGE_SIZE);
        process.write(memory, &[1]).unwrap();
        process.poison(page_at(memory, BAD)).unwrap();
        assert_eq!(process.mapped(page_at(memory, BAD)), Mapped::Poisoned);
        // The others are not kept.
        assert_eq!(process.mapped(page_at(memory, BAD + 1)), Mapped::Zero);
    });
}

#[test]
fn all_who_have_it_lose_it() {
    run(|| {
        let _driver = load().unwrap();
        let parent = Process::new();
        let device = Device::open(&parent).unwrap();
        let (memory, bytes) = filled(&parent);
        let before = parent.fork();
        parent.poison(page_at(memory, BAD)).unwrap();
        let after = parent.fork();
        for process in [&parent, &before, &after] {
            assert_all_but(process, memory, &bytes, BAD);
        }

        // One has written to it before, so that its page is another one.
        let (memory, bytes) = filled(&parent);
        let child = parent.fork();
        child.write(page_at(memory, BAD), &[9]).unwrap();
        parent.poison(page_at(memory, BAD)).unwrap();
        assert_all_but(&parent, memory, &bytes, BAD);
        let mut read = [0];
        child.read(page_at(memory, BAD), &mut read).unwrap();
        assert_eq!(read, [9]);

        // A parent that is gone takes nothing with it.
        migrate_around(&device, memory, NR);
        drop(device);
        drop(parent);
        child.read(page_at(memory, BAD), &mut read).unwrap();
        assert_eq!(read, [9]);
        assert_eq!(on_device(&child, memory, NR), good(NR));
        drop((before, after));
    });
}

#[test]
fn what_it_takes_to_be_rid_of_it() {
    run(|| {
        let _driver = load().unwrap();
        let process = Process::new();
        let device = Device::open(&process).unwrap();
        let (memory, bytes) = filled(&process);
        let bad = page_at(memory, BAD);
        process.poison(bad).unwrap();

        process.mprotect(memory, NR * PAGE_SIZE, false);
        assert_eq!(process.mapped(bad), Mapped::Poisoned);
        assert_eq!(process.read(bad, &mut [0]), Err(EIO));
        // And not that it may not be written to.
        assert_eq!(device.write(bad, &pattern(1, 2)), Err(EFAULT));
        process.mprotect(memory, NR * PAGE_SIZE, true);
        assert_all_but(&process, memory, &bytes, BAD);

        let to = process.mmap(NR * PAGE_SIZE);
        process.munmap(to, NR * PAGE_SIZE);
        process.mremap(memory, NR * PAGE_SIZE, to);
        assert_all_but(&process, to, &bytes, BAD);
        let bad = page_at(to, BAD);

        process.madvise_dontneed(bad, PAGE_SIZE);
        assert_eq!(process.mapped(bad), Mapped::None);
        let mut read = [1];
        process.read(bad, &mut read).unwrap();
        assert_eq!(read, [0]);
        // What is there now is nobody's but the process's, who may use it.
        device.write(bad, &pattern(1, 2)).unwrap();
        device.call(Command::MigrateToDev, to, NR).unwrap();
        assert_eq!(on_device(&process, to, NR).len(), NR);

        process.poison(bad).unwrap();
        process.munmap(bad, PAGE_SIZE);
        assert_eq!(process.mapped(bad), Mapped::None);
        assert_eq!(process.poison(bad), Err(EFAULT));
    });
}

#[test]
fn what_is_nobodys_does_not_fail() {
    run(|| {
        let process = Process::new();
        let memory = process.mmap(PAGE_SIZE);
        assert_eq!(process.poison(memory), Err(EBUSY));
        assert_eq!(process.mapped(memory), Mapped::Zero);
        process.write(memory, &[1]).unwrap();
        assert_eq!(process.poison(memory), Ok(()));
    });
}

fn around_it() -> Result<(), Errno> {
    let _driver = load()?;
    let process = Process::new();
    let memory = process.mmap(NR * PAGE_SIZE);
    let bytes = pattern(NR, 7);
    process.write(memory, &bytes)?;
    let device = Device::open(&process)?;
    device.call(Command::MigrateToDev, memory, NR)?;
    process.poison(page_at(memory, BAD))?;
    let child = process.fork();
    let there = device.call(Command::MigrateToDev, memory, NR);
    assert_eq!(process.mapped(page_at(memory, BAD)), Mapped::Poisoned);
    let read = device.read(memory, NR);
    assert!(read.is_err());
    let back = device.call(Command::MigrateToSys, memory, NR);
    for process in [&process, &child] {
        for page in good(NR) {
            let mut found = vec![0; PAGE_SIZE];
            let at = page_at(memory, page);
            // At most one thing fails.
            let again = |_| process.read(at, &mut found);
            process.read(at, &mut vec![0; PAGE_SIZE]).or_else(again)?;
            process.read(at, &mut found)?;
            assert!(found == bytes[page * PAGE_SIZE..][..PAGE_SIZE]);
        }
    }
    back?;
    match there {
        Err(ENOENT) => Ok(()),
        Err(err) => Err(err),
        Ok(_) => panic!("the device has read what has failed"),
    }
}

#[test]
fn each_thing_fails_in_turn() {
    let mut good = 0;
    let failures = for_each_failure(|| good += usize::from(around_it().is_ok()));
    assert!(good > 0 && failures > good, "{good} of {failures}");
}
