// SPDX-License-Identifier: GPL-2.0

//! `--suite xe`: xe's pagemaps in Rust, with DRM's own code, on cards that are not there.

use anyhow::{bail, Result};

use super::load::with_dependencies;
use super::{alone, Context};
use crate::cli::Driver;
use crate::guest::{programs, Plan};
use crate::report::Report;

/// The cards.
const DEVICE: &str = "/dev/xe_card";
/// The module that they and the Rust code are.
const MODULE: &str = "xe_card";
/// How long all scenarios may take, in seconds, on a kernel without all checks.
const TIMEOUT_S: u64 = 600;

/// Runs the suite.
pub(super) fn run(context: &Context<'_>, report: &mut Report) -> Result<()> {
    if context.driver == Driver::C {
        bail!("xe's own code needs xe's hardware: only --driver rust runs on these cards");
    }
    let suite = context.suite("xe");
    let mut modules = Vec::new();
    with_dependencies(context.kernel, MODULE, &mut modules)?;
    let files = modules.iter().map(|name| context.kernel.module(name));
    let boot = alone::machine(context, &suite, files.collect::<Result<_>>()?)?;
    let command = ["/tests/", programs::DEMO].concat();
    let command = [command.as_str(), "--ktap", "--xe", DEVICE].map(str::to_owned);
    let booted = boot.run(context, report, |_| {
        let mut plan = Plan::new();
        modules.iter().for_each(|name| plan.load(name, &[]));
        plan.program(programs::DEMO, alone::bound(context, TIMEOUT_S), &command);
        modules.iter().rev().for_each(|name| plan.unload(name));
        plan
    })?;
    let tests = booted.tests(&suite, programs::DEMO, None, context.filter);
    booted.finish(context, &suite, report)?;
    context.add(tests, &suite, report)
}
