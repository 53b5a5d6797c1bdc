// SPDX-License-Identifier: GPL-2.0

//! The scripts for devices that reach each other's memory, in a program of their own: whether they
//! do is said once.

use std::process::Command;

use dpmem_ops::Script;

#[test]
fn scripts_find_what_they_expect() {
    let output = Command::new(env!("CARGO_BIN_EXE_walk"))
        .arg("--peers")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && !said.is_empty());
    let wrong: Vec<_> = said
        .lines()
        .filter(|line| line.contains(", NOT "))
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    for script in Script::of_peers() {
        assert!(said.contains(script.name), "{} was not played", script.name);
    }
}
