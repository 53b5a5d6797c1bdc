// SPDX-License-Identifier: GPL-2.0

//! Each allocation that the kernel makes for a request of ours fails, one after the other: for a
//! kernel that can fail on purpose (`CONFIG_FAULT_INJECTION`).
//!
//! Whatever the request answers, no byte may be lost, and the same request must work afterwards.

use std::{
    fs::{
        self,
        File, //
    },
    os::unix::fs::FileExt,
    path::Path, //
};

use anyhow::{
    ensure,
    Context as _,
    Result, //
};
use dpmem_ops::{
    Setup,
    WINDOW, //
};
use nix::{
    errno::Errno,
    sys::mman::MmapAdvise, //
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
    pagemap::count,
    process::touch,
    scenarios::{
        check,
        fill,
        migrate,
        pattern,
        Scenario, //
    },
    unload, //
};

/// All of them for a driver that is loaded so, with their names.
pub(crate) fn of(setup: Setup) -> &'static [(&'static str, Scenario)] {
    match setup {
        Setup::Usual => &[
            ("failing_to_open", failing_to_open),
            ("failing_to_migrate", failing_to_migrate),
            ("failing_to_migrate_huge", failing_to_migrate_huge),
            ("failing_to_migrate_a_hole", failing_to_migrate_a_hole),
            (
                "failing_to_migrate_a_huge_hole",
                failing_to_migrate_a_huge_hole,
            ),
            ("failing_to_come_home", failing_to_come_home),
            ("failing_to_come_home_huge", failing_to_come_home_huge),
            ("failing_to_fault", failing_to_fault),
            ("failing_to_fault_huge", failing_to_fault_huge),
            ("failing_to_read", failing_to_read),
            ("failing_to_write", failing_to_write),
            ("failing_to_write_to_a_hole", failing_to_write_to_a_hole),
            ("failing_to_look", failing_to_look),
            ("failing_to_be_exclusive", failing_to_be_exclusive),
            ("failing_to_evict", failing_to_evict),
            ("failing_to_evict_huge", failing_to_evict_huge),
            ("failing_to_release", failing_to_release),
            ("failing_to_release_huge", failing_to_release_huge),
            ("failing_to_register", failing_to_register),
            ("failing_to_load", failing_to_load),
        ],
        Setup::Peers => &[
            ("failing_to_reach_a_peer", failing_to_reach_a_peer),
            ("failing_to_reach_a_peer_huge", failing_to_reach_a_peer_huge),
        ],
        Setup::Windows => &[("failing_to_fault_around", failing_to_fault_around)],
        Setup::PeerWindows => &[],
    }
}

/// Those that apply to memory which CPUs can address, with their names. Not its registration: the
/// kernel does not undo what it has done of that when it runs out of memory (`kernel-bugs.rst`).
pub(crate) const COHERENT: &[(&str, Scenario)] = &[
    ("coherent_failing_to_migrate", failing_to_migrate),
    ("coherent_failing_to_migrate_huge", failing_to_migrate_huge),
    ("coherent_failing_to_come_home", failing_to_come_home),
    ("coherent_failing_to_evict", failing_to_evict),
    ("coherent_failing_to_release", failing_to_release),
];

/// Where a task says which of its allocations is to fail, counted from the next one. To open it
/// takes allocations, which would be counted as well: it stays open from before the count to after
/// it.
const NTH: &str = "/proc/thread-self/fail-nth";

/// Which allocations can fail: all, and without a word.
const SETTINGS: &[(&str, &str)] = &[
    ("/sys/kernel/debug/failslab/ignore-gfp-wait", "N"),
    ("/sys/kernel/debug/failslab/verbose", "0"),
    ("/sys/kernel/debug/fail_page_alloc/ignore-gfp-wait", "N"),
    ("/sys/kernel/debug/fail_page_alloc/ignore-gfp-highmem", "N"),
    ("/sys/kernel/debug/fail_page_alloc/min-order", "0"),
    ("/sys/kernel/debug/fail_page_alloc/verbose", "0"),
];

