// SPDX-License-Identifier: GPL-2.0

//! `--suite bugs`: what the core of the kernel does wrong before the series, one boot for each.
//!
//! On a stock kernel, a test passes if the bug shows; with the series, if it does not.

use std::fs;
use std::time::Duration;

use anyhow::{bail, Context as _, Result};
use serde::Deserialize;

use super::boot::{Boot, Booted};
use super::{driver, Context};
use crate::cli::{Driver, KernelChoice, Profile};
use crate::guest::{programs, Plan};
use crate::kernel::profile_name;
use crate::ktap::Status;
use crate::repo;
use crate::report::{Report, Run, Test};

/// The list.
const LIST: &str = "xtask/suites/bugs.toml";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    bug: Vec<Bug>,
}

/// One of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bug {
    /// What the guest's program calls it.
    name: String,
    /// What goes wrong, for people.
    what: String,
    /// The only profile that shows it, if it takes one.
    profile: Option<String>,
    /// The only architecture that has it, if it is not all.
    arch: Option<String>,
    /// Whether the series mends it.
    #[serde(default = "mended")]
    mended: bool,
    /// How long it may take, without all checks.
    timeout_s: u64,
}

fn mended() -> bool {
    true
}

/// Runs the suite.
pub(crate) fn run(context: &Context<'_>, report: &mut Report) -> Result<()> {
    if context.driver == Driver::Rust {
        bail!("--suite bugs is about what test_hmm runs into: give it --driver c");
    }
    let path = repo::top().join(LIST);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {LIST}"))?;
    let list: List =
        toml::from_str(&text).with_context(|| format!("{LIST} is not as it should be"))?;
    let suite = context.suite("bugs");
    for bug in list
        .bug
        .iter()
        .filter(|bug| context.filter.takes(&bug.name))
    {
        let test = one(context, &suite, bug, report)?;
        report.add(test)?;
    }
    Ok(())
}

/// Boots for one bug.
fn one(context: &Context<'_>, suite: &str, bug: &Bug, report: &mut Report) -> Result<Test> {
    let profile = profile_name(context.kernel.profile);
    let shows = context.options.kernel == KernelChoice::Stock || !bug.mended;
    let arch = context.kernel.arch.name();
    let only = [
        ("profile", &bug.profile, profile),
        ("arch", &bug.arch, arch),
    ]
    .into_iter()
    .find_map(|(option, only, this)| {
        let only = only.as_deref().filter(|only| *only != this)?;
        Some(format!("--{option} {only}"))
    });
    if let Some(only) = only.filter(|_| shows) {
        let mut test = Test::new(suite, &bug.name, Ok(()), 0.0);
        test.status = Status::Skip;
        test.reason = Some(format!("only {only} shows: {}", bug.what));
        return Ok(test);
    }

    let label = format!("{suite}/{}", bug.name);
    let program = programs::build(
        context.builder.cache,
        context.builder.tools,
        context.kernel.arch,
        programs::DEMO,
        context.builder.logs,
    )?;
    let boot = Boot {
        suite: label.clone(),
        modules: driver::modules(context.kernel, context.driver)?,
        tests: vec![program],
        devices: Vec::new(),
        arguments: Vec::new(),
        counting: false,
        quiet: None,
        console_ok: Vec::new(),
    };
    let factor = match context.kernel.profile {
        Profile::Plain => 1,
        Profile::Debug => 8,
    };
    let bound = Duration::from_secs(bug.timeout_s * factor);
    let command = vec![
        format!("/tests/{}", programs::DEMO),
        "--kernel-bug".to_owned(),
        bug.name.clone(),
        driver::DEVICE.to_owned(),
    ];
    let booted = boot.run(context, report, |machine| {
        let mut plan = Plan::new();
        driver::load(&mut plan, machine, context.driver);
        plan.program(programs::DEMO, bound, &command);
        // A kernel with the bug may be past that.
        if !shows {
            driver::unload(&mut plan, context.driver);
        }
        plan
    })?;

    let (trouble, console) = trouble(&booted, &label);
    report.run(Run {
        title: label,
        kernel: context.kernel.name.clone(),
        release: context.kernel.release.clone(),
        console,
    })?;
    let verdict = match (shows, trouble) {
        (true, Some(trouble)) => {
            report.comment(&format!("{}: {trouble}", bug.name))?;
            Ok(())
        }
        (true, None) => Err(format!("this kernel does not show it: {}", bug.what)),
        (false, Some(trouble)) => Err(format!("{}:\n{trouble}", bug.what)),
        (false, None) => Ok(()),
    };
    let seconds = booted.outcome.results.last().map_or(0.0, |line| line.at);
    Ok(Test::new(suite, &bug.name, verdict, seconds))
}

/// Everything that went wrong in a boot, and the reports on its console.
fn trouble(booted: &Booted, suite: &str) -> (Option<String>, Vec<String>) {
    let (rest, console) = booted.rest(suite);
    let failed: Vec<String> = booted
        .tests(suite, programs::DEMO, None)
        .into_iter()
        .chain(rest)
        .filter(|test| test.status == Status::Fail)
        .map(|test| format!("{}: {}", test.name, test.reason.unwrap_or_default()))
        .collect();
    let trouble = (!failed.is_empty()).then(|| failed.join("\n"));
    (trouble, console)
}
