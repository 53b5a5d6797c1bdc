// SPDX-License-Identifier: GPL-2.0

//! Our own programs for the guest: built with the tools' Rust, linked statically.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::arch::Arch;
use crate::cache::Cache;
use crate::process::Logged;
use crate::progress::Step;
use crate::repo;
use crate::root::short;
use crate::tools::Tools;

/// The program that shows what this is all about.
pub(crate) const DEMO: &str = "dpmem-demo";

/// Where cargo builds them, in the cache, under a lock of the same name.
pub(crate) const FOLDER: &str = "guest";

/// Builds a program of the workspace for `arch`, and puts it beside the logs, where no other
/// checkout replaces it.
pub(crate) fn build(
    cache: &Cache,
    tools: &Tools,
    arch: Arch,
    name: &str,
    logs: &Path,
) -> Result<PathBuf> {
    let step = Step::start(format!("building {name} for {}", arch.name()), None);
    let run = Logged {
        what: &format!("building {name}"),
        log: &logs.join(format!("{name}.log")),
        advice: "mend what the first error names, and run the same command again",
    };
    let top = repo::top();
    // The tools' cargo works offline: what it needs is fetched by the one that built this program.
    let cargo = std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
    run.run(
        Command::new(cargo)
            .args(["fetch", "--locked"])
            .current_dir(&top),
        |_| {},
    )?;

    let _lock = cache.lock(FOLDER)?;
    let target = cache.folder(FOLDER)?;
    let mut job = tools.job();
    // Another checkout with older files is not what cargo has built already.
    let mut hash = Sha256::new();
    hash.update(top.as_os_str().as_encoded_bytes());
    let inside = job.bind(&top, &format!("/dpmem-{}", short(hash)));
    job.folder(&inside);
    let home = job.bind(&cargo_home()?, "/cargo");
    job.env("CARGO_HOME", home);
    let output = job.bind(&target, "/build");
    job.env("CARGO_TARGET_DIR", output);
    // Another compiler than the machine's may not use what that one cached.
    job.env("RUSTFLAGS", "-C target-feature=+crt-static");
    if arch != Arch::host()? {
        let variable = format!(
            "CARGO_TARGET_{}_LINKER",
            arch.rust_target().to_uppercase().replace('-', "_")
        );
        job.env(&variable, format!("{}-gcc", arch.triplet()));
    }
    let mut command = job.command("cargo");
    command.args([
        "build",
        "--release",
        "--frozen",
        "--package",
        name,
        "--target",
        arch.rust_target(),
    ]);
    run.run(&mut command, |_| {})?;
    step.finish();
    let built = target.join(arch.rust_target()).join("release").join(name);
    let path = logs.join(name);
    fs::copy(&built, &path)
        .with_context(|| format!("cannot copy {} to {}", built.display(), path.display()))?;
    Ok(path)
}

fn cargo_home() -> Result<PathBuf> {
    let variable = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    variable("CARGO_HOME")
        .or_else(|| variable("HOME").map(|home| home.join(".cargo")))
        .context("no folder for cargo: set CARGO_HOME or HOME")
}
