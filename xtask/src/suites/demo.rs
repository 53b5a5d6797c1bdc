// SPDX-License-Identifier: GPL-2.0

//! The demo's boot: one program, whose words are shown as they come.

use std::time::Duration;

use anyhow::Result;

use super::boot::{Boot, Booted, Output};
use super::{driver, Context};
use crate::cli::Profile;
use crate::guest::{programs, Plan};
use crate::report::{Report, Test};

/// How long it may take on a plain kernel; one with all checks takes longer.
const BOUND: Duration = Duration::from_secs(300);

/// How much memory the demo's devices have: more than a machine with 36 physical address bits has
/// addresses for.
const MEMORY_MIB: u64 = 64 * 1024;

/// What the sample says if it cannot register its memory.
const NO_PLACE: &str = "no place for";

/// Where the guest keeps what `/proc/iomem` said before any driver was loaded.
const IOMEM: &str = "/tmp/iomem";

/// What the program says before the reason why it failed.
const FAILED: &str = "FAILED: ";

/// The device that the program talks to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum On {
    /// This one, of the driver under test.
    Hmm(&'static str),
    /// QEMU's.
    Edu,
}

/// A run of the program.
pub(super) struct Run<'a> {
    /// What it is called.
    pub(super) name: &'a str,
    /// The device.
    pub(super) on: On,
    /// Its options.
    pub(super) options: &'a [&'a str],
    /// The parameters of the driver.
    pub(super) parameters: &'a [String],
}

/// Boots a machine with these devices as well, and runs the program so often, each time with the
/// driver loaded anew.
pub(super) fn boot(
    context: &Context<'_>,
    suite: &str,
    devices: &[&str],
    runs: &[Run<'_>],
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
    let mut modules = driver::modules(context.kernel, context.driver)?;
    let mut devices: Vec<_> = devices.iter().map(|name| (*name).to_owned()).collect();
    if runs.iter().any(|run| run.on == On::Edu) {
        modules.push(driver::edu_module(context.kernel)?);
        devices.push(driver::edu_device());
    }
    let boot = Boot {
        suite: suite.to_owned(),
        modules,
        devices,
        tests: vec![program],
        arguments: Vec::new(),
        counting: false,
        quiet: None,
        console_ok: Vec::new(),
    };
    let bound = match context.kernel.profile {
        Profile::Plain => BOUND,
        Profile::Debug => BOUND * 8,
    };
    boot.run(context, report, |machine| {
        let mut plan = Plan::new();
        plan.prepare(&format!("cat /proc/iomem >{IOMEM}"));
        for run in runs {
            let mut command = vec![format!("/tests/{}", programs::DEMO)];
            command.extend(run.options.iter().map(|option| (*option).to_owned()));
            match run.on {
                On::Hmm(device) => {
                    command.push(device.to_owned());
                    driver::load_with(&mut plan, machine, context.driver, run.parameters);
                    plan.program(run.name, bound, &command);
                    driver::unload(&mut plan, context.driver);
                }
                On::Edu => {
                    command.push(driver::EDU.to_owned());
                    driver::load_edu(&mut plan);
                    plan.program(run.name, bound, &command);
                    driver::unload_edu(&mut plan);
                }
            }
        }
        plan
    })
}

/// Runs it on a kernel with the series; what it says goes to stdout. It fails if a byte is wrong,
/// or if physical address space is in use for the device.
pub(crate) fn run(context: &Context<'_>, report: &mut Report) -> Result<()> {
    let suite = context.suite("demo");
    let booted = boot(
        context,
        &suite,
        &[],
        &[Run {
            name: programs::DEMO,
            on: On::Hmm(driver::DEVICE),
            options: &["--iomem", IOMEM],
            parameters: &[memory()],
        }],
        report,
    )?;
    let verdict = match booted.program(programs::DEMO) {
        None => Err("did not run: the machine ended before it".to_owned()),
        Some(output) => {
            for line in &output.lines {
                println!("{}", line.text);
            }
            match output.status {
                Some(0) => Ok(()),
                Some(status) => Err(reason(output)
                    .unwrap_or_else(|| format!("the program ended with status {status}"))),
                None => Err("the machine ended before the program did".to_owned()),
            }
        }
    };
    report.add(Test::new(&suite, programs::DEMO, verdict, 0.0))?;
    booted.finish(context, &suite, report)
}

/// Why the program failed, if it said so.
fn reason(output: &Output) -> Option<String> {
    let mut lines = output.lines.iter().rev();
    lines.find_map(|line| Some(line.text.trim().strip_prefix(FAILED)?.to_owned()))
}

/// The sample's parameter for its memory.
fn memory() -> String {
    format!("memory_mib={MEMORY_MIB}")
}

/// Runs the driver on a kernel that has no room for its memory, and shows what a user sees.
pub(crate) fn refused(context: &Context<'_>, report: &mut Report) -> Result<()> {
    let suite = context.suite("demo-stock");
    let run = Run {
        name: programs::DEMO,
        on: On::Hmm(driver::DEVICE),
        options: &["--try-it"],
        parameters: &[memory()],
    };
    let booted = boot(context, &suite, &[], &[run], report)?;
    let mut refused = false;
    for line in &booted.outcome.console {
        if line.text.contains("device memory") {
            println!("  {}", line.text.trim());
        }
        refused |= line.text.contains(NO_PLACE);
    }
    let verdict = match booted.program(programs::DEMO) {
        None => Err("did not run: the machine ended before it".to_owned()),
        Some(output) => {
            for line in &output.lines {
                println!("{}", line.text);
            }
            match output.status {
                Some(1) if refused => Ok(()),
                Some(1) => Err(format!(
                    "the driver did not say that there is {NO_PLACE}..."
                )),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::Line;

    #[test]
    fn the_reason_is_what_the_program_said() {
        let lines = |text: &str| {
            let line = |text: &str| Line {
                at: 0.0,
                text: text.to_owned(),
            };
            Output {
                lines: text.lines().map(line).collect(),
                status: Some(1),
            }
        };
        let said = lines("  its memory migrates\n  FAILED: /proc/iomem is not what it was\n");
        let expected = Some("/proc/iomem is not what it was".to_owned());
        assert_eq!(reason(&said), expected);
        assert_eq!(reason(&lines("  That is not as it should be.")), None);
    }
}
