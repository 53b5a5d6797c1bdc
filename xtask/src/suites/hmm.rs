// SPDX-License-Identifier: GPL-2.0

//! `--suite hmm`: the kernel tree's hmm-tests, unmodified.

use std::time::Duration;

use anyhow::{bail, Context as _, Result};
use regex::Regex;
use serde::Deserialize;

use super::boot::Boot;
use super::{driver, Context, Filter, NoMatch};
use crate::cli::{Driver, Profile};
use crate::guest::Plan;
use crate::kernel::{profile_name, Kernel};
use crate::ktap::Status;
use crate::repo;
use crate::report::{Report, Test};

/// The program.
pub(crate) const PROGRAM: &str = "hmm-tests";
/// The part of a test's full name that says that it uses coherent memory.
const COHERENT: &str = "_device_coherent";
/// Where the guest's khugepaged is told what to do.
const KHUGEPAGED: &str = "/sys/kernel/mm/transparent_hugepage/khugepaged";
/// What is known about them.
const KNOWN: &str = "xtask/suites/hmm.toml";

/// Runs the suite.
pub(crate) fn run(context: &Context<'_>, report: &mut Report) -> Result<()> {
    let suite = context.suite("hmm");
    let kernel = context.kernel;
    let source = kernel.selftest_source("hmm-tests.c")?;
    let all = names(&source)?;
    let wanted: Vec<&String> = all
        .iter()
        .filter(|name| context.filter.takes(name))
        .collect();
    if wanted.is_empty() {
        bail!(NoMatch(format!("test of {PROGRAM}")));
    }
    let known = Known::load()?;
    let needs = known.needs(|symbol| kernel.has(symbol))?;
    let why_not = |name: &str| known.slow(kernel.profile, name).or_else(|| needs.of(name));
    let (left_out, wanted): (Vec<&String>, Vec<&String>) =
        wanted.into_iter().partition(|name| why_not(name).is_some());
    for name in left_out {
        let mut test = Test::new(&suite, name, Ok(()), 0.0);
        test.status = Status::Skip;
        test.reason = why_not(name).map(str::to_owned);
        report.add(test)?;
    }
    // test_hmm's coherent devices are a case of their own, with messages of their own.
    let (coherent, private): (Vec<&String>, Vec<&String>) =
        wanted.into_iter().partition(|name| name.contains(COHERENT));
    for (group, wanted) in [("private", private), ("coherent", coherent)] {
        if !wanted.is_empty() {
            let suite = format!("{suite}/{group}");
            run_group(context, &suite, &wanted, &known, group, report)?;
        }
    }
    Ok(())
}

/// Boots for the tests of one kind of memory.
fn run_group(
    context: &Context<'_>,
    suite: &str,
    wanted: &[&String],
    known: &Known,
    group: &str,
    report: &mut Report,
) -> Result<()> {
    let kernel = context.kernel;
    let boot = Boot {
        suite: suite.to_owned(),
        modules: driver::modules(kernel, context.driver)?,
        tests: vec![kernel.selftest(PROGRAM)?],
        devices: Vec::new(),
        arguments: Vec::new(),
        counting: false,
        // Each test has a timeout of its own, of at most so much.
        quiet: Some(Duration::from_secs(120)),
        console_ok: known.console(context.driver, group)?,
    };
    let mut command = vec![format!("/tests/{PROGRAM}")];
    for name in wanted {
        command.extend(["-r".to_owned(), (*name).clone()]);
    }
    let bound = Duration::from_secs(match kernel.profile {
        Profile::Plain => 600,
        Profile::Debug => 2400,
    });
    let preparations = preparations(kernel)?;
    let booted = boot.run(context, report, |machine| {
        let mut plan = Plan::new();
        preparations.iter().for_each(|line| plan.prepare(line));
        driver::load(&mut plan, machine, context.driver);
        plan.program(PROGRAM, bound, &command);
        driver::unload(&mut plan, context.driver);
        plan
    })?;
    for test in booted.tests(suite, PROGRAM, Some(wanted.len()), &Filter::All) {
        report.add(known.judge(context.driver, test))?;
    }
    booted.finish(context, suite, report)
}

