// SPDX-License-Identifier: GPL-2.0

//! `cargo xtask bench register`: the time and the memory that it takes to register device memory,
//! against its size. The series has to keep within limits, whatever the size is.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{bail, ensure, Context as _, Result};
use regex::Regex;
use serde::Serialize;

use super::{boot_options, chart, end, median};
use crate::cache;
use crate::cli::{Driver, KernelChoice, KernelOptions, MachineOptions, MemorySize};
use crate::cli::{Profile, RegisterOptions};
use crate::guest::Plan;
use crate::lab;
use crate::repo;
use crate::report::{Report, Test};
use crate::suites::Boot;

/// The module.
const MODULE: &str = "dpmem_bench_register";
/// What is registered, in GiB.
const SIZES: &[u64] = &[1, 4, 16, 32, 48, 64, 128, 256, 1024, 16384];
/// What is registered with a page more, and twice: what a stock kernel takes in no time, and what
/// it refuses in no time.
const SOME_SIZES: &[u64] = &[1, 1024, 16384];
/// How the module is loaded.
const LOADS: [Load; 4] = [
    Load::new(SIZES, false, 1),
    Load::new(SOME_SIZES, true, 1),
    Load::new(SOME_SIZES, false, 2),
    Load::new(SOME_SIZES, true, 2),
];
/// How often on a stock kernel, which takes seconds for the largest of them.
const STOCK_RUNS: usize = 5;
/// How often with the series: so often that the median is none of those in which the host did
/// something else.
const RUNS: usize = 25;
/// How long all of that may take.
const BOUND: Duration = Duration::from_secs(600);
/// Room for the struct pages of 256 GiB, and then some.
const MEMORY: MemorySize = MemorySize(6 * 1024);
/// How long it may take to register with the series, and to unregister.
const MOST_NS: u64 = 1_000_000;
/// How much memory may be in use in between.
const MOST_KIB: i64 = 1024;

/// What the module is asked for.
struct Load {
    gib: &'static [u64],
    odd: bool,
    maps: u32,
}

impl Load {
    const fn new(gib: &'static [u64], odd: bool, maps: u32) -> Self {
        Self { gib, odd, maps }
    }

    /// The module's parameters, for so many runs.
    fn parameters(&self, runs: usize) -> [String; 4] {
        let sizes: Vec<String> = self.gib.iter().map(u64::to_string).collect();
        [
            format!("gib={}", sizes.join(",")),
            format!("odd={}", u8::from(self.odd)),
            format!("maps={}", self.maps),
            format!("runs={runs}"),
        ]
    }

    /// What it registers then.
    fn all(&self) -> impl Iterator<Item = What> + '_ {
        self.gib.iter().flat_map(|gib| {
            (1..=self.maps).map(|map| What {
                gib: *gib,
                odd: self.odd,
                maps: self.maps,
                map,
            })
        })
    }
}

/// What is registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct What {
    gib: u64,
    /// And one page more.
    odd: bool,
    /// How many of this size there are at the same time.
    maps: u32,
    /// Which one of them it is.
    map: u32,
}

impl What {
    /// Just so many GiB, and nothing beside it.
    fn is_simple(&self) -> bool {
        !self.odd && self.maps == 1
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} GiB", self.gib)?;
        if self.odd {
            write!(f, " and a page")?;
        }
        if self.maps > 1 {
            write!(f, ", {} of {}", self.map, self.maps)?;
        }
        Ok(())
    }
}

/// What one registration took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Sample {
    register_ns: u64,
    unregister_ns: u64,
    kib: i64,
}

/// What the module said of one size, in all runs.
#[derive(Clone, Debug, Default)]
struct Said {
    refused: Vec<i64>,
    register_ns: Vec<u64>,
    unregister_ns: Vec<u64>,
    kib: Vec<i64>,
}

/// The results for one size on one kernel.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    /// The medians of all runs.
    Took(Sample),
    /// The error number, of one run at least.
    Refused(i64),
}

/// The results of one kernel.
type Curve = BTreeMap<What, Outcome>;

/// A line of the results.
#[derive(Debug, Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    what: &'a What,
    #[serde(flatten)]
    outcome: &'a Outcome,
}

/// The kernels to measure on, by their names. With all checks, a stock one would take minutes for
/// its struct pages, and there is no limit for it.
fn kernels(profile: Profile) -> &'static [(&'static str, KernelChoice)] {
    match profile {
        Profile::Plain => &[
            ("stock", KernelChoice::Stock),
            ("dpmem", KernelChoice::Dpmem),
        ],
        Profile::Debug => &[("dpmem", KernelChoice::Dpmem)],
    }
}

