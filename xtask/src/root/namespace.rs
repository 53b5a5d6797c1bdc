// SPDX-License-Identifier: GPL-2.0

//! Running something with the rights of root and with mounts of its own, that end with it.
//!
//! Root has those rights; anybody else gets them in a user namespace, for the user ids in
//! /etc/subuid. The program is pid 1 of a namespace, so that nothing which it started survives it,
//! and it is killed when this process is, even by SIGKILL.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use anyhow::{bail, Context, Result};

use crate::process;

/// Where programs are found, inside of a root and outside.
pub(crate) const PATH: &str =
    "/usr/lib/ccache:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is passed on from our environment: the way to the network.
const PASSED: [&str; 6] = [
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
];

/// True if we are root.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A command line that is continued with what to run as root, in our namespaces or in a user
/// namespace.
fn as_root() -> Command {
    let mut command;
    if is_root() {
        command = Command::new("setpriv");
    } else {
        command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--map-auto", "--", "setpriv"]);
    }
    // After the change of user, which would clear it.
    command.args(["--pdeathsig", "KILL", "--"]);
    clean_environment(&mut command);
    command
}

/// Clears the environment, but for what a program cannot do without.
pub(crate) fn clean_environment(command: &mut Command) {
    command
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", "/root")
        .env("LC_ALL", "C.UTF-8");
    for name in PASSED {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
}

/// A command line that is continued with what to run as root in mount and pid namespaces of its
/// own.
pub(crate) fn isolated() -> Command {
    let mut command = as_root();
    command.args([
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--",
    ]);
    command
}

/// Runs one of the scripts beside this file.
pub(crate) fn script(text: &str) -> Command {
    let mut command = isolated();
    command.args(["sh", "-c", text, "sh"]);
    command
}

/// Why namespaces cannot be had here, if they cannot.
pub(crate) fn check() -> Result<()> {
    let mut needed = vec![("setpriv", "util-linux"), ("unshare", "util-linux")];
    if !is_root() {
        needed.extend([("newuidmap", "uidmap"), ("newgidmap", "uidmap")]);
    }
    let found = |program: &str| which::which_in(program, Some(PATH), "/").is_ok();
    if let Some((program, package)) = needed.into_iter().find(|(program, _)| !found(program)) {
        bail!("{program} (of {package}) is missing");
    }
    let what = if is_root() {
        "this machine does not let root make namespaces"
    } else {
        "this machine does not let this user make user namespaces"
    };
    if !is_root() {
        // Without --map-auto: if there are no user namespaces, unshare(1) leaves its helper for
        // that behind, which waits for ever.
        let mut plain = Command::new("unshare");
        process::output(plain.args(["--user", "true"])).context(what)?;
    }
    process::output(isolated().arg("true"))
        .map(|_| ())
        .context(what)
}

/// Removes a folder with whatever is in it, files of other users of a user namespace included.
/// Never leaves its file system, and so never goes through a mount.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    let remove = |mut command: Command, program: &[&str]| {
        command.args(program).args([
            OsStr::new("rm"),
            OsStr::new("-rf"),
            OsStr::new("--one-file-system"),
            OsStr::new("--"),
        ]);
        process::output(command.arg(path))
    };
    let plain = remove(Command::new("env"), &[]);
    let outcome = if plain.is_err() && !is_root() {
        remove(as_root(), &[])
    } else {
        plain
    };
    outcome
        .map(|_| ())
        .with_context(|| format!("cannot remove {}", path.display()))
}
