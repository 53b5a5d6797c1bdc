// SPDX-License-Identifier: GPL-2.0

//! `--suite kunit`: the KUnit tests of the Rust parts, which run when the crate's module is loaded, and those that are
//! built into the kernel: the series has some.

use anyhow::Result;

use super::boot::Boot;
use super::{driver, Context};
use crate::guest::Plan;
use crate::report::Report;

/// Runs the suite.
pub(crate) fn run(context: &Context<'_>, report: &mut Report) -> Result<()> {
    let suite = context.suite("kunit");
    let boot = Boot {
        suite: suite.clone(),
        modules: vec![context.kernel.module(driver::CORE)?],
        tests: Vec::new(),
        devices: Vec::new(),
        arguments: vec!["kunit.enable=1".to_owned()],
        counting: false,
        quiet: None,
        console_ok: Vec::new(),
    };
    let booted = boot.run(context, report, |_| {
        let mut plan = Plan::new();
        plan.load(driver::CORE, &[]);
        plan.kunit();
        plan.unload(driver::CORE);
        plan
    })?;
    for test in booted.tests(&suite, "kunit", None) {
        if context.filter.takes(&test.name) {
            report.add(test)?;
        }
    }
    booted.finish(context, &suite, report)
}
