// SPDX-License-Identifier: GPL-2.0

//! `--suite mm`: upstream's tests of memory management, compared test by test with the stock
//! kernel's results.
//!
//! Which programs these are, and what each needs, is in `xtask/suites/mm.toml`.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{anyhow, bail, Context as _, Result};
use regex::Regex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::boot::{Boot, Booted};
use super::{Context, Filter, NoMatch};
use crate::arch::Arch;
use crate::cache;
use crate::cli::{
    Driver, KernelChoice, KernelOptions, LinuxChoice, MachineOptions, Profile, Purpose,
};
use crate::guest::Plan;
use crate::kernel::Kernel;
use crate::ktap::Status;
use crate::repo;
use crate::report::{Report, Test};
use crate::root::short;
use crate::version::Series;
use crate::vm::Ending;

/// The list.
const LIST: &str = "xtask/suites/mm.toml";
/// The stock kernel's results, in its tree.
const BASELINE: &str = ".dpmem-mm-results.json";
/// How much longer everything may take with all checks on.
const DEBUG_FACTOR: u64 = 4;

/// What the list says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    /// What is cut out of descriptions, because it is another one each time.
    #[serde(default)]
    normalize: Vec<String>,
    #[serde(default)]
    vm: Vm,
    /// What the kernel must have.
    #[serde(default)]
    config: BTreeMap<String, String>,
    /// What it must have instead on one architecture.
    #[serde(default)]
    arch_config: BTreeMap<String, BTreeMap<String, String>>,
    test: Vec<Entry>,
    #[serde(default)]
    known: Vec<Known>,
}

/// The machine that the programs need.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Vm {
    cpus: Option<u32>,
    mem: Option<String>,
    #[serde(default)]
    append: String,
    #[serde(default)]
    setup: Vec<String>,
    x86_64: Option<OneArch>,
    arm64: Option<OneArch>,
}

/// What differs between architectures.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OneArch {
    cpu: Option<String>,
}

/// A program to run.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    program: String,
    #[serde(default)]
    args: Vec<String>,
    timeout_s: u64,
    #[serde(default)]
    setup: Vec<String>,
    #[serde(default)]
    teardown: Vec<String>,
    cwd: Option<String>,
    #[serde(default)]
    output: Format,
    since: Option<String>,
    until: Option<String>,
    #[serde(default)]
    flaky: Vec<String>,
    #[serde(default)]
    console_ok: Vec<String>,
}

/// How a program says what it found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    /// It prints TAP.
    #[default]
    Tap,
    /// Only its status counts.
    Exit,
}

/// What is known not to pass on the stock kernel.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    test: String,
    #[serde(rename = "match")]
    pattern: String,
    why: String,
}

/// The stock kernel's results.
#[derive(Debug, Serialize, Deserialize)]
struct Baseline {
    /// What they depend on.
    key: String,
    /// The tests, by program.
    programs: BTreeMap<String, Vec<Test>>,
}

impl List {
    fn load() -> Result<(Self, String)> {
        let path = repo::top().join(LIST);
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let list = toml::from_str(&text).with_context(|| format!("cannot understand {LIST}"))?;
        Ok((list, text))
    }

    /// The entries for this kernel.
    fn of(&self, series: Series) -> Vec<&Entry> {
        let name = series.name();
        self.test
            .iter()
            .filter(|entry| entry.since.as_deref().is_none_or(|since| since <= name))
            .filter(|entry| entry.until.as_deref().is_none_or(|until| until >= name))
            .collect()
    }

    /// The machine, as far as the user did not say how it must be.
    fn machine(&self, arch: Arch, user: &MachineOptions) -> Result<MachineOptions> {
        let one = match arch {
            Arch::X86_64 => &self.vm.x86_64,
            Arch::Arm64 => &self.vm.arm64,
        };
        let mem = self.vm.mem.as_deref().map(str::parse).transpose();
        Ok(MachineOptions {
            cpu: user.cpu.clone().or_else(|| one.as_ref()?.cpu.clone()),
            append: Some(
                [
                    self.vm.append.as_str(),
                    user.append.as_deref().unwrap_or_default(),
                ]
                .join(" "),
            ),
            mem: user
                .mem
                .or(mem.map_err(|error: String| anyhow!("{LIST}: {error}"))?),
            cpus: self.vm.cpus,
            ..user.clone()
        })
    }

