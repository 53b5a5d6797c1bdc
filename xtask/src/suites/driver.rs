// SPDX-License-Identifier: GPL-2.0

//! The driver under test, as modules of a kernel.

use std::path::PathBuf;

use anyhow::Result;

use crate::cli::Driver;
use crate::guest::Plan;
use crate::kernel::Kernel;
use crate::vm::Machine;

/// The first device.
pub(crate) const DEVICE: &str = "/dev/hmm_dmirror0";
/// The crate's own module.
pub(crate) const CORE: &str = "dpmem-core";

/// The modules of a driver, in the order in which they are loaded.
fn names(driver: Driver) -> &'static [&'static str] {
    match driver {
        Driver::C => &["test_hmm"],
        Driver::Rust => &[CORE, "dmirror"],
    }
}

/// Their files.
pub(crate) fn modules(kernel: &Kernel, driver: Driver) -> Result<Vec<PathBuf>> {
    names(driver)
        .iter()
        .map(|name| kernel.module(name))
        .collect()
}

/// Loads the driver.
pub(crate) fn load(plan: &mut Plan, machine: &Machine, driver: Driver) {
    load_with(plan, machine, driver, &[]);
}

/// Loads the driver; the sample with more parameters.
pub(crate) fn load_with(plan: &mut Plan, machine: &Machine, driver: Driver, more: &[String]) {
    for name in names(driver) {
        let parameters = match (driver, *name) {
            (Driver::C, _) => machine.coherent_memory(),
            (Driver::Rust, CORE) => Vec::new(),
            (Driver::Rust, _) => [machine.coherent_memory(), more.to_vec()].concat(),
        };
        plan.load(name, &parameters);
    }
}

/// Unloads it.
pub(crate) fn unload(plan: &mut Plan, driver: Driver) {
    for name in names(driver).iter().rev() {
        plan.unload(name);
    }
}
