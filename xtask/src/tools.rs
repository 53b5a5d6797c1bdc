// SPDX-License-Identifier: GPL-2.0

//! Where compilers and QEMU are: in the Debian root, or on this machine itself.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{bail, Context, Result};
use regex::Regex;

use crate::arch::Arch;
use crate::cache::Cache;
use crate::process;
use crate::progress;
use crate::root::{self, namespace, Root};

/// Programs a machine must have to do without a root.
const HOST_PROGRAMS: &[&str] = &[
    "gcc", "ld", "make", "flex", "bison", "bc", "perl", "python3", "rsync", "cpio", "patch",
    "kmod", "rustc", "cargo", "bindgen", "git",
];

/// Programs that must have a version, and the lowest that will do.
const HOST_VERSIONS: &[(&str, [u32; 3])] = &[("rustc", [1, 85, 0]), ("bindgen", [0, 71, 1])];

/// Where the tools are.
#[derive(Clone, Debug)]
pub(crate) enum Tools {
    /// In a Debian root.
    Root(Root),
    /// On this machine.
    Machine,
}

impl Tools {
    /// Gets the tools: makes the root, unless that is impossible here and the machine has all there
    /// must be.
    pub(crate) fn get(cache: &Cache) -> Result<Self> {
        let reason = match no_root(cache) {
            None => return Root::get(cache).map(Self::Root),
            Some(reason) => reason,
        };
        let missing = missing_on_this_machine()?;
        if missing.is_empty() {
            progress::say(format!(
                "no Debian root ({reason}): using the tools of this machine"
            ));
            return Ok(Self::Machine);
        }
        bail!(
            "cannot make a Debian root ({reason}), and this machine itself lacks: {} (either is enough)",
            missing.join(", ")
        )
    }

    /// As [`Tools::get`], for somebody who only wants a package: a root without compilers will do.
    pub(crate) fn for_packages(cache: &Cache) -> Result<Self> {
        match no_root(cache) {
            None => Root::for_packages(cache).map(Self::Root),
            Some(_) => Self::get(cache),
        }
    }

    /// A job for the tools.
    pub(crate) fn job(&self) -> Job<'_> {
        Job {
            tools: self,
            binds: Vec::new(),
            folder: PathBuf::from("/"),
            env: Vec::new(),
        }
    }

    /// Says which tools these are, as part of a key.
    pub(crate) fn stamp(&self) -> Result<String> {
        match self {
            Self::Root(root) => root.stamp(),
            Self::Machine => process::output(Command::new("gcc").arg("--version")),
        }
    }

    /// Fails if one of `programs` is missing, which not every job needs; a root has all of them.
    pub(crate) fn require(&self, programs: &[String]) -> Result<()> {
        if self.root().is_some() {
            return Ok(());
        }
        let missing = programs.iter().filter(|name| process::find(name).is_none());
        let missing: Vec<&str> = missing.map(String::as_str).collect();
        if !missing.is_empty() {
            bail!(
                "without the Debian root, this needs what the machine lacks: {}",
                missing.join(", ")
            );
        }
        Ok(())
    }

    /// The root, for what only works there.
    pub(crate) fn root(&self) -> Option<&Root> {
        match self {
            Self::Root(root) => Some(root),
            Self::Machine => None,
        }
    }

    /// A static busybox for the guest.
    pub(crate) fn busybox(&self, arch: Arch) -> Result<PathBuf> {
        let host = Arch::host()?;
        let path = match self {
            Self::Root(root) if arch == host => root.dir().join("usr/bin/busybox"),
            Self::Root(root) => {
                // A package of another time has it in bin/.
                let guest = root.dir().join("opt/guest").join(arch.name());
                let path = guest.join("usr/bin/busybox");
                if path.exists() {
                    path
                } else {
                    guest.join("bin/busybox")
                }
            }
            Self::Machine if arch == host => {
                process::find("busybox").context("a static busybox is missing")?
            }
            Self::Machine => bail!(
                "a static busybox for {} is missing: it comes with the Debian root",
                arch.name()
            ),
        };
        if !path.is_file() {
            bail!(
                "a static busybox for {} is missing at {}",
                arch.name(),
                path.display()
            );
        }
        Ok(path)
    }

    /// The source of Rust's standard library, which the kernel builds `core` from, as the job sees
    /// it.
    pub(crate) fn rust_library(&self) -> Result<PathBuf> {
        match self {
            Self::Root(root) => {
                let usr_src = root.dir().join("usr/src");
                let found = std::fs::read_dir(&usr_src)
                    .with_context(|| format!("cannot read {}", usr_src.display()))?
                    .filter_map(Result::ok)
                    .map(|entry| entry.file_name())
                    .find(|name| name.to_string_lossy().starts_with("rustc-"));
                let name = found
                    .with_context(|| format!("no Rust library source in {}", usr_src.display()))?;
                Ok(Path::new("/usr/src").join(name).join("library"))
            }
            Self::Machine => machine_rust_library(),
        }
    }
}

