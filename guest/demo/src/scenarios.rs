// SPDX-License-Identifier: GPL-2.0

//! What processes do to memory that is on the device, and what must come of it.

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
use nix::{
    errno::Errno,
    sys::mman::{
        MmapAdvise,
        ProtFlags, //
    },
};

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
    ("there_and_back", there_and_back),
    (
        "the_device_writes_where_the_memory_is",
        the_device_writes_where_the_memory_is,
    ),
    ("home_on_request", home_on_request),
    ("holes_come_back_as_zeroes", holes_come_back_as_zeroes),
    (
        "copy_on_write_of_shared_pages",
        copy_on_write_of_shared_pages,
    ),
    (
        "a_child_inherits_memory_on_the_device",
        a_child_inherits_memory_on_the_device,
    ),
    (
        "dontneed_drops_what_is_on_the_device",
        dontneed_drops_what_is_on_the_device,
    ),
    (
        "freed_lazily_then_written_by_the_device",
        freed_lazily_then_written_by_the_device,
    ),
    ("unmapping_half", unmapping_half),
    (
        "protected_and_permitted_again",
        protected_and_permitted_again,
    ),
    (
        "exit_with_memory_on_the_device",
        exit_with_memory_on_the_device,
    ),
    ("the_other_device_reads_it", the_other_device_reads_it),
    (
        "release_brings_everything_home",
        release_brings_everything_home,
    ),
    (
        "release_while_processes_fault",
        release_while_processes_fault,
    ),
    ("written_while_it_moves", written_while_it_moves),
    ("more_than_the_device_has", more_than_the_device_has),
    ("shared_memory_stays", shared_memory_stays),
    ("bad_requests_are_refused", bad_requests_are_refused),
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

