// SPDX-License-Identifier: GPL-2.0

//! The architectures, and what is different about each.

use anyhow::{bail, Result};
use clap::ValueEnum;
use serde::Deserialize;

/// An architecture that the lab has kernels for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum, Deserialize)]
pub(crate) enum Arch {
    /// 64-bit x86.
    #[value(name = "x86_64")]
    #[serde(rename = "x86_64")]
    X86_64,
    /// 64-bit Arm.
    #[value(name = "arm64")]
    #[serde(rename = "arm64")]
    Arm64,
}

impl Arch {
    /// All of them.
    pub(crate) const ALL: [Self; 2] = [Self::X86_64, Self::Arm64];

    /// The architecture of this machine.
    pub(crate) fn host() -> Result<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Ok(Self::X86_64),
            "aarch64" => Ok(Self::Arm64),
            other => bail!("this machine is {other}: the lab works on x86_64 and aarch64 machines"),
        }
    }

    /// Our name for it, as on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Arm64 => "arm64",
        }
    }

    /// The kernel Makefile's name for it. `ARCH=x86_64` is not the same as `x86` with
    /// `CONFIG_64BIT=y` in a configuration that begins with everything off: what only 64-bit
    /// kernels have then keeps its default.
    pub(crate) fn kernel(self) -> &'static str {
        match self {
            Self::X86_64 => "x86",
            Self::Arm64 => "arm64",
        }
    }

    /// Debian's name for it.
    pub(crate) fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// The GNU triplet, as in a cross compiler's name.
    pub(crate) fn triplet(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-linux-gnu",
            Self::Arm64 => "aarch64-linux-gnu",
        }
    }

    /// rustc's target for programs.
    pub(crate) fn rust_target(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// The cross compiler's package.
    pub(crate) fn cross_compiler(self) -> &'static str {
        match self {
            Self::X86_64 => "gcc-x86-64-linux-gnu",
            Self::Arm64 => "gcc-aarch64-linux-gnu",
        }
    }

    /// The C library for the cross compiler.
    pub(crate) fn cross_libc(self) -> &'static str {
        match self {
            Self::X86_64 => "libc6-dev-amd64-cross",
            Self::Arm64 => "libc6-dev-arm64-cross",
        }
    }

    /// QEMU's program.
    pub(crate) fn qemu(self) -> &'static str {
        match self {
            Self::X86_64 => "qemu-system-x86_64",
            Self::Arm64 => "qemu-system-aarch64",
        }
    }

    /// The make target of the kernel image.
    pub(crate) fn image_target(self) -> &'static str {
        match self {
            Self::X86_64 => "bzImage",
            Self::Arm64 => "Image",
        }
    }

    /// Where make puts the kernel image.
    pub(crate) fn image_path(self) -> &'static str {
        match self {
            Self::X86_64 => "arch/x86/boot/bzImage",
            Self::Arm64 => "arch/arm64/boot/Image",
        }
    }

    /// The serial console's name in the guest.
    pub(crate) fn console(self) -> &'static str {
        match self {
            Self::X86_64 => "ttyS0",
            Self::Arm64 => "ttyAMA0",
        }
    }
}