/// Few, so that there are not too many allocations.
const PAGES: usize = 4;

/// More allocations than any of the requests makes.
const MANY: usize = 3000;

/// Runs `attempt` again and again, with the first allocation failing, then the second, and so on,
/// until there are no more; between the runs it is for `attempt` to bring about what was before. At
/// least `least` allocations must have failed: otherwise nothing was tested.
pub(crate) fn for_each_failure(
    least: usize,
    mut attempt: impl FnMut(&mut Injector) -> Result<()>,
) -> Result<()> {
    for (file, value) in SETTINGS {
        fs::write(file, value).with_context(|| format!("cannot write {file}"))?;
    }
    for nth in 1..MANY {
        let mut injector = Injector { nth, failed: None };
        attempt(&mut injector).with_context(|| format!("allocation {nth} failed"))?;
        match injector.failed {
            Some(true) => {}
            Some(false) => {
                ensure!(nth > least, "only {} allocations were made", nth - 1);
                return Ok(());
            }
            None => anyhow::bail!("the attempt did not inject anything"),
        }
    }
    anyhow::bail!("there is no end of allocations");
}

/// Whether the kernel can fail on purpose.
pub(crate) fn possible() -> bool {
    Path::new("/sys/kernel/debug/fail_page_alloc").exists()
}

/// Lets the kernel find no huge page, for whoever it may be, while `what` is done, or until 2000
/// were asked for: who asks for one again and again is given it then.
pub(crate) fn without_huge_pages<R>(what: impl FnOnce() -> R) -> Result<R> {
    const FOLDER: &str = "/sys/kernel/debug/fail_page_alloc";
    const NONE: &[(&str, &str)] = &[
        ("ignore-gfp-wait", "N"),
        ("ignore-gfp-highmem", "N"),
        ("verbose", "0"),
        ("min-order", "9"),
        ("times", "2000"),
        ("probability", "100"),
    ];
    let write = |(file, value): &(&str, &str)| {
        let file = format!("{FOLDER}/{file}");
        fs::write(&file, value).with_context(|| format!("cannot write {file}"))
    };
    NONE.iter().try_for_each(write)?;
    let result = what();
    write(&("probability", "0"))?;
    write(&("times", "1"))?;
    Ok(result)
}

/// What makes one allocation fail.
pub(crate) struct Injector {
    nth: usize,
    failed: Option<bool>,
}

impl Injector {
    /// Does `what`, of which one allocation fails, if it makes so many.
    pub(crate) fn run<R>(&mut self, what: impl FnOnce() -> R) -> Result<R> {
        let file = File::options()
            .read(true)
            .write(true)
            .open(NTH)
            .with_context(|| format!("cannot open {NTH}"))?;
        let count = self.nth.to_string();
        let mut left = [0; 16];
        file.write_all_at(count.as_bytes(), 0)
            .with_context(|| format!("cannot write {NTH}"))?;
        let result = what();
        let read = file.read_at(&mut left, 0);
        file.write_all_at(b"0", 0)
            .with_context(|| format!("cannot write {NTH}"))?;
        let length = read.with_context(|| format!("cannot read {NTH}"))?;
        // What is left of the count: nothing, once the allocation has failed.
        self.failed = Some(left.get(..length).unwrap_or_default().trim_ascii() == b"0");
        Ok(result)
    }

    /// As [`Injector::run`], for a look at each page of `memory`.
    pub(crate) fn touch(&mut self, memory: &Mapping) -> Result<()> {
        let touched = self.run(|| touch(memory))?;
        ensure!(
            touched.is_ok() || self.failed == Some(true),
            "{touched:?}, and nothing had failed"
        );
        Ok(())
    }

    /// As [`Injector::run`], for a request; if no allocation failed, neither may the request.
    pub(crate) fn ask(&mut self, what: impl FnOnce() -> Result<(), Errno>) -> Result<()> {
        let result = self.run(what)?;
        ensure!(
            result.is_ok() || self.failed == Some(true),
            "{result:?}, and nothing had failed"
        );
        Ok(())
    }
}

