// SPDX-License-Identifier: GPL-2.0

//! What is said where the source of the kernel is missing.

use std::{
    env,
    path::Path,
    process::{Command, Output},
};

/// A folder in which nothing is: nobody makes it.
const EMPTY: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/empty");

/// Looks as a build script does, in a program of its own, which ends if there is no source. `name`
/// is that of the test, and `variables` are all that say where to look.
fn look(name: &str, variables: &[(&str, &str)]) -> Output {
    const CASE: &str = "CASE_THAT_LOOKS";
    if env::var(CASE).is_ok_and(|case| case == name) {
        panic!("it was found: {}", source::linux().display());
    }
    assert!(!Path::new(EMPTY).exists());
    let program = env::current_exe().unwrap();
    Command::new(program)
        .args(["--exact", name, "--nocapture"])
        .env_remove("DPMEM_LINUX")
        .env_remove("DPMEM_CACHE")
        .envs(variables.iter().copied())
        .env(CASE, name)
        .output()
        .unwrap()
}

/// The only thing that it said to cargo, which fails the build.
fn error(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout);
    // The name of the test may be on the same line.
    let errors = |line: &str| Some(line.split_once("cargo::error=")?.1.to_owned());
    let mut lines = said.lines().filter_map(errors);
    let line = lines.next().expect("nothing is missing");
    assert_eq!(lines.next(), None);
    // Cargo sees to the rest.
    assert!(output.status.success());
    line
}

#[test]
fn a_cache_in_which_nothing_is() {
    let output = look("a_cache_in_which_nothing_is", &[("DPMEM_CACHE", EMPTY)]);
    assert_eq!(
        error(&output),
        format!(
            "there is no source of Linux 7.3 at {EMPTY}/src/7.3/linux: \
             `cargo xtask hosted --linux 7.3`, in the folder above hosted/, gets it"
        )
    );
}

#[test]
fn another_series() {
    let variables = [("DPMEM_CACHE", EMPTY), ("DPMEM_LINUX", "7.2")];
    let line = error(&look("another_series", &variables));
    assert!(line.contains(&format!(
        "{EMPTY}/src/7.2/linux: `cargo xtask hosted --linux 7.2`"
    )));
}

#[test]
fn a_folder_that_is_no_kernel() {
    let output = look("a_folder_that_is_no_kernel", &[("DPMEM_LINUX", EMPTY)]);
    let line = format!("DPMEM_LINUX={EMPTY} is not a kernel's source");
    assert_eq!(error(&output), line);
}

#[test]
fn a_cache_in_a_folder_of_nobody() {
    let output = look("a_cache_in_a_folder_of_nobody", &[("DPMEM_CACHE", "here")]);
    assert_eq!(
        error(&output),
        "DPMEM_CACHE=here must be absolute for cargo"
    );
}
