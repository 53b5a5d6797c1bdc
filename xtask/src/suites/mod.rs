// SPDX-License-Identifier: GPL-2.0

//! The test suites: each makes a plan for the guest, boots, and reads the results.

mod alone;
mod boot;
mod bugs;
pub(crate) mod demo;
mod dpmem;
pub(crate) mod driver;
mod filter;
pub(crate) mod hmm;
mod kunit;
mod load;
pub(crate) mod mm;
mod nouveau;
mod walk;
mod xe;

use anyhow::{ensure, Result};

use crate::cli::{Driver, KernelOptions, MachineOptions, SuiteChoice};
use crate::kernel::{Builder, Kernel};
use crate::report::{Report, Test};

pub(crate) use boot::Boot;
pub(crate) use filter::Filter;
pub(crate) use load::load;

/// What a suite runs on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    /// What builds kernels.
    pub(crate) builder: &'a Builder<'a>,
    /// How the kernel was chosen.
    pub(crate) options: &'a KernelOptions,
    /// The kernel.
    pub(crate) kernel: &'a Kernel,
    /// The driver.
    pub(crate) driver: Driver,
    /// The machine.
    pub(crate) machine: &'a MachineOptions,
    /// Which tests.
    pub(crate) filter: &'a Filter,
    /// A word before the suites' names, where several kernels are tested.
    pub(crate) label: &'a str,
    /// Whether what repeats a suite with something else under it runs as well.
    pub(crate) thorough: bool,
}

impl Context<'_> {
    /// Adds the tests of a suite that the filter takes; none is an error, and not a run in which
    /// all was well.
    fn add(&self, tests: Vec<Test>, suite: &str, report: &mut Report) -> Result<()> {
        ensure!(
            !tests.is_empty(),
            "no test of {suite} matches the filter, or none ran"
        );
        tests.into_iter().try_for_each(|test| report.add(test))
    }

    /// A suite's name in the report.
    fn suite(&self, name: &str) -> String {
        if self.label.is_empty() {
            name.to_owned()
        } else {
            format!("{}/{name}", self.label)
        }
    }
}

/// Runs what was chosen.
pub(crate) fn run(choice: SuiteChoice, context: &Context<'_>, report: &mut Report) -> Result<()> {
    let all = choice == SuiteChoice::All;
    if all || choice == SuiteChoice::Hmm {
        hmm::run(context, report)?;
    }
    // The Rust parts have tests only where they are.
    let rust = context.driver == Driver::Rust;
    if choice == SuiteChoice::Kunit || (all && rust) {
        kunit::run(context, report)?;
    }
    if choice == SuiteChoice::Dpmem || (all && rust) {
        dpmem::run(context, report)?;
    }
    if choice == SuiteChoice::Nouveau || (all && rust) {
        nouveau::run(context, report)?;
    }
    if choice == SuiteChoice::Xe || (all && rust) {
        xe::run(context, report)?;
    }
    // They are in test_hmm's way to use the kernel, and a stock kernel may not survive them.
    if choice == SuiteChoice::Bugs {
        bugs::run(context, report)?;
    }
    if all || choice == SuiteChoice::Mm {
        mm::run(context, report)?;
    }
    Ok(())
}
