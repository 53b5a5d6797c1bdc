// SPDX-License-Identifier: GPL-2.0

//! What `--full` does with kernel trees: installing and removing, and the kernel's own checks of
//! our Rust code.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::arch::Arch;
use crate::cache::Cache;
use crate::cli::{KernelChoice, KernelOptions, LinuxChoice, Profile, Purpose};
use crate::disk;
use crate::install::{self, Installer};
use crate::kernel::Builder;
use crate::process;
use crate::progress::Step;
use crate::repo;
use crate::report::{Report, Test};
use crate::root::namespace;
use crate::source::Source;
use crate::tools::Tools;
use crate::version::Series;

/// Installs into a pristine tree twice, removes, and compares with the source.
pub(super) fn install_and_remove(series: Series, report: &mut Report) -> Result<()> {
    let cache = Cache::open()?;
    let tools = Tools::get(&cache)?;
    let source = Source::get(&cache, &tools, &LinuxChoice::Package(series))?;
    disk::require(cache.dir(), disk::TREE)?;
    let _lock = cache.lock("install-check")?;
    let copy = cache.path("install-check.part");
    namespace::remove_tree(&copy)?;
    let step = Step::start(
        format!("installing into Linux {series}, and removing"),
        None,
    );
    let started = Instant::now();
    let installer = Installer::load(&repo::top(), series)?;
    let mut copying = Command::new("cp");
    copying
        .args(["-a", "--reflink=auto", "--"])
        .arg(&source.dir)
        .arg(&copy);
    let outcome = process::output(&mut copying)
        .and_then(|_| installer.install(&copy, install::Series::Apply))
        .and_then(|()| installer.install(&copy, install::Series::Apply))
        .and_then(|()| install::remove(&copy))
        .and_then(|()| {
            let mut diff = Command::new("diff");
            process::output(
                diff.args(["-r", "--no-dereference"])
                    .arg(&source.dir)
                    .arg(&copy),
            )
            .map(|_| ())
            .context("something is left over")
        });
    namespace::remove_tree(&copy)?;
    step.finish();
    let outcome = outcome.map_err(|error| format!("{error:#}"));
    let seconds = started.elapsed().as_secs_f64();
    report.add(Test::new(
        "install",
        &format!("in and out of {series}"),
        outcome,
        seconds,
    ))
}

/// Runs clippy and rustdoc over the Rust parts, as the kernel's Makefile does it.
pub(super) fn lint(series: Series, report: &mut Report) -> Result<()> {
    let cache = Cache::open()?;
    let tools = Tools::get(&cache)?;
    let logs = report.folder().to_path_buf();
    let builder = Builder {
        cache: &cache,
        tools: &tools,
        logs: &logs,
    };
    let options = KernelOptions {
        linux: LinuxChoice::Package(series),
        arch: Arch::host()?,
        kernel: KernelChoice::Dpmem,
        driver: None,
        profile: Profile::Plain,
        purpose: Purpose::Lab,
        prefix: None,
        config: Vec::new(),
    };
    let kernel = builder.build(&options)?;
    for (name, arguments) in [
        ("clippy", ["CLIPPY=1", "modules"].as_slice()),
        ("rustdoc", &["rustdoc"]),
    ] {
        let started = Instant::now();
        let step = Step::start(format!("{name} in the tree of Linux {series}"), None);
        let outcome = builder
            .lint(&kernel, name, arguments)
            .map_err(|error| format!("{error:#}"));
        step.finish();
        report.add(Test::new(
            &format!("{series}/tree"),
            name,
            outcome,
            started.elapsed().as_secs_f64(),
        ))?;
    }
    Ok(())
}
