// SPDX-License-Identifier: GPL-2.0

//! `cargo xtask hosted --sanitize`: the hosted tests under AddressSanitizer, which comes with the
//! toolchain.

use std::fs;
use std::process::Command;

use anyhow::{bail, Context, Result};

use super::{cargo, Toolchain};
use crate::cli::{KernelChoice, LinuxChoice};

/// `cargo test` in `hosted/`, with AddressSanitizer.
pub(crate) fn sanitized(linux: &LinuxChoice, kernel: KernelChoice) -> Result<Command> {
    let toolchain = Toolchain::get()?;
    let libraries = toolchain.folder.join("lib");
    let entries = fs::read_dir(&libraries)
        .with_context(|| format!("cannot read {}", libraries.display()))?
        .collect::<Result<Vec<_>, _>>()?;
    let mut names = entries.iter().map(|entry| entry.file_name());
    if !names.any(|name| is_runtime(&name.to_string_lossy())) {
        bail!(
            "this toolchain has no AddressSanitizer for {}: those that rustup installs have it for x86_64 and aarch64",
            toolchain.host
        );
    }
    let mut command = cargo(linux, kernel)?;
    // With a target, what runs during the build is left as it is, and is not built again.
    command
        .args(["test", "--locked", "--target"])
        .arg(&toolchain.host)
        .env("RUSTFLAGS", "-Z sanitizer=address");
    Ok(command)
}

/// Whether this is the part of AddressSanitizer that is linked into programs.
fn is_runtime(name: &str) -> bool {
    name.starts_with("librustc") && name.ends_with("_rt.asan.a")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runtimes() {
        assert!(is_runtime("librustc-stable_rt.asan.a"));
        assert!(is_runtime("librustc-nightly_rt.asan.a"));
        assert!(!is_runtime("librustc-stable_rt.tsan.a"));
        assert!(!is_runtime("libcore-0.rlib"));
    }
}
