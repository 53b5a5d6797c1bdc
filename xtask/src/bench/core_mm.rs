// SPDX-License-Identifier: GPL-2.0

//! `cargo xtask bench core`: what the series costs a machine that has no device memory, in
//! instructions.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{bail, Context as _, Result};
use serde::Serialize;

use super::{boot_options, end, for_speed, median};
use crate::cache;
use crate::cli::{CoreOptions, Driver, KernelChoice};
use crate::guest::{programs, Plan};
use crate::lab;
use crate::repo;
use crate::report::Report;
use crate::suites::Boot;

/// How long it may take.
const BOUND: Duration = Duration::from_secs(900);

/// The instructions that things take in one boot, by their names.
type Costs = BTreeMap<String, u64>;

/// The same of all boots.
type Counts = BTreeMap<String, Vec<u64>>;

/// A line of the table.
#[derive(Clone, Debug, Serialize)]
struct Line {
    name: String,
    /// The median of all boots.
    stock: u64,
    dpmem: u64,
    ratio: f64,
    /// By how much the boots of one kernel differ, as a part of what it takes: the larger of two.
    spread: f64,
    /// What each boot counted.
    stock_boots: Vec<u64>,
    dpmem_boots: Vec<u64>,
}

/// Measures, and prints.
pub(crate) fn run(options: &CoreOptions) -> Result<bool> {
    let mut report = Report::quiet("bench")?;
    let mut measure =
        |kernel| measure(options, kernel, &mut report).map_err(|error| report.ended_by(error));
    let stock = measure(KernelChoice::Stock)?;
    let dpmem = measure(KernelChoice::Dpmem)?;
    let lines = lines(&stock, &dpmem)?;
    let folder = repo::lab_output().join("bench");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let json = serde_json::to_vec_pretty(&lines).context("cannot write JSON")?;
    cache::write_atomically(&folder.join("core.json"), &json)?;
    println!(
        "{:<10} {:>14} {:>14} {:>8} {:>8}",
        "", "stock", "series", "ratio", "spread"
    );
    for line in &lines {
        println!(
            "{:<10} {:>14} {:>14} {:>8.5} {:>8.5}",
            line.name, line.stock, line.dpmem, line.ratio, line.spread
        );
    }
    let title = report.kernels();
    let good = end(report)?;
    let boots = options.boots;
    println!("\nLinux {title}, instructions for 1024 pages: of the least of 10 rounds, the median of {boots} boots of each kernel");
    Ok(good)
}

/// Boots one kernel, as often as that is asked for, and measures there.
fn measure(options: &CoreOptions, kernel: KernelChoice, report: &mut Report) -> Result<Counts> {
    let options_of_kernel = for_speed(boot_options(&options.kernel, kernel, Driver::C));
    let mut boots = Vec::new();
    lab::with_kernel(
        &options_of_kernel,
        &options.kernel.machine,
        "",
        None,
        report,
        |context, report| {
            let builder = context.builder;
            let program = programs::build(
                builder.cache,
                builder.tools,
                context.kernel.arch,
                programs::DEMO,
                builder.logs,
            )?;
            let mut boot = Boot {
                suite: String::new(),
                modules: Vec::new(),
                tests: vec![program],
                devices: Vec::new(),
                // Where things lie, the kernel's or a process's, is not to matter.
                arguments: ["nokaslr", "norandmaps"].map(str::to_owned).to_vec(),
                counting: true,
                quiet: Some(BOUND),
                console_ok: Vec::new(),
            };
            let command = ["/tests/dpmem-demo", "--cost", "/dev/null"].map(str::to_owned);
            for number in 1..=options.boots.get() {
                boot.suite = format!("core-{}-{number}", context.kernel.name);
                let booted = boot.run(context, report, |_| {
                    let mut plan = Plan::new();
                    plan.program(programs::DEMO, BOUND, &command);
                    plan
                })?;
                let output = booted
                    .program(programs::DEMO)
                    .context("the machine ended before it measured")?;
                let of_boot = parse(output.lines.iter().map(|line| line.text.as_str()))?;
                if output.status != Some(0) || of_boot.is_empty() {
                    bail!("measuring failed; see {}", report.shown_folder());
                }
                boots.push(of_boot);
                booted.finish(context, &boot.suite, report)?;
            }
            Ok(())
        },
    )?;
    gather(boots)
}

