// SPDX-License-Identifier: GPL-2.0

//! `--suite dpmem`: our own programs in the guest.

use std::time::Duration;

use anyhow::Result;

use super::boot::Boot;
use super::{driver, Context};
use crate::guest::{programs, Plan};
use crate::report::Report;

/// How long a program may take.
const BOUND: Duration = Duration::from_secs(120);

/// Runs the suite.
pub(crate) fn run(context: &Context<'_>, report: &mut Report) -> Result<()> {
    let suite = context.suite("dpmem");
    let builder = context.builder;
    let program = programs::build(
        builder.cache,
        builder.tools,
        context.kernel.arch,
        programs::DEMO,
        builder.logs,
    )?;
    let boot = Boot {
        suite: suite.clone(),
        modules: driver::modules(context.kernel, context.driver)?,
        tests: vec![program],
        arguments: Vec::new(),
        quiet: None,
        console_ok: Vec::new(),
    };
    let booted = boot.run(context, report, |machine| {
        let mut plan = Plan::new();
        driver::load(&mut plan, machine, context.driver);
        let command = [
            format!("/tests/{}", programs::DEMO),
            "--ktap".to_owned(),
            driver::DEVICE.to_owned(),
        ];
        plan.program(programs::DEMO, BOUND, &command);
        driver::unload(&mut plan, context.driver);
        plan
    })?;
    for test in booted.tests(&suite, programs::DEMO, None) {
        if context.filter.takes(&test.name) {
            report.add(test)?;
        }
    }
    booted.finish(context, &suite, report)
}