    /// The kernel messages that programs cause on purpose.
    fn console_ok(&self) -> Result<Vec<Regex>> {
        self.test
            .iter()
            .flat_map(|entry| &entry.console_ok)
            .map(|pattern| Regex::new(pattern).with_context(|| format!("{LIST}: a bad pattern")))
            .collect()
    }

    /// A description without what is another one each time.
    fn normal(&self, name: &str) -> String {
        self.normalize
            .iter()
            .fold(name.to_owned(), |name, pattern| match Regex::new(pattern) {
                Ok(pattern) => pattern.replace_all(&name, "").into_owned(),
                Err(_) => name,
            })
    }

    /// What the kernel must have on `arch`.
    fn config(&self, arch: Arch) -> BTreeMap<&str, &str> {
        let own = self.arch_config.get(arch.name());
        self.config
            .iter()
            .chain(own.into_iter().flatten())
            .map(|(symbol, value)| (symbol.as_str(), value.as_str()))
            .collect()
    }

    /// Fails if the kernel lacks something that the programs need.
    fn check(&self, kernel: &Kernel) -> Result<()> {
        let path = kernel.tree.join(".config");
        let config =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let missing: Vec<String> = self
            .config(kernel.arch)
            .into_iter()
            .filter(|(_, value)| *value != "n")
            .map(|(symbol, value)| format!("{symbol}={value}"))
            .filter(|line| !config.lines().any(|of| of == line))
            .collect();
        if !missing.is_empty() {
            bail!(
                "{LIST} needs what the kernel does not have: {}",
                missing.join(", ")
            );
        }
        Ok(())
    }

    /// Why a test is known not to pass on the stock kernel.
    fn why(&self, entry: &str, test: &str) -> Option<&str> {
        self.known
            .iter()
            .filter(|known| known.test == entry)
            .find(|known| Regex::new(&known.pattern).is_ok_and(|pattern| pattern.is_match(test)))
            .map(|known| known.why.as_str())
    }
}

/// Runs the suite.
pub(crate) fn run(context: &Context<'_>, report: &mut Report) -> Result<()> {
    if context.options.purpose == Purpose::Mm {
        return run_on(context, report);
    }
    // Before a kernel is built for nothing.
    let (list, _) = List::load()?;
    let takes = |series: Series| {
        let entries = list.of(series);
        entries
            .iter()
            .any(|entry| context.filter.takes(&entry.name))
    };
    if ![Series::V7_3, Series::V7_2].into_iter().any(takes) {
        bail!(NoMatch(format!("entry of {LIST}")));
    }
    let options = KernelOptions {
        purpose: Purpose::Mm,
        ..context.options.clone()
    };
    let kernel = context.builder.build(&options)?;
    let context = Context {
        options: &options,
        kernel: &kernel,
        ..*context
    };
    run_on(&context, report)
}

/// What the kernel's configuration needs for the programs.
pub(crate) fn config(arch: Arch) -> Result<String> {
    let (list, _) = List::load()?;
    let config = list.config(arch).into_iter();
    Ok(config
        .map(|(symbol, value)| format!("{symbol}={value}\n"))
        .collect())
}

fn run_on(context: &Context<'_>, report: &mut Report) -> Result<()> {
    let suite = context.suite("mm");
    let (list, text) = List::load()?;
    let series = Series::of_tree(&context.kernel.tree)?;
    let mut entries = list.of(series);
    entries.retain(|entry| context.filter.takes(&entry.name));
    if entries.is_empty() {
        bail!(NoMatch(format!("entry of {LIST}")));
    }
    let stock = context.options.kernel == KernelChoice::Stock;
    let (booted, results) = boot(context, &suite, &list, &entries, context.kernel, report)?;
    let baseline = if stock {
        if context.filter.is_all() {
            save(context, &text, &booted, &results)?;
        }
        None
    } else {
        Some(baseline(context, &suite, &list, &text, series, report)?)
    };
    for entry in &entries {
        let empty = Vec::new();
        for test in results.get(&entry.name).unwrap_or(&empty) {
            let judged = match &baseline {
                None => on_stock(&list, entry, test),
                Some(baseline) => compared(
                    &list,
                    entry,
                    test,
                    baseline.get(&entry.name).unwrap_or(&empty),
                ),
            };
            report.add(judged)?;
        }
        for missing in baseline
            .iter()
            .flat_map(|baseline| lost(entry, baseline, &results))
        {
            report.add(missing)?;
        }
    }
    booted.finish(context, &suite, report)
}

