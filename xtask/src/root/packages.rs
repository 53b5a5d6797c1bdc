// SPDX-License-Identifier: GPL-2.0

//! Which packages the root has, and from which suites others may come.

use crate::arch::Arch;

/// The suite that the root is made of: Debian's stable release, whose tools are the kernel's
/// minimum versions.
pub(crate) const SUITE: &str = "trixie";

/// Where kernel sources come from: the first suite that has one wins.
pub(crate) const SOURCE_SUITES: [&str; 6] = [
    SUITE,
    "trixie-updates",
    "trixie-backports",
    "forky",
    "sid",
    "experimental",
];

/// Compilers, and what the kernel's Makefile calls.
const BUILD: &[&str] = &[
    "bc",
    "bindgen",
    "bison",
    "cargo",
    "ccache",
    "clang",
    "cpio",
    "flex",
    "gcc",
    "git",
    "kmod",
    "libc6-dev",
    "libelf-dev",
    "libssl-dev",
    "lld",
    "llvm",
    "make",
    "patch",
    "perl",
    "pkg-config",
    "python3",
    "rsync",
    "rust-clippy",
    "rust-src",
    "rustc",
    "rustfmt",
    "xz-utils",
];

/// What the tests link with, and what runs them.
const RUN: &[&str] = &[
    "busybox-static",
    "libcap-dev",
    "libnuma-dev",
    "liburing-dev",
    "qemu-system-arm",
    "qemu-system-x86",
];

/// All packages of a root on a `host` machine.
pub(crate) fn list(host: Arch) -> Vec<String> {
    let mut packages: Vec<String> = BUILD
        .iter()
        .chain(RUN)
        .map(|&name| name.to_owned())
        .collect();
    for arch in Arch::ALL.into_iter().filter(|&arch| arch != host) {
        packages.push(arch.cross_compiler().to_owned());
        packages.push(arch.cross_libc().to_owned());
        packages.push(format!("libstd-rust-dev:{}", arch.debian()));
    }
    packages
}
