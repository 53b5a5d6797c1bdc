// SPDX-License-Identifier: GPL-2.0

//! What processes do to memory that is on the device, and what must come of it, as far as it takes
//! more than steps: several processes or threads at once, or what no device model simulates. All
//! else is in the scripts of `dpmem-ops`.

use std::{
    fs::File,
    io::{
        Read as _,
        Write as _, //
    },
    ops::RangeInclusive,
    path::Path,
    sync::atomic::{
        AtomicBool,
        AtomicUsize,
        Ordering, //
    },
    thread,
    time::{
        Duration,
        Instant, //
    }, //
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
    sys::{
        mman::{
            MmapAdvise,
            ProtFlags, //
        },
        signal::Signal,
        wait::WaitStatus, //
    },
    unistd::pause, //
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
    process::Child,
    smaps::is_huge, //
};

/// A scenario.
pub(crate) type Scenario = fn(&Path) -> Result<()>;

/// All of them, with their names.
pub(crate) const ALL: &[(&str, Scenario)] = &[
    (
        "release_while_processes_fault",
        release_while_processes_fault,
    ),
    ("threads_while_it_moves", threads_while_it_moves),
    ("written_while_it_moves", written_while_it_moves),
    ("shared_memory_stays", shared_memory_stays),
    ("data_of_an_inherited_file", data_of_an_inherited_file),
];

/// What is done to huge pages that are being evicted. A stock kernel takes the entry of one that is
/// on its way for one of the device, and breaks (`dontneed_on_the_way` in `kernel-bugs.rst`).
pub(crate) const fn while_evicted(stock: bool) -> &'static [(&'static str, Scenario)] {
    if stock {
        &[]
    } else {
        &[
            ("killed_while_evicted", killed_while_evicted),
            ("changed_while_evicted", changed_while_evicted),
        ]
    }
}

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
    if !device.is_coherent() {
        expect(memory, on_device(memory.pages()))?;
    }
    let arrived = device.count(memory)?;
    ensure!(arrived == memory.pages(), "{arrived} pages have arrived");
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

