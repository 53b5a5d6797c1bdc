// SPDX-License-Identifier: GPL-2.0

//! What cargo checks in `hosted/`, which needs the source of a kernel.

use std::time::Instant;

use anyhow::Result;

use super::cargo;
use crate::cli::{KernelChoice, LinuxChoice};
use crate::hosted;
use crate::report::{Report, Test};
use crate::version::Series;

/// The crates that are ours; the others are the kernel's files.
const OURS: [&str; 22] = [
    "-p",
    "acme",
    "-p",
    "bindings",
    "-p",
    "demo",
    "-p",
    "dmirror",
    "-p",
    "dpmem",
    "-p",
    "dpmem_drm",
    "-p",
    "edu",
    "-p",
    "nouveau",
    "-p",
    "source",
    "-p",
    "walk",
    "-p",
    "xe",
];

/// Those that have threads in many orders.
const INTERLEAVED: [&str; 6] = ["bindings", "dmirror", "dpmem", "edu", "nouveau", "xe"];

/// Whether the hosted tests reach as much of `dpmem-core` as they should.
pub(super) fn coverage(report: &mut Report) -> Result<()> {
    let began = Instant::now();
    let outcome = match hosted::coverage(&hosted::DEFAULT)? {
        true => Ok(()),
        false => Err("a test failed, or too few lines are reached: see above".to_owned()),
    };
    let seconds = began.elapsed().as_secs_f64();
    report.add(Test::new("hosted", "coverage", outcome, seconds))
}

/// Lints and tests over the Rust files of `series` and a simulated `kernel`, and with the default
/// of both also the format, the demo, and threads in many orders. If `full`, the tests run with a
/// sanitizer as well, for which everything is compiled again.
pub(super) fn run(
    series: Series,
    kernel: KernelChoice,
    full: bool,
    report: &mut Report,
) -> Result<()> {
    let linux = LinuxChoice::Package(series);
    let name = |what: &str| match kernel {
        KernelChoice::Dpmem => format!("hosted-{series}-{what}"),
        KernelChoice::Stock => format!("hosted-{series}-stock-{what}"),
    };

    if linux == hosted::DEFAULT && kernel == KernelChoice::Dpmem {
        let mut command = hosted::cargo(&linux, kernel)?;
        command.args(["fmt", "--all", "--check"]);
        let needs = Some(("fmt", "rustfmt"));
        cargo::step(&name("fmt"), needs, &mut command, report, |_| {})?;

        let mut command = hosted::cargo(&linux, kernel)?;
        command.args(["run", "--locked", "--package", "demo", "--"]);
        command.arg(report.folder().join("timeline.svg"));
        cargo::step(&name("demo"), None, &mut command, report, |_| {})?;

        // All at once, as each package alone has other features of what it needs, which is compiled
        // again for it.
        let mut command = hosted::cargo(&linux, kernel)?;
        command.args(["test", "--locked", "--test", "interleavings"]);
        for package in INTERLEAVED {
            command.args(["--package", package]);
            command.arg(format!("--features={package}/shuttle"));
        }
        let name = name("interleavings");
        cargo::step(&name, None, &mut command, report, |_| {})?;
    }

    let mut command = hosted::cargo(&linux, kernel)?;
    command.args(["clippy", "--locked", "--no-deps", "--all-targets"]);
    command.args(OURS).args(["--", "-D", "warnings"]);
    let needs = Some(("clippy", "clippy"));
    cargo::step(&name("clippy"), needs, &mut command, report, |_| {})?;

    let mut command = hosted::cargo(&linux, kernel)?;
    command.args(["test", "--locked", "--workspace", "--no-fail-fast"]);
    cargo::run_tests(&name("test"), &mut command, report)?;

    if !full {
        return Ok(());
    }
    let mut command = hosted::sanitized(&linux, kernel)?;
    command.arg("--no-fail-fast");
    cargo::run_tests(&name("sanitized"), &mut command, report)
}