/// What the tests need in the guest, in lines for its shell.
pub(crate) fn preparations(kernel: &Kernel) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    if kernel.has("HUGETLBFS")? {
        // For the tests with huge pages.
        lines.push("echo 64 > /proc/sys/vm/nr_hugepages".to_owned());
    }
    if kernel.has("TRANSPARENT_HUGEPAGE")? {
        // khugepaged looks at memory every ten seconds. On a slow machine that is in the middle of
        // a test, which then finds that pages it has just migrated were collapsed: it may have its
        // first look now, and then sleeps.
        lines.push(format!(
            "echo 4000000000 > {KHUGEPAGED}/scan_sleep_millisecs"
        ));
    }
    Ok(lines)
}

/// What is known about test_hmm and its tests.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    #[serde(default)]
    console: Vec<Message>,
    #[serde(default)]
    known: Vec<KnownTest>,
    #[serde(default)]
    slow: Vec<SlowTest>,
    #[serde(default)]
    needs: Vec<Need>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    #[serde(rename = "match")]
    pattern: String,
    variant: String,
    #[allow(dead_code)]
    why: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KnownTest {
    test: String,
    /// What it says then: another failure is another matter.
    #[serde(rename = "match")]
    pattern: String,
    why: String,
}

impl KnownTest {
    /// Whether this is the failure that is known.
    fn is(&self, test: &Test) -> bool {
        let said = test.reason.as_deref().unwrap_or_default();
        Regex::new(&self.pattern).is_ok_and(|pattern| pattern.is_match(said))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SlowTest {
    test: String,
    profile: String,
    why: String,
}

/// What tests cannot do without.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Need {
    /// The symbol of the kernel's configuration.
    config: String,
    /// Of the full name of such a test.
    #[serde(rename = "match")]
    pattern: String,
    why: String,
}

/// The tests that a kernel lacks something for, and why.
#[derive(Debug)]
struct Needs<'a>(Vec<(Regex, &'a str)>);

impl<'a> Needs<'a> {
    /// Why a test cannot run, if it cannot.
    fn of(&self, name: &str) -> Option<&'a str> {
        let mut needs = self.0.iter();
        needs
            .find(|(pattern, _)| pattern.is_match(name))
            .map(|(_, why)| *why)
    }
}

impl Known {
    /// The tests that a kernel lacks something for; `has` says whether it has a symbol.
    fn needs(&self, has: impl Fn(&str) -> Result<bool>) -> Result<Needs<'_>> {
        let mut needs = Vec::new();
        for need in &self.needs {
            if !has(&need.config)? {
                let pattern =
                    Regex::new(&need.pattern).with_context(|| format!("{KNOWN}: a bad pattern"))?;
                needs.push((pattern, need.why.as_str()));
            }
        }
        Ok(Needs(needs))
    }

    /// Why a test does not run with this profile, if it does not.
    fn slow(&self, profile: Profile, name: &str) -> Option<&str> {
        self.slow
            .iter()
            .find(|slow| slow.profile == profile_name(profile) && slow.test == name)
            .map(|slow| slow.why.as_str())
    }

    fn load() -> Result<Self> {
        repo::toml(KNOWN)
    }

    /// The messages that upstream's driver causes.
    fn console(&self, driver: Driver, group: &str) -> Result<Vec<Regex>> {
        if driver != Driver::C {
            return Ok(Vec::new());
        }
        self.console
            .iter()
            .filter(|message| message.variant == group)
            .map(|message| {
                Regex::new(&message.pattern).with_context(|| format!("{KNOWN}: a bad pattern"))
            })
            .collect()
    }

    /// A test that cannot pass with upstream's driver is skipped, with the reason; one that does
    /// pass after all is to be taken from the list. The machine has all that the tests need: one
    /// that says that it cannot run has lost it.
    fn judge(&self, driver: Driver, test: Test) -> Test {
        let entry = self
            .known
            .iter()
            .find(|known| driver == Driver::C && known.test == test.name);
        match (entry, test.status) {
            (Some(known), Status::Fail) if known.is(&test) => Test {
                status: Status::Skip,
                reason: Some(known.why.clone()),
                ..test
            },
            (Some(_), Status::Pass) => {
                let reason = format!("it passes, and {KNOWN} says that it cannot");
                Test {
                    status: Status::Fail,
                    reason: Some(reason),
                    ..test
                }
            }
            (_, Status::Skip) => {
                let why = test.reason.as_deref().unwrap_or("it does not say why");
                Test {
                    status: Status::Fail,
                    reason: Some(format!("skipped, and nothing says that it may be: {why}")),
                    ..test
                }
            }
            _ => test,
        }
    }
}

