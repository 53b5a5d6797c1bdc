// SPDX-License-Identifier: GPL-2.0

//! `--suite bugs`: what the core of the kernel does wrong before the series, one boot for each.
//!
//! On a stock kernel, a test passes if the bug shows; with the series, if it does not. A stock
//! kernel that does not have it, for its architecture, can be asked to do right as well.

use anyhow::{bail, Context as _, Result};
use regex::Regex;
use serde::Deserialize;

use super::{alone, driver, Context, NoMatch};
use crate::arch::Arch;
use crate::cli::{value_name, Driver, KernelChoice, MachineOptions, Profile};
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
    profile: Option<Profile>,
    /// The only architecture that has it, if it is not all.
    arch: Option<Arch>,
    /// Whether stock kernels that do not have it run the test as well, and must pass it as they
    /// are.
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

impl Bug {
    /// What another kernel than this would have to be to show it; none if this one can.
    fn only(&self, profile: Profile, arch: Arch) -> Option<String> {
        if let Some(only) = self.profile.filter(|only| *only != profile) {
            return Some(format!("--profile {}", profile_name(only)));
        }
        let only = self.arch.filter(|only| *only != arch)?;
        Some(format!("--arch {}", only.name()))
    }
}

fn mended() -> bool {
    true
}

fn test_hmm() -> Driver {
    Driver::C
}

/// Runs the suite.
pub(crate) fn run(context: &Context<'_>, report: &mut Report) -> Result<()> {
    let list = load()?;
    let suite = context.suite("bugs");
    let mut bugs = list;
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

/// The bugs of the list.
fn load() -> Result<Vec<Bug>> {
    Ok(repo::toml::<List>(LIST)?.bug)
}

/// Boots for one bug.
fn one(context: &Context<'_>, suite: &str, bug: &Bug, report: &mut Report) -> Result<Test> {
    let has_it = context.options.kernel == KernelChoice::Stock || !bug.mended;
    let only = bug.only(context.kernel.profile, context.kernel.arch);
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

#[cfg(test)]
mod tests {
    use super::*;

    use std::collections::BTreeSet;
    use std::fs;

    #[test]
    fn each_reproducer_is_listed() {
        let source = repo::top().join("guest/demo/src/kernel_bugs.rs");
        let source = fs::read_to_string(source).unwrap();
        let (_, all) = source.split_once("pub(crate) const ALL").unwrap();
        let (all, _) = all.split_once("];").unwrap();
        let name = Regex::new(r#""(\w+)""#).unwrap();
        let there: BTreeSet<_> = name
            .captures_iter(all)
            .map(|name| name[1].to_owned())
            .collect();
        let listed = load().unwrap();
        assert_eq!(listed.len(), there.len());
        assert_eq!(
            listed
                .into_iter()
                .map(|bug| bug.name)
                .collect::<BTreeSet<_>>(),
            there
        );
    }

    #[test]
    fn signs_are_patterns_and_elsewhere_is_somewhere() {
        for bug in load().unwrap() {
            Regex::new(&bug.sign).unwrap();
            let everywhere = bug.arch.is_none() && bug.profile.is_none();
            assert!(!bug.elsewhere || !everywhere, "{}", bug.name);
        }
    }

    #[test]
    fn which_kernels_show_it() {
        let bug = |profile, arch| Bug {
            name: String::new(),
            what: String::new(),
            sign: String::new(),
            driver: Driver::C,
            profile,
            arch,
            elsewhere: false,
            mended: true,
            two_nodes: false,
            timeout_s: 1,
        };
        let here = (Profile::Plain, Arch::X86_64);
        assert!(bug(None, None).only(here.0, here.1).is_none());
        assert!(bug(Some(here.0), Some(here.1))
            .only(here.0, here.1)
            .is_none());
        let only = bug(Some(Profile::Debug), None).only(here.0, here.1);
        assert_eq!(only.unwrap(), "--profile debug");
        let only = bug(None, Some(Arch::Arm64)).only(here.0, here.1);
        assert_eq!(only.unwrap(), "--arch arm64");
    }
}
