// SPDX-License-Identifier: GPL-2.0

//! Large folios: they move as a whole, are split where that does not work, and no byte is lost.

mod support;

use bindings::sim::{
    events, for_each_failure_of, run, Event, Mapped, Process, HUGE_PAGE_SIZE, PAGE_SIZE,
};
use support::{defect, load, pattern, state, Command, Device};

/// How many pages a large folio has.
const NR: usize = HUGE_PAGE_SIZE / PAGE_SIZE;

/// A huge page of `process`, with a pattern.
fn huge_page(process: &Process, nr: usize) -> (usize, Vec<u8>) {
    let memory = process.mmap(nr * HUGE_PAGE_SIZE);
    process.madvise_hugepage(memory, nr * HUGE_PAGE_SIZE);
    let bytes = pattern(nr * NR, 5);
    process.write(memory, &bytes).unwrap();
    assert!((0..nr).all(|i| process.is_huge(memory + i * HUGE_PAGE_SIZE)));
    (memory, bytes)
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
        .filter(|mapped| matches!(mapped, Mapped::Device(..)))
        .count()
}

/// How many folios were split, as the tracepoints say.
fn splits() -> usize {
    let folios = events().into_iter().map(|(_, event)| match event {
        Event::Split { folios, .. } => folios,
        _ => 0,
    });
    folios.sum()
}

#[test]
fn as_a_whole_there_and_back() {
    run(|| {
        let _driver = load().unwrap();
        let process = Process::new();
        let device = Device::open(&process).unwrap();
        let (memory, bytes) = huge_page(&process, 2);

        assert_eq!(
            device.call(Command::MigrateToDev, memory, 2 * NR),
            Ok(2 * NR)
        );
        assert!(process.is_huge(memory) && process.is_huge(memory + HUGE_PAGE_SIZE));
        assert_eq!(on_device(&process, memory, 2 * NR), 2 * NR);
        let there = state::DEV_PRIVATE | state::PMD | state::READ | state::WRITE;
        let seen = device.snapshot(memory, 2 * NR).unwrap();
        assert!(seen
            .iter()
            .all(|page| page & !state::READ == there & !state::READ));
        assert_eq!(device.read(memory, 2 * NR).unwrap(), bytes);

        // The CPU touches a page in the middle of one, and all of it comes.
        assert_eq!(
            contents(&process, memory + 7 * PAGE_SIZE, 1),
            bytes[7 * PAGE_SIZE..8 * PAGE_SIZE]
        );
        assert!(process.is_huge(memory));
        assert_eq!(process.mapped(memory), Mapped::Ram(true));
        assert_eq!(on_device(&process, memory, 2 * NR), NR);

        device.call(Command::MigrateToSys, memory, 2 * NR).unwrap();
        assert!(process.is_huge(memory + HUGE_PAGE_SIZE));
        assert!(contents(&process, memory, 2 * NR) == bytes);
        assert_eq!(splits(), 0);
    });
}

#[test]
fn a_device_without_large_places_gets_pieces() {
    run(|| {
        let _driver = load().unwrap();
        let process = Process::new();
        let device = Device::open(&process).unwrap();
        let (memory, bytes) = huge_page(&process, 1);

        device.break_next(defect::NO_LARGE).unwrap();
        device.call(Command::MigrateToDev, memory, NR).unwrap();
        assert!(!process.is_huge(memory));
        assert_eq!(on_device(&process, memory, NR), NR);
        assert_eq!(splits(), 1);
        assert_eq!(device.read(memory, NR).unwrap(), bytes);
        assert!(contents(&process, memory, NR) == bytes);
    });
}

