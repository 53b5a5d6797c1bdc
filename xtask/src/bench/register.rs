// SPDX-License-Identifier: GPL-2.0

//! `cargo xtask bench register`: the time and the memory that it takes to register device memory,
//! against its size.

use std::collections::BTreeMap;
use std::fs;
use std::sync::OnceLock;

use anyhow::{bail, Context as _, Result};
use regex::Regex;
use serde::Serialize;

use super::{boot_options, chart, end, median};
use crate::cache;
use crate::cli::{BenchOptions, Driver, KernelChoice, MachineOptions, MemorySize};
use crate::guest::Plan;
use crate::lab;
use crate::repo;
use crate::report::Report;
use crate::suites::Boot;

/// The module.
const MODULE: &str = "dpmem_bench_register";
/// What is registered, in GiB.
const SIZES: &[u64] = &[1, 4, 16, 32, 48, 64, 128, 256, 1024, 16384];
/// How often.
const RUNS: usize = 5;
/// Room for the struct pages of 256 GiB, and then some.
const MEMORY: MemorySize = MemorySize(6 * 1024);

/// What one registration took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
struct Sample {
    register_ns: u64,
    unregister_ns: u64,
    kib: i64,
}

/// The results for one size on one kernel.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    /// The medians of all runs.
    Took(Sample),
    /// The error number, which is the same in all runs.
    Refused(i64),
}

/// The results of one kernel, by size in GiB.
type Curve = BTreeMap<u64, Outcome>;

/// Measures, and draws.
pub(crate) fn run(options: &BenchOptions) -> Result<bool> {
    let mut report = Report::quiet("bench")?;
    let mut curves: BTreeMap<&str, Curve> = BTreeMap::new();
    for (name, choice) in [
        ("stock", KernelChoice::Stock),
        ("dpmem", KernelChoice::Dpmem),
    ] {
        let curve =
            measure(options, name, choice, &mut report).map_err(|error| report.ended_by(error))?;
        curves.insert(name, curve);
    }
    let folder = repo::lab_output().join("bench");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let json = serde_json::to_vec_pretty(&curves).context("cannot write JSON")?;
    cache::write_atomically(&folder.join("register.json"), &json)?;
    let picture = folder.join("register.svg");
    chart::draw(&picture, &lines(&curves))?;

    print(&curves);
    let title = report.kernels();
    let good = end(report)?;
    println!("\nLinux {title} in QEMU, medians of {RUNS} runs in one boot of each kernel; the curves: {}", picture.display());
    Ok(good)
}

