// SPDX-License-Identifier: GPL-2.0

//! `cargo xtask hosted`: the tests that need the source of a kernel, and no kernel.

mod coverage;
mod sanitize;

pub(crate) use sanitize::sanitized;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::cache::{self, Cache};
use crate::check::cargo_in;
use crate::cli::{HostedOptions, KernelChoice, LinuxChoice};
use crate::process;
use crate::repo;
use crate::source::Source;
use crate::tools::Tools;
use crate::version::Series;

/// The series that `hosted/` takes if nobody says which.
pub(crate) const DEFAULT: LinuxChoice = LinuxChoice::Package(Series::V7_3);

/// Cargo in the workspace `hosted/`, with the Rust files of `linux`, whose source is fetched first
/// if need be, over a simulated `kernel`.
pub(crate) fn cargo(linux: &LinuxChoice, kernel: KernelChoice) -> Result<Command> {
    let cache = Cache::open()?;
    let source = match linux {
        LinuxChoice::Tree(_) => Source::get(&cache, &Tools::Machine, linux)?,
        LinuxChoice::Package(_) => Source::get(&cache, &Tools::for_packages(&cache)?, linux)?,
    };
    let folder = repo::top().join("hosted");
    let mut command = cargo_in(&folder);
    command.env_remove("DPMEM_LINUX").env_remove("DPMEM_KERNEL");
    // As for somebody who calls cargo: another environment is another build. A relative path means
    // another folder there.
    if std::env::var_os(cache::VARIABLE).is_some_and(|dir| !dir.is_empty()) {
        command.env(cache::VARIABLE, cache.dir());
    }
    let mut target = folder.join("target");
    if *linux != DEFAULT {
        command.env("DPMEM_LINUX", &source.dir);
        target = target.join(source.series.name());
    }
    if kernel == KernelChoice::Stock {
        command.env("DPMEM_KERNEL", "stock");
        target = target.join("stock");
    }
    command.env("CARGO_TARGET_DIR", target);
    Ok(command)
}

/// The toolchain that cargo uses.
struct Toolchain {
    /// For which machine it builds.
    host: String,
    /// What it has for that machine.
    folder: PathBuf,
}

impl Toolchain {
    fn get() -> Result<Self> {
        let rustc = |arguments: &[&str]| process::output(Command::new("rustc").args(arguments));
        let sysroot = PathBuf::from(rustc(&["--print", "sysroot"])?.trim());
        let version = rustc(&["-vV"])?;
        let host = version.lines().find_map(|line| line.strip_prefix("host: "));
        let host = host.context("rustc does not say for which machine it is")?;
        Ok(Self {
            host: host.to_owned(),
            folder: sysroot.join("lib/rustlib").join(host),
        })
    }
}

/// Says which lines of `dpmem-core` the tests over both kernels reach; false if these are too few,
/// or if a test failed.
pub(crate) fn coverage(linux: &LinuxChoice) -> Result<bool> {
    coverage::run(linux)
}

/// Runs the tests; false if one failed.
pub(crate) fn run(options: &HostedOptions) -> Result<bool> {
    if options.coverage {
        return coverage(&options.linux);
    }
    let mut command = if options.sanitize {
        sanitized(&options.linux, options.kernel)?
    } else {
        let mut command = cargo(&options.linux, options.kernel)?;
        // All of them, unless the arguments choose.
        command.args(["test", "--locked"]);
        command
    };
    command.args(&options.arguments);
    let status = command.status().context("cannot run cargo")?;
    Ok(status.success())
}
