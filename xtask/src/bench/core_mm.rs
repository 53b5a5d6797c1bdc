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

/// The instructions that things take, by their names.
type Costs = BTreeMap<String, u64>;

/// A line of the table.
#[derive(Clone, Debug, Serialize)]
struct Line {
    name: String,
    stock: u64,
    dpmem: u64,
    ratio: f64,
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
    println!("{:<10} {:>14} {:>14} {:>8}", "", "stock", "series", "ratio");
    for line in &lines {
        println!(
            "{:<10} {:>14} {:>14} {:>8.5}",
            line.name, line.stock, line.dpmem, line.ratio
        );
    }
    let title = report.kernels();
    let good = end(report)?;
    let boots = options.boots;
    println!("\nLinux {title}, instructions for 1024 pages: of the least of 10 rounds, the median of {boots} boots of each kernel");
    Ok(good)
}

/// Boots one kernel, as often as that is asked for, and measures there.
fn measure(options: &CoreOptions, kernel: KernelChoice, report: &mut Report) -> Result<Costs> {
    let options_of_kernel = for_speed(boot_options(&options.kernel, kernel, Driver::C));
    let mut costs = Vec::new();
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
            let boot = Boot {
                suite: format!("core-{}", context.kernel.name),
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
            for _ in 0..options.boots.get() {
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
                costs.push(of_boot);
                booted.finish(context, &boot.suite, report)?;
            }
            Ok(())
        },
    )?;
    medians(&costs)
}

/// What each thing costs in the middle one of several boots: which memory a process gets is not the
/// same in each.
fn medians(boots: &[Costs]) -> Result<Costs> {
    let first = boots.first().context("nothing was measured")?;
    if boots.iter().any(|costs| !costs.keys().eq(first.keys())) {
        bail!("not each boot was asked the same");
    }
    first
        .keys()
        .map(|name| {
            let counts = boots.iter().filter_map(|costs| costs.get(name).copied());
            Ok((name.clone(), median(counts).context("no count")?))
        })
        .collect()
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
fn lines(stock: &Costs, dpmem: &Costs) -> Result<Vec<Line>> {
    if !stock.keys().eq(dpmem.keys()) {
        bail!("the two kernels were not asked the same");
    }
    let pairs = stock.iter().zip(dpmem.values());
    Ok(pairs
        .map(|((name, stock), dpmem)| Line {
            name: name.clone(),
            stock: *stock,
            dpmem: *dpmem,
            ratio: *dpmem as f64 / (*stock).max(1) as f64,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_program_says_is_read() {
        let costs = parse("# x\ncost fork 1000\ncost touch 7\n".lines()).unwrap();
        assert_eq!(costs.get("fork"), Some(&1000));
        assert!(parse("cost fork many".lines()).is_err());
        let more = parse("cost fork 1001\ncost touch 7\n".lines()).unwrap();
        let lines = lines(&costs, &more).unwrap();
        assert_eq!(lines.first().map(|line| line.ratio), Some(1.001));
    }

    #[test]
    fn the_boot_in_the_middle_counts() {
        let costs = [
            "cost a 5\ncost b 1",
            "cost a 7\ncost b 9",
            "cost a 6\ncost b 2",
        ];
        let costs = costs.map(|said| parse(said.lines()).unwrap());
        let medians = medians(&costs).unwrap();
        assert_eq!(medians, parse("cost a 6\ncost b 2".lines()).unwrap());
    }

    #[test]
    fn a_boot_that_says_less_is_an_error() {
        let costs = ["cost a 5\ncost b 1", "cost a 7"].map(|said| parse(said.lines()).unwrap());
        assert!(medians(&costs).is_err());
        assert!(medians(&[]).is_err());
    }

    #[test]
    fn different_questions_are_an_error() {
        let one = parse("cost fork 1".lines()).unwrap();
        assert!(lines(&one, &Costs::new()).is_err());
    }
}
