// SPDX-License-Identifier: GPL-2.0

//! Child processes.

use std::{
    fs::File,
    io::{
        Read as _,
        Write as _, //
    },
};

use anyhow::{
    bail,
    Context as _,
    Result, //
};
use nix::{
    sys::{
        signal::{
            kill,
            Signal, //
        },
        wait::{
            waitpid,
            WaitStatus, //
        },
    },
    unistd::{
        fork,
        pipe,
        ForkResult,
        Pid, //
    },
};

use crate::mapping::{
    page_size,
    Mapping, //
};

/// A child that runs, to be waited for.
#[must_use = "a child is to be waited for"]
pub(crate) struct Child(Pid);

impl Child {
    /// Runs `body` in a child.
    pub(crate) fn run(body: impl FnOnce() -> Result<()>) -> Result<Self> {
        // SAFETY: This program has one thread only, so the child may do what the parent may.
        match unsafe { fork() }.context("fork")? {
            ForkResult::Parent { child } => Ok(Self(child)),
            ForkResult::Child => {
                let status = match body() {
                    Ok(()) => 0,
                    Err(err) => {
                        println!("# child: {err:#}");
                        1
                    }
                };
                std::process::exit(status);
            }
        }
    }

    /// Waits for the child; an error if it did not end well.
    pub(crate) fn wait(self) -> Result<()> {
        match waitpid(self.0, None).context("waitpid")? {
            WaitStatus::Exited(_, 0) => Ok(()),
            status => bail!("a child ended with {status:?}"),
        }
    }

    /// How often it has faulted without anything being read from a disk; an error if it has ended.
    pub(crate) fn faults(&self) -> Result<u64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0))?;
        // The name may have anything in it, and ends with the last parenthesis.
        let fields = stat.rsplit(')').next().context("no fields")?;
        let mut fields = fields.split_whitespace();
        if fields.next() == Some("Z") {
            bail!("the child has ended");
        }
        Ok(fields.nth(6).context("no faults")?.parse()?)
    }

    /// Kills the child.
    pub(crate) fn kill(&self) -> Result<()> {
        kill(self.0, Signal::SIGKILL).context("kill")
    }

    /// Waits for the child, however it ends, and tells how.
    pub(crate) fn status(self) -> Result<WaitStatus> {
        waitpid(self.0, None).context("waitpid")
    }
}

/// Lets the kernel read `memory` for us, which is an error where a touch would be a signal.
pub(crate) fn touch(memory: &Mapping) -> Result<()> {
    let (reader, writer) = pipe()?;
    let (mut reader, mut writer) = (File::from(reader), File::from(writer));
    let mut read = vec![0; page_size()];
    for page in memory.bytes().chunks(page_size()) {
        writer.write_all(page)?;
        reader.read_exact(&mut read)?;
    }
    Ok(())
}
