// SPDX-License-Identifier: GPL-2.0

//! What cargo checks in `hosted/`, which needs the source of a kernel.

use anyhow::Result;

use super::cargo;
use crate::cli::LinuxChoice;
use crate::hosted;
use crate::report::Report;
use crate::version::Series;

/// The crates that are ours; the others are the kernel's files.
const OURS: [&str; 8] = [
    "-p", "bindings", "-p", "source", "-p", "dpmem", "-p", "dmirror",
];

/// Format, lints and tests over the Rust files of `series`.
pub(super) fn run(series: Series, report: &mut Report) -> Result<()> {
    let linux = LinuxChoice::Package(series);
    let name = |what: &str| format!("hosted-{series}-{what}");

    let mut command = hosted::cargo(&linux)?;
    command.args(["fmt", "--all", "--check"]);
    let needs = Some(("fmt", "rustfmt"));
    cargo::step(&name("fmt"), needs, &mut command, report, |_| {})?;

    let mut command = hosted::cargo(&linux)?;
    command.args(["clippy", "--locked", "--no-deps", "--all-targets"]);
    command.args(OURS).args(["--", "-D", "warnings"]);
    let needs = Some(("clippy", "clippy"));
    cargo::step(&name("clippy"), needs, &mut command, report, |_| {})?;

    let mut command = hosted::cargo(&linux)?;
    command.args(["test", "--locked", "--workspace", "--no-fail-fast"]);
    cargo::run_tests(&name("test"), &mut command, report)
}
