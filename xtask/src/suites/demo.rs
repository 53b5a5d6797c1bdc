// SPDX-License-Identifier: GPL-2.0

//! The demo's boot: one program, whose words are shown as they come.

use std::time::Duration;

use anyhow::Result;

use super::boot::{Boot, Booted};
use super::{driver, Context};
use crate::cli::Profile;
use crate::guest::{programs, Plan};
use crate::report::{Report, Test};

/// How long it may take on a plain kernel; one with all checks takes longer.
const BOUND: Duration = Duration::from_secs(120);

/// How much memory the demo's devices have: more than a machine with 36 physical address bits has addresses for.
const MEMORY_MIB: u64 = 64 * 1024;

/// Boots, and runs the program with these options; the driver has these parameters.
pub(super) fn boot(
    context: &Context<'_>,
    suite: &str,
    options: &[&str],
    parameters: &[String],
    report: &mut Report,
) -> Result<Booted> {
    let builder = context.builder;
    let program = programs::build(
        builder.cache,
        builder.tools,
        context.kernel.arch,
        programs::DEMO,
        builder.logs,
    )?;
    let boot = Boot {
        suite: suite.to_owned(),
        modules: driver::modules(context.kernel, context.driver)?,
        tests: vec![program],
        arguments: Vec::new(),
        quiet: None,
        console_ok: Vec::new(),
    };
    let bound = match context.kernel.profile {
        Profile::Plain => BOUND,
        Profile::Debug => BOUND * 8,
    };
    let mut command = vec![format!("/tests/{}", programs::DEMO)];
    command.extend(options.iter().map(|option| (*option).to_owned()));
    command.push(driver::DEVICE.to_owned());
    boot.run(context, report, |machine| {
        let mut plan = Plan::new();
        driver::load_with(&mut plan, machine, context.driver, parameters);
        plan.program(programs::DEMO, bound, &command);
        driver::unload(&mut plan, context.driver);
        plan
    })
}

/// Runs it; what it says goes to stdout.
pub(crate) fn run(context: &Context<'_>, report: &mut Report) -> Result<()> {
    let suite = context.suite("demo");
    let booted = boot(context, &suite, &[], &[memory()], report)?;
    let verdict = match booted.program(programs::DEMO) {
        None => Err("did not run: the machine ended before it".to_owned()),
        Some(output) => {
            for line in &output.lines {
                println!("{}", line.text);
            }
            match output.status {
                Some(0) => Ok(()),
                Some(status) => Err(format!("the program ended with status {status}")),
                None => Err("the machine ended before the program did".to_owned()),
            }
        }
    };
    report.add(Test::new(&suite, programs::DEMO, verdict, 0.0))?;
    booted.finish(context, &suite, report)
}

/// The sample's parameter for its memory.
fn memory() -> String {
    format!("memory_mib={MEMORY_MIB}")
}

/// Runs the driver on a kernel that has no room for its memory, and shows what a user sees.
pub(crate) fn refused(context: &Context<'_>, report: &mut Report) -> Result<()> {
    let suite = context.suite("demo-stock");
    let booted = boot(context, &suite, &["--try-it"], &[memory()], report)?;
    let said = booted
        .outcome
        .console
        .iter()
        .filter(|line| line.text.contains("device memory"));
    for line in said {
        println!("  {}", line.text.trim());
    }
    let verdict = match booted.program(programs::DEMO) {
        None => Err("did not run: the machine ended before it".to_owned()),
        Some(output) => {
            for line in &output.lines {
                println!("{}", line.text);
            }
            match output.status {
                Some(1) => Ok(()),
                Some(0) => {
                    Err("this machine has room for the device's memory, after all".to_owned())
                }
                status => Err(format!("the program ended with {status:?}")),
            }
        }
    };
    report.add(Test::new(&suite, programs::DEMO, verdict, 0.0))?;
    booted.finish(context, &suite, report)
}
