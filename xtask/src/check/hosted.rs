// SPDX-License-Identifier: GPL-2.0

//! What cargo checks in `hosted/`, which needs the source of a kernel.

use anyhow::Result;

use super::cargo;
use crate::cli::{KernelChoice, LinuxChoice};
use crate::hosted;
use crate::report::Report;
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

/// Lints and tests, with a sanitizer and without, over the Rust files of `series` and a simulated `kernel`, and with the
/// default of both also the format, the demo, and threads in many orders.
pub(super) fn run(series: Series, kernel: KernelChoice, report: &mut Report) -> Result<()> {
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

        for package in ["bindings", "dmirror", "dpmem", "edu", "nouveau", "xe"] {
            let mut command = hosted::cargo(&linux, kernel)?;
            command.args(["test", "--locked", "--package", package]);
            command.args(["--features", "shuttle", "--test", "interleavings"]);
            let name = name(&format!("interleavings-{package}"));
            cargo::step(&name, None, &mut command, report, |_| {})?;
        }
    }

    let mut command = hosted::cargo(&linux, kernel)?;
    command.args(["clippy", "--locked", "--no-deps", "--all-targets"]);
    command.args(OURS).args(["--", "-D", "warnings"]);
    let needs = Some(("clippy", "clippy"));
    cargo::step(&name("clippy"), needs, &mut command, report, |_| {})?;

    let mut command = hosted::cargo(&linux, kernel)?;
    command.args(["test", "--locked", "--workspace", "--no-fail-fast"]);
    cargo::run_tests(&name("test"), &mut command, report)?;

    let mut command = hosted::sanitized(&linux, kernel)?;
    command.arg("--no-fail-fast");
    cargo::run_tests(&name("sanitized"), &mut command, report)
}