#[test]
fn what_goes_home_in_pieces() {
    run(|| {
        let _driver = load().unwrap();
        let process = Process::new();
        let device = Device::open(&process).unwrap();
        let (memory, bytes) = huge_page(&process, 1);
        device.call(Command::MigrateToDev, memory, NR).unwrap();

        device.break_next(defect::NO_LARGE).unwrap();
        device.call(Command::MigrateToSys, memory, NR).unwrap();
        assert_eq!(splits(), 1);
        assert_eq!(on_device(&process, memory, NR), 0);
        assert!(!process.is_huge(memory));
        assert!(contents(&process, memory, NR) == bytes);
    });
}

#[test]
fn half_of_one_moves() {
    run(|| {
        let _driver = load().unwrap();
        let process = Process::new();
        let device = Device::open(&process).unwrap();
        let (memory, bytes) = huge_page(&process, 1);
        device.call(Command::MigrateToDev, memory, NR / 2).unwrap();
        assert_eq!(on_device(&process, memory, NR), NR / 2);
        assert!(!process.is_huge(memory));
        assert!(contents(&process, memory, NR) == bytes);

        // The same from there.
        let (memory, bytes) = huge_page(&process, 1);
        device.call(Command::MigrateToDev, memory, NR).unwrap();
        device
            .call(Command::MigrateToSys, memory + HUGE_PAGE_SIZE / 2, NR / 2)
            .unwrap();
        assert_eq!(on_device(&process, memory, NR), NR / 2);
        assert_eq!(device.read(memory, NR).unwrap(), bytes);
        assert!(contents(&process, memory, NR) == bytes);
    });
}

#[test]
fn a_large_hole_is_filled_at_once() {
    run(|| {
        let _driver = load().unwrap();
        let process = Process::new();
        let device = Device::open(&process).unwrap();
        let memory = process.mmap(2 * HUGE_PAGE_SIZE);
        process.madvise_hugepage(memory, 2 * HUGE_PAGE_SIZE);
        // The second has the huge page of zeroes.
        process.read(memory + HUGE_PAGE_SIZE, &mut [0]).unwrap();
        assert!(process.is_huge(memory + HUGE_PAGE_SIZE));
        assert_eq!(process.mapped(memory + HUGE_PAGE_SIZE), Mapped::Zero);

        device.call(Command::MigrateToDev, memory, 2 * NR).unwrap();
        assert!(process.is_huge(memory) && process.is_huge(memory + HUGE_PAGE_SIZE));
        assert_eq!(on_device(&process, memory, 2 * NR), 2 * NR);
        let zeroes = vec![0; 2 * HUGE_PAGE_SIZE];
        assert_eq!(device.read(memory, 2 * NR).unwrap(), zeroes);
        assert_eq!(contents(&process, memory, 2 * NR), zeroes);
    });
}

#[test]
fn a_large_hole_is_filled_in_pieces() {
    run(|| {
        let _driver = load().unwrap();
        let process = Process::new();
        let device = Device::open(&process).unwrap();
        let memory = process.mmap(HUGE_PAGE_SIZE);
        device.break_next(defect::NO_LARGE).unwrap();
        device.call(Command::MigrateToDev, memory, NR).unwrap();
        assert_eq!(on_device(&process, memory, NR), NR);
        assert!(!process.is_huge(memory));
        assert_eq!(contents(&process, memory, NR), vec![0; HUGE_PAGE_SIZE]);
    });
}

#[test]
fn a_child_shares_a_large_folio_of_the_device() {
    run(|| {
        let _driver = load().unwrap();
        let process = Process::new();
        let device = Device::open(&process).unwrap();
        let (memory, bytes) = huge_page(&process, 1);
        device.call(Command::MigrateToDev, memory, NR).unwrap();
        let child = process.fork();
        assert!(child.is_huge(memory) && process.is_huge(memory));
        assert!(matches!(child.mapped(memory), Mapped::Device(_, false)));

        // It comes home for both, and is nobody's alone.
        child.write(memory + PAGE_SIZE, &[0xee]).unwrap();
        assert_eq!(on_device(&process, memory, NR), 0);
        assert!(contents(&process, memory, NR) == bytes);
        let mut changed = bytes.clone();
        changed[PAGE_SIZE] = 0xee;
        assert_eq!(contents(&child, memory, NR), changed);
        drop(child);
        process.write(memory, &[0x77]).unwrap();
        assert_eq!(contents(&process, memory, 1)[0], 0x77);
    });
}