pub(crate) fn release_while_processes_fault(path: &Path) -> Result<()> {
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
                    // Nor may the addresses of the memory be free again, which has no others.
                    Err(Errno::EBUSY) if device.is_coherent() => {}
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

/// Processes are killed while the device is evicted of what they have there: what one side has
/// begun with, the other leaves alone, and in the end nothing is there.
pub(crate) fn killed_while_evicted(path: &Path) -> Result<()> {
    /// So many at least, and at most.
    const ROUNDS: RangeInclusive<u32> = 40..=1000;
    let device = Device::open(path)?;
    migrate(&device, &Mapping::private(1)?)?;
    let start = Instant::now();
    device.evict()?;
    let mut delay = start.elapsed();
    let before = device.clients()?;
    let mut moved = 0;
    let mut evicted = 0;
    for round in 1..=*ROUNDS.end() {
        let (child, pages) = with_number(|tell| {
            let mut memory = match round % 2 {
                0 => Mapping::huge()?,
                _ => Mapping::private(PAGES)?,
            };
            fill(memory.bytes_mut(), round as usize);
            migrate(&Device::open(path)?, &memory)?;
            if round % 2 == 0 && !device.is_coherent() {
                is_huge(&memory)?;
            }
            tell(memory.pages() as u64)?;
            loop {
                pause();
            }
        })?;
        let pages = read_number(pages)?;
        moved += pages;
        let start = Instant::now();
        let (evicts, home) = with_number(|tell| tell(device.evict()?))?;
        while start.elapsed() < delay {
            std::hint::spin_loop();
        }
        child.kill()?;
        let home = read_number(home)?;
        evicted += home;
        // What is to be met is an eviction at any point: when it begins depends on the machine.
        if home == 0 {
            delay += delay / 4 + Duration::from_micros(1);
        } else if home >= pages {
            delay -= delay / 4;
        }
        evicts.wait()?;
        let status = child.status()?;
        ensure!(
            matches!(status, WaitStatus::Signaled(_, Signal::SIGKILL, _)),
            "who was killed ended with {status:?}"
        );
        // Each of both has to be the faster one at times.
        if round >= *ROUNDS.start() && evicted > 0 && evicted < moved {
            break;
        }
    }
    ensure!(
        evicted > 0 && evicted < moved,
        "{evicted} of {moved} pages were evicted"
    );
    let clients = device.clients()?;
    ensure!(
        clients == before,
        "there are {clients} clients, and not {before}"
    );
    Ok(())
}

/// Runs `body` in a child, which is to tell a number, and gives where to read it.
fn with_number(
    body: impl FnOnce(&mut dyn FnMut(u64) -> Result<()>) -> Result<()>,
) -> Result<(Child, os_pipe::PipeReader)> {
    let (reader, writer) = os_pipe::pipe()?;
    let mut writer = Some(writer);
    let child = Child::run(|| {
        let mut writer = writer.take().context("a pipe")?;
        body(&mut |number| Ok(writer.write_all(&number.to_ne_bytes())?))
    })?;
    Ok((child, reader))
}

/// The number that a child tells.
fn read_number(mut reader: os_pipe::PipeReader) -> Result<u64> {
    let mut number = [0; 8];
    reader
        .read_exact(&mut number)
        .context("a process ended early")?;
    Ok(u64::from_ne_bytes(number))
}

/// A process throws huge pages away, forks, protects and moves them, while another one evicts the
/// device, again and again. What each of these finds is a page on its way, and not nothing.
fn changed_while_evicted(path: &Path) -> Result<()> {
    const ROUNDS: usize = 240;
    let device = Device::open(path)?;
    let (mut evicted, tell) = os_pipe::pipe()?;
    let mut tell = Some(tell);
    let evicts = Child::run(|| {
        let mut tell = tell.take().context("a pipe")?;
        loop {
            if device.evict()? > 0 {
                tell.write_all(&[1])?;
            }
        }
    })?;
    drop(tell);
    let changed = (0..ROUNDS)
        .try_for_each(|round| change(&device, round).with_context(|| format!("round {round}")));
    evicts.kill()?;
    evicts.status()?;
    changed?;
    let mut times = Vec::new();
    evicted.read_to_end(&mut times)?;
    ensure!(
        times.len() >= ROUNDS / 4,
        "something was evicted {} times",
        times.len()
    );
    Ok(())
}

/// One thing that a process does to a huge page that goes to the device, from where it is evicted.
fn change(device: &Device, round: usize) -> Result<()> {
    let mut memory = Mapping::huge()?;
    fill(memory.bytes_mut(), round);
    is_huge(&memory)?;
    let mut buffer = vec![0; memory.pages() * page_size()];
    match device.ask(
        Request::MigrateToDevice,
        &memory,
        memory.pages(),
        &mut buffer,
    ) {
        // It may have been evicted before it was read.
        Ok(_) | Err(Errno::ENOENT | Errno::EBUSY) => {}
        Err(err) => bail!("migrating to the device: {err}"),
    }
    let mut left = memory.pages();
    match round % 4 {
        0 => {
            memory.advise(MmapAdvise::MADV_DONTNEED)?;
            left = 0;
        }
        1 => Child::run(|| check(memory.bytes(), |page| pattern(page, round)))?.wait()?,
        2 => {
            memory.protect(ProtFlags::PROT_READ)?;
            // It is at home by then, with what is left of the right to write to it.
            check(memory.bytes(), |page| pattern(page, round))?;
            let written = File::open("/dev/zero")?.read(memory.bytes_mut());
            memory.protect(ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)?;
            let error = written.as_ref().err().and_then(|err| err.raw_os_error());
            ensure!(
                error == Some(Errno::EFAULT as i32),
                "writing to what is read-only gave {written:?}"
            );
        }
        _ => memory.remap()?,
    }
    check(memory.bytes(), |page| match page < left {
        true => pattern(page, round),
        false => 0,
    })
}

/// Threads of one process change their memory, and what is mapped there, while others of the same
/// process move all of it to the device, by one open file, and home again.
pub(crate) fn threads_while_it_moves(path: &Path) -> Result<()> {
    const ROUNDS: usize = 60;
    let device = Device::open(path)?;
    let mut memory = (0..3)
        .map(|_| Mapping::private(PAGES))
        .chain([Mapping::huge()])
        .collect::<Result<Vec<_>>>()?;
    let places: Vec<_> = memory
        .iter()
        .map(|memory| (memory.addr(), memory.pages()))
        .collect();
    let owners_left = AtomicUsize::new(memory.len());
    let moved = thread::scope(|scope| {
        let owners: Vec<_> = memory
            .iter_mut()
            .enumerate()
            .map(|(owner, memory)| {
                let left = &owners_left;
                scope.spawn(move || {
                    let _left = Left(left);
                    (0..ROUNDS).try_for_each(|round| use_it(memory, owner, round))
                })
            })
            .collect();
        let there = mover(
            scope,
            &device,
            Request::MigrateToDevice,
            &places,
            &owners_left,
        );
        let home = mover(scope, &device, Request::MigrateToRam, &places, &owners_left);
        let mut evicted = 0;
        while owners_left.load(Ordering::Relaxed) > 0 {
            evicted += device.evict().context("evicting")?;
        }
        for owner in owners {
            owner.join().map_err(|_| anyhow!("a thread panicked"))??;
        }
        // Of how many pages have gone there, nobody knows who asks for them while others take them.
        there.join().map_err(|_| anyhow!("a thread panicked"))??;
        let home = home.join().map_err(|_| anyhow!("a thread panicked"))??;
        Ok::<_, anyhow::Error>([home, evicted])
    })?;
    ensure!(
        moved.iter().all(|nr| *nr > 0),
        "on request and evicted, {moved:?} pages have come home"
    );
    Ok(())
}

/// One of those who are left, until this is dropped.
pub(crate) struct Left<'a>(pub(crate) &'a AtomicUsize);