/// Asks `device` for `request` on all of `memory`, without a word about what it answers but that.
fn ask(
    device: &Device,
    request: Request,
    memory: &Mapping,
    buffer: &mut [u8],
) -> Result<(), Errno> {
    device
        .ask(request, memory, memory.pages(), buffer)
        .map(|_| ())
}

/// A buffer for `memory`, which is there: the kernel does not have to find pages for it.
fn buffer(memory: &Mapping) -> Vec<u8> {
    vec![1; memory.pages() * page_size()]
}

/// Memory with pattern `seed`.
fn filled(mut memory: Mapping, seed: usize) -> Mapping {
    fill(memory.bytes_mut(), seed);
    memory
}

/// As single pages.
fn small() -> Result<Mapping> {
    Mapping::private(PAGES)
}

fn failing_to_open(path: &Path) -> Result<()> {
    for_each_failure(2, |injector| {
        let opened = injector.run(|| Device::open(path))?;
        ensure!(
            opened.is_ok() || injector.failed == Some(true),
            "the device cannot be opened, and nothing had failed"
        );
        Ok(())
    })
}

/// Memory that `make` makes goes to the device.
fn to_device(path: &Path, least: usize, make: fn() -> Result<Mapping>) -> Result<()> {
    let device = Device::open(path)?;
    for_each_failure(least, |injector| {
        let memory = filled(make()?, 1);
        let mut buffer = buffer(&memory);
        injector.ask(|| ask(&device, Request::MigrateToDevice, &memory, &mut buffer))?;
        check(memory.bytes(), |page| pattern(page, 1))?;
        check(&migrate(&device, &memory)?, |page| pattern(page, 1))?;
        check(memory.bytes(), |page| pattern(page, 1))
    })
}

fn failing_to_migrate(path: &Path) -> Result<()> {
    to_device(path, 2, small)
}

fn failing_to_migrate_huge(path: &Path) -> Result<()> {
    to_device(path, 2, Mapping::huge)
}

/// Memory that `make` makes, and nobody has touched, goes to the device.
fn hole_to_device(path: &Path, make: fn() -> Result<Mapping>) -> Result<()> {
    let device = Device::open(path)?;
    for_each_failure(2, |injector| {
        let memory = make()?;
        let mut buffer = buffer(&memory);
        injector.ask(|| ask(&device, Request::MigrateToDevice, &memory, &mut buffer))?;
        check(&migrate(&device, &memory)?, |_| 0)?;
        check(memory.bytes(), |_| 0)
    })
}

fn failing_to_migrate_a_hole(path: &Path) -> Result<()> {
    hole_to_device(path, small)
}

fn failing_to_migrate_a_huge_hole(path: &Path) -> Result<()> {
    hole_to_device(path, Mapping::huge)
}

/// Memory that `make` makes comes home on request.
fn to_ram(path: &Path, least: usize, make: fn() -> Result<Mapping>) -> Result<()> {
    let device = Device::open(path)?;
    for_each_failure(least, |injector| {
        let memory = filled(make()?, 2);
        migrate(&device, &memory)?;
        let mut buffer = buffer(&memory);
        injector.ask(|| ask(&device, Request::MigrateToRam, &memory, &mut buffer))?;
        check(memory.bytes(), |page| pattern(page, 2))
    })
}

fn failing_to_come_home(path: &Path) -> Result<()> {
    to_ram(path, PAGES, small)
}

fn failing_to_come_home_huge(path: &Path) -> Result<()> {
    to_ram(path, 2, Mapping::huge)
}

/// A CPU touches memory that `make` makes.
fn fault(path: &Path, least: usize, make: fn() -> Result<Mapping>) -> Result<()> {
    let device = Device::open(path)?;
    for_each_failure(least, |injector| {
        let memory = filled(make()?, 3);
        migrate(&device, &memory)?;
        // The kernel lets the CPU try again.
        let byte = injector.run(|| memory.bytes().first().copied())?;
        ensure!(byte == Some(pattern(0, 3)), "{byte:?} was read");
        check(memory.bytes(), |page| pattern(page, 3))
    })
}

