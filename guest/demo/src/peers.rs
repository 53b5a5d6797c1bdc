// SPDX-License-Identifier: GPL-2.0

//! Scenarios with two devices that reach each other's memory.

use std::path::Path;

use anyhow::{
    ensure,
    Context as _,
    Result, //
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
    ("a_peer_reads_it_where_it_is", a_peer_reads_it_where_it_is),
    (
        "a_peer_writes_to_it_where_it_is",
        a_peer_writes_to_it_where_it_is,
    ),
    ("from_peer_to_peer", from_peer_to_peer),
    ("from_everywhere_to_one", from_everywhere_to_one),
    ("huge_from_peer_to_peer", huge_from_peer_to_peer),
    (
        "huge_from_peer_to_peer_in_pieces",
        huge_from_peer_to_peer_in_pieces,
    ),
    (
        "a_peer_goes_while_the_other_looks",
        a_peer_goes_while_the_other_looks,
    ),
    (
        "shared_pages_from_peer_to_peer",
        shared_pages_from_peer_to_peer,
    ),
    ("both_ways_at_once", both_ways_at_once),
];

const PAGES: usize = 256;

/// Two devices whose memory is registered.
fn open(path: &Path) -> Result<(Device, Device)> {
    let pair = (Device::open(path)?, Device::open_other(path)?);
    for device in [&pair.0, &pair.1] {
        let mut memory = Mapping::private(1)?;
        fill(memory.bytes_mut(), 0);
        migrate(device, &memory)?;
    }
    Ok(pair)
}

/// `PAGES` pages with pattern `seed`, on `device`.
fn migrated(device: &Device, seed: usize) -> Result<Mapping> {
    let mut memory = Mapping::private(PAGES)?;
    fill(memory.bytes_mut(), seed);
    migrate(device, &memory)?;
    Ok(memory)
}

/// Checks that `memory` is on `here` as a whole, by way of what the device gives up: nothing of it
/// belongs to `there`.
fn expect_on(here: &Device, there: &Device, memory: &Mapping) -> Result<()> {
    there.release()?;
    expect(memory, on_device(memory.pages())).context("given up by the other device")?;
    here.release()?;
    expect(memory, in_ram(memory.pages())).context("not given up by the device")
}

fn a_peer_reads_it_where_it_is(path: &Path) -> Result<()> {
    let (one, other) = open(path)?;
    let memory = migrated(&one, 1)?;
    let mut buffer = vec![0; PAGES * page_size()];
    other.ask(Request::Read, &memory, PAGES, &mut buffer)?;
    check(&buffer, |page| pattern(page, 1))?;
    expect(&memory, on_device(PAGES))?;
    expect_on(&one, &other, &memory)?;
    check(memory.bytes(), |page| pattern(page, 1))
}

fn a_peer_writes_to_it_where_it_is(path: &Path) -> Result<()> {
    let (one, other) = open(path)?;
    let memory = migrated(&one, 2)?;
    let mut buffer = vec![0; PAGES * page_size()];
    fill(&mut buffer, 3);
    other.ask(Request::Write, &memory, PAGES, &mut buffer)?;
    expect(&memory, on_device(PAGES))?;
    buffer.fill(0);
    one.ask(Request::Read, &memory, PAGES, &mut buffer)?;
    check(&buffer, |page| pattern(page, 3))?;
    expect_on(&one, &other, &memory)?;
    check(memory.bytes(), |page| pattern(page, 3))
}

fn from_peer_to_peer(path: &Path) -> Result<()> {
    let (one, other) = open(path)?;
    let memory = migrated(&one, 4)?;
    check(&migrate(&other, &memory)?, |page| pattern(page, 4))?;
    check(&migrate(&one, &memory)?, |page| pattern(page, 4))?;
    check(&migrate(&other, &memory)?, |page| pattern(page, 4))?;
    expect_on(&other, &one, &memory)?;
    check(memory.bytes(), |page| pattern(page, 4))
}

fn from_everywhere_to_one(path: &Path) -> Result<()> {
    let (one, other) = open(path)?;
    // A quarter on each of the devices, one in system memory, and one is not there at all.
    let quarter = PAGES / 4;
    let mut memory = Mapping::private(PAGES)?;
    let expected = |page: usize| match page / quarter {
        3 => 0,
        _ => pattern(page, 5),
    };
    let there = memory.bytes_mut().chunks_mut(page_size()).enumerate();
    for (page, bytes) in there.take(3 * quarter) {
        bytes.fill(expected(page));
    }
    let mut buffer = vec![0; PAGES * page_size()];
    one.ask(Request::MigrateToDevice, &memory, 2 * quarter, &mut buffer)?;
    other.ask(Request::MigrateToDevice, &memory, quarter, &mut buffer)?;
    expect(
        &memory,
        Count {
            ram: quarter,
            device: 2 * quarter,
            none: quarter,
        },
    )?;
    check(&migrate(&other, &memory)?, expected)?;
    expect_on(&other, &one, &memory)?;
    check(memory.bytes(), expected)
}

