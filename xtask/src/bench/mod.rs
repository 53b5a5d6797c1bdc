// SPDX-License-Identifier: GPL-2.0

//! `cargo xtask bench`: what things cost, with the series and without.

mod chart;
mod core_mm;
mod migrate;
mod register;

use anyhow::Result;

use crate::cli::{
    BenchCommand, BenchOptions, Driver, KernelChoice, KernelOptions, Profile, Purpose,
};
use crate::ktap::Status;
use crate::progress;
use crate::report::Report;

/// Runs a benchmark; false if it did not get to its end.
pub(crate) fn run(command: &BenchCommand) -> Result<bool> {
    match command {
        BenchCommand::Register(options) => register::run(options),
        BenchCommand::Core(options) => core_mm::run(options),
        BenchCommand::Migrate(options) => migrate::run(options),
    }
}

/// The kernel to measure on.
fn boot_options(options: &BenchOptions, kernel: KernelChoice, driver: Driver) -> KernelOptions {
    KernelOptions {
        linux: options.linux.clone(),
        arch: options.arch,
        kernel,
        driver: Some(driver),
        profile: Profile::Plain,
        purpose: Purpose::Lab,
        prefix: None,
        config: options.config.clone(),
    }
}

/// As distributions build their kernels. Those of the tests are built for size, where hardly any
/// function is inlined.
const FOR_SPEED: &str = "CONFIG_CC_OPTIMIZE_FOR_PERFORMANCE=y";

/// The same kernel, built for speed.
fn for_speed(mut kernel: KernelOptions) -> KernelOptions {
    // What is asked for comes last, and so it counts.
    kernel.config.insert(0, FOR_SPEED.to_owned());
    kernel
}

/// Says what went wrong besides, and ends the report; false if something did.
fn end(report: Report) -> Result<bool> {
    let failed = |status| status == Status::Fail;
    for test in report.tests().iter().filter(|test| failed(test.status)) {
        let reason = test.reason.as_deref().unwrap_or("failed");
        progress::error(&format!("{}: {reason}", test.name));
    }
    report.finish()
}

/// The one in the middle; the lower one of two.
fn median<T: Ord + Copy>(values: impl Iterator<Item = T>) -> Option<T> {
    let mut values: Vec<T> = values.collect();
    values.sort_unstable();
    values.get(values.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_of_nothing_is_nothing() {
        assert_eq!(median(std::iter::empty::<u64>()), None);
        assert_eq!(median([3, 1, 2].into_iter()), Some(2));
        assert_eq!(median([4, 1].into_iter()), Some(1));
    }
}