/// Measures, draws, and judges.
pub(crate) fn run(options: &RegisterOptions) -> Result<bool> {
    let mut report = Report::quiet("bench")?;
    let mut curves: Vec<(&str, Curve)> = Vec::new();
    for (name, choice) in kernels(options.profile) {
        let curve =
            measure(options, name, *choice, &mut report).map_err(|error| report.ended_by(error))?;
        if *choice == KernelChoice::Dpmem {
            for (what, outcome) in &curve {
                let verdict = judge(outcome);
                report.add(Test::new(&suite(name), &what.to_string(), verdict, 0.0))?;
            }
        }
        curves.push((name, curve));
    }
    let folder = repo::lab_output().join("bench");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let (file, checks, runs) = match options.profile {
        Profile::Plain => {
            let runs = format!("{STOCK_RUNS} runs on stock and {RUNS} with the series, each");
            ("register", "", runs)
        }
        Profile::Debug => {
            let checks = " with all of the kernel's checks,";
            ("register-debug", checks, format!("{RUNS} runs"))
        }
    };
    let rows: BTreeMap<&str, Vec<Row<'_>>> = curves
        .iter()
        .map(|(name, curve)| {
            let row = |(what, outcome)| Row { what, outcome };
            (*name, curve.iter().map(row).collect())
        })
        .collect();
    let json = serde_json::to_vec_pretty(&rows).context("cannot write JSON")?;
    cache::write_atomically(&folder.join(format!("{file}.json")), &json)?;
    let picture = folder.join(format!("{file}.svg"));
    chart::draw(&picture, &lines(&curves))?;

    print!("{}", table(&curves));
    let title = report.kernels();
    let good = end(report)?;
    println!(
        "\nLinux {title}{checks} in QEMU, medians of {runs} in one boot; the curves: {}",
        picture.display()
    );
    Ok(good)
}

/// What a boot is called in the report.
fn suite(name: &str) -> String {
    format!("register-{name}")
}

/// Whether the series keeps within the limits.
fn judge(outcome: &Outcome) -> Result<(), String> {
    let sample = match outcome {
        Outcome::Took(sample) => sample,
        Outcome::Refused(error) => return Err(format!("refused ({error})")),
    };
    let mut over = Vec::new();
    let times = [
        ("register", sample.register_ns),
        ("unregister", sample.unregister_ns),
    ];
    for (what, ns) in times.into_iter().filter(|(_, ns)| *ns > MOST_NS) {
        let (ms, most) = (milliseconds(ns), milliseconds(MOST_NS));
        over.push(format!(
            "{ms:.3} ms to {what}, where {most} ms is the limit"
        ));
    }
    if sample.kib > MOST_KIB {
        over.push(format!(
            "{} KiB in use, where {MOST_KIB} KiB is the limit",
            sample.kib
        ));
    }
    match over.is_empty() {
        true => Ok(()),
        false => Err(over.join("; ")),
    }
}

fn milliseconds(ns: u64) -> f64 {
    ns as f64 / 1e6
}

/// Boots one kernel, and measures there.
fn measure(
    options: &RegisterOptions,
    name: &str,
    choice: KernelChoice,
    report: &mut Report,
) -> Result<Curve> {
    let kernel = KernelOptions {
        profile: options.profile,
        ..boot_options(&options.kernel, choice, Driver::C)
    };
    let machine = &options.kernel.machine;
    let machine = MachineOptions {
        mem: machine.mem.or(Some(MEMORY)),
        ..machine.clone()
    };
    let (runs, console_ok) = match choice {
        KernelChoice::Stock => (STOCK_RUNS, vec![refusal()?]),
        KernelChoice::Dpmem => (RUNS, Vec::new()),
    };
    let mut curve = Curve::new();
    lab::with_kernel(&kernel, &machine, "", None, report, |context, report| {
        let source = repo::top().join("linux/bench");
        let module = context.kernel.external(context.builder, &source, MODULE)?;
        let boot = Boot {
            suite: suite(name),
            modules: vec![module],
            tests: Vec::new(),
            devices: Vec::new(),
            arguments: Vec::new(),
            counting: false,
            quiet: None,
            console_ok,
        };
        let booted = boot.run(context, report, |_| {
            let mut plan = Plan::new();
            plan.allow(BOUND);
            for load in &LOADS {
                plan.load(MODULE, &load.parameters(runs));
                plan.unload(MODULE);
            }
            plan
        })?;
        let console = booted.outcome.console.iter();
        let said = parse(console.map(|line| line.text.as_str()), runs);
        booted.finish(context, &boot.suite, report)?;
        let logs = || format!("the {name} kernel; see {}", report.shown_folder());
        curve = said.with_context(logs)?;
        Ok(())
    })?;
    for what in LOADS.iter().flat_map(Load::all) {
        if !curve.contains_key(&what) {
            bail!(
                "the {name} kernel did not get as far as {what}; see {}",
                report.shown_folder()
            );
        }
    }
    Ok(curve)
}

