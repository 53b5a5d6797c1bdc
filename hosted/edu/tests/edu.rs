// SPDX-License-Identifier: GPL-2.0

//! The scenarios that `guest/demo/src/edu.rs` has for a machine with the device, and what that
//! cannot have.

#![cfg(pci)]

mod support;

use bindings::{
    sim::{
        events, has_printed, iommu, pass, run, spawn, Edu, Errno, Event, Mapped, Module, PciDevice,
        PciId, Process, Register, Slot, PAGE_SIZE,
    },
    EBUSY, EFAULT, EINVAL, EIO, ENODEV, ENOENT, ENOTTY, EOPNOTSUPP, EPERM,
};
use std::{
    panic::catch_unwind,
    sync::{
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc, Arc,
    },
    time::Duration,
};
use support::{
    check, contents, filled, is_there, load, pattern, Device, COPY, TO_DEVICE, TO_RAM, UNKNOWN,
};

/// The device with its driver.
fn bound() -> (Edu, Module) {
    let edu = Edu::plug();
    let driver = load().unwrap();
    assert!(edu.is_bound());
    (edu, driver)
}

/// Moves a page to the device.
fn migrate(process: &Process, memory: usize) {
    let device = Device::open(process).unwrap();
    assert_eq!(device.to_device(memory, 1), Ok(1));
    assert!(is_there(process, memory));
}

fn round_trips(nr: usize) {
    let process = Process::new();
    for seed in 0..nr {
        let memory = filled(&process, 1, seed);
        migrate(&process, memory);
        check(&process, memory, 1, seed);
        assert_eq!(process.mapped(memory), Mapped::Ram(true));
    }
}

#[test]
fn there_and_back() {
    run(|| {
        let (edu, _driver) = bound();
        round_trips(3);
        assert_eq!(edu.copies(), 6);
        let faults = |event: &&Event| matches!(event, Event::Fault { .. });
        let events: Vec<_> = events().into_iter().map(|(_, event)| event).collect();
        assert_eq!(events.iter().filter(faults).count(), 3);
    });
}

#[test]
fn behind_an_iommu() {
    run(|| {
        iommu();
        let (_edu, _driver) = bound();
        round_trips(3);
    });
}

/// The driver, a device that reaches all memory, and a process.
fn reaching() -> (Edu, Module, Process) {
    iommu();
    let (edu, driver) = bound();
    (edu, driver, Process::new())
}

#[test]
fn it_copies_memory_where_it_is() {
    run(|| {
        let (edu, _driver, process) = reaching();
        let device = Device::open(&process).unwrap();
        let (from, to) = (filled(&process, 1, 21), filled(&process, 1, 22));
        assert_eq!(device.copy(from, to), Ok(0));
        check(&process, to, 1, 21);
        assert_eq!(edu.copies(), 2);
        // The same pages, with something else in them.
        process.write(from, &pattern(1, 23)).unwrap();
        assert_eq!(device.copy(from, to), Ok(0));
        check(&process, to, 1, 23);
        // Others: a new one, where there was one that the device knew, one that is written to for
        // the first time, and itself.
        process.madvise_dontneed(from, PAGE_SIZE);
        assert_eq!(device.copy(from, to), Ok(0));
        assert!(contents(&process, to, 1) == [0; PAGE_SIZE]);
        let fresh = process.mmap(PAGE_SIZE);
        process.write(from, &pattern(1, 24)).unwrap();
        assert_eq!(device.copy(from, fresh), Ok(0));
        assert_eq!(device.copy(fresh, fresh), Ok(0));
        check(&process, fresh, 1, 24);
        for seed in 30..40 {
            let other = filled(&process, 1, seed);
            assert_eq!(device.copy(other, to), Ok(0));
            check(&process, to, 1, seed);
        }
    });
}

