// SPDX-License-Identifier: GPL-2.0

//! Scenarios with huge pages: they are on the device as one folio, and come back as one, or in
//! pieces.

use std::{
    io::Read as _,
    path::Path, //
};

use anyhow::{
    ensure,
    Context as _,
    Result, //
};
use nix::sys::mman::{
    MmapAdvise,
    ProtFlags, //
};

use crate::{
    device::{
        Device,
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
        Scenario,
        DEVICE_SIZE, //
    }, //
};

/// All of them, with their names.
pub(crate) const ALL: &[(&str, Scenario)] = &[
    (
        "huge_there_and_back_at_a_touch",
        huge_there_and_back_at_a_touch,
    ),
    ("huge_home_on_request", huge_home_on_request),
    ("huge_hole", huge_hole),
    ("huge_zero_page", huge_zero_page),
    ("huge_copy_on_write", huge_copy_on_write),
    ("huge_released", huge_released),
    ("huge_cut_by_unmapping", huge_cut_by_unmapping),
    ("huge_cut_by_dontneed", huge_cut_by_dontneed),
    ("huge_cut_by_protection", huge_cut_by_protection),
    (
        "huge_cut_and_touched_behind_its_head",
        huge_cut_and_touched_behind_its_head,
    ),
    ("huge_in_part_requested_home", huge_in_part_requested_home),
    (
        "huge_where_small_ones_are_left",
        huge_where_small_ones_are_left,
    ),
    (
        "huge_and_shared_where_small_ones_are_left",
        huge_and_shared_where_small_ones_are_left,
    ),
];

/// A huge page with pattern `seed`, on the device.
fn migrated(device: &Device, seed: usize) -> Result<Mapping> {
    let mut memory = Mapping::huge()?;
    fill(memory.bytes_mut(), seed);
    check(&migrate(device, &memory)?, |page| pattern(page, seed))?;
    Ok(memory)
}

/// One byte of `memory`, which a CPU reads.
fn touch(memory: &Mapping, page: usize) -> Option<u8> {
    memory.bytes().get(page * page_size() + 7).copied()
}

fn huge_there_and_back_at_a_touch(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    for seed in 0..3 {
        let memory = migrated(&device, seed)?;
        let page = 100 + seed;
        ensure!(touch(&memory, page) == Some(pattern(page, seed)));
        // One fault was enough.
        expect(&memory, in_ram(memory.pages()))?;
        check(memory.bytes(), |page| pattern(page, seed))?;
    }
    Ok(())
}

fn huge_home_on_request(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    let memory = migrated(&device, 3)?;
    let mut buffer = vec![0; memory.pages() * page_size()];
    let done = device.ask(Request::MigrateToRam, &memory, memory.pages(), &mut buffer)?;
    ensure!(
        done.cpages == memory.pages() as u64,
        "{} pages came home",
        done.cpages
    );
    expect(&memory, in_ram(memory.pages()))?;
    check(memory.bytes(), |page| pattern(page, 3))
}

fn huge_hole(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    // Pages of the device that were used before, and have to be cleared.
    drop(migrated(&device, 4)?);
    let memory = Mapping::huge()?;
    check(&migrate(&device, &memory)?, |_| 0)?;
    check(memory.bytes(), |_| 0)
}

fn huge_zero_page(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    drop(migrated(&device, 5)?);
    let mut memory = Mapping::huge()?;
    ensure!(touch(&memory, 3) == Some(0), "fresh memory is not zero");
    check(&migrate(&device, &memory)?, |_| 0)?;
    check(memory.bytes(), |_| 0)?;
    fill(memory.bytes_mut(), 6);
    check(memory.bytes(), |page| pattern(page, 6))
}

fn huge_copy_on_write(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    let mut memory = migrated(&device, 7)?;
    let (mut gone, go) = os_pipe::pipe()?;
    let mut go = Some(go);
    let child = Child::run(|| {
        go.take();
        gone.read_to_end(&mut Vec::new())?;
        check(memory.bytes(), |page| pattern(page, 7))?;
        fill(memory.bytes_mut(), 8);
        check(memory.bytes(), |page| pattern(page, 8))
    })?;
    check(memory.bytes(), |page| pattern(page, 7))?;
    drop(go);
    child.wait()?;
    check(memory.bytes(), |page| pattern(page, 7)).context("the child's writes are in the parent")
}