/// Boots a kernel and runs the programs.
fn boot(
    context: &Context<'_>,
    suite: &str,
    list: &List,
    entries: &[&Entry],
    kernel: &Kernel,
    report: &mut Report,
) -> Result<(Booted, BTreeMap<String, Vec<Test>>)> {
    list.check(kernel)?;
    let mut programs: Vec<&str> = entries.iter().map(|entry| entry.program.as_str()).collect();
    programs.sort_unstable();
    programs.dedup();
    context.builder.selftests(kernel, &programs)?;
    let boot = Boot {
        suite: suite.to_owned(),
        modules: Vec::new(),
        tests: programs
            .iter()
            .map(|name| kernel.selftest(name))
            .collect::<Result<Vec<PathBuf>>>()?,
        devices: Vec::new(),
        arguments: Vec::new(),
        counting: false,
        quiet: None,
        console_ok: list.console_ok()?,
    };
    let machine = list.machine(kernel.arch, context.machine)?;
    let context = Context {
        machine: &machine,
        ..*context
    };
    let factor = if kernel.profile == Profile::Debug {
        DEBUG_FACTOR
    } else {
        1
    };
    let booted = boot.run_on(&context, kernel, report, |_| {
        let mut plan = Plan::new();
        list.vm
            .setup
            .iter()
            .for_each(|command| plan.prepare(command));
        for entry in entries {
            entry.setup.iter().for_each(|command| plan.prepare(command));
            let mut command = vec![format!("/tests/{}", entry.program)];
            command.extend(entry.args.iter().cloned());
            let folder = entry.cwd.as_deref().unwrap_or("/tests");
            plan.program_in(
                folder,
                &entry.name,
                Duration::from_secs(entry.timeout_s * factor),
                &command,
            );
            entry
                .teardown
                .iter()
                .for_each(|command| plan.prepare(command));
        }
        plan
    })?;
    let results = entries
        .iter()
        .map(|entry| {
            let tests = match entry.output {
                Format::Tap => booted.tests(suite, &entry.name, None, &Filter::All),
                Format::Exit => vec![booted.verdict(suite, &entry.name)],
            };
            let prefix = |test: Test| match test.name == entry.name {
                true => test,
                false => Test {
                    name: format!("{}: {}", entry.name, list.normal(&test.name)),
                    ..test
                },
            };
            (entry.name.clone(), tests.into_iter().map(prefix).collect())
        })
        .collect();
    Ok((booted, results))
}

fn key(kernel: &Kernel, text: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(format!("{}\n{}\n{text}", kernel.name, kernel.release));
    short(hash)
}

/// Whether results are kept: those of a usual machine, and of a kernel that is what its name says.
/// A tree of somebody's own may change under its name.
fn is_kept(context: &Context<'_>) -> bool {
    context.machine.is_usual() && matches!(context.options.linux, LinuxChoice::Package(_))
}

/// Keeps the results of a stock kernel, if they are to be kept and all of the programs have run.
fn save(
    context: &Context<'_>,
    text: &str,
    booted: &Booted,
    results: &BTreeMap<String, Vec<Test>>,
) -> Result<()> {
    if !is_kept(context) || booted.outcome.ending != Ending::Finished {
        return Ok(());
    }
    let kernel = context.kernel;
    let baseline = Baseline {
        key: key(kernel, text),
        programs: results.clone(),
    };
    let json = serde_json::to_vec_pretty(&baseline).context("cannot write JSON")?;
    cache::write_atomically(&kernel.tree.join(BASELINE), &json)
}

