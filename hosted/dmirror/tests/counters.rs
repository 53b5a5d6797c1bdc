// SPDX-License-Identifier: GPL-2.0

//! What debugfs shows of a device's memory, and what the tracepoints say of the same.

mod support;

use bindings::sim::{debugfs, events, read_debugfs, run, Event, Process, PAGE_SIZE};
use dpmem::DebugfsRoot;
use std::collections::BTreeMap;
use support::{defect, load, Command, Device};

/// The counters of the only pagemap.
fn counters() -> BTreeMap<String, u64> {
    let of = |path: &str| {
        let name = path.split_once("dmirror-")?.1.split_once('/')?.1.to_owned();
        let value = read_debugfs(path)?;
        Some((name, value.trim().parse().expect("a counter is a number")))
    };
    debugfs().iter().filter_map(|path| of(path)).collect()
}

#[test]
fn each_event_is_counted_and_traced() {
    run(|| {
        let _root = DebugfsRoot::new().unwrap();
        // There is one directory.
        assert!(DebugfsRoot::new().is_err());
        let driver = load().unwrap();
        let process = Process::new();
        let device = Device::open(&process).unwrap();
        let memory = process.mmap(8 * PAGE_SIZE);
        process.write(memory, &[1; 8 * PAGE_SIZE]).unwrap();
        device.call(Command::MigrateToDev, memory, 8).unwrap();
        assert!(debugfs()
            .iter()
            .all(|path| path.starts_with("dpmem/dmirror-")));
        process.read(memory, &mut [0]).unwrap();
        device.call(Command::MigrateToSys, memory, 3).unwrap();
        device.break_next(defect::BREAK_DOWN).unwrap();
        let _ = device.call(Command::MigrateToDev, memory, 3);
        device.call(Command::Evict, 0, 1).unwrap();

        let counted = counters();
        let expected = [
            ("requested", 8 + 3),
            ("freed", 8 + 3),
            ("in_service", 0),
            ("pages", (256 << 20) / PAGE_SIZE as u64),
            ("migrated_in", 8),
            ("migrated_out", 8),
            ("evicted", 5),
            ("faults", 1),
            ("splits", 0),
            ("failures/copy_failed", 1),
            ("failures/no_room", 0),
        ];
        for (name, value) in expected {
            assert_eq!(counted.get(name), Some(&value), "{name}: {counted:?}");
        }

        let mut traced: BTreeMap<&str, u64> = BTreeMap::new();
        for (_, event) in events() {
            let (name, nr) = match event {
                Event::Request { order, .. } => ("requested", 1 << order),
                Event::Free { order, .. } => ("freed", 1 << order),
                Event::Migrate {
                    to_device: true,
                    moved,
                    ..
                } => ("migrated_in", moved as u64),
                Event::Migrate { moved, .. } => ("migrated_out", moved as u64),
                Event::Evict { moved, .. } => ("evicted", moved as u64),
                Event::Fault { .. } => ("faults", 1),
                Event::Split { folios, .. } => ("splits", folios as u64),
                Event::Failure { cause, nr, .. } if cause == "copy_failed" => {
                    ("failures/copy_failed", nr as u64)
                }
                Event::Failure { .. } => continue,
            };
            *traced.entry(name).or_default() += nr;
        }
        for (name, value) in traced {
            assert_eq!(counted.get(name), Some(&value), "{name}");
        }
        drop(device);
        drop(driver);
        // What shows a pagemap goes with it.
        assert_eq!(debugfs(), Vec::<String>::new());
    });
}