fn huge_released(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    let memory = migrated(&device, 9)?;
    device.release()?;
    expect(&memory, in_ram(memory.pages()))?;
    check(memory.bytes(), |page| pattern(page, 9))
}

fn huge_cut_by_unmapping(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    let mut memory = migrated(&device, 10)?;
    let half = memory.pages() / 2;
    memory.truncate(half)?;
    expect(&memory, on_device(half))?;
    check(memory.bytes(), |page| pattern(page, 10))
}

fn huge_cut_by_dontneed(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    let memory = migrated(&device, 11)?;
    memory.advise_pages(7..9, MmapAdvise::MADV_DONTNEED)?;
    check(memory.bytes(), |page| match page {
        7..9 => 0,
        page => pattern(page, 11),
    })
}

fn huge_cut_by_protection(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    let mut memory = migrated(&device, 12)?;
    memory.protect_pages(100..200, ProtFlags::PROT_READ)?;
    check(memory.bytes(), |page| pattern(page, 12))?;
    memory.protect(ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)?;
    fill(memory.bytes_mut(), 13);
    check(&migrate(&device, &memory)?, |page| pattern(page, 13))?;
    check(memory.bytes(), |page| pattern(page, 13))
}

/// The fault is at a page that is not the first of its folio, which is split on the way: what comes home must be
/// the page that was touched.
fn huge_cut_and_touched_behind_its_head(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    for page in [1, 255, 511] {
        let memory = migrated(&device, 19)?;
        // From now on it is mapped page by page, and still one folio.
        memory.protect_pages(0..1, ProtFlags::PROT_READ)?;
        let touched = touch(&memory, page);
        ensure!(
            touched == Some(pattern(page, 19)),
            "page {page} begins with {touched:?}"
        );
        let rest = Count {
            ram: 1,
            device: memory.pages() - 1,
            ..Count::default()
        };
        expect(&memory, rest)?;
        check(memory.bytes(), |page| pattern(page, 19))?;
    }
    Ok(())
}

fn huge_in_part_requested_home(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    let memory = migrated(&device, 14)?;
    let few = 5;
    let mut buffer = vec![0; few * page_size()];
    device.ask(Request::MigrateToRam, &memory, few, &mut buffer)?;
    check(memory.bytes(), |page| pattern(page, 14))
}

/// All of the device's memory, of which every other half of a huge page is idle: no idle run is as large
/// as one. And how many pages are in a half.
fn fragments(device: &Device) -> Result<(Mapping, usize)> {
    let half = Mapping::huge()?.pages() / 2;
    let mut small = Mapping::private(DEVICE_SIZE / page_size())?;
    fill(small.bytes_mut(), 15);
    check(&migrate(device, &small)?, |page| pattern(page, 15))?;
    for page in (0..small.pages()).step_by(2 * half) {
        small.advise_pages(page..page + half, MmapAdvise::MADV_DONTNEED)?;
    }
    Ok((small, half))
}

fn huge_where_small_ones_are_left(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    let (small, half) = fragments(&device)?;
    let memory = migrated(&device, 16)?;
    check(memory.bytes(), |page| pattern(page, 16))?;
    check(small.bytes(), |page| match page / half % 2 {
        0 => 0,
        _ => pattern(page, 15),
    })
}

fn huge_and_shared_where_small_ones_are_left(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    let _small = fragments(&device)?;
    let mut memory = Mapping::huge()?;
    fill(memory.bytes_mut(), 17);
    // Two processes map it as one, and it is split for one of them.
    let (mut gone, go) = os_pipe::pipe()?;
    let mut go = Some(go);
    let child = Child::run(|| {
        go.take();
        gone.read_to_end(&mut Vec::new())?;
        check(memory.bytes(), |page| pattern(page, 17))?;
        fill(memory.bytes_mut(), 18);
        check(memory.bytes(), |page| pattern(page, 18))
    })?;
    check(&migrate(&device, &memory)?, |page| pattern(page, 17))?;
    drop(go);
    child.wait()?;
    check(memory.bytes(), |page| pattern(page, 17)).context("the child's writes are in the parent")
}
