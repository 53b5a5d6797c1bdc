// SPDX-License-Identifier: GPL-2.0

//! `cargo xtask bench migrate`: upstream's benchmark of migrations, with upstream's driver and with
//! ours, in turn.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::time::Duration;

use anyhow::{bail, Context as _, Result};
use regex::Regex;
use serde::Serialize;

use super::{boot_options, end, for_speed, median};
use crate::cache;
use crate::cli::{Driver, KernelChoice, MigrateOptions};
use crate::guest::Plan;
use crate::lab;
use crate::repo;
use crate::report::Report;
use crate::suites::{driver, hmm, Boot};

/// The test that measures, as the program names it.
const TEST: &str = "hmm.hmm_device_private.benchmark_thp_migration";
/// What a run is called that is not counted.
const WARM_UP: &str = "warm-up";
/// How long it may take.
const BOUND: Duration = Duration::from_secs(180);

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct What {
    kib: u64,
    way: Way,
    pages: Pages,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Way {
    ToDevice,
    ToSystem,
}

/// What the process had asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Pages {
    Huge,
    Small,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = match self.kib {
            kib if kib % 1024 == 0 => format!("{} MiB", kib / 1024),
            kib => format!("{kib} KiB"),
        };
        let pages = match self.pages {
            Pages::Huge => "huge pages if they fit",
            Pages::Small => "small pages",
        };
        let way = match self.way {
            Way::ToDevice => "to the device",
            Way::ToSystem => "home",
        };
        write!(f, "{size}, {pages}, {way}")
    }
}

/// Microseconds, or thousands of instructions, by what was measured.
type Times = BTreeMap<What, Vec<u64>>;

/// The results, one line of the table.
#[derive(Clone, Debug, Serialize)]
struct Line {
    #[serde(flatten)]
    what: What,
    /// Medians, in microseconds, or in thousands of instructions.
    c: u64,
    rust: u64,
    /// Ours by upstream's.
    ratio: f64,
}

/// Measures, and prints.
pub(crate) fn run(options: &MigrateOptions) -> Result<bool> {
    let mut report = Report::quiet("bench")?;
    let (mut c, mut rust) = (Times::new(), Times::new());
    let kernel = boot_options(&options.kernel, KernelChoice::Dpmem, Driver::Rust);
    let kernel = for_speed(kernel);
    let runs = options.runs.get();
    lab::with_kernel(
        &kernel,
        &options.kernel.machine,
        "",
        None,
        &mut report,
        |context, report| {
            let drivers = [Driver::C, Driver::Rust];
            let mut modules = Vec::new();
            for driver in drivers {
                modules.extend(driver::modules(context.kernel, driver)?);
            }
            let boot = Boot {
                suite: "migrate".to_owned(),
                modules,
                tests: vec![context.kernel.selftest(hmm::PROGRAM)?],
                devices: Vec::new(),
                arguments: Vec::new(),
                counting: options.instructions,
                quiet: Some(BOUND),
                console_ok: Vec::new(),
            };
            let command = [
                format!("/tests/{}", hmm::PROGRAM),
                "-r".to_owned(),
                TEST.to_owned(),
            ];
            let preparations = hmm::preparations(context.kernel)?;
            let booted = boot.run(context, report, |machine| {
                let mut plan = Plan::new();
                preparations.iter().for_each(|line| plan.prepare(line));
                for _ in 0..runs {
                    for driver in drivers {
                        driver::load(&mut plan, machine, driver);
                        // Once for code that nobody has run since it was loaded: an emulator has to translate it.
                        plan.program(WARM_UP, BOUND, &command);
                        plan.program(name(driver), BOUND, &command);
                        driver::unload(&mut plan, driver);
                    }
                }
                plan
            })?;
            for (program, output) in &booted.programs {
                if output.status != Some(0) {
                    bail!(
                        "the benchmark with {program} ended with {:?}; see {}",
                        output.status,
                        report.shown_folder()
                    );
                }
                let times = match program.as_str() {
                    WARM_UP => continue,
                    program if program == name(Driver::C) => &mut c,
                    _ => &mut rust,
                };
                let lines = output.lines.iter().map(|line| line.text.as_str());
                parse(lines, times)?;
            }
            booted.finish(context, &boot.suite, report)
        },
    )
    .map_err(|error| report.ended_by(error))?;

    let lines = lines(&c, &rust)?;
    let folder = repo::lab_output().join("bench");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let json = serde_json::to_vec_pretty(&lines).context("cannot write JSON")?;
    cache::write_atomically(&folder.join("migrate.json"), &json)?;
    // A clock that counts instructions has a nanosecond for each.
    let unit = match options.instructions {
        true => "Mi",
        false => "ms",
    };
    println!(
        "{:<46} {:>12} {:>12} {:>6}",
        "medians",
        format!("C, {unit}"),
        format!("Rust, {unit}"),
        "ratio"
    );
    for line in &lines {
        println!(
            "{:<46} {:>12.3} {:>12.3} {:>6.2}",
            line.what.to_string(),
            line.c as f64 / 1e3,
            line.rust as f64 / 1e3,
            line.ratio
        );
    }
    let title = report.kernels();
    let good = end(report)?;
    println!("\nLinux {title} with the series, {runs} runs of each driver in turn, in one boot");
    Ok(good)
}