impl Drop for Left<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Asks for `request` at each of `places` again and again, while there is somebody left to use
/// them, and gives how many pages have moved.
fn mover<'s>(
    scope: &'s thread::Scope<'s, '_>,
    device: &'s Device,
    request: Request,
    places: &'s [(usize, usize)],
    left: &'s AtomicUsize,
) -> thread::ScopedJoinHandle<'s, Result<u64>> {
    scope.spawn(move || {
        let mut moved = 0;
        while left.load(Ordering::Relaxed) > 0 {
            moved += move_all(device, request, places)?;
        }
        Ok(moved)
    })
}

/// One round of the owner of `memory`: what it writes is there, whatever it does then.
fn use_it(memory: &mut Mapping, owner: usize, round: usize) -> Result<()> {
    let seed = owner + 7 * round;
    fill(memory.bytes_mut(), seed);
    let half = memory.pages() / 2;
    let mut dropped = memory.pages();
    match (owner + round) % 4 {
        0 => memory.protect_pages(0..half, ProtFlags::PROT_READ)?,
        1 => {
            memory.advise_pages(half..memory.pages(), MmapAdvise::MADV_DONTNEED)?;
            dropped = half;
        }
        // Not of the huge page, which would be small ones from then on.
        2 if memory.pages() == PAGES => {
            memory.renew()?;
            dropped = 0;
        }
        _ => {}
    }
    let found = check(memory.bytes(), |page| match page >= dropped {
        true => 0,
        false => pattern(page, seed),
    });
    memory.protect(ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)?;
    found.with_context(|| format!("owner {owner}, round {round}"))
}

/// Asks for `request` at each of `places`, which are addresses and numbers of pages, and gives how
/// many pages have moved.
fn move_all(device: &Device, request: Request, places: &[(usize, usize)]) -> Result<u64> {
    let mut moved = 0;
    for (addr, pages) in places {
        let mut buffer = vec![0u8; pages * page_size()];
        let mut command = Command {
            addr: *addr as u64,
            ptr: buffer.as_mut_ptr().addr() as u64,
            npages: *pages as u64,
            ..Command::default()
        };
        match device.raw(request, &mut command) {
            Ok(()) => moved += command.cpages,
            // Some of it has gone elsewhere before it was read, or was coming and going for a
            // second.
            Err(Errno::ENOENT | Errno::EBUSY) => {}
            Err(err) => bail!("{request:?}: {err}"),
        }
    }
    Ok(moved)
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