/// A stock kernel that cannot have as many struct pages says so at length, and goes on.
fn refusal() -> Result<Regex> {
    Regex::new(r"(?s)page allocation failure|vmemmap").context("a bad pattern")
}

/// Reads what the module said in so many runs.
fn parse<'a>(console: impl Iterator<Item = &'a str>, runs: usize) -> Result<Curve> {
    static LINE: OnceLock<Option<Regex>> = OnceLock::new();
    let line = LINE
        .get_or_init(|| {
            let line = r"dpmem_bench_register: gib=(\d+) odd=([01]) map=(\d+)/(\d+) (.*)$";
            Regex::new(line).ok()
        })
        .as_ref()
        .context("a bad pattern")?;
    let mut all: BTreeMap<What, Said> = BTreeMap::new();
    for text in console {
        let Some(found) = line.captures(text) else {
            continue;
        };
        let what = What {
            gib: found[1].parse().context("not a size")?,
            odd: &found[2] == "1",
            map: found[3].parse().context("not a number")?,
            maps: found[4].parse().context("not a number")?,
        };
        let said = all.entry(what).or_default();
        for pair in found[5].split_whitespace() {
            let (key, value) = pair.split_once('=').context("not a result")?;
            let value: i64 = value
                .parse()
                .with_context(|| format!("{key} is no number"))?;
            match key {
                "err" => said.refused.push(value),
                "register_ns" => said.register_ns.push(u64::try_from(value)?),
                "unregister_ns" => said.unregister_ns.push(u64::try_from(value)?),
                "kib" => said.kib.push(value),
                _ => bail!("the module says {key}, which is not known"),
            }
        }
    }
    all.into_iter()
        .map(|(what, said)| {
            let outcome = said.outcome(runs);
            Ok((what, outcome.with_context(|| what.to_string())?))
        })
        .collect()
}

impl Said {
    /// What comes of so many runs.
    fn outcome(self, runs: usize) -> Result<Outcome> {
        let took = self.register_ns.len();
        ensure!(
            self.refused.len() + took == runs
                && self.kib.len() == took
                && self.unregister_ns.len() == took,
            "not all of {runs} runs got to their end"
        );
        if let Some(error) = self.refused.first() {
            return Ok(Outcome::Refused(*error));
        }
        Ok(Outcome::Took(Sample {
            register_ns: median(self.register_ns.into_iter()).context("no sample")?,
            unregister_ns: median(self.unregister_ns.into_iter()).context("no sample")?,
            kib: median(self.kib.into_iter()).context("no sample")?,
        }))
    }
}

