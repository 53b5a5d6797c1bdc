// SPDX-License-Identifier: GPL-2.0

//! Scenarios of which it is known how much of everything happens in them, and what the counters in debugfs
//! say of them.

use std::{
    collections::BTreeMap,
    path::Path, //
};

use anyhow::{
    bail,
    ensure,
    Result, //
};

use crate::{
    debugfs::Counters,
    device::{
        Device,
        Failure,
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
        migrate,
        pattern,
        Scenario,
        DEVICE_SIZE, //
    }, //
};

/// All of them, with their names.
pub(crate) const ALL: &[(&str, Scenario)] = &[
    ("counters_of_single_pages", counters_of_single_pages),
    ("counters_of_a_huge_page", counters_of_a_huge_page),
    ("counters_of_no_room", counters_of_no_room),
    ("counters_of_many_processes", counters_of_many_processes),
    ("counters_of_two_pagemaps", counters_of_two_pagemaps),
];

/// What the counters must say, but for those that are zero.
struct Expected(BTreeMap<&'static str, u64>);

impl Expected {
    /// What those of a pagemap say that nobody has used.
    fn fresh() -> Self {
        Self(BTreeMap::from([(
            "pages",
            (DEVICE_SIZE / page_size()) as u64,
        )]))
    }

    /// More has happened.
    fn more(&mut self, changes: &[(&'static str, u64)]) {
        for (name, change) in changes {
            *self.0.entry(name).or_default() += change;
        }
    }

    /// So many pages have gone to the device.
    fn came(&mut self, pages: u64) {
        self.more(&[("requested", pages), ("migrated_in", pages), ("out", pages)]);
    }

    /// So many pages have come home.
    fn went(&mut self, pages: u64) {
        self.more(&[("freed", pages), ("migrated_out", pages)]);
        *self.0.entry("out").or_default() -= pages;
    }

    /// Compares.
    fn check(&mut self, counters: &Counters, when: &str) -> Result<()> {
        self.0.retain(|_, count| *count != 0);
        let found = counters.read()?;
        ensure!(
            found
                .iter()
                .map(|(name, count)| (name.as_str(), *count))
                .eq(self.0.iter().map(|(name, count)| (*name, *count))),
            "{when}: the counters are {found:?}, not {:?}",
            self.0
        );
        Ok(())
    }
}

/// The device at `path`, whose memory is not registered, nor is that of the other one.
fn open(path: &Path) -> Result<Device> {
    let device = Device::open(path)?;
    device.release()?;
    Device::open_other(path)?.release()?;
    let left = Counters::all()?;
    ensure!(
        left.is_empty(),
        "{} pagemaps are left in debugfs",
        left.len()
    );
    Ok(device)
}

/// `pages` single pages, on the device.
fn migrated(device: &Device, pages: usize, seed: usize) -> Result<Mapping> {
    let mut memory = Mapping::private(pages)?;
    fill(memory.bytes_mut(), seed);
    migrate(device, &memory)?;
    Ok(memory)
}

/// A CPU reads one byte of page `page`.
fn touch(memory: &Mapping, page: usize, seed: usize) -> Result<()> {
    match memory.bytes().get(page * page_size()) {
        Some(byte) if *byte == pattern(page, seed) => Ok(()),
        byte => bail!("page {page} begins with {byte:?}"),
    }
}

fn counters_of_single_pages(path: &Path) -> Result<()> {
    const PAGES: usize = 64;
    let device = open(path)?;
    let memory = migrated(&device, PAGES, 40)?;
    let counters = Counters::only()?;
    let mut expected = Expected::fresh();
    expected.came(64);
    expected.check(&counters, "after a migration to the device")?;

    for page in 0..10 {
        touch(&memory, page, 40)?;
    }
    expected.more(&[("faults", 10)]);
    expected.went(10);
    expected.check(&counters, "after ten faults")?;

    let mut buffer = vec![0; 20 * page_size()];
    let done = device.ask(Request::MigrateToRam, &memory, 20, &mut buffer)?;
    // Ten of them were at home already.
    ensure!(done.cpages == 10, "{} pages came home", done.cpages);
    expected.went(10);
    expected.check(&counters, "after a migration to system memory")?;

    let evicted = device.evict()?;
    ensure!(evicted == 44, "{evicted} pages were evicted");
    expected.more(&[("evicted", 44)]);
    expected.went(44);
    expected.check(&counters, "after an eviction")?;
    check(memory.bytes(), |page| pattern(page, 40))?;

    // Pages that nobody wants any more do not migrate.
    migrate(&device, &memory)?;
    expected.came(64);
    expected.check(&counters, "after another migration")?;
    drop(memory);
    expected.more(&[("freed", 64)]);
    expected.0.insert("out", 0);
    expected.check(&counters, "after munmap()")?;

    device.release()?;
    ensure!(!counters.exist(), "the counters outlive their pagemap");
    Ok(())
}

fn counters_of_a_huge_page(path: &Path) -> Result<()> {
    let device = open(path)?;
    let mut memory = Mapping::huge()?;
    let pages = memory.pages() as u64;
    fill(memory.bytes_mut(), 41);
    migrate(&device, &memory)?;
    let counters = Counters::only()?;
    let mut expected = Expected::fresh();
    expected.came(pages);
    expected.check(&counters, "after a migration to the device")?;

    touch(&memory, 5, 41)?;
    expected.more(&[("faults", 1)]);
    expected.went(pages);
    expected.check(&counters, "after one fault")?;

    migrate(&device, &memory)?;
    expected.came(pages);
    let evicted = device.evict()?;
    ensure!(evicted == pages, "{evicted} pages were evicted");
    expected.more(&[("evicted", pages)]);
    expected.went(pages);
    expected.check(&counters, "after an eviction")?;

    // In pieces, once in either direction.
    device.fail(Failure::Large)?;
    migrate(&device, &memory)?;
    expected.more(&[("splits", 1)]);
    expected.came(pages);
    expected.check(&counters, "after a split on the way to the device")?;
    drop(memory);
    expected.more(&[("freed", pages)]);
    expected.0.insert("out", 0);

    let mut memory = Mapping::huge()?;
    fill(memory.bytes_mut(), 42);
    migrate(&device, &memory)?;
    expected.came(pages);
    device.fail(Failure::Large)?;
    let mut buffer = vec![0; memory.pages() * page_size()];
    device.ask(Request::MigrateToRam, &memory, memory.pages(), &mut buffer)?;
    expected.more(&[("splits", 1)]);
    expected.went(pages);
    expected.check(&counters, "after a split on the way home")?;
    check(memory.bytes(), |page| pattern(page, 42))
}

fn counters_of_no_room(path: &Path) -> Result<()> {
    let device = open(path)?;
    let all = DEVICE_SIZE / page_size();
    let small = migrated(&device, all, 43)?;
    let counters = Counters::only()?;
    let mut expected = Expected::fresh();
    expected.came(all as u64);
    expected.check(&counters, "when the device is full")?;

    let mut memory = Mapping::huge()?;
    fill(memory.bytes_mut(), 44);
    let mut buffer = vec![0; memory.pages() * page_size()];
    let refused = device.ask(
        Request::MigrateToDevice,
        &memory,
        memory.pages(),
        &mut buffer,
    );
    ensure!(refused.is_err(), "a full device takes more");
    // None for the huge page, nor for a part of it, so that it was not split for nothing.
    expected.more(&[("no_room", 2)]);
    expected.check(&counters, "when the device has no room")?;
    check(memory.bytes(), |page| pattern(page, 44))?;
    drop(small);
    device.release()?;
    Ok(())
}

fn counters_of_many_processes(path: &Path) -> Result<()> {
    const CHILDREN: usize = 4;
    const ROUNDS: usize = 20;
    const PAGES: usize = 64;
    let device = open(path)?;
    // The memory is registered until this is over.
    drop(migrated(&device, 1, 45)?);
    let counters = Counters::only()?;
    let children: Vec<Child> = (0..CHILDREN)
        .map(|child| {
            Child::run(|| {
                let device = Device::open(path)?;
                for round in 0..ROUNDS {
                    let memory = migrated(&device, PAGES, child + round)?;
                    check(memory.bytes(), |page| pattern(page, child + round))?;
                }
                Ok(())
            })
        })
        .collect::<Result<_>>()?;
    children.into_iter().try_for_each(Child::wait)?;

    let moved = (CHILDREN * ROUNDS * PAGES) as u64;
    let mut expected = Expected::fresh();
    expected.came(1 + moved);
    expected.more(&[("faults", moved)]);
    expected.went(moved);
    expected.more(&[("freed", 1)]);
    expected.0.insert("out", 0);
    expected.check(&counters, "when all have ended")
}

fn counters_of_two_pagemaps(path: &Path) -> Result<()> {
    let device = open(path)?;
    let other = Device::open_other(path)?;
    let _one = migrated(&device, 1, 46)?;
    let _two = migrated(&other, 2, 47)?;
    let all = Counters::all()?;
    let [first, second] = all.as_slice() else {
        bail!("there are {} pagemaps", all.len());
    };
    ensure!(
        first.name()? == second.name()?,
        "{} and {} were to have one name",
        first.name()?,
        second.name()?
    );
    for (counters, pages) in [(first, 1), (second, 2)] {
        let mut expected = Expected::fresh();
        expected.came(pages);
        expected.check(counters, "of two pagemaps")?;
    }
    device.release()?;
    ensure!(!first.exist(), "the counters outlive their pagemap");
    ensure!(second.exist(), "the counters do not live as long");
    other.release()?;
    ensure!(!second.exist(), "the counters outlive their pagemap");
    Ok(())
}
