// SPDX-License-Identifier: GPL-2.0

//! What the driver keeps with each folio on the device: for the sample, an object of the open file that has
//! moved it there. It must be there for as long as a part of the folio is, and be gone then.

use std::{
    io::Read as _,
    path::Path, //
};

use anyhow::{
    bail,
    ensure,
    Result, //
};
use nix::sys::mman::MmapAdvise;

use crate::{
    device::{
        Device,
        Request,
        Usage, //
    },
    mapping::{
        page_size,
        Mapping, //
    },
    process::Child,
    scenarios::{
        fill,
        migrate,
        pattern,
        Scenario, //
    }, //
};

/// All of them, with their names.
pub(crate) const ALL: &[(&str, Scenario)] = &[
    ("data_outlives_the_file", data_outlives_the_file),
    ("data_comes_along", data_comes_along),
    ("data_of_two_files", data_of_two_files),
    ("data_of_each_part", data_of_each_part),
    ("data_of_each_part_when_cut", data_of_each_part_when_cut),
    ("data_of_shared_pages", data_of_shared_pages),
];

/// Checks what has become of a file's memory.
fn expect(device: &Device, came_home: u64, faults: u64, clients: u64) -> Result<()> {
    let found = device.usage()?;
    let expected = Usage {
        came_home,
        faults,
        clients,
    };
    ensure!(found == expected, "it says {found:?}, not {expected:?}");
    Ok(())
}

/// How many files and objects of files there are, which is as many as there were before.
fn clients(device: &Device) -> Result<u64> {
    Ok(device.usage()?.clients)
}

/// A CPU reads one byte of page `page`.
fn touch(memory: &Mapping, page: usize, seed: usize) -> Result<()> {
    match memory.bytes().get(page * page_size()) {
        Some(byte) if *byte == pattern(page, seed) => Ok(()),
        byte => bail!("page {page} begins with {byte:?}"),
    }
}

/// Memory with pattern `seed`, on the device.
fn migrated(device: &Device, mut memory: Mapping, seed: usize) -> Result<Mapping> {
    fill(memory.bytes_mut(), seed);
    migrate(device, &memory)?;
    Ok(memory)
}

fn data_outlives_the_file(path: &Path) -> Result<()> {
    let witness = Device::open(path)?;
    let before = clients(&witness)?;
    let device = Device::open(path)?;
    ensure!(clients(&witness)? == before + 1);
    let memory = migrated(&device, Mapping::private(16)?, 60)?;
    drop(device);
    ensure!(clients(&witness)? == before + 1, "the data went first");
    memory.advise_pages(0..15, MmapAdvise::MADV_DONTNEED)?;
    ensure!(
        clients(&witness)? == before + 1,
        "the data went with other pages"
    );
    touch(&memory, 15, 60)?;
    ensure!(clients(&witness)? == before, "the data has stayed");
    Ok(())
}

fn data_comes_along(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    let before = clients(&device)?;
    let memory = migrated(&device, Mapping::private(16)?, 61)?;
    for page in 0..3 {
        touch(&memory, page, 61)?;
    }
    expect(&device, 3, 3, before)?;
    let mut buffer = vec![0; 8 * page_size()];
    device.ask(Request::MigrateToRam, &memory, 8, &mut buffer)?;
    expect(&device, 8, 3, before)?;
    device.evict()?;
    expect(&device, 16, 3, before)?;
    // And again, in the same pages of the device.
    migrate(&device, &memory)?;
    touch(&memory, 0, 61)?;
    expect(&device, 17, 4, before)?;
    device.release()?;
    expect(&device, 32, 4, before)
}

fn data_of_two_files(path: &Path) -> Result<()> {
    let one = Device::open(path)?;
    let two = Device::open(path)?;
    let before = clients(&one)?;
    let mine = migrated(&one, Mapping::private(4)?, 62)?;
    let other = migrated(&two, Mapping::private(4)?, 63)?;
    touch(&mine, 1, 62)?;
    expect(&one, 1, 1, before)?;
    expect(&two, 0, 0, before)?;
    touch(&other, 1, 63)?;
    touch(&other, 2, 63)?;
    expect(&one, 1, 1, before)?;
    expect(&two, 2, 2, before)?;
    // Who brings it home has no say in whose it is.
    let mut buffer = vec![0; 4 * page_size()];
    two.ask(Request::MigrateToRam, &mine, 4, &mut buffer)?;
    expect(&one, 4, 1, before)?;
    expect(&two, 2, 2, before)
}

fn data_of_each_part(path: &Path) -> Result<()> {
    let witness = Device::open(path)?;
    let before = clients(&witness)?;
    let device = Device::open(path)?;
    let mut memory = migrated(&device, Mapping::huge()?, 64)?;
    let pages = memory.pages();
    // What is left of the huge page is no longer one.
    memory.truncate(pages / 2)?;
    for page in 0..4 {
        touch(&memory, page, 64)?;
    }
    expect(&device, 4, 4, before + 1)?;
    drop(device);
    memory.advise_pages(0..pages / 2 - 1, MmapAdvise::MADV_DONTNEED)?;
    ensure!(
        clients(&witness)? == before + 1,
        "the data went with the other parts"
    );
    touch(&memory, pages / 2 - 1, 64)?;
    ensure!(clients(&witness)? == before, "the data has stayed");
    Ok(())
}

fn data_of_each_part_when_cut(path: &Path) -> Result<()> {
    let witness = Device::open(path)?;
    let before = clients(&witness)?;
    let device = Device::open(path)?;
    let memory = migrated(&device, Mapping::huge()?, 65)?;
    // As a whole,
    touch(&memory, 7, 65)?;
    expect(&device, memory.pages() as u64, 1, before + 1)?;
    // and with the first page gone before the others.
    migrate(&device, &memory)?;
    memory.advise_pages(0..1, MmapAdvise::MADV_DONTNEED)?;
    touch(&memory, 9, 65)?;
    // A stock kernel splits the folio at the first fault, and loses the lock of the page: it takes another one.
    let usage = device.usage()?;
    ensure!((2..=3).contains(&usage.faults), "it says {usage:?}");
    drop(device);
    ensure!(
        clients(&witness)? == before + 1,
        "the data went with the first part"
    );
    drop(memory);
    ensure!(clients(&witness)? == before, "the data has stayed");
    Ok(())
}

fn data_of_shared_pages(path: &Path) -> Result<()> {
    let witness = Device::open(path)?;
    let before = clients(&witness)?;
    let device = Device::open(path)?;
    let memory = migrated(&device, Mapping::private(16)?, 66)?;
    let (mut gone, go) = os_pipe::pipe()?;
    let mut go = Some(go);
    let child = Child::run(|| {
        go.take();
        gone.read_to_end(&mut Vec::new())?;
        touch(&memory, 3, 66)
    })?;
    // The child has the file open as well, and the pages.
    drop(memory);
    drop(device);
    ensure!(
        clients(&witness)? == before + 1,
        "the data went with the parent's pages"
    );
    drop(go);
    child.wait()?;
    ensure!(clients(&witness)? == before, "the data has stayed");
    Ok(())
}