/// The stock kernel's results: from an earlier run, or from one that is made now.
fn baseline(
    context: &Context<'_>,
    suite: &str,
    list: &List,
    text: &str,
    series: Series,
    report: &mut Report,
) -> Result<BTreeMap<String, Vec<Test>>> {
    let options = KernelOptions {
        kernel: KernelChoice::Stock,
        driver: Some(Driver::C),
        ..context.options.clone()
    };
    let stock = context.builder.build(&options)?;
    let known = is_kept(context)
        .then(|| fs::read(stock.tree.join(BASELINE)).ok())
        .flatten()
        .and_then(|json| serde_json::from_slice::<Baseline>(&json).ok())
        .filter(|baseline| baseline.key == key(&stock, text));
    if let Some(known) = known {
        return Ok(known.programs);
    }
    report.comment("the stock kernel's results are needed first")?;
    let context = Context {
        options: &options,
        kernel: &stock,
        ..*context
    };
    let suite = format!("{suite}-stock");
    let mut entries = list.of(series);
    if !is_kept(&context) {
        entries.retain(|entry| context.filter.takes(&entry.name));
    }
    let (booted, results) = boot(&context, &suite, list, &entries, &stock, report)?;
    // What is wrong on that kernel is to be known as well, and not only what is different on the
    // other.
    for entry in entries {
        for test in results.get(&entry.name).into_iter().flatten() {
            report.add(on_stock(list, entry, test))?;
        }
    }
    booted.finish(&context, &suite, report)?;
    save(&context, text, &booted, &results)?;
    Ok(results)
}

fn skipped(test: &Test, reason: String) -> Test {
    Test {
        status: Status::Skip,
        reason: Some(reason),
        ..test.clone()
    }
}

/// Some programs use a description several times.
fn same(one: &Test, other: &Test) -> bool {
    one.name == other.name && one.number == other.number
}

fn is_flaky(entry: &Entry, test: &str) -> bool {
    entry
        .flaky
        .iter()
        .any(|pattern| Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(test)))
}

/// Why the failure of a test of this name says nothing that is not written down.
const FLAKY: &str = "comes out differently from run to run, on stock too";

/// On the stock kernel itself, what is known and written down is a skip with that reason.
fn on_stock(list: &List, entry: &Entry, test: &Test) -> Test {
    match (test.status, list.why(&entry.name, &test.name)) {
        (Status::Fail, Some(why)) => skipped(test, format!("fails on stock: {why}")),
        (Status::Fail, None) if is_flaky(entry, &test.name) => skipped(test, FLAKY.to_owned()),
        _ => test.clone(),
    }
}

/// On another kernel, what fails on stock as well says nothing about that kernel.
fn compared(list: &List, entry: &Entry, test: &Test, stock: &[Test]) -> Test {
    let there = stock.iter().find(|of| same(of, test)).map(|of| of.status);
    match (test.status, there) {
        (Status::Fail, _) if is_flaky(entry, &test.name) => skipped(test, FLAKY.to_owned()),
        (Status::Fail, Some(Status::Fail)) => match list.why(&entry.name, &test.name) {
            Some(why) => skipped(test, format!("fails on stock too: {why}")),
            None => Test {
                reason: Some(format!("fails on stock too, and {LIST} does not say why")),
                ..test.clone()
            },
        },
        (Status::Skip, Some(Status::Pass)) => {
            let reason = format!(
                "skipped here and not on stock: {}",
                test.reason.as_deref().unwrap_or("?")
            );
            Test {
                status: Status::Fail,
                reason: Some(reason),
                ..test.clone()
            }
        }
        _ => test.clone(),
    }
}

