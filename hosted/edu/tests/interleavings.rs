// SPDX-License-Identifier: GPL-2.0

//! What happens to the device while it is used, in any order: with `--features shuttle`, in
//! hundreds of orders. It copies while everybody else goes on.

#![cfg(pci)]

mod support;

use bindings::{
    sim::{explore, run, spawn, Edu, Errno, Mapped, Module, Process},
    ENODEV, ENOENT,
};
use std::sync::Arc;
use support::{check, filled, load, Device};

/// How many orders are tried.
const TIMES: usize = 200;

/// The device with its driver, and a process with a page that is there.
fn with_memory() -> (Arc<Edu>, Module, Arc<Process>, usize) {
    let edu = Arc::new(Edu::plug());
    let driver = load().unwrap();
    let process = Arc::new(Process::new());
    let memory = filled(&process, 1, 1);
    let moved = Device::open(&process).unwrap().to_device(memory, 1);
    assert_eq!(moved, Ok(1));
    (edu, driver, process, memory)
}

#[test]
fn touched_while_it_is_unbound() {
    explore(TIMES, || {
        run(|| {
            let (edu, _driver, process, memory) = with_memory();
            let toucher = {
                let process = process.clone();
                spawn(move || check(&process, memory, 1, 1))
            };
            edu.unbind().unwrap();
            toucher.join();
            assert_eq!(process.mapped(memory), Mapped::Ram(true));
            check(&process, memory, 1, 1);
        });
    });
}

#[test]
fn used_while_it_is_unbound() {
    explore(TIMES, || {
        run(|| {
            let (edu, _driver, process, memory) = with_memory();
            check(&process, memory, 1, 1);
            let user = {
                let process = process.clone();
                spawn(move || Device::open(&process)?.to_device(memory, 1))
            };
            edu.unbind().unwrap();
            let told = user.join();
            assert!(
                matches!(told, Ok(1) | Err(Errno(ENODEV | ENOENT))),
                "{told:?}"
            );
            assert_eq!(process.mapped(memory), Mapped::Ram(true));
            check(&process, memory, 1, 1);
        });
    });
}

/// Its driver lets go of it when the copy is done, and not before.
#[test]
fn unbound_while_it_copies() {
    explore(TIMES, || {
        run(|| {
            let (edu, _driver, process, memory) = with_memory();
            check(&process, memory, 1, 1);
            let held = edu.hold();
            let user = {
                let process = process.clone();
                spawn(move || Device::open(&process).unwrap().to_device(memory, 1))
            };
            edu.wait_until_busy();
            drop(held);
            edu.unbind().unwrap();
            assert_eq!(process.mapped(memory), Mapped::Ram(true));
            assert_eq!(user.join(), Ok(1));
            check(&process, memory, 1, 1);
        });
    });
}

#[test]
fn two_processes_want_the_page() {
    explore(TIMES, || {
        run(|| {
            let (_edu, _driver, process, memory) = with_memory();
            let other = spawn(move || {
                let process = Process::new();
                let memory = filled(&process, 1, 2);
                let moved = Device::open(&process).unwrap().to_device(memory, 1);
                assert!(matches!(moved, Ok(0 | 1)), "{moved:?}");
                check(&process, memory, 1, 2);
            });
            check(&process, memory, 1, 1);
            let moved = Device::open(&process).unwrap().to_device(memory, 1);
            assert!(matches!(moved, Ok(0 | 1)), "{moved:?}");
            other.join();
            check(&process, memory, 1, 1);
        });
    });
}

#[test]
fn a_process_exits_while_it_is_unbound() {
    explore(TIMES, || {
        run(|| {
            let (edu, _driver, process, _memory) = with_memory();
            let exits = spawn(move || drop(process));
            edu.unbind().unwrap();
            exits.join();
        });
    });
}

#[test]
fn a_child_writes_while_the_parent_reads() {
    explore(TIMES, || {
        run(|| {
            let (_edu, _driver, process, memory) = with_memory();
            let child = process.fork();
            let writer = spawn(move || {
                child.write(memory, &support::pattern(1, 2)).unwrap();
                check(&child, memory, 1, 2);
            });
            check(&process, memory, 1, 1);
            writer.join();
            check(&process, memory, 1, 1);
        });
    });
}

/// It goes from one driver to the same again while somebody else does so too.
#[test]
fn two_unbind_it() {
    explore(TIMES, || {
        run(|| {
            let (edu, _driver, process, memory) = with_memory();
            let other = edu.clone();
            let unbinder = spawn(move || other.unbind());
            let results = [edu.unbind(), unbinder.join()];
            let good = results.iter().filter(|result| result.is_ok()).count();
            assert_eq!(good, 1, "{results:?}");
            assert!(results.contains(&Err(Errno(ENODEV))));
            edu.bind().unwrap();
            check(&process, memory, 1, 1);
        });
    });
}
