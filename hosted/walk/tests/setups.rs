// SPDX-License-Identifier: GPL-2.0

//! The scripts for a driver that is not loaded as usual, each in a program of its own: parameters
//! are set once.

use std::process::Command;

use dpmem_ops::{Script, Setup, SEEDS};

/// Plays the subjects of that name, or else those that the tests use, and gives what was said.
fn play(setup: Setup, names: impl Iterator<Item = String>) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_walk"))
        .arg(setup.name())
        .args(names)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let wrong: Vec<_> = said
        .lines()
        .filter(|line| line.contains(", NOT "))
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.is_empty(), "{errors}");
    said
}

fn scripts_find_what_they_expect(setup: Setup) {
    let said = play(setup, std::iter::empty());
    for script in Script::of(setup) {
        assert!(said.contains(script.name), "{} was not played", script.name);
    }
}

#[test]
fn peers() {
    scripts_find_what_they_expect(Setup::Peers);
}

#[test]
fn windows() {
    scripts_find_what_they_expect(Setup::Windows);
}

#[test]
fn windows_of_peers() {
    scripts_find_what_they_expect(Setup::PeerWindows);
}

/// What is read is what was written, also where pages come home in windows.
#[test]
fn walks_with_windows() {
    play(Setup::Windows, SEEDS.map(|seed| seed.to_string()));
}