/// Boots one kernel, and measures there.
fn measure(
    options: &BenchOptions,
    name: &str,
    choice: KernelChoice,
    report: &mut Report,
) -> Result<Curve> {
    let kernel = boot_options(options, choice, Driver::C);
    let machine = MachineOptions {
        mem: options.machine.mem.or(Some(MEMORY)),
        ..options.machine.clone()
    };
    let mut curve = Curve::new();
    lab::with_kernel(&kernel, &machine, "", None, report, |context, report| {
        let source = repo::top().join("linux/bench");
        let module = context.kernel.external(context.builder, &source, MODULE)?;
        let boot = Boot {
            suite: format!("register-{name}"),
            modules: vec![module],
            tests: Vec::new(),
            devices: Vec::new(),
            arguments: Vec::new(),
            counting: false,
            quiet: None,
            console_ok: vec![refusal()?],
        };
        let sizes: Vec<String> = SIZES.iter().map(u64::to_string).collect();
        let booted = boot.run(context, report, |_| {
            let mut plan = Plan::new();
            for _ in 0..RUNS {
                plan.load(MODULE, &[format!("gib={}", sizes.join(","))]);
                plan.unload(MODULE);
            }
            plan
        })?;
        curve = parse(booted.outcome.console.iter().map(|line| line.text.as_str()))?;
        booted.finish(context, &boot.suite, report)
    })?;
    for size in SIZES {
        if !curve.contains_key(size) {
            bail!(
                "the {name} kernel did not get as far as {size} GiB; see {}",
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

/// Reads what the module said.
fn parse<'a>(console: impl Iterator<Item = &'a str>) -> Result<Curve> {
    static LINE: OnceLock<Option<Regex>> = OnceLock::new();
    let line = LINE
        .get_or_init(|| Regex::new(r"dpmem_bench_register: gib=(\d+) (.*)$").ok())
        .as_ref()
        .context("a bad pattern")?;
    let mut samples: BTreeMap<u64, Vec<Sample>> = BTreeMap::new();
    let mut refused: BTreeMap<u64, i64> = BTreeMap::new();
    for text in console {
        let Some(found) = line.captures(text) else {
            continue;
        };
        let size: u64 = found[1].parse().context("not a size")?;
        let of_size = samples.entry(size).or_default();
        for pair in found[2].split_whitespace() {
            let (key, value) = pair.split_once('=').context("not a result")?;
            let value: i64 = value
                .parse()
                .with_context(|| format!("{key} is no number"))?;
            match key {
                "err" => {
                    refused.insert(size, value);
                }
                "register_ns" => of_size.push(Sample {
                    register_ns: u64::try_from(value)?,
                    ..Sample::default()
                }),
                "kib" => of_size.last_mut().context("no registration")?.kib = value,
                "unregister_ns" => {
                    of_size.last_mut().context("no registration")?.unregister_ns =
                        u64::try_from(value)?;
                }
                _ => bail!("the module says {key}, which is not known"),
            }
        }
    }
    let mut curve = Curve::new();
    for (size, of_size) in samples {
        let outcome = match refused.get(&size) {
            Some(error) => Outcome::Refused(*error),
            None => Outcome::Took(Sample {
                register_ns: median(of_size.iter().map(|sample| sample.register_ns))
                    .context("no sample")?,
                unregister_ns: median(of_size.iter().map(|sample| sample.unregister_ns))
                    .context("no sample")?,
                kib: median(of_size.iter().map(|sample| sample.kib)).context("no sample")?,
            }),
        };
        curve.insert(size, outcome);
    }
    Ok(curve)
}

/// A table for people.
fn print(curves: &BTreeMap<&str, Curve>) {
    println!("{:>8}  {:>30}  {:>30}", "GiB", "stock", "dpmem");
    for size in SIZES {
        let cell = |name: &str| match curves.get(name).and_then(|curve| curve.get(size)) {
            Some(Outcome::Took(sample)) => format!(
                "{:.3} ms, {} KiB, {:.3} ms",
                sample.register_ns as f64 / 1e6,
                sample.kib,
                sample.unregister_ns as f64 / 1e6
            ),
            Some(Outcome::Refused(error)) => format!("refused ({error})"),
            None => "-".to_owned(),
        };
        println!("{size:>8}  {:>30}  {:>30}", cell("stock"), cell("dpmem"));
    }
    println!("(to register, memory in use, to unregister)");
}

/// The curves to draw.
fn lines(curves: &BTreeMap<&str, Curve>) -> Vec<chart::Line> {
    curves
        .iter()
        .map(|(name, curve)| chart::Line {
            name: (*name).to_owned(),
            points: curve
                .iter()
                .filter_map(|(size, outcome)| match outcome {
                    Outcome::Took(sample) => Some(chart::Point {
                        gib: *size as f64,
                        milliseconds: sample.register_ns as f64 / 1e6,
                        mib: sample.kib.max(1) as f64 / 1024.0,
                    }),
                    Outcome::Refused(_) => None,
                })
                .collect(),
            refused_from: curve
                .iter()
                .find(|(_, outcome)| matches!(outcome, Outcome::Refused(_)))
                .map(|(size, _)| *size as f64),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_module_says_is_read() {
        let console = "\
[    1.0] dpmem_bench_register: gib=1 register_ns=300 kib=16
[    1.0] dpmem_bench_register: gib=1 unregister_ns=30
[    1.0] something else
[    1.1] dpmem_bench_register: gib=1 register_ns=100 kib=-4
[    1.1] dpmem_bench_register: gib=1 unregister_ns=10
[    1.2] dpmem_bench_register: gib=1 register_ns=200 kib=8
[    1.2] dpmem_bench_register: gib=1 unregister_ns=20
[    1.3] dpmem_bench_register: gib=64 err=-34";
        let curve = parse(console.lines()).unwrap();
        assert_eq!(
            curve.get(&1),
            Some(&Outcome::Took(Sample {
                register_ns: 200,
                unregister_ns: 20,
                kib: 8
            }))
        );
        assert_eq!(curve.get(&64), Some(&Outcome::Refused(-34)));
    }

    #[test]
    fn a_word_that_is_not_known_is_an_error() {
        assert!(parse("dpmem_bench_register: gib=1 speed=9".lines()).is_err());
        assert!(parse("dpmem_bench_register: gib=1 kib=9".lines()).is_err());
    }
}
