// SPDX-License-Identifier: GPL-2.0

//! Walks: the same steps on the kernel and on the simulated one, compared after each of them.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use dpmem_ops::SEEDS;

use super::boot::Booted;
use super::Context;
use crate::arch::Arch;
use crate::cli::{KernelChoice, Profile};
use crate::hosted;
use crate::process;
use crate::progress::Step;
use crate::report::Test;
use crate::version::Series;

/// What a line of a walk begins with.
const PREFIX: &str = "walk ";

/// The name of the test of one walk.
fn name(seed: u64) -> String {
    format!("walk_{seed}")
}

/// The walks that are to be compared, on the kernel that this was made true for: a plain 7.3 with the series on x86-64.
/// Elsewhere an empty page table stays, for one thing.
pub(super) fn names(context: &Context<'_>) -> Vec<(u64, String)> {
    let kernel = context.kernel;
    if kernel.arch != Arch::X86_64
        || kernel.series != Series::V7_3
        || kernel.profile != Profile::Plain
        || context.options.kernel != KernelChoice::Dpmem
    {
        return Vec::new();
    }
    let all = SEEDS.map(|seed| (seed, name(seed)));
    all.filter(|(_, name)| context.filter.takes(name)).collect()
}

/// What was said in each walk, by its number.
fn walks<'a>(lines: impl Iterator<Item = &'a str>) -> BTreeMap<u64, Vec<&'a str>> {
    let mut walks: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
    for line in lines.filter_map(|line| line.trim_end().strip_prefix(PREFIX)) {
        let seed = line.split_once('.').and_then(|(seed, _)| seed.parse().ok());
        if let Some(seed) = seed {
            walks.entry(seed).or_default().push(line);
        }
    }
    walks
}

/// What the program `program` has said in the guest, compared with what is said over the simulated kernel: a test for each
/// walk, and one for the program.
pub(super) fn tests(
    context: &Context<'_>,
    suite: &str,
    booted: &Booted,
    program: &str,
) -> Result<Vec<Test>> {
    let names = names(context);
    let mut command = hosted::cargo(&context.options.linux, context.options.kernel)?;
    command.args(["run", "--quiet", "--locked", "--package", "walk", "--"]);
    command.args(names.iter().map(|(seed, _)| seed.to_string()));
    let step = Step::start("walking over a simulated kernel".to_owned(), None);
    let simulated = process::output(&mut command).context("the walks over a simulated kernel")?;
    step.finish();
    let simulated = walks(simulated.lines());
    let lines = booted.program(program).map(|output| &output.lines);
    let lines = lines.into_iter().flatten().map(|line| line.text.as_str());
    let real = walks(lines);

    let mut tests = vec![booted.verdict(suite, program)];
    let none = Vec::new();
    for (seed, name) in names {
        let said = |walks: &BTreeMap<u64, Vec<&str>>| !walks.contains_key(&seed);
        let outcome = if said(&real) || said(&simulated) {
            Err("nothing was said".to_owned())
        } else {
            dpmem_ops::compare(
                real.get(&seed).unwrap_or(&none),
                simulated.get(&seed).unwrap_or(&none),
            )
            .map_err(|difference| format!("seed {seed}, {difference}"))
        };
        tests.push(Test::new(suite, &name, outcome, 0.0));
    }
    Ok(tests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_walks() {
        let said = [
            "# something",
            "walk 1.0 parent forks: done",
            "walk 1.0 parent: 0+1 none",
            "walk 12.0 parent reads 0+1: 1\r",
        ];
        let walks = walks(said.into_iter());
        assert_eq!(walks.len(), 2);
        assert_eq!(walks[&1].len(), 2);
        assert_eq!(walks[&12], ["12.0 parent reads 0+1: 1"]);
    }
}
