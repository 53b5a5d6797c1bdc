// SPDX-License-Identifier: GPL-2.0

//! What the core of the kernel does wrong with device memory before the series, one program run for
//! each: an error, or a report on the console, shows the bug. They speak to `lib/test_hmm.c`, but
//! for one that needs our sample.

use std::{
    fs,
    hint::black_box,
    io::IoSlice,
    ops::Range,
    os::fd::AsFd,
    path::Path,
    sync::{
        atomic::{
            AtomicBool,
            AtomicUsize,
            Ordering, //
        },
        Barrier, //
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
use dpmem_ops::Place;
use nix::{
    errno::Errno,
    fcntl::{
        vmsplice,
        SpliceFFlags, //
    },
    poll::{
        poll,
        PollFd,
        PollFlags,
        PollTimeout, //
    },
    sys::{
        mman::{
            MmapAdvise,
            ProtFlags, //
        },
        resource::{
            getrusage,
            UsageWho, //
        }, //
    },
};

use crate::{
    device::{
        Command,
        Device,
        Failure,
        Request, //
    },
    mapping::{
        move_to,
        page_size,
        Mapping, //
    },
    pagemap::{
        count,
        Pagemap, //
    },
    process::Child,
    scenarios::{
        check,
        fill,
        migrate,
        pattern,
        Left,
        Scenario, //
    },
    smaps::{
        is_huge,
        smaps,
        Smaps, //
    }, //
};

/// All of them, with their names.
pub(crate) const ALL: &[(&str, Scenario)] = &[
    ("young_after_a_migration", young_after_a_migration),
    (
        "young_and_dirty_on_another_node",
        young_and_dirty_on_another_node,
    ),
    ("smaps_of_a_huge_page", smaps_of_a_huge_page),
    ("smaps_of_a_clean_huge_page", smaps_of_a_clean_huge_page),
    ("ksm_pages_stay", ksm_pages_stay),
    ("write_to_a_shared_page", write_to_a_shared_page),
    ("dontneed_on_the_way", dontneed_on_the_way),
    ("split_for_one_process", split_for_one_process),
    ("fault_in_a_split_part", fault_in_a_split_part),
    (
        "spins_while_a_huge_page_comes_home",
        spins_while_a_huge_page_comes_home,
    ),
    ("a_part_of_a_huge_page", a_part_of_a_huge_page),
    ("exit_while_evicted", exit_while_evicted),
    ("nowhere_while_evicted", nowhere_while_evicted),
];

/// A huge page with pattern `seed`, on the device as one.
fn migrated_huge(device: &Device, seed: usize) -> Result<Mapping> {
    let mut memory = Mapping::huge()?;
    fill(memory.bytes_mut(), seed);
    check(&migrate(device, &memory)?, |page| pattern(page, seed))?;
    is_huge(&memory)?;
    Ok(memory)
}

/// A migration that does not succeed leaves young pages young.
fn young_after_a_migration(path: &Path) -> Result<()> {
    const PAGES: usize = 8;
    let device = Device::open(path)?;
    let mut memory = Mapping::private(PAGES)?;
    fill(memory.bytes_mut(), 5);
    // A page that a pipe refers to is unmapped, found to have one reference too many, and restored.
    let (_reader, writer) = os_pipe::pipe()?;
    vmsplice(
        &writer,
        &[IoSlice::new(memory.bytes())],
        SpliceFFlags::empty(),
    )
    .context("vmsplice")?;
    // The bit of the entry alone, not the folio's. A CPU that still knows the entry would not set
    // it.
    clear_young()?;
    memory.protect(ProtFlags::PROT_READ)?;
    check(memory.bytes(), |page| pattern(page, 5))?;
    let all = PAGES * page_size() / 1024;
    let before = smaps(&memory, "Referenced")?;
    ensure!(
        before == all,
        "{before} kB of {all} kB are young after reading them"
    );
    let mut buffer = vec![0; PAGES * page_size()];
    // An error says that not all pages are there.
    let _ = device.ask(Request::MigrateToDevice, &memory, PAGES, &mut buffer);
    let found = count(&memory)?;
    ensure!(
        found.device == 0,
        "{} pages migrated that a pipe refers to",
        found.device
    );
    let after = smaps(&memory, "Referenced")?;
    ensure!(
        after == all,
        "{after} kB of {all} kB are still young after a migration that failed"
    );
    check(memory.bytes(), |page| pattern(page, 5))
}

/// What is done to pages before they migrate.
#[derive(Clone, Copy, Debug)]
enum Touch {
    Nothing,
    Read,
    Write,
}

impl Touch {
    const ALL: [Self; 3] = [Self::Nothing, Self::Read, Self::Write];
}

/// Pages are as young and as dirty on another node as they were, no more and no less.
fn young_and_dirty_on_another_node(_: &Path) -> Result<()> {
    const PAGES: usize = 8;
    let mut memory = Mapping::private(Touch::ALL.len() * PAGES)?;
    // smaps says it of each part by itself.
    memory.advise_pages(PAGES..2 * PAGES, MmapAdvise::MADV_DONTDUMP)?;
    let parts = Touch::ALL.into_iter().enumerate();
    let parts = parts.map(|(i, touch)| (touch, i * PAGES..(i + 1) * PAGES));
    move_touched(&mut memory, &parts.collect::<Vec<_>>(), 1).context("single pages")?;
    for touch in Touch::ALL {
        let mut memory = Mapping::huge()?;
        let pages = memory.pages();
        move_touched(&mut memory, &[(touch, 0..pages)], pages).context("a huge page")?;
    }
    Ok(())
}

/// Moves pages to another node and back that were touched as `parts` say. `nr` is how many pages
/// move as one.
fn move_touched(memory: &mut Mapping, parts: &[(Touch, Range<usize>)], nr: usize) -> Result<()> {
    const SEED: usize = 9;
    fill(memory.bytes_mut(), SEED);
    let pages: Vec<_> = memory.places().step_by(nr).collect();
    move_to(0, &pages)?;
    // Nothing else makes anonymous memory clean that was written to; its pages are there until
    // memory is short.
    memory.advise(MmapAdvise::MADV_FREE)?;
    clear_young()?;
    // A CPU that still knows the entry would set nothing there.
    memory.protect(ProtFlags::PROT_READ)?;
    memory.protect(ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)?;
    for (touch, part) in parts {
        for page in part.clone().step_by(nr) {
            let byte = memory.bytes_mut().get_mut(page * page_size());
            let byte = byte.context("no such page")?;
            match touch {
                Touch::Nothing => {}
                Touch::Read => drop(black_box(*black_box(byte))),
                Touch::Write => *black_box(byte) = pattern(page, SEED),
            }
        }
    }
    are_as_touched(memory, parts).context("before a migration")?;
    for node in [1, 0] {
        move_to(node, &pages)?;
        are_as_touched(memory, parts).context("after a migration")?;
    }
    check(memory.bytes(), |page| pattern(page, SEED))
}

/// Checks what is young in `memory`, and what is dirty.
fn are_as_touched(memory: &Mapping, parts: &[(Touch, Range<usize>)]) -> Result<()> {
    for (touch, part) in parts {
        let all = part.len() * page_size() / 1024;
        let (young, dirty) = match touch {
            Touch::Nothing => (0, 0),
            Touch::Read => (all, 0),
            Touch::Write => (all, all),
        };
        let of = Smaps::of(memory.addr() + part.start * page_size())?;
        for (field, expected) in [
            ("Rss", all),
            ("Referenced", young),
            ("Private_Dirty", dirty),
            ("Private_Clean", all - dirty),
        ] {
            let found = of.get(field)?;
            ensure!(
                found == expected,
                "{field} is {found} kB of {all} kB, not {expected} kB: {touch:?}"
            );
        }
    }
    Ok(())
}

/// Makes all pages of this process old.
fn clear_young() -> Result<()> {
    fs::write("/proc/self/clear_refs", "1").context("cannot write /proc/self/clear_refs")
}

/// What smaps says of a huge page on the device: of two processes each has half, and nothing that
/// it would not say of the same memory if it were mapped by PTEs.
fn smaps_of_a_huge_page(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    let memory = migrated_huge(&device, 2)?;
    let (mut gone, go) = os_pipe::pipe()?;
    let mut go = Some(go);
    let child = Child::run(|| {
        go.take();
        std::io::Read::read_to_end(&mut gone, &mut Vec::new())?;
        Ok(())
    })?;
    let share = smaps(&memory, "Pss")?;
    drop(go);
    child.wait()?;
    let half = memory.pages() * page_size() / 1024 / 2;
    ensure!(
        share == half,
        "the share of one of two is {share} kB, not {half} kB"
    );
    is_as_if_in_pieces(&memory)
}

/// What smaps says of a huge page on the device that nobody has ever written to: that it is clean,
/// and old.
fn smaps_of_a_clean_huge_page(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    // A hole, which is filled there.
    let memory = Mapping::huge()?;
    check(&migrate(&device, &memory)?, |_| 0)?;
    is_as_if_in_pieces(&memory)
}

/// Checks that smaps says the same of a huge page on the device, but that it is one, when its PMD
/// is replaced by PTEs.
fn is_as_if_in_pieces(memory: &Mapping) -> Result<()> {
    const FIELDS: [&str; 8] = [
        "Rss",
        "Pss",
        "Referenced",
        "Pss_Dirty",
        "Shared_Clean",
        "Shared_Dirty",
        "Private_Clean",
        "Private_Dirty",
    ];
    const HUGE: &str = "AnonHugePages";

    let all = memory.pages() * page_size() / 1024;
    let whole = Smaps::of(memory.addr())?;
    ensure!(whole.get(HUGE)? == all, "it is no huge page");
    memory.protect_pages(0..1, ProtFlags::PROT_READ)?;
    // So that it is one mapping again.
    memory.protect(ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)?;
    let pieces = Smaps::of(memory.addr())?;
    ensure!(pieces.get(HUGE)? == 0, "it is still one huge page");
    ensure!(
        count(memory)?.device == memory.pages(),
        "it is not on the device any more"
    );
    for field in FIELDS {
        let (whole, pieces) = (whole.get(field)?, pieces.get(field)?);
        ensure!(
            whole == pieces,
            "smaps says of a PMD on the device: {field} {whole} kB, and of PTEs {pieces} kB"
        );
    }
    Ok(())
}

/// Pages that KSM has merged must not migrate: it keeps their frame number, and reads them.
fn ksm_pages_stay(path: &Path) -> Result<()> {
    const PAGES: usize = 64;
    let ksm = |name: &str, value: &str| {
        fs::write(format!("/sys/kernel/mm/ksm/{name}"), value)
            .with_context(|| format!("cannot write {value} to KSM's {name}"))
    };
    let read = |name: &str| -> Result<usize> {
        let text = fs::read_to_string(format!("/sys/kernel/mm/ksm/{name}"))?;
        Ok(text.trim().parse()?)
    };
    let device = Device::open(path)?;
    let mut memory = Mapping::private(PAGES)?;
    memory.bytes_mut().fill(7);
    memory.advise(MmapAdvise::MADV_MERGEABLE)?;
    ksm("sleep_millisecs", "0")?;
    // Or else a page that was busy once is left out of more and more scans.
    ksm("smart_scan", "0")?;
    ksm("run", "1")?;
    // ksmd tells nobody when it is done: look at every scan, and give up after some.
    let first = read("full_scans")?;
    while read("pages_sharing")? < PAGES - 1 {
        ensure!(
            read("full_scans")? < first + 100,
            "KSM does not merge pages"
        );
        std::thread::yield_now();
    }
    ksm("run", "0")?;

    let mut buffer = vec![0; PAGES * page_size()];
    // An error says that not all pages are there.
    let _ = device.ask(Request::MigrateToDevice, &memory, PAGES, &mut buffer);
    let found = count(&memory)?;
    check(memory.bytes(), |_| 7)?;
    memory.advise(MmapAdvise::MADV_UNMERGEABLE)?;
    ensure!(found.device == 0, "{} pages of KSM migrated", found.device);
    Ok(())
}

/// `HMM_PFN_REQ_WRITE` for a page of the device that is read-only since a fork.
fn write_to_a_shared_page(path: &Path) -> Result<()> {
    /// Milliseconds.
    const PATIENCE: u16 = 20_000;
    let (done, end) = os_pipe::pipe()?;
    let mut end = Some(end);
    let writer = Child::run(|| {
        let device = Device::open(path)?;
        let mut memory = Mapping::private(4)?;
        fill(memory.bytes_mut(), 3);
        migrate(&device, &memory)?;
        // After this the entries are read-only.
        Child::run(|| Ok(()))?.wait()?;
        let mut buffer = vec![0; 4 * page_size()];
        fill(&mut buffer, 4);
        device
            .ask(Request::Write, &memory, 4, &mut buffer)
            .context("writing")?;
        check(memory.bytes(), |page| pattern(page, 4))
    })?;
    // The other end is closed when the writer is gone.
    end.take();
    let mut wait = [PollFd::new(done.as_fd(), PollFlags::POLLIN)];
    if poll(&mut wait, PollTimeout::from(PATIENCE)).context("poll")? == 0 {
        // It may not even listen to this.
        let _ = writer.kill();
        bail!("the device asks for write access again and again");
    }
    writer.wait()
}

/// `MADV_DONTNEED` of huge pages that are on their way home: each is zapped once.
fn dontneed_on_the_way(path: &Path) -> Result<()> {
    const ROUNDS: usize = 300;
    let device = Device::open(path)?;
    let mut memory = Mapping::huge()?;
    let pages = memory.pages();
    let mut buffer = vec![0; pages * page_size()];
    let (gone, go) = os_pipe::pipe()?;
    let mut go = Some(go);
    // The device sees the memory of the one who opened it, whoever asks.
    let helper = Child::run(|| {
        go.take();
        let mut buffer = vec![0; pages * page_size()];
        let mut end = [PollFd::new(gone.as_fd(), PollFlags::POLLIN)];
        while poll(&mut end, PollTimeout::ZERO).context("poll")? == 0 {
            // Nothing may be there.
            let _ = device.ask(Request::MigrateToRam, &memory, pages, &mut buffer);
        }
        Ok(())
    })?;
    for round in 0..ROUNDS {
        fill(memory.bytes_mut(), round);
        // Not all of it may be found there: the helper brings it home.
        let _ = device.ask(Request::MigrateToDevice, &memory, pages, &mut buffer);
        memory.advise(MmapAdvise::MADV_DONTNEED)?;
        check(memory.bytes(), |_| 0)?;
        memory.advise(MmapAdvise::MADV_DONTNEED)?;
    }
    drop(go);
    helper.wait()
}

/// A huge page that two processes map as one, for which the device has only small pages.
fn split_for_one_process(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    let mut memory = Mapping::huge()?;
    fill(memory.bytes_mut(), 6);
    let (mut gone, go) = os_pipe::pipe()?;
    let mut go = Some(go);
    let child = Child::run(|| {
        go.take();
        std::io::Read::read_to_end(&mut gone, &mut Vec::new())?;
        check(memory.bytes(), |page| pattern(page, 6))
    })?;
    device.fail(Failure::Large)?;
    check(&migrate(&device, &memory)?, |page| pattern(page, 6))?;
    drop(go);
    child.wait().context("what the other process sees")?;
    check(memory.bytes(), |page| pattern(page, 6))
}

/// A page in the middle of a huge page that is mapped by PTEs: it comes home with the first fault.
fn fault_in_a_split_part(path: &Path) -> Result<()> {
    const PAGE: usize = 100;
    const ROUNDS: usize = 4;
    let device = Device::open(path)?;
    // What it takes to touch a page, which is not the same everywhere; the least, as a page may be
    // in use for a moment.
    let mut single = i64::MAX;
    let mut part = i64::MAX;
    for round in 0..ROUNDS {
        let mut memory = Mapping::private(2 * PAGE)?;
        fill(memory.bytes_mut(), round);
        migrate(&device, &memory)?;
        let (faults, byte) = faults_of_a_read(UsageWho::RUSAGE_SELF, memory.bytes(), PAGE)?;
        ensure!(byte == pattern(PAGE, round), "a single page has {byte:#x}");
        single = single.min(faults);

        let memory = migrated_huge(&device, round)?;
        memory.protect_pages(0..1, ProtFlags::PROT_READ)?;
        let (faults, byte) = faults_of_a_read(UsageWho::RUSAGE_SELF, memory.bytes(), PAGE)?;
        ensure!(
            byte == pattern(PAGE, round),
            "a part of a huge page has {byte:#x}"
        );
        check(memory.bytes(), |page| pattern(page, round))?;
        part = part.min(faults);
    }
    ensure!(
        part <= single,
        "a part of a huge page takes {part} faults, a single page {single}"
    );
    Ok(())
}

/// How many faults `who` has while it reads the first byte of `page`, and the byte.
fn faults_of_a_read(who: UsageWho, memory: &[u8], page: usize) -> Result<(i64, u8)> {
    let faults = || -> Result<i64> {
        let usage = getrusage(who).context("getrusage")?;
        Ok(usage.minor_page_faults() + usage.major_page_faults())
    };
    let byte = memory.get(page * page_size());
    let byte = byte.context("no such page")?;
    let before = faults()?;
    let byte = black_box(*black_box(byte));
    Ok((faults()? - before, byte))
}

/// Threads that touch a huge page on the device, of which one brings it home: the others sleep.
fn spins_while_a_huge_page_comes_home(path: &Path) -> Result<()> {
    const ROUNDS: usize = 20;
    /// How many touch it.
    const TOUCHERS: usize = 3;
    /// How many have the other device read.
    const READERS: usize = 2;
    /// How many faults may be taken in all. In eight boots each, with two CPUs that QEMU emulates,
    /// a stock kernel took 17123 to 173103, and one that sleeps took 51 to 60: one for each thread,
    /// but where the huge page was there already, and another one now and then.
    const MOST: i64 = 1000;

    let device = Device::open(path)?;
    // This one is told that the huge page goes away, when the folio is locked and the PMD is still
    // there, and has to be waited for: it reads with the lock that its notifier takes.
    let other = Device::open_other(path)?;
    let mut busy = Mapping::private(8192)?;
    fill(busy.bytes_mut(), 1);
    let (addr, pages) = (busy.addr(), busy.pages());
    let reading = Barrier::new(READERS + 1);
    let rounds = AtomicUsize::new(1);
    let read = || {
        // What it has read has nowhere to go, so that it reads again the sooner.
        let mut command = Command {
            addr: addr as u64,
            npages: pages as u64,
            ..Command::default()
        };
        match other.raw(Request::Read, &mut command) {
            Err(Errno::EFAULT) => Ok(()),
            result => bail!("reading to nowhere gave {result:?}"),
        }
    };
    let reader = || {
        // What the device does not know yet, it has to ask for.
        let mut result = read();
        reading.wait();
        while result.is_ok() && rounds.load(Ordering::Relaxed) > 0 {
            result = read();
        }
        result
    };
    let faults = thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS).map(|_| scope.spawn(reader)).collect();
        reading.wait();
        let faults = {
            let _rounds = Left(&rounds);
            let round = |round| {
                let memory = migrated_huge(&device, round)?;
                faults_of_threads(memory.bytes(), TOUCHERS, round)
            };
            (0..ROUNDS).map(round).collect::<Result<Vec<_>>>()
        };
        for reader in readers {
            reader.join().map_err(|_| anyhow!("a thread panicked"))??;
        }
        faults
    })?;
    let sum: i64 = faults.iter().sum();
    ensure!(
        sum <= MOST,
        "{sum} faults for {ROUNDS} huge pages that {TOUCHERS} threads touch: {faults:?}"
    );
    Ok(())
}

