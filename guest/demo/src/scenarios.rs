// SPDX-License-Identifier: GPL-2.0

//! What processes do to memory that is on the device, and what must come of it, as far as it takes
//! more than steps: several processes or threads at once, or what no device model simulates. All
//! else is in the scripts of `dpmem-ops`.

use std::{
    io::Read as _,
    path::Path,
    sync::atomic::{
        AtomicBool,
        Ordering, //
    },
    thread, //
};

use anyhow::{
    anyhow,
    bail,
    ensure,
    Context as _,
    Result, //
};
use nix::errno::Errno;

use crate::{
    device::{
        Command,
        Device,
        Request, //
    },
    mapping::{
        page_size,
        Mapping, //
    },
    pagemap::{
        count,
        Count, //
    },
    process::Child, //
};

/// A scenario.
pub(crate) type Scenario = fn(&Path) -> Result<()>;

/// All of them, with their names.
pub(crate) const ALL: &[(&str, Scenario)] = &[
    (
        "release_while_processes_fault",
        release_while_processes_fault,
    ),
    ("written_while_it_moves", written_while_it_moves),
    ("shared_memory_stays", shared_memory_stays),
    ("data_of_an_inherited_file", data_of_an_inherited_file),
];

const PAGES: usize = 256;

/// How much memory the device has, in bytes.
pub(crate) const DEVICE_SIZE: usize = 256 << 20;

/// The byte that page `page` is filled with in pattern `seed`.
pub(crate) fn pattern(page: usize, seed: usize) -> u8 {
    (page.wrapping_mul(31).wrapping_add(seed.wrapping_mul(97)) % 251 + 1) as u8
}

/// Fills the pages of `bytes` with pattern `seed`.
pub(crate) fn fill(bytes: &mut [u8], seed: usize) {
    for (page, bytes) in bytes.chunks_mut(page_size()).enumerate() {
        bytes.fill(pattern(page, seed));
    }
}

/// Checks that each page of `bytes` is as `expected` says.
pub(crate) fn check(bytes: &[u8], expected: impl Fn(usize) -> u8) -> Result<()> {
    for (page, bytes) in bytes.chunks(page_size()).enumerate() {
        let expected = expected(page);
        if let Some(at) = bytes.iter().position(|byte| *byte != expected) {
            bail!(
                "byte {at} of page {page} is {:#x}, not {expected:#x}",
                bytes.get(at).unwrap_or(&0)
            );
        }
    }
    Ok(())
}

/// Checks where the pages of `memory` are.
pub(crate) fn expect(memory: &Mapping, expected: Count) -> Result<()> {
    let found = count(memory)?;
    ensure!(
        found == expected,
        "the pages are {found:?}, not {expected:?}"
    );
    Ok(())
}

pub(crate) fn on_device(pages: usize) -> Count {
    Count {
        device: pages,
        ..Count::default()
    }
}

pub(crate) fn in_ram(pages: usize) -> Count {
    Count {
        ram: pages,
        ..Count::default()
    }
}

/// Moves all of `memory` to the device, and gives what the device read there.
pub(crate) fn migrate(device: &Device, memory: &Mapping) -> Result<Vec<u8>> {
    let mut buffer = vec![0; memory.pages() * page_size()];
    let done = device
        .ask(
            Request::MigrateToDevice,
            memory,
            memory.pages(),
            &mut buffer,
        )
        .context("migrating to the device")?;
    ensure!(
        done.cpages == memory.pages() as u64,
        "{} pages were read",
        done.cpages
    );
    expect(memory, on_device(memory.pages()))?;
    Ok(buffer)
}

/// What the device reads in all of `memory`.
fn device_read(device: &Device, memory: &Mapping) -> Result<Vec<u8>> {
    let mut buffer = vec![0; memory.pages() * page_size()];
    device
        .ask(Request::Read, memory, memory.pages(), &mut buffer)
        .context("reading")?;
    Ok(buffer)
}