/// What passed on stock and did not even report here.
fn lost(
    entry: &Entry,
    stock: &BTreeMap<String, Vec<Test>>,
    here: &BTreeMap<String, Vec<Test>>,
) -> Vec<Test> {
    let empty = Vec::new();
    let here = here.get(&entry.name).unwrap_or(&empty);
    stock
        .get(&entry.name)
        .unwrap_or(&empty)
        .iter()
        .filter(|test| test.status == Status::Pass && !is_flaky(entry, &test.name))
        .filter(|test| !here.iter().any(|of| same(of, test)))
        .map(|test| Test {
            status: Status::Fail,
            reason: Some("passed on stock, and did not report here".to_owned()),
            ..test.clone()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> List {
        toml::from_str(
            "[[test]]\nname = \"cow\"\nprogram = \"cow\"\ntimeout_s = 300\nflaky = [\"sometimes\"]\n\
             [[test]]\nname = \"new\"\nprogram = \"new\"\ntimeout_s = 3\nsince = \"7.3\"\noutput = \"exit\"\n\
             [[known]]\ntest = \"cow\"\nmatch = \"disk\"\nwhy = \"no disk\"\n",
        )
        .unwrap()
    }

    fn test(name: &str, status: Status) -> Test {
        Test {
            suite: "mm".to_owned(),
            name: name.to_owned(),
            number: None,
            status,
            reason: None,
            seconds: 0.0,
        }
    }

    #[test]
    fn the_repositorys_own_list_is_understood() {
        let (list, _) = List::load().unwrap();
        list.console_ok().unwrap();
        list.machine(Arch::X86_64, &MachineOptions::default())
            .unwrap();
        let patterns = list
            .normalize
            .iter()
            .chain(list.test.iter().flat_map(|entry| &entry.flaky));
        for pattern in patterns.chain(list.known.iter().map(|known| &known.pattern)) {
            Regex::new(pattern).unwrap();
        }
        for known in &list.known {
            assert!(
                list.test.iter().any(|entry| entry.name == known.test),
                "{}",
                known.test
            );
        }
    }

    #[test]
    fn the_list_knows_versions() {
        let list = list();
        assert_eq!(list.of(Series::V7_2).len(), 1);
        assert_eq!(list.of(Series::V7_3).len(), 2);
    }

    #[test]
    fn results_are_compared_with_stock() {
        let list = list();
        let entry = &list.test[0];
        let stock = [
            test("a", Status::Pass),
            test("disk", Status::Fail),
            test("sometimes", Status::Pass),
            test("why", Status::Fail),
        ];
        let judge = |name: &str, status| compared(&list, entry, &test(name, status), &stock);
        assert_eq!(judge("a", Status::Fail).status, Status::Fail);
        assert_eq!(judge("a", Status::Skip).status, Status::Fail);
        assert_eq!(judge("a", Status::Pass).status, Status::Pass);
        assert_eq!(
            judge("disk", Status::Fail).reason.as_deref(),
            Some("fails on stock too: no disk")
        );
        assert_eq!(judge("disk", Status::Fail).status, Status::Skip);
        assert_eq!(judge("disk", Status::Pass).status, Status::Pass);
        assert_eq!(judge("sometimes", Status::Fail).status, Status::Skip);
        assert_eq!(judge("unheard of", Status::Fail).status, Status::Fail);
        // Nobody knows, and so it is not excused.
        assert_eq!(judge("why", Status::Fail).status, Status::Fail);
    }

    #[test]
    fn on_stock_only_what_is_known_is_excused() {
        let list = list();
        assert_eq!(
            on_stock(&list, &list.test[0], &test("disk", Status::Fail)).status,
            Status::Skip
        );
        assert_eq!(
            on_stock(&list, &list.test[0], &test("a", Status::Fail)).status,
            Status::Fail
        );
        assert_eq!(
            on_stock(&list, &list.test[0], &test("sometimes", Status::Fail)).status,
            Status::Skip
        );
        assert_eq!(
            on_stock(&list, &list.test[1], &test("disk", Status::Fail)).status,
            Status::Fail
        );
    }

    #[test]
    fn what_does_not_report_is_lost() {
        let list = list();
        let stock = BTreeMap::from([(
            "cow".to_owned(),
            vec![test("a", Status::Pass), test("b", Status::Skip)],
        )]);
        let found = lost(&list.test[0], &stock, &BTreeMap::new());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].status, Status::Fail);
    }
}