/// How many faults `nr` threads have that touch memory with pattern `seed` at once.
fn faults_of_threads(memory: &[u8], nr: usize, seed: usize) -> Result<i64> {
    let start = &Barrier::new(nr);
    thread::scope(|scope| {
        let touch = |page| {
            scope.spawn(move || {
                start.wait();
                let (faults, byte) = faults_of_a_read(UsageWho::RUSAGE_THREAD, memory, page)?;
                ensure!(byte == pattern(page, seed), "page {page} has {byte:#x}");
                Ok(faults)
            })
        };
        let threads: Vec<_> = (0..nr).map(touch).collect();
        let faults = threads.into_iter().map(|thread| {
            let joined = thread.join();
            joined.map_err(|_| anyhow!("a thread panicked"))?
        });
        faults.sum()
    })
}

/// A device that asks for a part of a huge page reads that part. Only our sample shows it:
/// `test_hmm` reads the device page itself, which no CPU can, and dies of that.
fn a_part_of_a_huge_page(path: &Path) -> Result<()> {
    const SEED: usize = 8;
    let device = Device::open(path)?;
    let memory = migrated_huge(&device, SEED)?;
    // The device has to ask where it is.
    memory.protect(ProtFlags::PROT_READ)?;
    let last = memory.pages();
    // It knows then what it has asked for, so that each part has to come before the one it is in.
    for part in [last - 1..last, 300..400, 100..102, 1..100] {
        let mut buffer = vec![0; part.len() * page_size()];
        let mut command = Command {
            addr: (memory.addr() + part.start * page_size()) as u64,
            ptr: buffer.as_mut_ptr().addr() as u64,
            npages: part.len() as u64,
            ..Command::default()
        };
        device.raw(Request::Read, &mut command).context("reading")?;
        ensure!(
            command.cpages == part.len() as u64 && command.faults > 0,
            "the device has read {} pages of {part:?}, and asked {} times",
            command.cpages,
            command.faults
        );
        check(&buffer, |page| pattern(part.start + page, SEED))
            .with_context(|| format!("the device reads other pages than {part:?}"))?;
    }
    ensure!(
        count(&memory)?.device == memory.pages(),
        "it is not on the device any more"
    );
    check(memory.bytes(), |page| pattern(page, SEED))
}