fn failing_to_fault(path: &Path) -> Result<()> {
    fault(path, 1, small)
}

/// Whoever is around the page that was touched comes with it, if nothing fails.
fn failing_to_fault_around(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    for_each_failure(2, |injector| {
        // Two windows, which begin where such may begin.
        let mut memory = Mapping::huge()?;
        memory.advise(MmapAdvise::MADV_NOHUGEPAGE)?;
        memory.truncate(2 * WINDOW)?;
        let memory = filled(memory, 3);
        migrate(&device, &memory)?;
        let byte = injector.run(|| memory.bytes().get(WINDOW * page_size()).copied())?;
        ensure!(byte == Some(pattern(WINDOW, 3)), "{byte:?} was read");
        let home = count(&memory)?.ram;
        ensure!(
            home == WINDOW || injector.failed == Some(true),
            "{home} pages came home, and nothing had failed"
        );
        check(memory.bytes(), |page| pattern(page, 3))
    })
}

fn failing_to_fault_huge(path: &Path) -> Result<()> {
    fault(path, 1, Mapping::huge)
}

/// What is asked with `request` tells where the pages are, or takes them, and changes nothing;
/// `right` looks at what the device has said of pages with pattern 9.
fn ask_twice(
    path: &Path,
    least: usize,
    request: Request,
    right: fn(&[u8]) -> Result<()>,
) -> Result<()> {
    let device = Device::open(path)?;
    for_each_failure(least, |injector| {
        let memory = filled(small()?, 9);
        migrate(&device, &memory)?;
        let mut said = buffer(&memory);
        injector.ask(|| ask(&device, request, &memory, &mut said))?;
        said.fill(0);
        ask(&device, request, &memory, &mut said).context("again")?;
        right(&said)?;
        check(memory.bytes(), |page| pattern(page, 9))
    })
}

fn failing_to_look(path: &Path) -> Result<()> {
    /// A page that the process may write to, on this device.
    const THERE: u8 = 0x22;

    ask_twice(path, 1, Request::Snapshot, |said| {
        let seen = said.get(..PAGES);
        ensure!(seen == Some(&[THERE; PAGES]), "{seen:?} was seen");
        Ok(())
    })
}

fn failing_to_be_exclusive(path: &Path) -> Result<()> {
    // Pages that are on the device come home for it.
    ask_twice(path, PAGES, Request::Exclusive, |said| {
        check(said, |page| pattern(page, 9))
    })
}

/// All memory of the device, which is that of `make`, goes home, and the device keeps its place.
fn evict(path: &Path, least: usize, make: fn() -> Result<Mapping>) -> Result<()> {
    let device = Device::open(path)?;
    for_each_failure(least, |injector| {
        let memory = filled(make()?, 10);
        migrate(&device, &memory)?;
        injector.ask(|| device.evict().map(|_| ()))?;
        device.evict().context("again")?;
        let left = device.count(&memory)?;
        ensure!(left == 0, "{left} pages are still there");
        check(memory.bytes(), |page| pattern(page, 10))
    })
}

fn failing_to_evict(path: &Path) -> Result<()> {
    evict(path, PAGES, small)
}

fn failing_to_evict_huge(path: &Path) -> Result<()> {
    evict(path, 1, Mapping::huge)
}

/// Memory of `make`'s goes from one device to the other.
fn to_peer(path: &Path, least: usize, make: fn() -> Result<Mapping>) -> Result<()> {
    let (one, other) = (Device::open(path)?, Device::open_other(path)?);
    // One whose memory is not registered is nobody's peer.
    for device in [&one, &other] {
        migrate(device, &filled(Mapping::private(1)?, 0))?;
    }
    for_each_failure(least, |injector| {
        let memory = filled(make()?, 11);
        migrate(&one, &memory)?;
        let mut buffer = buffer(&memory);
        injector.ask(|| ask(&other, Request::MigrateToDevice, &memory, &mut buffer))?;
        let seen = migrate(&other, &memory)?;
        check(&seen, |page| pattern(page, 11))?;
        check(memory.bytes(), |page| pattern(page, 11))
    })
}

