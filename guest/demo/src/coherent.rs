// SPDX-License-Identifier: GPL-2.0

//! A device whose memory CPUs can address: nothing comes home because it was touched.

use std::path::Path;

use anyhow::{
    ensure,
    Context as _,
    Result, //
};
use nix::errno::Errno;

use crate::{
    device::{
        Device,
        Request, //
    },
    mapping::{
        page_size,
        Mapping, //
    },
    process::Child,
    scenarios::{
        check,
        fill,
        killed_while_evicted,
        migrate,
        pattern,
        release_while_processes_fault,
        threads_while_it_moves,
        Scenario, //
    },
    storm::storm, //
};

/// All of them, with their names.
pub(crate) const ALL: &[(&str, Scenario)] = &[
    ("coherent_used_where_it_is", used_where_it_is),
    ("coherent_huge", huge),
    ("coherent_home_on_request", home_on_request),
    ("coherent_evicted", evicted),
    ("coherent_copy_on_write", copy_on_write),
    ("coherent_looked_at_by_another", looked_at_by_another),
    ("coherent_released_in_use", release_while_processes_fault),
    ("coherent_killed_while_evicted", killed_while_evicted),
    ("coherent_threads_while_it_moves", threads_while_it_moves),
    ("coherent_storm", storm),
];

const PAGES: usize = 64;

/// Memory with pattern `seed` on the device.
fn migrated(device: &Device, mut memory: Mapping, seed: usize) -> Result<Mapping> {
    fill(memory.bytes_mut(), seed);
    check(&migrate(device, &memory)?, |page| pattern(page, seed))?;
    Ok(memory)
}

/// So many pages of `memory` are on the device.
fn expect(device: &Device, memory: &Mapping, pages: usize) -> Result<()> {
    let found = device.count(memory)?;
    ensure!(found == pages, "{found} pages are there, and not {pages}");
    Ok(())
}

/// The device reads and writes memory with pattern `seed`, and so does the CPU, and all of it stays
/// where it is.
fn use_there(device: &Device, memory: &mut Mapping, seed: usize) -> Result<()> {
    let pages = memory.pages();
    check(memory.bytes(), |page| pattern(page, seed))?;
    fill(memory.bytes_mut(), seed + 1);
    let mut buffer = vec![0; pages * page_size()];
    device
        .ask(Request::Read, memory, pages, &mut buffer)
        .context("reading")?;
    check(&buffer, |page| pattern(page, seed + 1))?;
    fill(&mut buffer, seed + 2);
    device
        .ask(Request::Write, memory, pages, &mut buffer)
        .context("writing")?;
    check(memory.bytes(), |page| pattern(page, seed + 2))?;
    expect(device, memory, pages)
}

fn used_where_it_is(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    let mut memory = migrated(&device, Mapping::private(PAGES)?, 1)?;
    use_there(&device, &mut memory, 1)
}

fn huge(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    let mut memory = migrated(&device, Mapping::huge()?, 5)?;
    use_there(&device, &mut memory, 5)?;
    device.evict()?;
    expect(&device, &memory, 0)?;
    check(memory.bytes(), |page| pattern(page, 7))
}

fn home_on_request(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    let memory = migrated(&device, Mapping::private(PAGES)?, 10)?;
    let mut buffer = vec![0; PAGES * page_size()];
    let half = PAGES / 2;
    device
        .ask(Request::MigrateToRam, &memory, half, &mut buffer)
        .context("migrating home")?;
    expect(&device, &memory, PAGES - half)?;
    check(memory.bytes(), |page| pattern(page, 10))
}

fn evicted(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    let memory = migrated(&device, Mapping::private(PAGES)?, 12)?;
    // Whoever else maps the pages has them still.
    let child = Child::run(|| {
        let moved = Device::open(path)?.evict()?;
        ensure!(moved == PAGES as u64, "{moved} pages were evicted");
        check(memory.bytes(), |page| pattern(page, 12))
    })?;
    child.wait()?;
    expect(&device, &memory, 0)?;
    check(memory.bytes(), |page| pattern(page, 12))
}

fn copy_on_write(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    let mut memory = migrated(&device, Mapping::private(PAGES)?, 15)?;
    let child = Child::run(|| {
        check(memory.bytes(), |page| pattern(page, 15))?;
        fill(memory.bytes_mut(), 16);
        check(memory.bytes(), |page| pattern(page, 16))
    })?;
    child.wait()?;
    expect(&device, &memory, PAGES)?;
    check(memory.bytes(), |page| pattern(page, 15))
}

/// The other device reads it where it is, and does not get it.
fn looked_at_by_another(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    let other = Device::open_other(path)?;
    let memory = migrated(&device, Mapping::private(PAGES)?, 18)?;
    let mut buffer = vec![0; PAGES * page_size()];
    other
        .ask(Request::Read, &memory, PAGES, &mut buffer)
        .context("reading by the other device")?;
    check(&buffer, |page| pattern(page, 18))?;
    let taken = other
        .ask(Request::MigrateToDevice, &memory, PAGES, &mut buffer)
        .err();
    ensure!(
        taken == Some(Errno::ENOENT),
        "that the other device takes it gave {taken:?}"
    );
    expect(&device, &memory, PAGES)?;
    check(memory.bytes(), |page| pattern(page, 18))
}
