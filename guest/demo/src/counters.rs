// SPDX-License-Identifier: GPL-2.0

//! What the counters in debugfs say of many processes at once. What they say of one is in the
//! scripts of `dpmem-ops`.

use std::{
    collections::BTreeMap,
    path::Path, //
};

use anyhow::{
    ensure,
    Result, //
};

use crate::{
    debugfs::Counters,
    device::Device,
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
pub(crate) const ALL: &[(&str, Scenario)] =
    &[("counters_of_many_processes", counters_of_many_processes)];

/// `pages` single pages, on the device.
fn migrated(device: &Device, pages: usize, seed: usize) -> Result<Mapping> {
    let mut memory = Mapping::private(pages)?;
    fill(memory.bytes_mut(), seed);
    migrate(device, &memory)?;
    Ok(memory)
}

fn counters_of_many_processes(path: &Path) -> Result<()> {
    const CHILDREN: usize = 4;
    const ROUNDS: usize = 20;
    const PAGES: usize = 64;
    let device = Device::open(path)?;
    // What is registered anew has counted nothing.
    device.release()?;
    Device::open_other(path)?.release()?;
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
    // One page was unmapped where it was.
    let expected = [
        ("faults", moved),
        ("freed", moved + 1),
        ("migrated_in", moved + 1),
        ("migrated_out", moved),
        ("pages", (DEVICE_SIZE / page_size()) as u64),
        ("requested", moved + 1),
    ];
    let expected = expected.map(|(name, count)| (name.to_owned(), count));
    let found = counters.read()?;
    ensure!(
        found == BTreeMap::from(expected.clone()),
        "the counters are {found:?}, not {expected:?}"
    );
    Ok(())
}
