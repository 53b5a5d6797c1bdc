// SPDX-License-Identifier: GPL-2.0

//! What cargo checks: format, lints, tests, documentation.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::Result;

use crate::ktap::Status;
use crate::process::{self, Logged};
use crate::progress::Step;
use crate::repo;
use crate::report::{Report, Test};

/// The name that these tests have in the report.
const SUITE: &str = "cargo";

fn cargo() -> Command {
    cargo_in(&repo::top())
}

/// Cargo, in the workspace at `folder`.
pub(crate) fn cargo_in(folder: &Path) -> Command {
    let program = std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
    let mut command = Command::new(program);
    command.current_dir(folder);
    command
}

/// Makes sure that a component of the toolchain is there: rustup adds it, if it can.
fn component(subcommand: &str, component: &str) -> Result<(), String> {
    let present = || process::output(cargo().args([subcommand, "--version"])).is_ok();
    if present() {
        return Ok(());
    }
    let added = process::output(Command::new("rustup").args(["component", "add", component]));
    match added {
        Ok(_) if present() => Ok(()),
        Ok(_) => Err(format!(
            "cargo {subcommand} is missing, though rustup added {component}"
        )),
        Err(error) => Err(format!(
            "cargo {subcommand} is missing, and rustup cannot add {component}: {error:#}"
        )),
    }
}

/// Runs a step; each line of its output is looked at by `on_line`.
pub(super) fn step(
    name: &str,
    needs: Option<(&str, &str)>,
    command: &mut Command,
    report: &mut Report,
    on_line: impl FnMut(&str),
) -> Result<bool> {
    let started = Instant::now();
    let progress = Step::start(format!("cargo: {name}"), None);
    let log = report.folder().join(format!("cargo-{name}.log"));
    let outcome = match needs.map_or(Ok(()), |(subcommand, of)| component(subcommand, of)) {
        Err(missing) => Err(missing),
        Ok(()) => Logged {
            what: name,
            log: &log,
            advice: "mend it, and run the same command again",
        }
        .run(command, on_line)
        .map_err(|error| format!("{error:#}")),
    };
    progress.finish();
    let good = outcome.is_ok();
    report.add(Test::new(
        SUITE,
        name,
        outcome,
        started.elapsed().as_secs_f64(),
    ))?;
    Ok(good)
}

/// The crates that Kbuild builds, and cargo does not know.
const KERNEL_CRATES: [&str; 8] = [
    "dpmem-core/src/lib.rs",
    "dpmem-drm/src/lib.rs",
    "linux/kbuild/dpmem_main.rs",
    "linux/kbuild/dpmem_drm_main.rs",
    "samples/dmirror/src/dmirror.rs",
    "samples/edu/src/edu.rs",
    "drivers/nouveau-rs/src/nouveau_dmem_rust.rs",
    "drivers/xe-glue/src/xe_pagemap_rust.rs",
];

/// The format.
pub(super) fn format(report: &mut Report) -> Result<()> {
    let needs = Some(("fmt", "rustfmt"));
    let mut command = cargo();
    command.args(["fmt", "--all", "--check"]);
    step("fmt", needs, &mut command, report, |_| {})?;
    let mut command = Command::new("rustfmt");
    command
        .current_dir(repo::top())
        .arg("--check")
        .args(KERNEL_CRATES);
    step("fmt-kernel", needs, &mut command, report, |_| {}).map(|_| ())
}

/// The lints.
pub(super) fn lint(report: &mut Report) -> Result<()> {
    let mut command = cargo();
    command.args([
        "clippy",
        "--locked",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]);
    step(
        "clippy",
        Some(("clippy", "clippy")),
        &mut command,
        report,
        |_| {},
    )
    .map(|_| ())
}

/// The documentation.
pub(super) fn document(report: &mut Report) -> Result<()> {
    let mut command = cargo();
    command.args([
        "doc",
        "--locked",
        "--workspace",
        "--no-deps",
        "--document-private-items",
    ]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    step("doc", None, &mut command, report, |_| {}).map(|_| ())
}

/// The tests, each of which is one in the report.
pub(super) fn test(report: &mut Report) -> Result<()> {
    let mut command = cargo();
    command.args(["test", "--locked", "--workspace", "--no-fail-fast"]);
    run_tests("test", &mut command, report)
}

/// Runs `command`, which is one of `cargo test`: each test is one in the report.
pub(super) fn run_tests(name: &str, command: &mut Command, report: &mut Report) -> Result<()> {
    let mut tests = Vec::new();
    let mut program = String::new();
    let good = step(name, None, command, report, |line| {
        if let Some(name) = running(line) {
            program = name;
        }
        tests.extend(result(line, &program));
    })?;
    let failed = tests.iter().any(|test| test.status == Status::Fail);
    for test in tests {
        report.add(test)?;
    }
    if good && failed {
        report.add(Test::new(
            SUITE,
            name,
            Err("a test failed, and cargo did not say so".to_owned()),
            0.0,
        ))?;
    }
    Ok(())
}

/// The program of `Running unittests src/main.rs (target/debug/deps/xtask-...)`.
fn running(line: &str) -> Option<String> {
    let line = line.trim();
    if let Some(name) = line.strip_prefix("Doc-tests ") {
        return Some(format!("{name} (documentation)"));
    }
    let path = line
        .strip_prefix("Running ")?
        .rsplit_once('(')?
        .1
        .trim_end_matches(')');
    let file = path.rsplit('/').next()?;
    Some(
        file.rsplit_once('-')
            .map_or(file, |(name, _)| name)
            .to_owned(),
    )
}

/// The result in a line of libtest.
fn result(line: &str, program: &str) -> Option<Test> {
    let (name, outcome) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    let (status, reason) = match outcome.split(',').next()?.trim() {
        "ok" => (Status::Pass, None),
        "FAILED" => (Status::Fail, None),
        "ignored" => (
            Status::Skip,
            Some(outcome.trim_start_matches("ignored, ").to_owned()),
        ),
        _ => return None,
    };
    Some(Test {
        suite: format!("{SUITE}/{program}"),
        name: name.to_owned(),
        number: None,
        status,
        reason,
        seconds: 0.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtest() {
        assert_eq!(
            running("     Running unittests src/main.rs (target/debug/deps/xtask-0123)").unwrap(),
            "xtask"
        );
        assert_eq!(
            running("   Doc-tests dpmem_macros").unwrap(),
            "dpmem_macros (documentation)"
        );
        assert_eq!(running("test x ... ok"), None);
        let status = |line: &str| result(line, "p").map(|test| test.status);
        assert_eq!(status("test a::b ... ok"), Some(Status::Pass));
        assert_eq!(
            status("test a::b - should panic ... FAILED"),
            Some(Status::Fail)
        );
        assert_eq!(
            status("test a::b ... ignored, needs a disk"),
            Some(Status::Skip)
        );
        assert_eq!(status("test result: ok. 3 passed; 0 failed"), None);
    }
}
