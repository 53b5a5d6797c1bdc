// SPDX-License-Identifier: GPL-2.0

//! `--suite bugs`: what the core of the kernel does wrong before the series, one boot for each.
//!
//! On a stock kernel, a test passes if the bug shows; with the series, if it does not. A stock kernel
//! that does not have it, for its architecture, can be asked to do right as well.

use std::fs;

use anyhow::{bail, Context as _, Result};
use regex::Regex;
use serde::Deserialize;

use super::{alone, driver, Context, NoMatch};
use crate::cli::{value_name, Driver, KernelChoice, MachineOptions};
use crate::guest::programs;
use crate::kernel::profile_name;
use crate::ktap::Status;
use crate::repo;
use crate::report::{Report, Test};

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
    /// What is found in the words of the program or of the kernel where it does.
    sign: String,
    /// The driver that shows it.
    #[serde(default = "test_hmm")]
    driver: Driver,
    /// The only profile that shows it, if it takes one.
    profile: Option<String>,
    /// The only architecture that has it, if it is not all.
    arch: Option<String>,
    /// Whether stock kernels that do not have it run the test as well, and must pass it as they are.
    #[serde(default)]
    elsewhere: bool,
    /// Whether the series mends it.
    #[serde(default = "mended")]
    mended: bool,
    /// Whether the machine has two nodes.
    #[serde(default)]
    two_nodes: bool,
    /// How long it may take, without all checks.
    timeout_s: u64,
}

fn mended() -> bool {
    true
}

fn test_hmm() -> Driver {
    Driver::C
}

/// Runs the suite.
pub(crate) fn run(context: &Context<'_>, report: &mut Report) -> Result<()> {
    let path = repo::top().join(LIST);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {LIST}"))?;
    let list: List =
        toml::from_str(&text).with_context(|| format!("{LIST} is not as it should be"))?;
    let suite = context.suite("bugs");
    let mut bugs = list.bug;
    bugs.retain(|bug| bug.driver == context.driver && context.filter.takes(&bug.name));
    if bugs.is_empty() {
        let driver = value_name(&context.driver);
        bail!(NoMatch(format!("bug of {LIST} with driver = {driver:?}")));
    }
    for bug in &bugs {
        let test = one(context, &suite, bug, report)?;
        report.add(test)?;
    }
    Ok(())
}

/// Boots for one bug.
fn one(context: &Context<'_>, suite: &str, bug: &Bug, report: &mut Report) -> Result<Test> {
    let profile = profile_name(context.kernel.profile);
    let has_it = context.options.kernel == KernelChoice::Stock || !bug.mended;
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
    let shows = has_it && only.is_none();
    if let Some(only) = only.filter(|_| has_it && !bug.elsewhere) {
        let mut test = Test::new(suite, &bug.name, Ok(()), 0.0);
        test.status = Status::Skip;
        test.reason = Some(format!("only {only} shows: {}", bug.what));
        return Ok(test);
    }

    let label = format!("{suite}/{}", bug.name);
    let modules = driver::modules(context.kernel, context.driver)?;
    let bound = alone::bound(context, bug.timeout_s);
    let command = vec![
        format!("/tests/{}", programs::DEMO),
        "--kernel-bug".to_owned(),
        bug.name.clone(),
        driver::DEVICE.to_owned(),
    ];
    let machine = MachineOptions {
        two_nodes: bug.two_nodes,
        ..context.machine.clone()
    };
    let context = &Context {
        machine: &machine,
        ..*context
    };
    let outcome = alone::boot(context, label, modules, report, |plan, machine| {
        driver::load(plan, machine, context.driver);
        plan.program(programs::DEMO, bound, &command);
        // A kernel with the bug may be past that.
        if !shows {
            driver::unload(plan, context.driver);
        }
    })?;
    let sign = Regex::new(&bug.sign)
        .with_context(|| format!("{LIST}: the sign of {} is no pattern", bug.name))?;
    let verdict = match (shows, outcome.trouble) {
        (_, Some(trouble)) if !outcome.began => Err(trouble),
        (true, Some(trouble)) if !sign.is_match(&trouble) => Err(format!(
            "something else went wrong than {}:\n{trouble}",
            bug.what
        )),
        (true, Some(trouble)) => {
            report.comment(&format!("{}: {trouble}", bug.name))?;
            Ok(())
        }
        (true, None) => Err(format!("this kernel does not show it: {}", bug.what)),
        (false, Some(trouble)) => Err(format!("{}:\n{trouble}", bug.what)),
        (false, None) => Ok(()),
    };
    Ok(Test::new(suite, &bug.name, verdict, outcome.seconds))
}
