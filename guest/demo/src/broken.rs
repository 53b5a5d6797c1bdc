// SPDX-License-Identifier: GPL-2.0

//! A CPU touches memory of a device that breaks down: the signal that comes of it. What else such a
//! device does is in the scripts of `dpmem-ops`, where the kernel reads for the process, and says
//! that it cannot.

use std::{
    hint::black_box,
    path::Path, //
};

use anyhow::{
    bail,
    ensure,
    Context as _,
    Result, //
};
use nix::sys::{
    signal::{
        signal,
        SigHandler,
        Signal, //
    },
    wait::WaitStatus, //
};

use crate::{
    device::{
        Device,
        Failure, //
    },
    mapping::Mapping,
    process::Child,
    scenarios::{
        check,
        expect,
        fill,
        migrate,
        on_device,
        pattern,
        Scenario, //
    }, //
};

/// All of them, with their names.
pub(crate) const ALL: &[(&str, Scenario)] = &[("broken_at_a_touch", broken_at_a_touch)];

const PAGES: usize = 64;

/// The handler that comes with Rust's standard library returns, and what went wrong once is tried
/// again.
fn die_of_sigbus() -> Result<()> {
    // SAFETY: No function of ours is installed.
    unsafe { signal(Signal::SIGBUS, SigHandler::SigDfl) }.context("signal")?;
    Ok(())
}

fn broken_at_a_touch(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    let small = || Mapping::private(PAGES);
    for (memory, failure) in [
        (small()?, Failure::BreakDown),
        (small()?, Failure::TimeOut),
        (Mapping::huge()?, Failure::TimeOut),
    ] {
        touch(&device, memory, failure)?;
    }
    Ok(())
}

fn touch(device: &Device, mut memory: Mapping, failure: Failure) -> Result<()> {
    fill(memory.bytes_mut(), 1);
    migrate(device, &memory)?;
    device.fail(failure)?;
    // One page alone cannot break down half way, but it can come to nothing.
    let child = Child::run(|| {
        die_of_sigbus()?;
        black_box(memory.bytes().first().copied());
        bail!("the memory of a broken device was read");
    })?;
    let status = child.status()?;
    ensure!(
        matches!(status, WaitStatus::Signaled(_, Signal::SIGBUS, _)),
        "{failure:?}, {} pages: the child ended with {status:?}",
        memory.pages()
    );
    // Nothing is lost.
    expect(&memory, on_device(memory.pages()))?;
    check(memory.bytes(), |page| pattern(page, 1))
}