/// A huge page with pattern `seed`, on `device`.
fn huge(device: &Device, seed: usize) -> Result<Mapping> {
    let mut memory = Mapping::huge()?;
    fill(memory.bytes_mut(), seed);
    migrate(device, &memory)?;
    Ok(memory)
}

fn huge_from_peer_to_peer(path: &Path) -> Result<()> {
    let (one, other) = open(path)?;
    let memory = huge(&one, 6)?;
    check(&migrate(&other, &memory)?, |page| pattern(page, 6))?;
    // It still is one folio: a touch brings all of it home.
    let touched = memory.bytes().get(9 * page_size()).copied();
    ensure!(touched == Some(pattern(9, 6)), "{touched:?} after a touch");
    expect(&memory, in_ram(memory.pages()))?;
    check(memory.bytes(), |page| pattern(page, 6))
}

fn huge_from_peer_to_peer_in_pieces(path: &Path) -> Result<()> {
    let (one, other) = open(path)?;
    let memory = huge(&one, 7)?;
    other.fail(Failure::Large)?;
    check(&migrate(&other, &memory)?, |page| pattern(page, 7))?;
    let touched = memory.bytes().get(9 * page_size()).copied();
    ensure!(touched == Some(pattern(9, 7)), "{touched:?} after a touch");
    let pages = memory.pages();
    expect(
        &memory,
        Count {
            ram: 1,
            device: pages - 1,
            none: 0,
        },
    )?;
    check(memory.bytes(), |page| pattern(page, 7))
}

fn a_peer_goes_while_the_other_looks(path: &Path) -> Result<()> {
    let (one, other) = open(path)?;
    let memory = migrated(&one, 8)?;
    let mut buffer = vec![0; PAGES * page_size()];
    // Now the other device has translations to the first one's memory.
    other.ask(Request::Read, &memory, PAGES, &mut buffer)?;
    one.release()?;
    expect(&memory, in_ram(PAGES))?;
    // The memory is registered anew, and other pages are where ours were.
    let usurper = migrated(&one, 9)?;
    buffer.fill(0);
    other.ask(Request::Read, &memory, PAGES, &mut buffer)?;
    check(&buffer, |page| pattern(page, 8))?;
    fill(&mut buffer, 10);
    other.ask(Request::Write, &memory, PAGES, &mut buffer)?;
    check(memory.bytes(), |page| pattern(page, 10))?;
    check(usurper.bytes(), |page| pattern(page, 9))
}

fn shared_pages_from_peer_to_peer(path: &Path) -> Result<()> {
    let (one, other) = open(path)?;
    let mut memory = migrated(&one, 11)?;
    // The child has the pages as well, and takes them to the other device; then both write.
    Child::run(|| {
        let other = Device::open_other(path)?;
        check(&migrate(&other, &memory)?, |page| pattern(page, 11))?;
        fill(memory.bytes_mut(), 12);
        check(memory.bytes(), |page| pattern(page, 12))
    })?
    .wait()?;
    let mut buffer = vec![0; PAGES * page_size()];
    other.ask(Request::Read, &memory, PAGES, &mut buffer)?;
    check(&buffer, |page| pattern(page, 11))?;
    fill(memory.bytes_mut(), 13);
    check(memory.bytes(), |page| pattern(page, 13))
}

fn both_ways_at_once(path: &Path) -> Result<()> {
    let (_one, _other) = open(path)?;
    let children: Vec<Child> = (0..4)
        .map(|child| {
            Child::run(|| {
                let pair = (Device::open(path)?, Device::open_other(path)?);
                let (from, to) = match child % 2 {
                    0 => (&pair.0, &pair.1),
                    _ => (&pair.1, &pair.0),
                };
                let mut memory = Mapping::private(PAGES)?;
                for round in 0..10 {
                    fill(memory.bytes_mut(), round);
                    migrate(from, &memory)?;
                    check(&migrate(to, &memory)?, |page| pattern(page, round))?;
                    check(memory.bytes(), |page| pattern(page, round))?;
                }
                Ok(())
            })
        })
        .collect::<Result<_>>()?;
    children.into_iter().try_for_each(Child::wait)
}