/// What a run is called.
fn name(driver: Driver) -> &'static str {
    match driver {
        Driver::C => "C",
        Driver::Rust => "Rust",
    }
}

/// Reads what the benchmark printed.
fn parse<'a>(lines: impl Iterator<Item = &'a str>, times: &mut Times) -> Result<()> {
    let head = Regex::new(r"^(?:# )?=== .* \(([0-9.]+) MB\) ===$")?;
    let row = Regex::new(
        r"^(?:# )?(Sys->Dev|Dev->Sys) Migration\s+\| ([0-9.]+) ms\s+\| ([0-9.]+) ms\s+\|",
    )?;
    let mut kib = None;
    let mut found = false;
    for line in lines {
        if let Some(head) = head.captures(line) {
            let mib: f64 = head[1].parse().context("not a size")?;
            kib = Some((mib * 1024.0).round() as u64);
        } else if let Some(row) = row.captures(line) {
            let kib = kib.context("times before a size")?;
            let way = match &row[1] {
                "Sys->Dev" => Way::ToDevice,
                _ => Way::ToSystem,
            };
            for (pages, text) in [(Pages::Huge, &row[2]), (Pages::Small, &row[3])] {
                let ms: f64 = text.parse().context("not a time")?;
                let what = What { kib, way, pages };
                times
                    .entry(what)
                    .or_default()
                    .push((ms * 1e3).round() as u64);
                found = true;
            }
        }
    }
    if !found {
        bail!("the benchmark printed no times");
    }
    Ok(())
}

/// The medians, side by side.
fn lines(c: &Times, rust: &Times) -> Result<Vec<Line>> {
    let keys = |times: &Times| times.keys().copied().collect::<Vec<_>>();
    if keys(c) != keys(rust) {
        bail!("the two drivers were not measured with the same sizes");
    }
    c.iter()
        .map(|(what, times)| {
            let c = median(times.iter().copied()).context("no time")?;
            let ours = rust.get(what).context("no time")?;
            let rust = median(ours.iter().copied()).context("no time")?;
            Ok(Line {
                what: *what,
                c,
                rust,
                ratio: rust as f64 / c.max(1) as f64,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "\
# === Half THP Size (1.0 MB) ===
#                      | With THP        | Without THP     | Improvement
# Sys->Dev Migration   | 2.000 ms        | 4.000 ms        | 50.0%
# Dev->Sys Migration   | 1.000 ms        | 3.000 ms        | 66.7%
# S->D Throughput      | 0.49 GB/s      | 0.24 GB/s      | 100.0%
";

    #[test]
    fn what_the_benchmark_prints_is_read() {
        let mut times = Times::new();
        parse(PRINTED.lines(), &mut times).unwrap();
        parse(PRINTED.replace("2.000", "5.000").lines(), &mut times).unwrap();
        let what = What {
            kib: 1024,
            way: Way::ToDevice,
            pages: Pages::Huge,
        };
        assert_eq!(times.len(), 4);
        assert_eq!(times.get(&what), Some(&vec![2000, 5000]));
        let lines = lines(&times, &times).unwrap();
        assert!(lines.iter().all(|line| line.ratio == 1.0));
    }

    #[test]
    fn nothing_is_an_error() {
        assert!(parse("".lines(), &mut Times::new()).is_err());
        assert!(lines(&Times::new(), &Times::from([])).unwrap().is_empty());
        let mut times = Times::new();
        parse(PRINTED.lines(), &mut times).unwrap();
        assert!(lines(&times, &Times::new()).is_err());
    }
}
