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
/// The first device whose memory CPUs can address.
pub(crate) const COHERENT: &str = "/dev/hmm_dmirror2";
/// The device of QEMU that one of our samples is for.
pub(crate) const EDU: &str = "/dev/edu0";
/// The crate's own module.
pub(crate) const CORE: &str = "dpmem-core";
/// The modules for the device of QEMU.
const EDU_MODULES: [&str; 2] = [CORE, "edu"];

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

/// The file of the driver for the device of QEMU; the crate's own is there with those of the driver
/// under test.
pub(crate) fn edu_module(kernel: &Kernel) -> Result<PathBuf> {
    kernel.module("edu")
}

/// The device itself, for QEMU's command line. A driver of PCI expects 32 bits of addresses, and it
/// has 28.
pub(crate) fn edu_device() -> String {
    "edu,dma_mask=0xffffffff".to_owned()
}

/// Loads the driver for the device of QEMU.
pub(crate) fn load_edu(plan: &mut Plan) {
    EDU_MODULES.iter().for_each(|name| plan.load(name, &[]));
}

/// Unloads it.
pub(crate) fn unload_edu(plan: &mut Plan) {
    let names = EDU_MODULES.iter().rev();
    names.for_each(|name| plan.unload(name));
}

/// Unloads the driver under test.
pub(crate) fn unload(plan: &mut Plan, driver: Driver) {
    for name in names(driver).iter().rev() {
        plan.unload(name);
    }
}