#[test]
fn one_that_is_mapped_in_pieces_is_split_by_a_fault() {
    run(|| {
        let _driver = load().unwrap();
        let process = Process::new();
        let device = Device::open(&process).unwrap();
        let (memory, bytes) = huge_page(&process, 1);
        device.call(Command::MigrateToDev, memory, NR).unwrap();
        // A hole in it: the folio stays large, and is mapped page by page.
        process.munmap(memory + 3 * PAGE_SIZE, PAGE_SIZE);
        assert!(!process.is_huge(memory));
        assert_eq!(on_device(&process, memory, NR), NR - 1);

        for page in [0, 2, 4, NR - 1] {
            let at = page * PAGE_SIZE;
            assert_eq!(
                contents(&process, memory + at, 1),
                bytes[at..at + PAGE_SIZE]
            );
        }
        assert_eq!(on_device(&process, memory, NR), NR - 5);
        for page in (0..NR).filter(|page| *page != 3) {
            let at = page * PAGE_SIZE;
            assert_eq!(
                contents(&process, memory + at, 1),
                bytes[at..at + PAGE_SIZE]
            );
        }
    });
}

#[test]
fn moved_elsewhere() {
    run(|| {
        let _driver = load().unwrap();
        let process = Process::new();
        let device = Device::open(&process).unwrap();
        let (memory, bytes) = huge_page(&process, 2);
        device.call(Command::MigrateToDev, memory, 2 * NR).unwrap();
        // To where a huge page fits, and to where it does not.
        let to = process.mmap(8 * HUGE_PAGE_SIZE);
        process.munmap(to, 8 * HUGE_PAGE_SIZE);
        let (one, two) = (to, to + 3 * HUGE_PAGE_SIZE + PAGE_SIZE);
        process.mremap(memory, HUGE_PAGE_SIZE, one);
        process.mremap(memory + HUGE_PAGE_SIZE, HUGE_PAGE_SIZE, two);
        assert!(process.is_huge(one));
        assert_eq!(on_device(&process, one, NR), NR);
        assert_eq!(on_device(&process, two, NR), NR);
        assert_eq!(process.mapped(memory), Mapped::None);

        // Found by what the device knows of them, wherever they are.
        device.call(Command::Evict, 0, 1).unwrap();
        assert_eq!(on_device(&process, one, NR), 0);
        assert_eq!(on_device(&process, two, NR), 0);
        assert_eq!(contents(&process, one, NR), bytes[..HUGE_PAGE_SIZE]);
        assert_eq!(contents(&process, two, NR), bytes[HUGE_PAGE_SIZE..]);
        // And there again.
        device.call(Command::MigrateToDev, two, NR).unwrap();
        assert_eq!(contents(&process, two, NR), bytes[HUGE_PAGE_SIZE..]);
    });
}

#[test]
fn protected_in_part() {
    run(|| {
        let _driver = load().unwrap();
        let process = Process::new();
        let device = Device::open(&process).unwrap();
        let (memory, bytes) = huge_page(&process, 1);
        device.call(Command::MigrateToDev, memory, NR).unwrap();
        process.mprotect(memory, PAGE_SIZE, false);
        assert!(matches!(process.mapped(memory), Mapped::Device(_, false)));
        assert!(matches!(
            process.mapped(memory + PAGE_SIZE),
            Mapped::Device(_, true)
        ));
        assert!(process.write(memory, &[1]).is_err());
        process.write(memory + PAGE_SIZE, &[1]).unwrap();
        let mut changed = bytes;
        changed[PAGE_SIZE] = 1;
        assert_eq!(contents(&process, memory, NR), changed);
    });
}

