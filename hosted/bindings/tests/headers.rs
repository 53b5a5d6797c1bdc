// SPDX-License-Identifier: GPL-2.0

//! Each fake says how fake it is, in its first lines and in the documentation.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The files in `folder`, and in the folders in it.
fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let all = entries.flat_map(|entry| match entry.file_type().unwrap().is_dir() {
        true => files_in(&entry.path()),
        false => vec![entry.path()],
    });
    all.collect()
}

/// The files of this crate, by their paths in it.
fn files() -> Vec<(String, PathBuf)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let name = |path: &Path| path.strip_prefix(&folder).unwrap().display().to_string();
    let all = files_in(&folder);
    assert!(all.len() > 40, "these are not all: {all:?}");
    all.into_iter().map(|path| (name(&path), path)).collect()
}

/// What a file says of itself, in one line.
fn header(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().skip_while(|line| !line.starts_with("//!"));
    let lines = lines.map_while(|line| line.strip_prefix("//!"));
    lines.map(|line| format!("{} ", line.trim())).collect()
}

#[test]
fn each_file_says_what_is_not_simulated() {
    for (name, path) in files() {
        let header = header(&path);
        let says = header.contains("Not simulated: ");
        let says = says && (header.contains("Real: ") || name == "lib.rs");
        assert!(
            says || header.contains("All of it is real"),
            "src/{name} does not say what is real and what is not simulated"
        );
    }
}

#[test]
fn the_documentation_has_each_file() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Documentation/hosted.rst");
    let text = fs::read_to_string(path).unwrap();
    let (_, table) = text.split_once("What is faked, and how\n====").unwrap();
    let (table, _) = table.split_once("What the tests reach\n====").unwrap();
    // What is none of C's: it only makes the machine.
    let ours = ["lib.rs", "host.rs", "machine.rs", "report.rs"];
    for (name, _) in files() {
        // A folder has one line.
        let end = name.find('/').map_or(name.len(), |at| at + 1);
        let listed = table.contains(&format!("``{}``", &name[..end]));
        assert!(
            listed || ours.contains(&name.as_str()),
            "the table in hosted.rst does not have {name}"
        );
    }
}
