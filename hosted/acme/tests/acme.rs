// SPDX-License-Identifier: GPL-2.0

//! What acme's driver has to get right.

use acme::Acme;
use bindings::sim::{for_each_failure, run, Mapped, Process, PAGE_SIZE};
use dpmem::{NrPages, UserAddr, UserRange};
use kernel::error::Result;

/// How many pages a test moves.
const NR: usize = 4;

/// Moves the pages at `addr` of `process` to the device.
fn prefetch(acme: &Acme, process: &Process, addr: usize) -> Result<usize> {
    let range = UserRange::new(UserAddr::new(addr)?, NrPages::new(NR))?;
    Ok(process.run(|| acme.prefetch(range))?.get())
}

fn is_on_device(process: &Process, addr: usize) -> bool {
    matches!(process.mapped(addr), Mapped::Device(..))
}

#[test]
fn memory_moves_and_a_cpu_brings_it_back() {
    run(|| {
        let acme = Acme::new(NrPages::new(64)).unwrap();
        let process = Process::new();
        let memory = process.mmap(NR * PAGE_SIZE);
        process.write(memory, &[7; NR * PAGE_SIZE]).unwrap();
        assert_eq!(prefetch(&acme, &process, memory).unwrap(), NR);
        assert!(is_on_device(&process, memory));

        let mut bytes = [0; NR * PAGE_SIZE];
        process.read(memory, &mut bytes).unwrap();
        assert_eq!(bytes, [7; NR * PAGE_SIZE]);
        assert!(!is_on_device(&process, memory));
    });
}

#[test]
fn nobody_sees_what_others_have_left() {
    run(|| {
        let acme = Acme::new(NrPages::new(64)).unwrap();
        let first = Process::new();
        let memory = first.mmap(NR * PAGE_SIZE);
        first.write(memory, &[7; NR * PAGE_SIZE]).unwrap();
        prefetch(&acme, &first, memory).unwrap();
        drop(first);

        // This one has never written anything.
        let second = Process::new();
        let memory = second.mmap(NR * PAGE_SIZE);
        assert_eq!(prefetch(&acme, &second, memory).unwrap(), NR);
        let mut bytes = [1; NR * PAGE_SIZE];
        second.read(memory, &mut bytes).unwrap();
        assert!(bytes == [0; NR * PAGE_SIZE], "it sees a {}", bytes[0]);
    });
}

#[test]
fn whatever_fails_no_byte_is_lost() {
    let failures = for_each_failure(|| {
        let process = Process::new();
        let memory = process.mmap(NR * PAGE_SIZE);
        // At most one thing fails, so that the second time it works.
        let write = || process.write(memory, &[7; NR * PAGE_SIZE]);
        write().or_else(|_| write()).unwrap();
        let Ok(acme) = Acme::new(NrPages::new(64)) else {
            return;
        };
        let _ = prefetch(&acme, &process, memory);
        let mut bytes = [0; NR * PAGE_SIZE];
        let mut read = || process.read(memory, &mut bytes);
        read().or_else(|_| read()).unwrap();
        assert_eq!(bytes, [7; NR * PAGE_SIZE]);
    });
    assert!(failures > 0);
}
