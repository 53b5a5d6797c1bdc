// SPDX-License-Identifier: GPL-2.0

//! Memory of a process migrates to the device and back.

mod support;

use bindings::sim::{run, Mapped, Process, PAGE_SIZE};
use support::{load, pattern, Command, Device};

/// How many pages are moved.
const NR: usize = 16;

#[test]
fn there_and_back() {
    run(|| {
        let _driver = load().unwrap();
        let process = Process::new();
        let device = Device::open(&process).unwrap();
        let memory = process.mmap(NR * PAGE_SIZE);
        let bytes = pattern(NR, 0);
        process.write(memory, &bytes).unwrap();

        assert_eq!(device.call(Command::MigrateToDev, memory, NR), Ok(NR));
        for page in 0..NR {
            let mapped = process.mapped(memory + page * PAGE_SIZE);
            assert!(
                matches!(mapped, Mapped::Device(_, true)),
                "page {page}: {mapped:?}"
            );
        }
        assert_eq!(device.read(memory, NR).unwrap(), bytes);

        // The CPU touches one page, and the others stay.
        let mut first = vec![0; PAGE_SIZE];
        process.read(memory, &mut first).unwrap();
        assert_eq!(first, bytes[..PAGE_SIZE]);
        assert!(matches!(process.mapped(memory), Mapped::Ram(true)));

        device.call(Command::MigrateToSys, memory, NR).unwrap();
        for page in 0..NR {
            assert!(matches!(
                process.mapped(memory + page * PAGE_SIZE),
                Mapped::Ram(true)
            ));
        }
        let mut all = vec![0; NR * PAGE_SIZE];
        process.read(memory, &mut all).unwrap();
        assert_eq!(all, bytes);
    });
}