/// Processes that are killed while what they have on the device is evicted.
fn exit_while_evicted(path: &Path) -> Result<()> {
    const ROUNDS: usize = 60;
    let device = Device::open(path)?;
    for round in 0..ROUNDS {
        let (mut there, ready) = os_pipe::pipe()?;
        let mut ready = Some(ready);
        let child = Child::run(|| {
            let device = Device::open(path)?;
            let mut memory = Mapping::private(512)?;
            fill(memory.bytes_mut(), round);
            let mut buffer = vec![0; memory.pages() * page_size()];
            let _ = device.ask(
                Request::MigrateToDevice,
                &memory,
                memory.pages(),
                &mut buffer,
            );
            ready.take();
            loop {
                nix::unistd::pause();
            }
        })?;
        ready.take();
        std::io::Read::read_to_end(&mut there, &mut Vec::new())?;
        child.kill()?;
        // While it goes.
        device.release()?;
        child.status()?;
    }
    Ok(())
}

/// A huge page that is being evicted is on its way, and never nowhere: who finds no entry goes on,
/// and leaves it behind.
fn nowhere_while_evicted(path: &Path) -> Result<()> {
    const ROUNDS: usize = 1000;
    let device = Device::open(path)?;
    let pagemap = Pagemap::open()?;
    for round in 0..ROUNDS {
        let mut memory = Mapping::huge()?;
        fill(memory.bytes_mut(), round);
        migrate(&device, &memory)?;
        is_huge(&memory)?;
        let addr = memory.addr();
        let start = Barrier::new(2);
        let home = AtomicBool::new(false);
        thread::scope(|scope| {
            let looks = scope.spawn(|| {
                start.wait();
                while !home.load(Ordering::Relaxed) {
                    let places = pagemap.places(addr, 1)?;
                    ensure!(
                        places != [Place::None],
                        "round {round}: the page is nowhere"
                    );
                }
                Ok(())
            });
            start.wait();
            let released = device.release();
            home.store(true, Ordering::Relaxed);
            released?;
            looks.join().map_err(|_| anyhow!("a thread panicked"))?
        })?;
        // To look at every byte takes longer than all else.
        let byte = memory.bytes().first().copied();
        ensure!(byte == Some(pattern(0, round)), "round {round}: {byte:?}");
    }
    Ok(())
}
