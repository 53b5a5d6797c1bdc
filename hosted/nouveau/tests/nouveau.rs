// SPDX-License-Identifier: GPL-2.0

//! nouveau's device memory, on a card that is a `Card` here. The same sources run in a kernel, with
//! `drivers/nouveau-rs/test`, and there the commands of the copy engine are looked at as well.

use bindings::sim::{for_each_failure, run, Mapped, Process, HUGE_PAGE_SIZE, PAGE_SIZE};
use card::Card;
use kernel::prelude::*;
use std::vec::Vec;

#[expect(dead_code, reason = "another test needs the rest")]
mod card;

/// A huge page, and eight small ones; `from` up to there have a pattern.
fn memory(process: &Process) -> (usize, Vec<u8>) {
    let memory = process.mmap(2 * HUGE_PAGE_SIZE);
    process.madvise_hugepage(memory, HUGE_PAGE_SIZE);
    let bytes: Vec<u8> = (0..HUGE_PAGE_SIZE + 6 * PAGE_SIZE)
        .map(|i| (i / 4093) as u8)
        .collect();
    // One that fails is not failed again.
    let written = process.write(memory, &bytes);
    written.or_else(|_| process.write(memory, &bytes)).unwrap();
    (memory, bytes)
}

/// How much of it is looked at: two pages are holes.
const LEN: usize = HUGE_PAGE_SIZE + 8 * PAGE_SIZE;

fn check(process: &Process, memory: usize, bytes: &[u8]) {
    let mut now = vec![1; LEN];
    let read = process.read(memory, &mut now);
    read.or_else(|_| process.read(memory, &mut now)).unwrap();
    assert!(
        now[..bytes.len()] == *bytes,
        "the process has lost something"
    );
    assert!(
        now[bytes.len()..].iter().all(|byte| *byte == 0),
        "a hole has something"
    );
}

fn on_device(process: &Process, memory: usize) -> usize {
    let pages = (0..LEN / PAGE_SIZE).map(|page| process.mapped(memory + page * PAGE_SIZE));
    pages
        .filter(|mapped| matches!(mapped, Mapped::Device(..)))
        .count()
}

#[test]
fn there_and_back() {
    run(|| {
        let card = Card::new();
        card.init();
        let process = Process::new();
        let (memory, bytes) = memory(&process);
        assert_eq!(card.migrate(&process, memory, LEN), 0);
        assert_eq!(on_device(&process, memory), LEN / PAGE_SIZE);
        assert!(process.is_huge(memory));
        check(&process, memory, &bytes);
        assert_eq!(on_device(&process, memory), 0);
        card.fini();
        assert_eq!(card.buffers(), 0);
    });
}

#[test]
fn asleep() {
    run(|| {
        let card = Card::new();
        card.init();
        let process = Process::new();
        let (memory, bytes) = memory(&process);
        assert_eq!(card.migrate(&process, memory, LEN), 0);
        card.suspend();
        assert_eq!(on_device(&process, memory), 0);
        assert_eq!(card.buffers(), 0);
        // Nobody's memory goes to a card without power.
        card.migrate(&process, memory, LEN);
        assert_eq!(on_device(&process, memory), 0);
        card.resume();
        assert_eq!(card.migrate(&process, memory, LEN), 0);
        assert_eq!(on_device(&process, memory), LEN / PAGE_SIZE);
        check(&process, memory, &bytes);
        card.fini();
    });
}

#[test]
fn asleep_with_memory_that_could_not_be_copied() {
    run(|| {
        let card = Card::new();
        card.init();
        let process = Process::new();
        let (memory, bytes) = memory(&process);
        assert_eq!(card.migrate(&process, memory, LEN), 0);
        card.fail_copies(usize::MAX);
        card.suspend();
        assert!(on_device(&process, memory) > 0);
        card.fail_copies(0);
        // The buffers are somewhere else now.
        card.resume();
        check(&process, memory, &bytes);
        card.fini();
    });
}

/// What was left on the card has no place there for a while.
#[test]
fn asleep_and_no_place_afterwards() {
    run(|| {
        let card = Card::new();
        card.init();
        let process = Process::new();
        let (memory, bytes) = memory(&process);
        assert_eq!(card.migrate(&process, memory, LEN), 0);
        card.fail_copies(usize::MAX);
        card.suspend();
        card.fail_copies(0);
        let left = on_device(&process, memory);
        assert!(left > 0);
        card.fill_up(true);
        card.resume();
        let mut now = vec![0; LEN];
        assert!(process.read(memory, &mut now).is_err());
        assert_eq!(on_device(&process, memory), left);
        card.fill_up(false);
        check(&process, memory, &bytes);
        assert_eq!(card.migrate(&process, memory, LEN), 0);
        check(&process, memory, &bytes);
        card.fini();
        assert_eq!((card.buffers(), card.fences()), (0, 0));
    });
}