fn release_while_processes_fault(path: &Path) -> Result<()> {
    const ROUNDS: usize = 20;
    let device = Device::open(path)?;
    let mut children = Vec::new();
    for seed in 20..24 {
        children.push(Child::run(|| {
            let device = Device::open(path)?;
            let mut memory = Mapping::private(PAGES)?;
            let mut buffer = vec![0; PAGES * page_size()];
            for round in 0..ROUNDS {
                fill(memory.bytes_mut(), seed + round);
                // Not all of it may arrive, when the device is released meanwhile.
                match device.ask(Request::MigrateToDevice, &memory, PAGES, &mut buffer) {
                    Ok(_) => check(&buffer, |page| pattern(page, seed + round))?,
                    Err(Errno::ENOENT) => {}
                    Err(err) => bail!("migrating to the device: {err}"),
                }
                check(memory.bytes(), |page| pattern(page, seed + round))?;
            }
            Ok(())
        })?);
    }
    for _ in 0..ROUNDS {
        device.release()?;
    }
    children.into_iter().try_for_each(Child::wait)
}

/// The device writes through its mirror to memory that migrates to it meanwhile, by another
/// thread's doing, and comes home at a touch. No write may be lost on the way: neither one that
/// comes too late to be copied, nor one to where the memory was.
fn written_while_it_moves(path: &Path) -> Result<()> {
    const ROUNDS: usize = 100;
    let device = Device::open(path)?;
    let memory = Mapping::private(PAGES)?;
    let addr = memory.addr() as u64;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let moves = scope.spawn(|| {
            let mut buffer = vec![0u8; PAGES * page_size()];
            let mut moves = 0;
            while !stop.load(Ordering::Relaxed) {
                let mut command = Command {
                    addr,
                    ptr: buffer.as_mut_ptr().addr() as u64,
                    npages: PAGES as u64,
                    ..Command::default()
                };
                match device.raw(Request::MigrateToDevice, &mut command) {
                    // Some of it has come home before it was read, or was coming and going for a
                    // second.
                    Ok(()) | Err(Errno::ENOENT | Errno::EBUSY) => moves += 1,
                    Err(err) => bail!("migrating to the device: {err}"),
                }
            }
            Ok(moves)
        });
        let writes = (1..=ROUNDS).try_for_each(|round| {
            let mut buffer = vec![0; PAGES * page_size()];
            fill(&mut buffer, round);
            while let Err(err) = device.ask(Request::Write, &memory, PAGES, &mut buffer) {
                // The other one was always faster.
                ensure!(err == Errno::EBUSY, "writing: {err}");
            }
            check(memory.bytes(), |page| pattern(page, round))
                .with_context(|| format!("round {round}"))
        });
        stop.store(true, Ordering::Relaxed);
        let moves = moves.join().map_err(|_| anyhow!("a thread panicked"))??;
        writes?;
        ensure!(moves > 0, "nothing has moved");
        Ok(())
    })
}

fn shared_memory_stays(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    let mut memory = Mapping::shared(PAGES)?;
    fill(memory.bytes_mut(), 26);
    let mut buffer = vec![0; PAGES * page_size()];
    let refused = device
        .ask(Request::MigrateToDevice, &memory, PAGES, &mut buffer)
        .err();
    ensure!(
        refused == Some(Errno::ENOENT),
        "migrating shared memory gave {refused:?}"
    );
    check(&device_read(&device, &memory)?, |page| pattern(page, 26))?;
    check(memory.bytes(), |page| pattern(page, 26))
}

/// The last who closes a file is another process than whose memory it mirrors, and its pages live
/// on there.
fn data_of_an_inherited_file(path: &Path) -> Result<()> {
    const PAGES: usize = 16;
    let witness = Device::open(path)?;
    let before = witness.clients()?;
    let device = Device::open(path)?;
    let mut memory = Mapping::private(PAGES)?;
    fill(memory.bytes_mut(), 66);
    migrate(&device, &memory)?;
    let (mut gone, go) = os_pipe::pipe()?;
    let mut go = Some(go);
    let child = Child::run(|| {
        go.take();
        gone.read_to_end(&mut Vec::new())?;
        check(memory.bytes(), |page| pattern(page, 66))
    })?;
    drop(memory);
    drop(device);
    ensure!(
        witness.clients()? == before + 1,
        "the file went with the parent"
    );
    drop(go);
    child.wait()?;
    ensure!(witness.clients()? == before, "the file has stayed");
    Ok(())
}
