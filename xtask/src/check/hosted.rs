// SPDX-License-Identifier: GPL-2.0

//! What cargo checks in `hosted/`, which needs the source of a kernel.

use std::time::Instant;

use anyhow::Result;

use super::cargo;
use crate::cli::{KernelChoice, LinuxChoice};
use crate::hosted;
use crate::report::{Report, Test};
use crate::version::Series;

/// The crates that are ours, besides those that a kernel has as well; the others are the kernel's
/// files.
const OURS: [&str; 5] = ["acme", "bindings", "demo", "source", "walk"];

/// Those whose files are compiled in a kernel.
const KERNEL: [&str; 6] = ["dmirror", "dpmem", "dpmem_drm", "edu", "nouveau", "xe"];

/// What they are held to: the list of the kernel's Makefile, and what must not happen at run time.
/// Not in the workspace's table, which would be for their tests as well.
const LINTS: [&str; 22] = [
    "missing_docs",
    "unreachable_pub",
    "clippy::as_ptr_cast_mut",
    "clippy::as_underscore",
    "clippy::cast_lossless",
    "clippy::disallowed_macros",
    "clippy::disallowed_methods",
    "clippy::expect_used",
    "clippy::float_arithmetic",
    "clippy::ignored_unit_patterns",
    "clippy::indexing_slicing",
    "clippy::mut_mut",
    "clippy::needless_bitwise_bool",
    "clippy::no_mangle_with_rust_abi",
    "clippy::panic",
    "clippy::ptr_as_ptr",
    "clippy::ptr_cast_constness",
    "clippy::ref_as_ptr",
    "clippy::undocumented_unsafe_blocks",
    "clippy::unnecessary_safety_comment",
    "clippy::unnecessary_safety_doc",
    "clippy::unwrap_used",
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
/// of both also the format and the demo. If `full`, the tests run with a sanitizer as well, for
/// which everything is compiled again, and with the default threads in many orders.
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

    let usual = linux == hosted::DEFAULT && kernel == KernelChoice::Dpmem;
    if usual {
        let mut command = hosted::cargo(&linux, kernel)?;
        command.args(["fmt", "--all", "--check"]);
        let needs = Some(("fmt", "rustfmt"));
        cargo::step(&name("fmt"), needs, &mut command, report, |_| {})?;

        let mut command = hosted::cargo(&linux, kernel)?;
        command.args(["run", "--locked", "--package", "demo", "--"]);
        command.arg(report.folder().join("timeline.svg"));
        cargo::step(&name("demo"), None, &mut command, report, |_| {})?;
    }

    let mut command = hosted::cargo(&linux, kernel)?;
    command.args(["clippy", "--locked", "--no-deps", "--all-targets"]);
    let ours = OURS.iter().chain(&KERNEL);
    command.args(ours.flat_map(|package| ["--package", package]));
    command.args(["--", "-D", "warnings"]);
    let needs = Some(("clippy", "clippy"));
    cargo::step(&name("clippy"), needs, &mut command, report, |_| {})?;

    let mut command = hosted::cargo(&linux, kernel)?;
    command.args(["clippy", "--locked", "--no-deps", "--lib"]);
    command.args(KERNEL.iter().flat_map(|package| ["--package", package]));
    command.args(["--", "-D", "warnings"]);
    command.args(LINTS.iter().flat_map(|lint| ["-D", lint]));
    let name_of_it = name("clippy-kernel");
    cargo::step(&name_of_it, needs, &mut command, report, |_| {})?;

    let mut command = hosted::cargo(&linux, kernel)?;
    command.args(["test", "--locked", "--workspace", "--no-fail-fast"]);
    cargo::run_tests(&name("test"), &mut command, report)?;

    if !full {
        return Ok(());
    }
    if usual {
        // All at once, as each package alone has other features of what it needs, which is compiled
        // again for it.
        let mut command = hosted::cargo(&linux, kernel)?;
        command.args(["test", "--locked", "--test", "interleavings"]);
        for package in INTERLEAVED {
            command.args(["--package", package]);
            command.arg(format!("--features={package}/shuttle"));
        }
        cargo::step(&name("interleavings"), None, &mut command, report, |_| {})?;
    }
    let mut command = hosted::sanitized(&linux, kernel)?;
    command.arg("--no-fail-fast");
    cargo::run_tests(&name("sanitized"), &mut command, report)
}
