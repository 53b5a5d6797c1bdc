// SPDX-License-Identifier: GPL-2.0

//! `--suite nouveau`: nouveau's device memory on a card that is not there.
//!
//! In Rust, everything must pass, in one boot. In C, each scenario has a boot of its own, and one
//! that the list says the C code gets wrong passes if that shows.

use std::path::PathBuf;

use anyhow::{bail, Result};
use regex::Regex;
use serde::Deserialize;

use super::{alone, driver, Context, NoMatch};
use crate::cli::{Driver, KernelChoice, Profile};
use crate::guest::{programs, Plan};
use crate::ktap::Status;
use crate::repo;
use crate::report::{Report, Test};

/// The list.
const LIST: &str = "xtask/suites/nouveau.toml";
/// The card.
const DEVICE: &str = "/dev/nouveau_card";
/// What stands in for the rest of nouveau.
const CARD: &str = "nouveau_card";
/// How the program says that somebody has found what is not there, or a child of it has.
const WRONG_BYTES: &str = r"byte \d+ of page \d+ is 0x|a child ended with Exited";
/// How long a scenario may take, in seconds, on a kernel without all checks.
const TIMEOUT_S: u64 = 60;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    scenario: Vec<Scenario>,
}

/// A scenario of the guest's program.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    /// What the program calls it.
    name: String,
    /// What the C code gets wrong, if it does.
    wrong: Option<String>,
    /// What is said when that shows: one of these.
    #[serde(default)]
    shows: Vec<String>,
    /// Whether that shows only where the kernel checks everything.
    #[serde(default)]
    debug: bool,
    /// Whether it is for a kernel whose allocations can fail, as one that checks everything is.
    #[serde(default)]
    failing: bool,
    /// Whether the C code is not asked, of which another scenario shows what it would make of it.
    #[serde(default)]
    rust: bool,
    /// Why it cannot pass on a kernel without the series, if it cannot: there are wrong bytes.
    stock: Option<String>,
}

impl Scenario {
    /// Why `trouble` says nothing of the driver on this kernel, if it does not.
    fn excuse(&self, context: &Context<'_>, trouble: &str) -> Option<String> {
        let stock = context.options.kernel == KernelChoice::Stock;
        let why = self.stock.clone()?;
        // Nothing but the scenario's own words.
        let bytes = Regex::new(WRONG_BYTES).ok()?;
        let only = trouble.lines().all(|line| bytes.is_match(line));
        (stock && only).then_some(why)
    }
}

impl List {
    fn load() -> Result<Self> {
        let list: Self = repo::toml(LIST)?;
        for scenario in &list.scenario {
            if scenario.wrong.is_some() == scenario.shows.is_empty() {
                bail!(
                    "{LIST}: {} has one of `wrong` and `shows`: it needs both, or neither",
                    scenario.name
                );
            }
        }
        Ok(list)
    }
}

/// The modules, in the order in which they are loaded.
fn modules(driver: Driver) -> &'static [&'static str] {
    match driver {
        Driver::C => &[CARD, "nouveau_dmem_c"],
        Driver::Rust => &[driver::CORE, CARD, "nouveau_dmem_rs"],
    }
}

fn files(context: &Context<'_>) -> Result<Vec<PathBuf>> {
    let names = modules(context.driver).iter();
    names.map(|name| context.kernel.module(name)).collect()
}

fn load(plan: &mut Plan, driver: Driver) {
    modules(driver).iter().for_each(|name| plan.load(name, &[]));
}

fn unload(plan: &mut Plan, driver: Driver) {
    let names = modules(driver).iter().rev();
    names.for_each(|name| plan.unload(name));
}

/// The program's options.
fn command(name: Option<&str>) -> Vec<String> {
    let words = ["/tests/", programs::DEMO].concat();
    let mut command = vec![words, "--ktap".to_owned(), DEVICE.to_owned()];
    command.push("--nouveau".to_owned());
    command.extend(name.map(str::to_owned));
    command
}

