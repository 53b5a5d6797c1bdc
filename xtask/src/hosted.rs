// SPDX-License-Identifier: GPL-2.0

//! `cargo xtask hosted`: the tests that need the source of a kernel, and no kernel.

use std::process::Command;

use anyhow::{Context, Result};

use crate::cache::Cache;
use crate::check::cargo_in;
use crate::cli::{HostedOptions, LinuxChoice};
use crate::repo;
use crate::source::Source;
use crate::tools::Tools;
use crate::version::Series;

/// The series that `hosted/` takes if nobody says which.
const DEFAULT: LinuxChoice = LinuxChoice::Package(Series::V7_3);

/// Cargo in the workspace `hosted/`, for the kernel `linux`, whose source is fetched first if need be.
pub(crate) fn cargo(linux: &LinuxChoice) -> Result<Command> {
    let cache = Cache::open()?;
    let source = match linux {
        LinuxChoice::Tree(_) => Source::get(&cache, &Tools::Machine, linux)?,
        LinuxChoice::Package(_) => Source::get(&cache, &Tools::get(&cache)?, linux)?,
    };
    let folder = repo::top().join("hosted");
    let mut command = cargo_in(&folder);
    if *linux == DEFAULT {
        // As for somebody who calls cargo: another environment is another build.
        command.env_remove("DPMEM_LINUX");
    } else {
        command.env("DPMEM_LINUX", &source.dir);
        command.env(
            "CARGO_TARGET_DIR",
            folder.join("target").join(source.series.name()),
        );
    }
    Ok(command)
}

/// Runs the tests; false if one failed.
pub(crate) fn run(options: &HostedOptions) -> Result<bool> {
    let mut command = cargo(&options.linux)?;
    command.args(["test", "--locked", "--workspace"]);
    command.args(&options.arguments);
    let status = command.status().context("cannot run cargo")?;
    Ok(status.success())
}