#[test]
fn evicted_as_a_whole() {
    run(|| {
        let _driver = load().unwrap();
        let process = Process::new();
        let device = Device::open(&process).unwrap();
        let (memory, bytes) = huge_page(&process, 2);
        device.call(Command::MigrateToDev, memory, 2 * NR).unwrap();
        let child = process.fork();
        assert_eq!(device.call(Command::Evict, 0, 1), Ok(2 * NR));
        assert!(process.is_huge(memory) && child.is_huge(memory));
        assert!(contents(&process, memory, 2 * NR) == bytes);
        assert_eq!(contents(&child, memory, 2 * NR), bytes);
        assert_eq!(splits(), 0);
    });
}

/// Reads memory of a process, as often as it takes: at most one thing fails.
fn read(process: &Process, addr: usize) -> Vec<u8> {
    let mut bytes = vec![0; HUGE_PAGE_SIZE];
    let read = process.read(addr, &mut bytes);
    read.or_else(|_| process.read(addr, &mut bytes))
        .expect("the second time nothing fails");
    bytes
}

#[test]
fn each_step_fails() {
    // What is to do with single pages is in `failures.rs`.
    let steps = &[
        "a large folio of a process",
        "folio_alloc",
        "folio_trylock",
        "folio_split_unmapped",
        "migrate_folio",
        "migrate_vma_insert_page",
        "pgmap_request_folio",
        "split_folio",
        "request_free_mem_region",
        "memremap_pages",
    ];
    let there_and_back = || {
        let _driver = load().unwrap();
        let process = Process::new();
        let device = Device::open(&process).unwrap();
        let memory = process.mmap(2 * HUGE_PAGE_SIZE);
        process.madvise_hugepage(memory, 2 * HUGE_PAGE_SIZE);
        let bytes = pattern(NR, 5);
        process.write(memory, &bytes).unwrap();
        // With the hole behind it.
        let there = device.call(Command::MigrateToDev, memory, 2 * NR);
        let evicted = device.call(Command::Evict, 0, 1);
        let again = device.call(Command::MigrateToDev, memory, 2 * NR);
        // One of them fails at most; which, and whether anything can be seen of it, is not said.
        let _ = (there, evicted, again);
        assert!(read(&process, memory) == bytes, "bytes were lost");
        assert!(read(&process, memory + HUGE_PAGE_SIZE) == vec![0; HUGE_PAGE_SIZE]);
    };
    let whole = for_each_failure_of(steps, there_and_back);
    println!("{whole} failures of large folios");
}

#[test]
fn a_parent_writes_to_two_pages_of_what_it_shares() {
    run(|| {
        let _driver = load().unwrap();
        let process = Process::new();
        let device = Device::open(&process).unwrap();
        let memory = process.mmap(2 * HUGE_PAGE_SIZE);
        process.madvise_hugepage(memory, 2 * HUGE_PAGE_SIZE);
        device.call(Command::MigrateToDev, memory, 2 * NR).unwrap();
        let child = process.fork();
        process.write(memory, &[1; 2 * PAGE_SIZE]).unwrap();
        let mut bytes = vec![0; HUGE_PAGE_SIZE];
        assert!(contents(&child, memory, NR) == bytes);
        bytes[..2 * PAGE_SIZE].fill(1);
        assert!(contents(&process, memory, NR) == bytes);
    });
}

#[test]
fn a_mapping_ends_in_the_middle() {
    run(|| {
        let _driver = load().unwrap();
        let process = Process::new();
        let device = Device::open(&process).unwrap();
        let (memory, bytes) = huge_page(&process, 1);
        device.call(Command::MigrateToDev, memory, NR).unwrap();
        // Nothing changes but where mappings end.
        process.mprotect(memory, PAGE_SIZE, false);
        process.mprotect(memory, PAGE_SIZE, true);
        assert!(!process.is_huge(memory));
        assert_eq!(on_device(&process, memory, NR), NR);
        assert!(contents(&process, memory, NR) == bytes);
    });
}