/// Runs the suite.
pub(super) fn run(context: &Context<'_>, report: &mut Report) -> Result<()> {
    let suite = context.suite("nouveau");
    let mut scenarios = List::load()?.scenario;
    let checked = context.kernel.profile == Profile::Debug;
    let in_c = context.driver == Driver::C;
    scenarios.retain(|scenario| checked || !scenario.failing);
    scenarios.retain(|scenario| !in_c || !scenario.rust);
    scenarios.retain(|scenario| context.filter.takes(&scenario.name));
    if scenarios.is_empty() {
        bail!(NoMatch(format!("scenario of {LIST}")));
    }
    match context.driver {
        Driver::Rust => together(context, &suite, &scenarios, report),
        Driver::C => {
            for scenario in &scenarios {
                let test = one(context, &suite, scenario, report)?;
                report.add(test)?;
            }
            Ok(())
        }
    }
}

/// Boots for all scenarios, or for the one that was asked for.
fn together(
    context: &Context<'_>,
    suite: &str,
    scenarios: &[Scenario],
    report: &mut Report,
) -> Result<()> {
    let boot = alone::machine(context, suite, files(context)?)?;
    let timeout = TIMEOUT_S.saturating_mul(scenarios.len() as u64);
    let bound = alone::bound(context, timeout);
    let only = match scenarios {
        [only] => Some(only.name.as_str()),
        _ => None,
    };
    let booted = boot.run(context, report, |_| {
        let mut plan = Plan::new();
        load(&mut plan, context.driver);
        plan.program(programs::DEMO, bound, &command(only));
        unload(&mut plan, context.driver);
        plan
    })?;
    let tests = booted.tests(suite, programs::DEMO, None, context.filter);
    for scenario in scenarios {
        // One that the program does not know has not passed.
        if tests.iter().all(|test| test.name != scenario.name) {
            let verdict = Err("there is no such scenario, or it did not run".to_owned());
            report.add(Test::new(suite, &scenario.name, verdict, 0.0))?;
        }
    }
    for mut test in tests {
        let known = scenarios.iter().find(|known| known.name == test.name);
        if test.status == Status::Fail {
            let trouble = test.reason.as_deref().unwrap_or_default();
            if let Some(why) = known.and_then(|known| known.excuse(context, trouble)) {
                test.status = Status::Skip;
                test.reason = Some(why);
            }
        }
        report.add(test)?;
    }
    booted.finish(context, suite, report)
}

/// Boots for one scenario.
fn one(
    context: &Context<'_>,
    suite: &str,
    scenario: &Scenario,
    report: &mut Report,
) -> Result<Test> {
    let name = &scenario.name;
    let checked = context.kernel.profile == Profile::Debug;
    let wrong = scenario
        .wrong
        .as_ref()
        .filter(|_| checked || !scenario.debug);
    let bound = alone::bound(context, TIMEOUT_S);
    let label = format!("{suite}/{name}");
    let outcome = alone::boot(context, label, files(context)?, report, |plan, _| {
        load(plan, context.driver);
        plan.program(programs::DEMO, bound, &command(Some(name)));
        // What went wrong may have left something.
        if wrong.is_none() {
            unload(plan, context.driver);
        }
    })?;
    let verdict = match (wrong, outcome.trouble) {
        (_, Some(trouble)) if !outcome.began => Err(trouble),
        (Some(wrong), Some(trouble)) => {
            report.comment(&format!("{name}: {trouble}"))?;
            let shows = &scenario.shows;
            match shows.iter().any(|said| trouble.contains(said.as_str())) {
                true => Ok(()),
                false => Err(format!("something else shows than this: {wrong}")),
            }
        }
        (Some(wrong), None) => Err(format!("it does not show: {wrong}")),
        (None, Some(trouble)) => match scenario.excuse(context, &trouble) {
            Some(why) => {
                let mut test = Test::new(suite, name, Ok(()), outcome.seconds);
                test.status = Status::Skip;
                test.reason = Some(why);
                return Ok(test);
            }
            None => Err(trouble),
        },
        (None, None) => Ok(()),
    };
    Ok(Test::new(suite, name, verdict, outcome.seconds))
}