#[test]
fn asleep_and_not_to_be_woken_up() {
    run(|| {
        let card = Card::new();
        card.init();
        let process = Process::new();
        let (memory, bytes) = memory(&process);
        assert_eq!(card.migrate(&process, memory, LEN), 0);
        card.fail_copies(usize::MAX);
        card.suspend();
        card.fail_copies(0);
        let left = on_device(&process, memory);
        assert!(left > 0);
        card.break_down(true);
        // It does not try for ever.
        assert!(process.read(memory, &mut [0; PAGE_SIZE]).is_err());
        assert_eq!(on_device(&process, memory), left);
        card.break_down(false);
        card.resume();
        check(&process, memory, &bytes);
        card.fini();
    });
}

#[test]
fn a_suspend_fails_later_on() {
    run(|| {
        let card = Card::new();
        card.init();
        let process = Process::new();
        let (memory, bytes) = memory(&process);
        assert_eq!(card.migrate(&process, memory, LEN), 0);
        card.fail_copies(usize::MAX);
        card.fail_to_suspend();
        card.fail_copies(0);
        // There is nothing to wait for: the card is awake, for all that anybody knows.
        assert!(process.read(memory, &mut [0; PAGE_SIZE]).is_err());
        assert!(on_device(&process, memory) > 0);
        // It was not lost.
        card.fini();
        assert_eq!(on_device(&process, memory), 0);
        check(&process, memory, &bytes);
    });
}

#[test]
fn taken_away() {
    run(|| {
        let card = Card::new();
        card.init();
        let process = Process::new();
        let (memory, bytes) = memory(&process);
        assert_eq!(card.migrate(&process, memory, LEN), 0);
        card.fini();
        assert_eq!(on_device(&process, memory), 0);
        assert!(card.jobs_unplugged() > 0);
        assert_eq!(card.migrate(&process, memory, LEN), ENODEV.to_errno());
        check(&process, memory, &bytes);
        // Twice, and without anything in between, as when the first attempt to bring the card up
        // failed.
        card.fini();
        card.suspend();
        card.resume();
    });
}

#[test]
fn a_card_without_memory_for_processes() {
    run(|| {
        for card in [Card::older(), Card::without_memory()] {
            card.init();
            let process = Process::new();
            let (memory, bytes) = memory(&process);
            assert_eq!(card.migrate(&process, memory, LEN), ENODEV.to_errno());
            check(&process, memory, &bytes);
            card.suspend();
            card.resume();
            card.fini();
        }
    });
}

#[test]
fn a_copy_takes_its_time() {
    run(|| {
        let card = Card::new();
        card.init();
        let process = Process::new();
        let (memory, bytes) = memory(&process);
        card.delay(2);
        assert_eq!(card.migrate(&process, memory, LEN), 0);
        card.delay(3);
        check(&process, memory, &bytes);
        card.fini();
    });
}

#[test]
fn copies_fail_one_after_the_other() {
    run(|| {
        let card = Card::new();
        card.init();
        for nth in 1..8 {
            let process = Process::new();
            let (memory, bytes) = memory(&process);
            card.fail_copy(nth);
            let there = card.migrate(&process, memory, LEN);
            assert!(there == 0 || there == EIO.to_errno());
            check(&process, memory, &bytes);
        }
        card.fini();
        assert_eq!(card.fences(), 0);
    });
}

/// A window is tried again in small pages, and the next one is not kept from moving.
#[test]
fn copies_of_a_huge_page_fail() {
    const BOTH: usize = 2 * HUGE_PAGE_SIZE;
    run(|| {
        let card = Card::new();
        card.init();
        for (failures, told, stay) in [(1, 0, 0), (2, EIO.to_errno(), HUGE_PAGE_SIZE)] {
            let process = Process::new();
            let memory = process.mmap(BOTH);
            process.madvise_hugepage(memory, BOTH);
            let bytes: Vec<u8> = (0..BOTH).map(|i| (i / 4093) as u8).collect();
            process.write(memory, &bytes).unwrap();
            card.fail_copies(failures);
            assert_eq!(card.migrate(&process, memory, BOTH), told);
            for addr in (memory..memory + BOTH).step_by(PAGE_SIZE) {
                let there = matches!(process.mapped(addr), Mapped::Device(..));
                assert_eq!(there, addr >= memory + stay);
            }
            assert!(process.is_huge(memory + HUGE_PAGE_SIZE));
            let mut now = vec![0; BOTH];
            process.read(memory, &mut now).unwrap();
            assert!(now == bytes);
        }
        card.fini();
        assert_eq!(card.fences(), 0);
    });
}

