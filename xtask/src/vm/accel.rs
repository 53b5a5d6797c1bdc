// SPDX-License-Identifier: GPL-2.0

//! Whether KVM can be used. That /dev/kvm is there does not say so: inside of a virtual machine it
//! can be there, and a guest never gets anywhere. So it is tried, once each time this machine was
//! booted.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::Machine;
use crate::arch::Arch;
use crate::cache::{self, Cache};
use crate::process::Group;
use crate::progress;
use crate::tools::Tools;

/// What every kernel says first; with KVM it comes in less than a second.
const FIRST_WORDS: &str = "Linux version";
/// How long they are waited for.
const PATIENCE: Duration = Duration::from_secs(15);

/// What runs the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accel {
    /// The processor.
    Kvm,
    /// QEMU itself.
    Tcg,
}

impl Accel {
    /// QEMU's `-accel`.
    pub(super) fn argument(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg,thread=multi",
        }
    }

    /// The best one that works for `machine`.
    pub(super) fn choose(cache: &Cache, tools: &Tools, machine: &Machine) -> Result<Self> {
        if !machine.may_be_real(Arch::host()?) {
            return Ok(Self::Tcg);
        }
        let usable = fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/kvm")
            .is_ok();
        if !usable {
            return Ok(Self::Tcg);
        }
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let path = cache.path("kvm-works.json");
        let known: Option<(String, bool)> = fs::read(&path)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok());
        let works = match known {
            Some((of, works)) if of == boot => works,
            _ => {
                // A machine that ended by itself says nothing about KVM, but about itself.
                let Some(works) = try_kvm(tools, machine)? else {
                    return Ok(Self::Tcg);
                };
                let text = serde_json::to_vec(&(&boot, works)).context("cannot write JSON")?;
                cache::write_atomically(&path, &text)?;
                works
            }
        };
        Ok(if works { Self::Kvm } else { Self::Tcg })
    }
}

fn try_kvm(tools: &Tools, machine: &Machine) -> Result<Option<bool>> {
    let mut command = machine
        .clone()
        .headless()
        .with_accel(Accel::Kvm)
        .command(tools)?;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut group = Group::start(&mut command)?;
    let console = group
        .child()
        .stderr
        .take()
        .context("QEMU has no error output")?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut lines = BufReader::new(console)
            .split(b'\n')
            .map_while(std::io::Result::ok);
        let spoke = lines.any(|line| String::from_utf8_lossy(&line).contains(FIRST_WORDS));
        let _ = sender.send(spoke);
    });
    Ok(match receiver.recv_timeout(PATIENCE) {
        Ok(true) => Some(true),
        Ok(false) => None,
        Err(_) => {
            progress::say("/dev/kvm is there, but no guest starts with it: QEMU does without");
            Some(false)
        }
    })
}