/// All reasons why there cannot be a Debian root here, if there are some.
fn no_root(cache: &Cache) -> Option<String> {
    let made = Root::is_made(cache);
    match namespace::check() {
        Ok(()) if made => None,
        Ok(()) => root::ensure_debootstrap(&cache.path("logs/root.log"))
            .err()
            .map(|error| format!("{error:#}")),
        Err(error) if made || root::has_debootstrap() => Some(format!("{error:#}")),
        Err(error) => Some(format!("{error:#}; debootstrap is missing")),
    }
}

fn machine_rust_library() -> Result<PathBuf> {
    let sysroot = process::output(Command::new("rustc").args(["--print", "sysroot"]))?;
    let path = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library");
    if path.join("core/src/lib.rs").is_file() {
        Ok(path)
    } else {
        bail!("the source of Rust's standard library is missing (rustup component add rust-src)")
    }
}

fn missing_on_this_machine() -> Result<Vec<String>> {
    let host = Arch::host()?;
    let mut missing: Vec<String> = HOST_PROGRAMS
        .iter()
        .filter(|&&name| process::find(name).is_none())
        .map(|&name| name.to_owned())
        .collect();
    for &(program, least) in HOST_VERSIONS {
        if let Ok(text) = process::output(Command::new(program).arg("--version")) {
            if version_in(&text).is_none_or(|version| version < least) {
                let [major, minor, patch] = least;
                missing.push(format!("{program} >= {major}.{minor}.{patch}"));
            }
        }
    }
    if process::find("rustc").is_some() && machine_rust_library().is_err() {
        missing.push("rust-src".to_owned());
    }
    for program in [host.qemu(), "busybox"] {
        if process::find(program).is_none() {
            missing.push(program.to_owned());
        }
    }
    Ok(missing)
}

/// The first `x.y.z` in a text.
fn version_in(text: &str) -> Option<[u32; 3]> {
    let pattern = Regex::new(r"(\d+)\.(\d+)\.(\d+)").ok()?;
    let (_, parts) = pattern.captures(text)?.extract::<3>();
    let [major, minor, patch] = parts.map(str::parse);
    Some([major.ok()?, minor.ok()?, patch.ok()?])
}

/// Something to run where the tools are.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    tools: &'a Tools,
    binds: Vec<(PathBuf, PathBuf)>,
    folder: PathBuf,
    env: Vec<(OsString, OsString)>,
}

impl Job<'_> {
    /// Makes a folder visible to the job; returns its path there. In a root that is always
    /// `inside`, so that compilers see the same paths whatever the folder is.
    pub(crate) fn bind(&mut self, outside: &Path, inside: &str) -> PathBuf {
        match self.tools {
            Tools::Root(_) => {
                let inside = PathBuf::from(inside);
                self.binds.push((outside.to_path_buf(), inside.clone()));
                inside
            }
            Tools::Machine => outside.to_path_buf(),
        }
    }

    /// The folder in which the job runs, as the job sees it.
    pub(crate) fn folder(&mut self, inside: &Path) {
        self.folder = inside.to_path_buf();
    }

    /// An environment variable.
    pub(crate) fn env(&mut self, name: &str, value: impl Into<OsString>) {
        self.env.push((name.into(), value.into()));
    }

    /// The command, to be continued with arguments.
    pub(crate) fn command(self, program: &str) -> Command {
        let mut command = match self.tools {
            Tools::Root(root) => {
                let mut command = root::command_in(root.dir(), &self.folder, &self.binds);
                command.arg(program);
                command
            }
            Tools::Machine => {
                let mut command = Command::new(program);
                namespace::clean_environment(&mut command);
                for name in ["PATH", "HOME", "RUSTUP_HOME", "CARGO_HOME"] {
                    if let Some(value) = std::env::var_os(name) {
                        command.env(name, value);
                    }
                }
                command.current_dir(&self.folder);
                command
            }
        };
        command.envs(self.env);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(
            version_in("rustc 1.85.1 (4eb161250 2025-03-15)"),
            Some([1, 85, 1])
        );
        assert_eq!(version_in("bindgen 0.71.1"), Some([0, 71, 1]));
        assert_eq!(version_in("none"), None);
        assert!(version_in("1.9.0") < version_in("1.85.0"));
    }
}