#[test]
fn pulled_out() {
    run(|| {
        let card = Card::new();
        card.init();
        let process = Process::new();
        let (memory, bytes) = memory(&process);
        assert_eq!(card.migrate(&process, memory, LEN), 0);
        card.pull_out();
        // While it is bound, it does not say that anything was zero.
        assert!(process.read(memory, &mut [0; PAGE_SIZE]).is_err());
        card.fini();
        assert_eq!(on_device(&process, memory), 0);
        let mut now = vec![1; LEN];
        process.read(memory, &mut now).unwrap();
        assert!(now.iter().all(|byte| *byte == 0));
        process.write(memory, &bytes).unwrap();
        check(&process, memory, &bytes);
        assert_eq!((card.buffers(), card.fences()), (0, 0));
    });
}

#[test]
fn pulled_out_while_it_is_taken_away() {
    run(|| {
        let card = Card::new();
        card.init();
        let process = Process::new();
        let (memory, bytes) = memory(&process);
        // All in one batch, of which the card does a part.
        assert_eq!(card.migrate(&process, memory, LEN), 0);
        card.pull_out_after(1);
        card.fini();
        assert_eq!(card.jobs_unplugged(), 1);
        assert_eq!(on_device(&process, memory), 0);
        // What could be copied is there or not, but nothing else is.
        let mut now = vec![1; LEN];
        process.read(memory, &mut now).unwrap();
        for (page, now) in now.chunks(PAGE_SIZE).enumerate() {
            let before = bytes.get(page * PAGE_SIZE..(page + 1) * PAGE_SIZE);
            assert!(now.iter().all(|byte| *byte == 0) || Some(now) == before);
        }
        assert_eq!((card.buffers(), card.fences()), (0, 0));
    });
}

#[test]
fn no_room() {
    run(|| {
        let card = Card::new();
        card.init();
        let process = Process::new();
        let (memory, bytes) = memory(&process);
        card.fill_up(true);
        assert_eq!(card.migrate(&process, memory, LEN), 0);
        assert_eq!(on_device(&process, memory), 0);
        check(&process, memory, &bytes);
        card.fill_up(false);
        assert_eq!(card.migrate(&process, memory, LEN), 0);
        assert_eq!(on_device(&process, memory), LEN / PAGE_SIZE);
        check(&process, memory, &bytes);
        card.fini();
    });
}

#[test]
fn each_step_fails() {
    let failures = for_each_failure(|| {
        let card = Card::new();
        card.init();
        let process = Process::new();
        let memory = process.mmap(4 * PAGE_SIZE);
        let bytes = [7; 3 * PAGE_SIZE];
        let written = process.write(memory, &bytes);
        written.or_else(|_| process.write(memory, &bytes)).unwrap();
        card.migrate(&process, memory, 4 * PAGE_SIZE);
        card.suspend();
        card.resume();
        card.migrate(&process, memory, 4 * PAGE_SIZE);
        let mut now = [1; 4 * PAGE_SIZE];
        let read = process.read(memory, &mut now);
        read.or_else(|_| process.read(memory, &mut now)).unwrap();
        assert!(now[..3 * PAGE_SIZE] == bytes && now[3 * PAGE_SIZE..] == [0; PAGE_SIZE]);
        card.migrate(&process, memory, 4 * PAGE_SIZE);
        card.fini();
        let read = process.read(memory, &mut now);
        read.or_else(|_| process.read(memory, &mut now)).unwrap();
        assert!(now[..3 * PAGE_SIZE] == bytes && now[3 * PAGE_SIZE..] == [0; PAGE_SIZE]);
        assert_eq!((card.buffers(), card.fences()), (0, 0));
    });
    assert!(failures > 20, "only {failures} failures");
}

/// A huge page moves in pieces, or stays, and comes home in pieces.
#[test]
fn each_step_with_a_huge_page_fails() {
    let failures = for_each_failure(|| {
        let card = Card::new();
        card.init();
        let process = Process::new();
        let memory = process.mmap(HUGE_PAGE_SIZE);
        process.madvise_hugepage(memory, HUGE_PAGE_SIZE);
        let bytes: Vec<u8> = (0..HUGE_PAGE_SIZE).map(|i| (i / 4093) as u8).collect();
        let written = process.write(memory, &bytes);
        written.or_else(|_| process.write(memory, &bytes)).unwrap();
        let mut now = vec![0; HUGE_PAGE_SIZE];
        let mut check = || {
            let read = process.read(memory, &mut now);
            read.or_else(|_| process.read(memory, &mut now)).unwrap();
            assert!(now == bytes);
        };
        card.migrate(&process, memory, HUGE_PAGE_SIZE);
        card.suspend();
        card.resume();
        card.migrate(&process, memory, HUGE_PAGE_SIZE);
        check();
        card.migrate(&process, memory, HUGE_PAGE_SIZE);
        card.fini();
        check();
        assert_eq!((card.buffers(), card.fences()), (0, 0));
    });
    assert!(failures > 20, "only {failures} failures");
}
