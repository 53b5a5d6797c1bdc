// SPDX-License-Identifier: GPL-2.0

//! `--suite kunit`: the KUnit tests of the Rust parts, which run when the crates' modules are
//! loaded, and those that are built into the kernel: the series has some.

use anyhow::Result;

use super::boot::Boot;
use super::load::with_dependencies;
use super::Context;
use crate::guest::Plan;
use crate::report::Report;

/// The crate that has all others below it.
const LAST: &str = "dpmem-drm";

/// Runs the suite.
pub(crate) fn run(context: &Context<'_>, report: &mut Report) -> Result<()> {
    let suite = context.suite("kunit");
    let mut modules = Vec::new();
    with_dependencies(context.kernel, LAST, &mut modules)?;
    let files = modules.iter().map(|name| context.kernel.module(name));
    let boot = Boot {
        suite: suite.clone(),
        modules: files.collect::<Result<_>>()?,
        tests: Vec::new(),
        devices: Vec::new(),
        arguments: vec!["kunit.enable=1".to_owned()],
        counting: false,
        quiet: None,
        console_ok: Vec::new(),
    };
    let booted = boot.run(context, report, |_| {
        let mut plan = Plan::new();
        modules.iter().for_each(|name| plan.load(name, &[]));
        plan.kunit();
        modules.iter().rev().for_each(|name| plan.unload(name));
        plan
    })?;
    let tests = booted.tests(&suite, "kunit", None, context.filter);
    booted.finish(context, &suite, report)?;
    context.add(tests, &suite, report)
}
