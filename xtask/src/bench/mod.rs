// SPDX-License-Identifier: GPL-2.0

//! `cargo xtask bench`: what things cost, with the series and without.

mod chart;
mod register;

use anyhow::Result;

use crate::cli::BenchCommand;

/// Runs a benchmark; false if it did not get to its end.
pub(crate) fn run(command: &BenchCommand) -> Result<bool> {
    match command {
        BenchCommand::Register(options) => register::run(options),
    }
}