#[test]
fn what_it_copies_from_its_memory_comes_home() {
    run(|| {
        let (_edu, _driver, process) = reaching();
        let device = Device::open(&process).unwrap();
        let (from, to) = (filled(&process, 1, 25), filled(&process, 1, 26));
        // It knows both where they were.
        assert_eq!(device.copy(to, from), Ok(0));
        process.write(from, &pattern(1, 25)).unwrap();
        assert_eq!(device.to_device(from, 1), Ok(1));
        assert_eq!(device.copy(from, to), Ok(0));
        assert!(!is_there(&process, from));
        check(&process, to, 1, 25);
        assert_eq!(device.to_device(to, 1), Ok(1));
        assert_eq!(device.copy(from, to), Ok(0));
        assert!(!is_there(&process, to));
        check(&process, to, 1, 25);
        // Its only page is somebody's.
        let other = filled(&process, 1, 27);
        assert_eq!(device.to_device(other, 1), Ok(1));
        assert_eq!(device.copy(from, to), Err(Errno(EBUSY)));
        check(&process, other, 1, 27);
    });
}

#[test]
fn a_child_sees_nothing_of_what_is_copied() {
    run(|| {
        let (_edu, _driver, process) = reaching();
        let device = Device::open(&process).unwrap();
        let (from, to) = (filled(&process, 1, 28), filled(&process, 1, 29));
        assert_eq!(device.copy(to, to), Ok(0));
        let child = process.fork();
        assert_eq!(device.copy(from, to), Ok(0));
        check(&process, to, 1, 28);
        check(&child, to, 1, 29);
        // Nor is the file about the child.
        let inherited = device.raw_by(&child, COPY, [from as u64, to as u64]);
        assert_eq!(inherited, Err(Errno(EPERM)));
    });
}

#[test]
fn what_it_may_not_copy() {
    run(|| {
        let (_edu, _driver, process) = reaching();
        let device = Device::open(&process).unwrap();
        let (page, closed) = (filled(&process, 1, 30), filled(&process, 1, 31));
        assert_eq!(device.copy(page, closed), Ok(0));
        process.mprotect(closed, PAGE_SIZE, false);
        assert_eq!(device.copy(page, closed), Err(Errno(EPERM)));
        assert_eq!(device.copy(closed, page), Ok(0));
        process.munmap(closed, PAGE_SIZE);
        assert_eq!(device.copy(closed, page), Err(Errno(EFAULT)));
        assert_eq!(device.copy(page + 1, page), Err(Errno(EINVAL)));
        check(&process, page, 1, 30);
    });
}

#[test]
fn it_copies_nothing_where_it_does_not_reach() {
    run(|| {
        let (_edu, _driver) = bound();
        let process = Process::new();
        let device = Device::open(&process).unwrap();
        let page = filled(&process, 1, 32);
        assert_eq!(device.copy(page, page), Err(Errno(EOPNOTSUPP)));
        // All else works.
        migrate(&process, page);
        check(&process, page, 1, 32);
    });
}

#[test]
fn unbound_after_it_copied() {
    run(|| {
        let (edu, _driver, process) = reaching();
        let device = Device::open(&process).unwrap();
        let page = filled(&process, 1, 33);
        assert_eq!(device.copy(page, page), Ok(0));
        edu.unbind().unwrap();
        assert_eq!(device.copy(page, page), Err(Errno(ENODEV)));
        check(&process, page, 1, 33);
        edu.bind().unwrap();
        assert_eq!(device.copy(page, page), Err(Errno(ENODEV)));
        assert_eq!(Device::open(&process).unwrap().copy(page, page), Ok(0));
    });
}

#[test]
fn its_memory_has_what_the_process_had() {
    run(|| {
        let (edu, _driver) = bound();
        let process = Process::new();
        let memory = filled(&process, 1, 3);
        assert!(edu.memory() != pattern(1, 3));
        migrate(&process, memory);
        assert!(edu.memory() == pattern(1, 3));
    });
}

#[test]
fn home_on_request() {
    run(|| {
        let (_edu, _driver) = bound();
        let process = Process::new();
        let memory = filled(&process, 1, 4);
        migrate(&process, memory);
        let device = Device::open(&process).unwrap();
        assert_eq!(device.to_ram(memory, 1), Ok(1));
        assert_eq!(process.mapped(memory), Mapped::Ram(true));
        check(&process, memory, 1, 4);
    });
}

