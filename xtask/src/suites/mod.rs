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

use std::fmt;

use anyhow::{bail, Result};

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
        if tests.is_empty() {
            bail!(NoMatch(format!("test of {suite} that ran")));
        }
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

/// Nothing of a suite matches the filter.
#[derive(Debug)]
struct NoMatch(String);

impl fmt::Display for NoMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no {} matches the filter", self.0)
    }
}

impl std::error::Error for NoMatch {}

/// Runs a suite.
type Run = fn(&Context<'_>, &mut Report) -> Result<()>;

/// The suites, in the order in which they run.
const SUITES: [(SuiteChoice, Run); 7] = [
    (SuiteChoice::Hmm, hmm::run),
    (SuiteChoice::Kunit, kunit::run),
    (SuiteChoice::Dpmem, dpmem::run),
    (SuiteChoice::Nouveau, nouveau::run),
    (SuiteChoice::Xe, xe::run),
    (SuiteChoice::Bugs, bugs::run),
    (SuiteChoice::Mm, mm::run),
];

/// Whether the suite is one of all of them, with this driver.
fn is_of_all(suite: SuiteChoice, driver: Driver) -> bool {
    match suite {
        SuiteChoice::Hmm | SuiteChoice::Mm => true,
        // Most are in test_hmm's way to use the kernel, and a stock kernel may not survive them.
        SuiteChoice::Bugs | SuiteChoice::All => false,
        // The Rust parts have tests only where they are.
        SuiteChoice::Kunit | SuiteChoice::Dpmem | SuiteChoice::Nouveau | SuiteChoice::Xe => {
            driver == Driver::Rust
        }
    }
}

/// Runs what was chosen.
pub(crate) fn run(choice: SuiteChoice, context: &Context<'_>, report: &mut Report) -> Result<()> {
    if choice != SuiteChoice::All {
        let mut chosen = SUITES.iter().filter(|(suite, _)| *suite == choice);
        return chosen.try_for_each(|(_, run)| run(context, report));
    }
    let mut matched = false;
    for (suite, run) in SUITES {
        if !is_of_all(suite, context.driver) {
            continue;
        }
        match run(context, report) {
            Err(error) if !context.filter.is_all() && error.is::<NoMatch>() => {}
            Err(error) => return Err(error),
            Ok(()) => matched = true,
        }
    }
    if !matched {
        bail!(NoMatch("test of any suite".to_owned()));
    }
    Ok(())
}
