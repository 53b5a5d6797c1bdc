// SPDX-License-Identifier: GPL-2.0

//! Each thing that can fail does so in turn, from loading the driver to unbinding it. An error may
//! come of it, and nothing else: no byte is lost, and nothing is left over, which is for the
//! machine to say.

#![cfg(pci)]

mod support;

use bindings::{
    sim::{for_each_failure, for_each_failure_of, iommu, Edu, Errno, Process, PAGE_SIZE},
    EBUSY, ENODEV, EOPNOTSUPP,
};
use support::{load, pattern, Device};

/// How many pages want to move. One does.
const NR: usize = 2;

/// Reads memory of a process, as often as it takes: at most one thing fails.
fn read(process: &Process, memory: usize) -> Vec<u8> {
    let mut bytes = vec![0; NR * PAGE_SIZE];
    let read = process.read(memory, &mut bytes);
    read.or_else(|_| process.read(memory, &mut bytes))
        .expect("the second time nothing fails");
    bytes
}

/// What fails may also be that a page moves.
fn all_moved(nr: usize) -> Result<(), Errno> {
    match nr {
        1 => Ok(()),
        _ => Err(Errno(EBUSY)),
    }
}

/// A life of the device.
fn life() -> Result<(), Errno> {
    let edu = Edu::plug();
    let _driver = load()?;
    let process = Process::new();
    let memory = process.mmap(NR * PAGE_SIZE);
    let bytes = pattern(NR, 1);
    process.write(memory, &bytes)?;
    if !edu.is_bound() {
        // Its driver did not want it, and the second time nothing fails.
        assert_eq!(edu.bind(), Ok(()));
        return Err(Errno(ENODEV));
    }
    {
        let device = Device::open(&process)?;
        // By request, and when a CPU touches it.
        let there = device.to_device(memory, NR);
        let back = device.to_ram(memory, NR);
        assert_eq!(read(&process, memory), bytes);
        all_moved(there?)?;
        all_moved(back?)?;
        let there = device.to_device(memory, NR);
        assert_eq!(read(&process, memory), bytes);
        all_moved(there?)?;
        let hole = process.mmap(PAGE_SIZE);
        let there = device.to_device(hole, 1);
        let mut zeroes = [1; PAGE_SIZE];
        process.read(hole, &mut zeroes)?;
        assert_eq!(zeroes, [0; PAGE_SIZE]);
        all_moved(there?)?;
        // Where it is, if there is an IOMMU.
        let copied = device.copy(memory + PAGE_SIZE, hole);
        process.read(hole, &mut zeroes)?;
        match copied {
            Ok(_) => assert_eq!(zeroes, bytes[PAGE_SIZE..2 * PAGE_SIZE]),
            Err(Errno(EOPNOTSUPP)) => {}
            Err(err) => return Err(err),
        }
        all_moved(device.to_device(memory, 1)?)?;
    }
    // What is there comes home, whatever fails.
    assert_eq!(edu.unbind(), Ok(()));
    let mut page = [0; PAGE_SIZE];
    process.read(memory, &mut page)?;
    assert_eq!(page, bytes[..PAGE_SIZE]);
    edu.bind()
}

/// Whether enough goes wrong, and not all.
fn try_all(first: impl Fn()) {
    let mut good = 0;
    let failures = for_each_failure(|| {
        first();
        good += usize::from(life().is_ok());
    });
    println!("{failures} failures, of which {good} could be hidden");
    assert!(good > 0 && failures > good, "{good} of {failures}");
}

#[test]
fn a_life() {
    try_all(|| {});
}

#[test]
fn a_life_behind_an_iommu() {
    try_all(iommu);
}

/// What the driver asks of its device.
#[test]
fn probing() {
    let what = &[
        "pci_enable_device_mem",
        "pci_iomap",
        "request_region",
        "dma_alloc_coherent",
        "misc_register",
    ];
    let failures = for_each_failure_of(what, || {
        let edu = Edu::plug();
        let Ok(_driver) = load() else {
            return;
        };
        let first = edu.is_bound();
        let second = edu.bind();
        assert!(first || second.is_ok(), "{second:?}");
    });
    assert!(failures >= what.len(), "{failures}");
}