#[test]
fn a_hole_is_zeroes() {
    run(|| {
        let (edu, _driver) = bound();
        let process = Process::new();
        // So that something else was there before.
        let memory = filled(&process, 1, 5);
        migrate(&process, memory);
        process.munmap(memory, PAGE_SIZE);
        let memory = process.mmap(PAGE_SIZE);
        migrate(&process, memory);
        assert!(edu.memory() == [0; PAGE_SIZE]);
        assert!(contents(&process, memory, 1) == [0; PAGE_SIZE]);
    });
}

#[test]
fn no_room() {
    run(|| {
        let (_edu, _driver) = bound();
        let process = Process::new();
        let memory = filled(&process, 4, 6);
        let device = Device::open(&process).unwrap();
        assert_eq!(device.to_device(memory, 4), Ok(1));
        let pages = (0..4).map(|page| memory + page * PAGE_SIZE);
        assert_eq!(pages.filter(|addr| is_there(&process, *addr)).count(), 1);
        let other = filled(&process, 1, 7);
        assert_eq!(device.to_device(other, 1), Ok(0));
        check(&process, memory, 4, 6);
        check(&process, other, 1, 7);
    });
}

#[test]
fn a_child_writes() {
    run(|| {
        let (_edu, _driver) = bound();
        let process = Process::new();
        let memory = filled(&process, 1, 8);
        migrate(&process, memory);
        let child = process.fork();
        check(&child, memory, 1, 8);
        child.write(memory, &pattern(1, 9)).unwrap();
        check(&process, memory, 1, 8);
        check(&child, memory, 1, 9);
    });
}

#[test]
fn exit_with_memory_there() {
    run(|| {
        let (_edu, _driver) = bound();
        let process = Process::new();
        let memory = filled(&process, 1, 10);
        migrate(&process, memory);
        drop(process);
        // The page is free again.
        round_trips(1);
    });
}

#[test]
fn two_processes() {
    run(|| {
        let (_edu, _driver) = bound();
        let (one, two) = (Process::new(), Process::new());
        let memory = [filled(&one, 1, 1), filled(&two, 1, 2)];
        migrate(&one, memory[0]);
        let device = Device::open(&two).unwrap();
        assert_eq!(device.to_device(memory[1], 1), Ok(0));
        check(&one, memory[0], 1, 1);
        assert_eq!(device.to_device(memory[1], 1), Ok(1));
        check(&one, memory[0], 1, 1);
        check(&two, memory[1], 1, 2);
    });
}

#[test]
fn bad_requests() {
    run(|| {
        let (edu, _driver) = bound();
        let process = Process::new();
        let memory = filled(&process, 1, 12);
        let device = Device::open(&process).unwrap();
        let start = memory as u64;
        let hole = process.mmap(PAGE_SIZE);
        process.munmap(hole, PAGE_SIZE);
        for range in [
            [start, 0],
            [start + 1, 1],
            [start, u64::MAX / PAGE_SIZE as u64],
            [hole as u64, 1],
        ] {
            for request in [TO_DEVICE, TO_RAM] {
                let found = device.raw(request, range);
                assert_eq!(found, Err(Errno(EINVAL)), "{range:x?}");
            }
        }
        assert_eq!(device.raw(UNKNOWN, [start, 1]), Err(Errno(ENOTTY)));
        assert_eq!(edu.copies(), 0);
        check(&process, memory, 1, 12);
    });
}

#[test]
fn unbound() {
    run(|| {
        let (edu, _driver) = bound();
        let process = Process::new();
        let memory = filled(&process, 1, 13);
        migrate(&process, memory);
        let device = Device::open(&process).unwrap();
        edu.unbind().unwrap();
        // The page is at home already, and not because somebody touches it.
        assert_eq!(process.mapped(memory), Mapped::Ram(true));
        assert_eq!(device.to_device(memory, 1), Err(Errno(ENODEV)));
        assert_eq!(Device::open(&process).err(), Some(Errno(ENOENT)));
        check(&process, memory, 1, 13);
        edu.bind().unwrap();
        // What is open belongs to the device that there was.
        assert_eq!(device.to_device(memory, 1), Err(Errno(ENODEV)));
        migrate(&process, memory);
        check(&process, memory, 1, 13);
    });
}

