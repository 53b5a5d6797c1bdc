// SPDX-License-Identifier: GPL-2.0

//! A boot for one test alone: the kernel may not survive it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use super::boot::Boot;
use super::{Context, Filter};
use crate::cli::Profile;
use crate::guest::{programs, Plan};
use crate::ktap::Status;
use crate::report::{Report, Run};
use crate::vm::Machine;

/// What came of it.
pub(super) struct Outcome {
    /// Everything that went wrong, if anything did.
    pub(super) trouble: Option<String>,
    /// Whether the modules were loaded and the program knew what to do: trouble before that shows
    /// nothing.
    pub(super) began: bool,
    /// When it was over, in seconds.
    pub(super) seconds: f64,
}

/// How long something may take that takes `timeout_s` on a kernel without all checks.
pub(super) fn bound(context: &Context<'_>, timeout_s: u64) -> Duration {
    let factor = match context.kernel.profile {
        Profile::Plain => 1,
        Profile::Debug => 8,
    };
    Duration::from_secs(timeout_s * factor)
}

/// The program's status if it does not know what it was asked for.
const UNKNOWN: i32 = 2;

/// A boot with `modules` and the guest's program.
pub(super) fn machine(context: &Context<'_>, label: &str, modules: Vec<PathBuf>) -> Result<Boot> {
    let program = programs::build(
        context.builder.cache,
        context.builder.tools,
        context.kernel.arch,
        programs::DEMO,
        context.builder.logs,
    )?;
    Ok(Boot {
        suite: label.to_owned(),
        modules,
        tests: vec![program],
        devices: Vec::new(),
        arguments: Vec::new(),
        counting: false,
        quiet: None,
        console_ok: Vec::new(),
    })
}

/// Boots with `modules`, and does what `plan` says, in which the guest's program runs once.
pub(super) fn boot(
    context: &Context<'_>,
    label: String,
    modules: Vec<PathBuf>,
    report: &mut Report,
    plan: impl FnOnce(&mut Plan, &Machine),
) -> Result<Outcome> {
    let boot = machine(context, &label, modules)?;
    let booted = boot.run(context, report, |machine| {
        let mut steps = Plan::new();
        plan(&mut steps, machine);
        steps
    })?;
    let known = booted
        .program(programs::DEMO)
        .is_some_and(|output| output.status != Some(UNKNOWN));
    let began = known && booted.loaded();
    let (rest, console) = booted.rest(&label);
    let failed: Vec<String> = booted
        .tests(&label, programs::DEMO, None, &Filter::All)
        .into_iter()
        .chain(rest)
        .filter(|test| test.status == Status::Fail)
        .map(|test| format!("{}: {}", test.name, test.reason.unwrap_or_default()))
        .collect();
    report.run(Run {
        title: label,
        kernel: context.kernel.name.clone(),
        release: context.kernel.release.clone(),
        console,
    })?;
    Ok(Outcome {
        trouble: (!failed.is_empty()).then(|| failed.join("\n")),
        began,
        seconds: booted.outcome.results.last().map_or(0.0, |line| line.at),
    })
}
