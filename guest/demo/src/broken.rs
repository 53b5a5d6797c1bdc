// SPDX-License-Identifier: GPL-2.0

//! Scenarios with a device that breaks down in the middle of a copy, or that does not say when it is done.

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
use nix::{
    errno::Errno,
    sys::{
        signal::{
            signal,
            SigHandler,
            Signal, //
        },
        wait::WaitStatus, //
    },
};

use crate::{
    device::{
        Device,
        Failure,
        Request, //
    },
    mapping::{
        page_size,
        Mapping, //
    },
    pagemap::Count,
    process::Child,
    scenarios::{
        check,
        expect,
        fill,
        in_ram,
        migrate,
        on_device,
        pattern,
        Scenario, //
    }, //
};

/// All of them, with their names.
pub(crate) const ALL: &[(&str, Scenario)] = &[
    ("broken_on_the_way_there", broken_on_the_way_there),
    ("broken_on_the_way_home", broken_on_the_way_home),
    ("broken_at_a_touch", broken_at_a_touch),
    ("broken_when_released", broken_when_released),
    ("broken_pages", broken_pages),
];

const PAGES: usize = 64;

/// What can go wrong, and what the process is told.
const FAILURES: &[(Failure, Errno)] = &[
    (Failure::BreakDown, Errno::EIO),
    (Failure::TimeOut, Errno::ETIMEDOUT),
];

/// Calls `scenario` with everything that can go wrong, and with small pages and a huge one.
fn for_each(mut scenario: impl FnMut(Mapping, Failure, Errno) -> Result<()>) -> Result<()> {
    for (failure, errno) in FAILURES {
        let mut small = Mapping::private(PAGES)?;
        fill(small.bytes_mut(), 1);
        scenario(small, *failure, *errno)?;
    }
    let mut huge = Mapping::huge()?;
    fill(huge.bytes_mut(), 1);
    scenario(huge, Failure::TimeOut, Errno::ETIMEDOUT)
}

/// Asks for `request` on all of `memory`, which is to fail with `errno`.
fn refused(device: &Device, request: Request, memory: &Mapping, errno: Errno) -> Result<()> {
    let mut buffer = vec![0; memory.pages() * page_size()];
    match device.ask(request, memory, memory.pages(), &mut buffer) {
        Err(err) if err == errno => Ok(()),
        Err(err) => bail!("{request:?}: {err}, and not {errno}"),
        Ok(_) => bail!("{request:?} of a broken device worked"),
    }
}

fn broken_on_the_way_there(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    for_each(|memory, failure, errno| {
        device.fail(failure)?;
        refused(&device, Request::MigrateToDevice, &memory, errno)?;
        expect(&memory, in_ram(memory.pages()))?;
        check(memory.bytes(), |page| pattern(page, 1))?;
        check(&migrate(&device, &memory)?, |page| pattern(page, 1))?;
        check(memory.bytes(), |page| pattern(page, 1))
    })
}

fn broken_on_the_way_home(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    for_each(|memory, failure, errno| {
        migrate(&device, &memory)?;
        device.fail(failure)?;
        refused(&device, Request::MigrateToRam, &memory, errno)?;
        expect(&memory, on_device(memory.pages()))?;
        check(memory.bytes(), |page| pattern(page, 1))
    })
}

/// The handler that comes with Rust's standard library returns, and what went wrong once is tried again.
fn die_of_sigbus() -> Result<()> {
    // SAFETY: No function of ours is installed.
    unsafe { signal(Signal::SIGBUS, SigHandler::SigDfl) }.context("signal")?;
    Ok(())
}

fn broken_at_a_touch(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    for_each(|memory, failure, _| {
        migrate(&device, &memory)?;
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
    })
}

fn broken_when_released(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    for_each(|memory, failure, _| {
        migrate(&device, &memory)?;
        device.fail(failure)?;
        // It is tried until it works.
        device.release()?;
        expect(&memory, in_ram(memory.pages()))?;
        check(memory.bytes(), |page| pattern(page, 1))
    })
}

/// The pages that the device cannot read keep no others on the device.
fn broken_pages(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    let mut memory = Mapping::private(PAGES)?;
    fill(memory.bytes_mut(), 2);
    migrate(&device, &memory)?;
    device.fail(Failure::BadPages)?;
    let evicted = device.evict();
    ensure!(evicted == Err(Errno::EIO), "the eviction: {evicted:?}");
    // As many as there are, wherever the memory is on the device.
    let bad = PAGES / 16;
    let left = Count {
        ram: PAGES - bad,
        device: bad,
        none: 0,
    };
    expect(&memory, left)?;
    device.mend()?;
    let evicted = device.evict()?;
    ensure!(
        evicted == bad as u64,
        "{evicted} pages came home in the end"
    );
    expect(&memory, in_ram(PAGES))?;
    check(memory.bytes(), |page| pattern(page, 2))
}