/// `PAGES` pages with pattern `seed`, on the device.
fn migrated(device: &Device, seed: usize) -> Result<Mapping> {
    let mut memory = Mapping::private(PAGES)?;
    fill(memory.bytes_mut(), seed);
    migrate(device, &memory)?;
    Ok(memory)
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

fn there_and_back(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    for seed in 0..3 {
        let mut memory = Mapping::private(PAGES)?;
        fill(memory.bytes_mut(), seed);
        check(&migrate(&device, &memory)?, |page| pattern(page, seed))?;
        check(memory.bytes(), |page| pattern(page, seed))?;
        expect(&memory, in_ram(PAGES))?;
    }
    Ok(())
}

fn the_device_writes_where_the_memory_is(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    let memory = migrated(&device, 1)?;
    let mut buffer = vec![0; PAGES * page_size()];
    fill(&mut buffer, 2);
    let done = device.ask(Request::Write, &memory, PAGES, &mut buffer)?;
    ensure!(
        done.cpages == PAGES as u64,
        "{} pages were written",
        done.cpages
    );
    expect(&memory, on_device(PAGES))?;
    check(&device_read(&device, &memory)?, |page| pattern(page, 2))?;
    check(memory.bytes(), |page| pattern(page, 2))
}

fn home_on_request(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    let memory = migrated(&device, 3)?;
    let mut buffer = vec![0; PAGES * page_size()];
    let done = device.ask(Request::MigrateToRam, &memory, PAGES, &mut buffer)?;
    ensure!(
        done.cpages == PAGES as u64,
        "{} pages came home",
        done.cpages
    );
    expect(&memory, in_ram(PAGES))?;
    check(memory.bytes(), |page| pattern(page, 3))
}

fn holes_come_back_as_zeroes(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    // Pages of the device that were used before, and have to be cleared.
    drop(migrated(&device, 4)?);
    let mut memory = Mapping::private(PAGES)?;
    let expected = |page: usize| if page % 3 == 0 { pattern(page, 5) } else { 0 };
    for (page, bytes) in memory.bytes_mut().chunks_mut(page_size()).enumerate() {
        match page % 3 {
            0 => bytes.fill(expected(page)),
            // The zero page.
            1 => ensure!(bytes.first() == Some(&0), "fresh memory is not zero"),
            // Nothing at all.
            _ => {}
        }
    }
    check(&migrate(&device, &memory)?, expected)?;
    check(memory.bytes(), expected)
}

fn copy_on_write_of_shared_pages(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    let mut memory = Mapping::private(PAGES)?;
    fill(memory.bytes_mut(), 6);
    // Both have the pages, read-only; they migrate; both fault them back; each writes.
    let (mut gone, go) = os_pipe::pipe()?;
    let mut go = Some(go);
    let child = Child::run(|| {
        go.take();
        gone.read_to_end(&mut Vec::new())?;
        check(memory.bytes(), |page| pattern(page, 6))?;
        fill(memory.bytes_mut(), 7);
        check(memory.bytes(), |page| pattern(page, 7))
    })?;
    migrate(&device, &memory)?;
    check(memory.bytes(), |page| pattern(page, 6))?;
    drop(go);
    child.wait()?;
    check(memory.bytes(), |page| pattern(page, 6)).context("the child's writes are in the parent")
}

fn a_child_inherits_memory_on_the_device(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    let mut memory = migrated(&device, 8)?;
    Child::run(|| {
        expect(&memory, on_device(PAGES))?;
        check(memory.bytes(), |page| pattern(page, 8))?;
        fill(memory.bytes_mut(), 9);
        check(memory.bytes(), |page| pattern(page, 9))
    })?
    .wait()?;
    check(memory.bytes(), |page| pattern(page, 8)).context("the child's writes are in the parent")
}

fn dontneed_drops_what_is_on_the_device(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    let memory = migrated(&device, 10)?;
    memory.advise(MmapAdvise::MADV_DONTNEED)?;
    expect(
        &memory,
        Count {
            none: PAGES,
            ..Count::default()
        },
    )?;
    check(&device_read(&device, &memory)?, |_| 0).context("the device still sees it")?;
    check(memory.bytes(), |_| 0)
}

fn freed_lazily_then_written_by_the_device(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    let mut buffer = vec![0; PAGES * page_size()];
    // The kernel may throw away what was freed lazily and is clean, but not what the device has
    // written since: neither where it is, nor after a stay on the device.
    for on_device in [false, true] {
        let mut memory = Mapping::private(PAGES)?;
        fill(memory.bytes_mut(), 30);
        memory.advise(MmapAdvise::MADV_FREE)?;
        if on_device {
            migrate(&device, &memory)?;
        }
        fill(&mut buffer, 31);
        device.ask(Request::Write, &memory, PAGES, &mut buffer)?;
        if on_device {
            device.ask(Request::MigrateToRam, &memory, PAGES, &mut buffer)?;
        }
        memory.advise(MmapAdvise::MADV_PAGEOUT)?;
        check(memory.bytes(), |page| pattern(page, 31))
            .with_context(|| format!("written with the memory on the device: {on_device}"))?;
    }
    Ok(())
}

fn unmapping_half(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    let mut memory = migrated(&device, 11)?;
    let addr = memory.addr();
    memory.truncate(PAGES / 2)?;
    let mut command = Command {
        addr: (addr + PAGES / 2 * page_size()) as u64,
        ptr: memory.addr() as u64,
        npages: 1,
        ..Command::default()
    };
    ensure!(
        device.raw(Request::Read, &mut command) == Err(Errno::EFAULT),
        "the device reads what is not mapped"
    );
    expect(&memory, on_device(PAGES / 2))?;
    check(memory.bytes(), |page| pattern(page, 11))
}

fn protected_and_permitted_again(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    let memory = migrated(&device, 12)?;
    let mut buffer = vec![0; PAGES * page_size()];
    memory.protect(ProtFlags::PROT_READ)?;
    let refused = device
        .ask(Request::Write, &memory, PAGES, &mut buffer)
        .err();
    ensure!(
        refused == Some(Errno::EPERM),
        "writing to read-only memory gave {refused:?}"
    );
    memory.protect(ProtFlags::PROT_NONE)?;
    let refused = device.ask(Request::Read, &memory, PAGES, &mut buffer).err();
    ensure!(
        refused == Some(Errno::EFAULT),
        "reading protected memory gave {refused:?}"
    );
    memory.protect(ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)?;
    fill(&mut buffer, 13);
    device.ask(Request::Write, &memory, PAGES, &mut buffer)?;
    check(memory.bytes(), |page| pattern(page, 13))
}

fn exit_with_memory_on_the_device(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    for seed in 14..18 {
        Child::run(|| {
            let memory = migrated(&Device::open(path)?, seed)?;
            expect(&memory, on_device(PAGES))?;
            // It is still there when the process ends.
            std::mem::forget(memory);
            Ok(())
        })?
        .wait()?;
    }
    Ok(device.release()?)
}

fn the_other_device_reads_it(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    let other = Device::open_other(path)?;
    let memory = migrated(&device, 18)?;
    check(&device_read(&other, &memory)?, |page| pattern(page, 18))?;
    // It had to come home for that.
    expect(&memory, in_ram(PAGES))?;
    check(&migrate(&other, &memory)?, |page| pattern(page, 18))?;
    check(&device_read(&device, &memory)?, |page| pattern(page, 18))?;
    check(memory.bytes(), |page| pattern(page, 18))
}

fn release_brings_everything_home(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    let memory = migrated(&device, 19)?;
    device.release()?;
    expect(&memory, in_ram(PAGES))?;
    check(memory.bytes(), |page| pattern(page, 19))?;
    // And all begins anew.
    check(&migrate(&device, &memory)?, |page| pattern(page, 19))?;
    check(memory.bytes(), |page| pattern(page, 19))
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

/// The device writes through its mirror to memory that migrates to it meanwhile, by another thread's doing, and comes
/// home at a touch. No write may be lost on the way: neither one that comes too late to be copied, nor one to where
/// the memory was.
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
                    // Some of it has come home before it was read, or was coming and going for a second.
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

fn more_than_the_device_has(path: &Path) -> Result<()> {
    let pages = (DEVICE_SIZE + (16 << 20)) / page_size();
    let device = Device::open(path)?;
    let mut memory = Mapping::private(pages)?;
    fill(memory.bytes_mut(), 25);
    let mut buffer = vec![0; pages * page_size()];
    let refused = device
        .ask(Request::MigrateToDevice, &memory, pages, &mut buffer)
        .err();
    ensure!(
        refused == Some(Errno::ENOENT),
        "migrating too much gave {refused:?}"
    );
    let found = count(&memory)?;
    let room = DEVICE_SIZE / page_size();
    ensure!(
        found.device == room && found.ram == pages - room,
        "the pages are {found:?}"
    );
    check(memory.bytes(), |page| pattern(page, 25))
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

fn bad_requests_are_refused(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    let memory = Mapping::private(1)?;
    let addr = memory.addr() as u64;
    let good = Command {
        addr,
        ptr: addr,
        npages: 1,
        ..Command::default()
    };
    let cases = [
        (
            "an address inside a page",
            Request::Read,
            Command {
                addr: addr + 1,
                ..good
            },
        ),
        ("no page", Request::Read, Command { npages: 0, ..good }),
        (
            "a range that wraps around",
            Request::Read,
            Command {
                npages: u64::MAX >> 12,
                ..good
            },
        ),
        (
            "more bytes than there are",
            Request::Write,
            Command {
                npages: u64::MAX,
                ..good
            },
        ),
        ("an unknown request", Request::Unknown, Command { ..good }),
        (
            "nothing mapped",
            Request::MigrateToDevice,
            Command { addr: 0, ..good },
        ),
    ];
    for (what, request, mut command) in cases {
        let result = device.raw(request, &mut command);
        ensure!(result == Err(Errno::EINVAL), "{what}: {result:?}");
    }
    let mut nowhere = Command {
        ptr: 1 << 62,
        ..good
    };
    let result = device.raw(Request::Read, &mut nowhere);
    ensure!(result == Err(Errno::EFAULT), "a buffer nowhere: {result:?}");
    Ok(())
}