/// All tests of the program by their full names (fixture, variant, test), from its source.
fn names(source: &str) -> Result<Vec<String>> {
    let tests = Regex::new(r"(?m)^TEST_F(?:_TIMEOUT|_SIGNAL)?\(\s*(\w+)\s*,\s*(\w+)")
        .context("a bad pattern")?;
    let variants =
        Regex::new(r"(?m)^FIXTURE_VARIANT_ADD\(\s*(\w+)\s*,\s*(\w+)").context("a bad pattern")?;
    let variants: Vec<(&str, &str)> = variants
        .captures_iter(source)
        .map(|found| found.extract::<2>().1.into())
        .collect();
    let mut names = Vec::new();
    for found in tests.captures_iter(source) {
        let (_, [fixture, test]) = found.extract();
        let of: Vec<&str> = variants
            .iter()
            .filter(|(of, _)| *of == fixture)
            .map(|(_, variant)| *variant)
            .collect();
        if of.is_empty() {
            names.push(format!("{fixture}.{test}"));
        }
        names.extend(
            of.into_iter()
                .map(|variant| format!("{fixture}.{variant}.{test}")),
        );
    }
    if names.is_empty() {
        bail!("no test was found in the source of hmm-tests");
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "\
FIXTURE_VARIANT_ADD(hmm, hmm_device_private)
{
FIXTURE_VARIANT_ADD(hmm, hmm_device_coherent)
{
TEST_F(hmm, open_close)
{
TEST_F_TIMEOUT(hmm, slow, 120)
{
TEST_F(other, plain)
";

    #[test]
    fn names_come_from_the_source() {
        assert_eq!(
            names(SOURCE).unwrap(),
            [
                "hmm.hmm_device_private.open_close",
                "hmm.hmm_device_coherent.open_close",
                "hmm.hmm_device_private.slow",
                "hmm.hmm_device_coherent.slow",
                "other.plain"
            ]
        );
        assert!(names("int main(void)").is_err());
    }

    #[test]
    fn tests_that_a_kernel_lacks_something_for() {
        let known = Known::load().unwrap();
        let all = known.needs(|_| Ok(true)).unwrap();
        assert!(all.of("hmm.hmm_device_private.anon_write_huge").is_none());
        let small = known
            .needs(|symbol| Ok(symbol != "TRANSPARENT_HUGEPAGE"))
            .unwrap();
        for (test, runs) in [
            ("anon_write", true),
            ("anon_write_hugetlbfs", true),
            ("anon_write_huge", false),
            ("migrate_anon_huge_zero_err", false),
            ("migrate_remap_fault", false),
        ] {
            let name = format!("hmm.hmm_device_private.{test}");
            assert_eq!(small.of(&name).is_none(), runs, "{test}");
        }
        let none = known.needs(|symbol| Ok(symbol != "HUGETLBFS")).unwrap();
        assert!(none.of("hmm.hmm_device_coherent.compound").is_some());
        assert!(none.of("hmm.hmm_device_private.anon_write_huge").is_none());
    }

    #[test]
    fn what_is_known_is_skipped_and_must_stay_true() {
        let known = Known::load().unwrap();
        assert_eq!(known.console(Driver::C, "coherent").unwrap().len(), 1);
        assert!(known.console(Driver::C, "private").unwrap().is_empty());
        assert!(known.console(Driver::Rust, "coherent").unwrap().is_empty());
        let name = &known.known[0].test;
        let judge = |driver, name: &str, outcome| {
            known
                .judge(driver, Test::new("hmm", name, outcome, 0.0))
                .status
        };
        let failed = || Err("x".to_owned());
        let no_memory = || Err("hmm-tests.c:1:f:Expected ret (-12) == 0 (0)\nf: ended".to_owned());
        assert_eq!(judge(Driver::C, name, no_memory()), Status::Skip);
        assert_eq!(judge(Driver::C, name, failed()), Status::Fail);
        assert_eq!(judge(Driver::C, name, Ok(())), Status::Fail);
        assert_eq!(judge(Driver::Rust, name, failed()), Status::Fail);
        let mut skipped = Test::new("hmm", "hmm.hmm_device_private.migrate", Ok(()), 0.0);
        skipped.status = Status::Skip;
        assert_eq!(known.judge(Driver::C, skipped).status, Status::Fail);
        assert_eq!(
            judge(Driver::C, "hmm.hmm_device_private.migrate", failed()),
            Status::Fail
        );
    }
}
