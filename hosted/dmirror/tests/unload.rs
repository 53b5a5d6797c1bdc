// SPDX-License-Identifier: GPL-2.0

//! The driver goes while its file is open: a program of its own, as what it leaves is left for all.

mod support;

use bindings::sim::{run, Process};
use std::panic::catch_unwind;
use support::{load, Device};

#[test]
fn unloaded_with_a_file_open() {
    let reported = catch_unwind(|| {
        run(|| {
            let driver = load().unwrap();
            let process = Process::new();
            let device = Device::open(&process).unwrap();
            drop(driver);
            drop(device);
        });
    });
    let said = reported.unwrap_err();
    let said = said.downcast_ref::<String>().unwrap();
    // Its mirror has a reference as well.
    let users = "by 1 references to its module and 1 open files";
    assert!(said.contains(users), "{said}");
}