/// Its driver is unloaded, with memory there.
#[test]
fn unloaded() {
    run(|| {
        let (edu, driver) = bound();
        let process = Process::new();
        let memory = filled(&process, 1, 14);
        migrate(&process, memory);
        drop(driver);
        assert!(!edu.is_bound());
        assert_eq!(process.mapped(memory), Mapped::Ram(true));
        check(&process, memory, 1, 14);
        assert_eq!(edu.bind(), Err(Errno(ENODEV)));
    });
}

/// How many processes use the device while its driver is taken away.
const USERS: usize = 12;

#[test]
fn unbound_by_a_dozen() {
    run(|| {
        let (edu, _driver) = bound();
        let (tell, ready) = mpsc::channel();
        let users = (0..USERS).map(|user| {
            let tell = tell.clone();
            spawn(move || use_until_gone(user, &tell))
        });
        let users: Vec<_> = users.collect();
        // Each has asked for something.
        for _ in 0..USERS {
            ready.recv().unwrap();
        }
        edu.unbind().unwrap();
        for user in users {
            user.join();
        }
        edu.bind().unwrap();
        round_trips(3);
    });
}

/// Moves memory and touches it until the device is gone.
fn use_until_gone(user: usize, tell: &mpsc::Sender<()>) {
    let process = Process::new();
    let device = Device::open(&process).unwrap();
    let memory = process.mmap(2 * PAGE_SIZE);
    for round in 0.. {
        process.write(memory, &pattern(2, user + round)).unwrap();
        let moved = device.to_device(memory, 2);
        if round == 0 {
            tell.send(()).unwrap();
        }
        check(&process, memory, 2, user + round);
        if let Err(err) = moved {
            assert_eq!(err, Errno(ENODEV));
            break;
        }
    }
}

/// Unbinding waits for a copy that has begun.
#[test]
fn unbound_while_it_copies() {
    run(|| {
        let (edu, _driver) = bound();
        let edu = Arc::new(edu);
        let process = Arc::new(Process::new());
        let memory = filled(&process, 1, 15);
        let held = edu.hold();
        let mover = {
            let process = process.clone();
            spawn(move || Device::open(&process).unwrap().to_device(memory, 1))
        };
        edu.wait_until_busy();
        let unbinder = {
            let edu = edu.clone();
            spawn(move || edu.unbind())
        };
        drop(held);
        assert_eq!(unbinder.join(), Ok(()));
        assert_eq!(mover.join(), Ok(1));
        assert_eq!(process.mapped(memory), Mapped::Ram(true));
        check(&process, memory, 1, 15);
    });
}

/// Unbinding does not wait for all that a process has asked for.
#[test]
fn unbound_while_much_is_to_move() {
    /// So much that it is not done at once.
    const NR: usize = 1000;

    run(|| {
        let (edu, _driver) = bound();
        let edu = Arc::new(edu);
        let process = Arc::new(Process::new());
        let memory = filled(&process, NR, 20);
        let held = edu.hold();
        let mover = {
            let process = process.clone();
            spawn(move || Device::open(&process).unwrap().to_device(memory, NR))
        };
        edu.wait_until_busy();
        let other = Process::new();
        let page = filled(&other, 1, 21);
        let device = Device::open(&other).unwrap();
        let unbinder = {
            let edu = edu.clone();
            spawn(move || edu.unbind())
        };
        // Until it has begun, there is no room.
        while device.to_device(page, 1) == Ok(0) {}
        drop(held);
        assert_eq!(unbinder.join(), Ok(()));
        assert_eq!(mover.join(), Err(Errno(ENODEV)));
        check(&process, memory, NR, 20);
    });
}

