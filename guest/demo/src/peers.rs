// SPDX-License-Identifier: GPL-2.0

//! Processes that move memory between two devices that reach each other's, in both directions at
//! once. What one of them does is in the scripts of `dpmem-ops`.

use std::path::Path;

use anyhow::Result;

use crate::{
    device::Device,
    mapping::Mapping,
    process::Child,
    scenarios::{
        check,
        fill,
        migrate,
        pattern,
        Scenario, //
    }, //
};

/// All of them, with their names.
pub(crate) const ALL: &[(&str, Scenario)] = &[("both_ways_at_once", both_ways_at_once)];

const PAGES: usize = 256;

fn both_ways_at_once(path: &Path) -> Result<()> {
    // One whose memory is not registered is nobody's peer.
    for device in [Device::open(path)?, Device::open_other(path)?] {
        let mut memory = Mapping::private(1)?;
        fill(memory.bytes_mut(), 0);
        migrate(&device, &memory)?;
    }
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