fn failing_to_reach_a_peer(path: &Path) -> Result<()> {
    to_peer(path, 2, small)
}

fn failing_to_reach_a_peer_huge(path: &Path) -> Result<()> {
    to_peer(path, 1, Mapping::huge)
}

/// The device has no memory until it needs some.
fn failing_to_register(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    for_each_failure(4, |injector| {
        device.release()?;
        let memory = filled(small()?, 12);
        let mut buffer = buffer(&memory);
        injector.ask(|| ask(&device, Request::MigrateToDevice, &memory, &mut buffer))?;
        check(&migrate(&device, &memory)?, |page| pattern(page, 12))?;
        check(memory.bytes(), |page| pattern(page, 12))
    })
}

/// The module is loaded, as far as it comes: without its parameters, so that this is the last.
fn failing_to_load(path: &Path) -> Result<()> {
    for_each_failure(4, |injector| {
        unload::unload().context("unloading it")?;
        let loaded = injector.run(unload::load)?;
        ensure!(
            loaded.is_ok() || injector.failed == Some(true),
            "{loaded:?}, and nothing had failed"
        );
        if loaded.is_err() {
            unload::load().context("loading it again")?;
        }
        let memory = filled(small()?, 13);
        migrate(&Device::open(path)?, &memory)?;
        check(memory.bytes(), |page| pattern(page, 13))
    })
}

fn failing_to_read(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    for_each_failure(2, |injector| {
        let memory = filled(small()?, 4);
        let mut buffer = buffer(&memory);
        injector.ask(|| ask(&device, Request::Read, &memory, &mut buffer))?;
        ask(&device, Request::Read, &memory, &mut buffer)?;
        check(&buffer, |page| pattern(page, 4))?;
        check(memory.bytes(), |page| pattern(page, 4))
    })
}

fn failing_to_write(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    for_each_failure(2, |injector| {
        let memory = filled(small()?, 5);
        migrate(&device, &memory)?;
        let mut buffer = buffer(&memory);
        fill(&mut buffer, 6);
        injector.ask(|| ask(&device, Request::Write, &memory, &mut buffer))?;
        // A request that failed may have been done in part, but each page is old or new.
        for (page, bytes) in memory.bytes().chunks(page_size()).enumerate() {
            let first = bytes.first().copied().unwrap_or(0);
            ensure!(
                [pattern(page, 5), pattern(page, 6)].contains(&first)
                    && bytes.iter().all(|byte| *byte == first),
                "page {page} is torn"
            );
        }
        ask(&device, Request::Write, &memory, &mut buffer)?;
        check(memory.bytes(), |page| pattern(page, 6))
    })
}

fn failing_to_write_to_a_hole(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    for_each_failure(4, |injector| {
        let memory = small()?;
        let mut buffer = buffer(&memory);
        fill(&mut buffer, 7);
        injector.ask(|| ask(&device, Request::Write, &memory, &mut buffer))?;
        ask(&device, Request::Write, &memory, &mut buffer)?;
        check(memory.bytes(), |page| pattern(page, 7))
    })
}

/// The device gives up memory that `make` makes, until all of it is home.
fn release(path: &Path, least: usize, make: fn() -> Result<Mapping>) -> Result<()> {
    let device = Device::open(path)?;
    for_each_failure(least, |injector| {
        let memory = filled(make()?, 8);
        migrate(&device, &memory)?;
        injector.ask(|| device.release())?;
        check(memory.bytes(), |page| pattern(page, 8))
    })
}

fn failing_to_release(path: &Path) -> Result<()> {
    release(path, PAGES, small)
}

fn failing_to_release_huge(path: &Path) -> Result<()> {
    release(path, 1, Mapping::huge)
}