/// A copy that takes longer than it may is worth a message, and is waited for all the same.
#[test]
fn a_copy_that_takes_its_time() {
    run(|| {
        let (edu, _driver) = bound();
        let process = Arc::new(Process::new());
        let memory = filled(&process, 1, 16);
        let held = edu.hold();
        let returned = Arc::new(AtomicBool::new(false));
        let mover = {
            let (process, returned) = (process.clone(), returned.clone());
            spawn(move || {
                let moved = Device::open(&process).unwrap().to_device(memory, 1);
                returned.store(true, SeqCst);
                moved
            })
        };
        edu.wait_until_busy();
        assert!(!has_printed("a copy takes its time"));
        while !has_printed("a copy takes its time") {
            assert!(!returned.load(SeqCst));
            pass(Duration::from_secs(6));
        }
        assert_eq!(edu.copies(), 0);
        drop(held);
        assert_eq!(mover.join(), Ok(1));
        check(&process, memory, 1, 16);
    });
}

/// Who wanted memory on a device that is pulled out keeps it.
#[test]
fn pulled_out_while_it_copies() {
    run(|| {
        let (edu, _driver) = bound();
        let process = Arc::new(Process::new());
        let memory = filled(&process, 1, 17);
        let _held = edu.hold();
        let mover = {
            let process = process.clone();
            spawn(move || Device::open(&process).unwrap().to_device(memory, 1))
        };
        edu.wait_until_busy();
        edu.pull_out();
        assert_eq!(mover.join(), Err(Errno(ENODEV)));
        assert_eq!(process.mapped(memory), Mapped::Ram(true));
        check(&process, memory, 1, 17);
        edu.unbind().unwrap();
    });
}

/// What was on it is lost, and who wants it back is told.
#[test]
fn pulled_out_with_memory_there() {
    run(|| {
        let (edu, _driver) = bound();
        let process = Process::new();
        let memory = filled(&process, 1, 18);
        migrate(&process, memory);
        edu.pull_out();
        assert_eq!(process.read(memory, &mut [0]), Err(Errno(EIO)));
        let device = Device::open(&process).unwrap();
        assert_eq!(device.to_ram(memory, 1), Err(Errno(ENODEV)));
        assert!(is_there(&process, memory));
        edu.unbind().unwrap();
        assert!(has_printed("pulled out: 1 pages of processes are lost"));
        assert_eq!(process.mapped(memory), Mapped::Ram(true));
        let mut page = [1; PAGE_SIZE];
        process.read(memory, &mut page).unwrap();
        assert_eq!(page, [0; PAGE_SIZE]);
    });
}

#[test]
fn there_is_one() {
    run(|| {
        let one = Edu::plug();
        let two = Edu::plug();
        let _driver = load().unwrap();
        assert!(one.is_bound() && !two.is_bound());
        assert!(has_printed("there is one such device already"));
        assert_eq!(two.bind(), Err(Errno(EBUSY)));
        round_trips(1);
        assert_eq!((one.copies(), two.copies()), (2, 0));
        one.unbind().unwrap();
        two.bind().unwrap();
        round_trips(1);
        assert_eq!((one.copies(), two.copies()), (2, 2));
    });
}

/// A device of the same class that is somebody else's.
#[test]
fn another_device() {
    struct Untouched;

    impl bindings::sim::Hardware for Untouched {
        fn read(&self, _slot: &Slot, register: Register) -> u64 {
            panic!("{register:?} is read")
        }

        fn write(self: Arc<Self>, _slot: &Slot, register: Register, _value: u64) {
            panic!("{register:?} is written")
        }
    }

    run(|| {
        let _driver = load().unwrap();
        let id = PciId {
            vendor: 0x1234,
            device: 0x1111,
            class: 0xff00,
            revision: 0,
        };
        let device = PciDevice::plug(id, &[PAGE_SIZE], Arc::new(Untouched));
        assert!(!device.is_bound());
        assert_eq!(device.bind(), Err(Errno(ENODEV)));
    });
}

/// QEMU's default, which is less than a PCI device is expected to reach.
#[test]
fn too_few_addresses() {
    let result = catch_unwind(|| {
        run(|| {
            let _edu = Edu::with_mask((1 << 28) - 1);
            let _driver = load().unwrap();
            let process = Process::new();
            let memory = filled(&process, 1, 19);
            let _ = Device::open(&process).unwrap().to_device(memory, 1);
        })
    });
    let panic = result.expect_err("nothing was reported");
    let text = panic.downcast_ref::<String>().expect("a report is text");
    assert!(text.contains("that it does not reach"), "{text}");
}