/// A table for people, with a column for each kernel.
fn table(curves: &[(&str, Curve)]) -> String {
    let mut lines = vec![format!("{:<28}", "")];
    for what in LOADS.iter().flat_map(Load::all) {
        lines.push(format!("{:<28}", what.to_string()));
    }
    for (name, curve) in curves {
        let outcomes = LOADS
            .iter()
            .flat_map(Load::all)
            .map(|what| curve.get(&what));
        let cells = outcomes.map(|outcome| match outcome {
            Some(Outcome::Took(sample)) => format!(
                "{:.3} ms, {} KiB, {:.3} ms",
                milliseconds(sample.register_ns),
                sample.kib,
                milliseconds(sample.unregister_ns)
            ),
            Some(Outcome::Refused(error)) => format!("refused ({error})"),
            None => "-".to_owned(),
        });
        for (line, cell) in lines
            .iter_mut()
            .zip(std::iter::once((*name).to_owned()).chain(cells))
        {
            line.push_str(&format!("  {cell:>36}"));
        }
    }
    let most = milliseconds(MOST_NS);
    lines.push(format!(
        "(to register, memory in use, to unregister; with the series at most {most} ms, \
         {MOST_KIB} KiB and {most} ms)"
    ));
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// The curves to draw.
fn lines(curves: &[(&str, Curve)]) -> Vec<chart::Line> {
    let line = |(name, curve): &(&str, Curve)| {
        let simple = || curve.iter().filter(|(what, _)| what.is_simple());
        chart::Line {
            name: (*name).to_owned(),
            points: simple()
                .filter_map(|(what, outcome)| match outcome {
                    Outcome::Took(sample) => Some(chart::Point {
                        gib: what.gib as f64,
                        milliseconds: milliseconds(sample.register_ns),
                        mib: sample.kib.max(1) as f64 / 1024.0,
                    }),
                    Outcome::Refused(_) => None,
                })
                .collect(),
            refused_from: simple()
                .find(|(_, outcome)| matches!(outcome, Outcome::Refused(_)))
                .map(|(what, _)| what.gib as f64),
        }
    };
    curves.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: What = What {
        gib: 1,
        odd: false,
        maps: 1,
        map: 1,
    };

    #[test]
    fn what_the_module_says_is_read() {
        let console = "\
[    1.0] dpmem_bench_register: gib=1 odd=0 map=1/1 register_ns=300 kib=16
[    1.0] dpmem_bench_register: gib=1 odd=0 map=1/1 unregister_ns=30
[    1.0] something else
[    1.1] dpmem_bench_register: gib=1 odd=0 map=1/1 register_ns=100 kib=-4
[    1.1] dpmem_bench_register: gib=1 odd=0 map=1/1 unregister_ns=10
[    1.2] dpmem_bench_register: gib=1 odd=0 map=1/1 register_ns=200 kib=8
[    1.2] dpmem_bench_register: gib=1 odd=0 map=1/1 unregister_ns=20
[    1.3] dpmem_bench_register: gib=64 odd=1 map=2/2 err=-34
[    1.3] dpmem_bench_register: gib=64 odd=1 map=2/2 err=-34
[    1.3] dpmem_bench_register: gib=64 odd=1 map=2/2 register_ns=1 kib=1
[    1.3] dpmem_bench_register: gib=64 odd=1 map=2/2 unregister_ns=1";
        let curve = parse(console.lines(), 3).unwrap();
        assert_eq!(
            curve.get(&ONE),
            Some(&Outcome::Took(Sample {
                register_ns: 200,
                unregister_ns: 20,
                kib: 8
            }))
        );
        let second = What {
            gib: 64,
            odd: true,
            maps: 2,
            map: 2,
        };
        assert_eq!(curve.get(&second), Some(&Outcome::Refused(-34)));
        assert_eq!(second.to_string(), "64 GiB and a page, 2 of 2");
    }

    #[test]
    fn a_word_that_is_not_known_is_an_error() {
        let of = "dpmem_bench_register: gib=1 odd=0 map=1/1";
        assert!(parse(format!("{of} speed=9").lines(), 1).is_err());
        assert!(parse(format!("{of} kib=9").lines(), 1).is_err());
    }

    #[test]
    fn a_run_that_did_not_end_is_an_error() {
        let begun = "dpmem_bench_register: gib=1 odd=0 map=1/1 register_ns=300 kib=16";
        let ended = "dpmem_bench_register: gib=1 odd=0 map=1/1 unregister_ns=30";
        assert!(parse([begun].into_iter(), 1).is_err());
        assert!(parse([begun, ended].into_iter(), 1).is_ok());
        assert!(parse([begun, ended].into_iter(), 2).is_err());
    }

    #[test]
    fn at_the_limit_and_above_it() {
        let most = Sample {
            register_ns: MOST_NS,
            unregister_ns: MOST_NS,
            kib: MOST_KIB,
        };
        assert_eq!(judge(&Outcome::Took(most)), Ok(()));
        let slow = Sample {
            unregister_ns: 2 * MOST_NS,
            ..most
        };
        assert_eq!(
            judge(&Outcome::Took(slow)).unwrap_err(),
            "2.000 ms to unregister, where 1 ms is the limit"
        );
        let large = Sample {
            kib: MOST_KIB + 1,
            ..slow
        };
        assert_eq!(
            judge(&Outcome::Took(large)).unwrap_err(),
            "2.000 ms to unregister, where 1 ms is the limit; \
             1025 KiB in use, where 1024 KiB is the limit"
        );
        assert_eq!(judge(&Outcome::Refused(-28)).unwrap_err(), "refused (-28)");
    }

    #[test]
    fn a_kernel_with_all_checks_has_the_table_for_itself() {
        let names = |profile| kernels(profile).iter().map(|(name, _)| *name);
        assert!(names(Profile::Plain).eq(["stock", "dpmem"]));
        assert!(names(Profile::Debug).eq(["dpmem"]));
        let curve = Curve::from([(ONE, Outcome::Refused(-34))]);
        let table = table(&[("dpmem", curve)]);
        assert!(table.contains("refused (-34)"), "{table}");
        assert!(!table.contains("stock"), "{table}");
    }

    #[test]
    fn the_module_is_asked_for_every_line() {
        let all: Vec<What> = LOADS.iter().flat_map(Load::all).collect();
        let different: std::collections::BTreeSet<&What> = all.iter().collect();
        assert_eq!(all.len(), different.len());
        assert_eq!(all.len(), SIZES.len() + 5 * SOME_SIZES.len());
        assert_eq!(
            Load::new(SOME_SIZES, true, 2).parameters(7),
            ["gib=1,1024,16384", "odd=1", "maps=2", "runs=7"]
        );
    }
}