/// What each thing costs in each of several boots: which memory a process gets is not the same in
/// all of them.
fn gather(boots: Vec<Costs>) -> Result<Counts> {
    let nr = boots.len();
    let mut counts = Counts::new();
    for (name, count) in boots.into_iter().flatten() {
        counts.entry(name).or_default().push(count);
    }
    if counts.is_empty() || counts.values().any(|counts| counts.len() != nr) {
        bail!("not each boot was asked the same");
    }
    Ok(counts)
}

/// How far the counts of one kernel are apart, as a part of the one in the middle.
fn spread(counts: &[u64], median: u64) -> f64 {
    let least = counts.iter().min().copied().unwrap_or(median);
    let most = counts.iter().max().copied().unwrap_or(median);
    (most - least) as f64 / median.max(1) as f64
}

/// Reads what the program said.
fn parse<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Costs> {
    lines
        .filter_map(|line| line.strip_prefix("cost "))
        .map(|line| {
            let (name, count) = line.split_once(' ').context("a cost without a name")?;
            let count = count
                .parse()
                .with_context(|| format!("{name} costs {count}"))?;
            Ok((name.to_owned(), count))
        })
        .collect()
}

/// Side by side.
fn lines(stock: &Counts, dpmem: &Counts) -> Result<Vec<Line>> {
    if !stock.keys().eq(dpmem.keys()) {
        bail!("the two kernels were not asked the same");
    }
    stock
        .iter()
        .zip(dpmem.values())
        .map(|((name, stock_boots), dpmem_boots)| {
            let stock = median(stock_boots.iter().copied()).context("no count")?;
            let dpmem = median(dpmem_boots.iter().copied()).context("no count")?;
            Ok(Line {
                name: name.clone(),
                stock,
                dpmem,
                ratio: dpmem as f64 / stock.max(1) as f64,
                spread: spread(stock_boots, stock).max(spread(dpmem_boots, dpmem)),
                stock_boots: stock_boots.clone(),
                dpmem_boots: dpmem_boots.clone(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What programs said, one a boot.
    fn said(boots: &[&str]) -> Result<Counts> {
        gather(
            boots
                .iter()
                .map(|said| parse(said.lines()).unwrap())
                .collect(),
        )
    }

    #[test]
    fn what_the_program_says_is_read() {
        let costs = parse("# x\ncost fork 1000\ncost touch 7\n".lines()).unwrap();
        assert_eq!(costs.get("fork"), Some(&1000));
        assert!(parse("cost fork many".lines()).is_err());
        let less = said(&["cost fork 1000\ncost touch 7"]).unwrap();
        let more = said(&["cost fork 1001\ncost touch 7"]).unwrap();
        let lines = lines(&less, &more).unwrap();
        assert_eq!(lines.first().map(|line| line.ratio), Some(1.001));
        assert_eq!(lines.first().map(|line| line.spread), Some(0.0));
    }

    #[test]
    fn the_boot_in_the_middle_counts() {
        let stock = said(&["cost a 10", "cost a 30", "cost a 20"]).unwrap();
        let dpmem = said(&["cost a 30", "cost a 25", "cost a 40"]).unwrap();
        let lines = lines(&stock, &dpmem).unwrap();
        let line = lines.first().unwrap();
        assert_eq!((line.stock, line.dpmem), (20, 30));
        assert_eq!((line.ratio, line.spread), (1.5, 1.0));
        assert_eq!(line.dpmem_boots, [30, 25, 40]);
    }

    #[test]
    fn a_boot_that_says_less_is_an_error() {
        assert!(said(&["cost a 5\ncost b 1", "cost a 7"]).is_err());
        assert!(said(&["cost a 5", "cost b 7"]).is_err());
        assert!(said(&[]).is_err());
    }

    #[test]
    fn different_questions_are_an_error() {
        let one = said(&["cost fork 1"]).unwrap();
        assert!(lines(&one, &Counts::new()).is_err());
    }
}
