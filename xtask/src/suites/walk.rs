// SPDX-License-Identifier: GPL-2.0

//! Walks and scripts: the same steps on the kernel and on the simulated one, compared after each of
//! them.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use dpmem_ops::{Script, Setup, SEEDS};

use super::boot::Booted;
use super::Context;
use crate::arch::Arch;
use crate::cli::KernelChoice;
use crate::hosted;
use crate::process;
use crate::progress::Step;
use crate::report::Test;

/// What a line of a walk begins with.
const PREFIX: &str = "walk ";

/// The name of the test of one walk, or of one script.
fn name(subject: &str) -> String {
    format!("walk_{subject}")
}

/// What meets a bug of stock kernels, which the series mends and the simulation does not have: a
/// fault at a large folio that is mapped in pieces splits it, and brings nothing home.
const MENDED: [&str; 2] = [
    "a_window_in_a_huge_page_in_pieces",
    "data_of_each_part_when_cut",
];

/// What is to be compared for a driver that is loaded so.
pub(super) fn subjects(context: &Context<'_>, setup: Setup) -> Vec<String> {
    let stock = context.options.kernel == KernelChoice::Stock;
    let walks = SEEDS.filter(|_| setup == Setup::Usual);
    let scripts = Script::of(setup).map(|script| script.name.to_owned());
    walks
        .map(|seed| seed.to_string())
        .chain(scripts)
        .filter(|subject| !stock || !MENDED.contains(&subject.as_str()))
        .filter(|subject| context.filter.takes(&name(subject)))
        .collect()
}

/// What was said of each walk and script, by its name.
fn walks<'a>(lines: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, Vec<&'a str>> {
    let mut walks: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in lines.filter_map(|line| line.trim_end().strip_prefix(PREFIX)) {
        if let Some((subject, _)) = line.split_once('.') {
            walks.entry(subject).or_default().push(line);
        }
    }
    walks
}

/// What the simulated kernel says of `subjects`.
fn simulate(context: &Context<'_>, subjects: &[String], setup: Setup) -> Result<String> {
    let mut command = hosted::cargo(&context.options.linux, context.options.kernel)?;
    command.args(["run", "--quiet", "--locked", "--package", "walk", "--"]);
    if context.kernel.arch == Arch::Arm64 {
        command.arg("--arm64");
    }
    command.args([setup.name()]).args(subjects);
    let step = Step::start("walking over a simulated kernel".to_owned(), None);
    // With 1 if a step did not do what it should, which its line says as well.
    let simulated = process::output_if(&mut command, |status| matches!(status.code(), Some(0 | 1)))
        .context("the walks over a simulated kernel")?;
    step.finish();
    Ok(simulated)
}

/// What the program `program` has said in the guest, compared with what is said over the simulated
/// kernel: a test for each walk and script, and one for the program.
pub(super) fn tests(
    context: &Context<'_>,
    suite: &str,
    booted: &Booted,
    program: &str,
    setup: Setup,
) -> Result<Vec<Test>> {
    let subjects = subjects(context, setup);
    let simulated = simulate(context, &subjects, setup)?;
    let simulated = walks(simulated.lines());
    let lines = booted.program(program).map(|output| &output.lines);
    let lines = lines.into_iter().flatten().map(|line| line.text.as_str());
    let real = walks(lines);

    let mut tests = vec![booted.verdict(suite, program)];
    for subject in subjects {
        let both = (real.get(subject.as_str()), simulated.get(subject.as_str()));
        let outcome = match both {
            (Some(real), Some(simulated)) => dpmem_ops::compare(real, simulated)
                .map_err(|difference| format!("{subject}, {difference}")),
            _ => Err("nothing was said".to_owned()),
        };
        tests.push(Test::new(suite, &name(&subject), outcome, 0.0));
    }
    Ok(tests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_exists() {
        for name in MENDED {
            let mut scripts = Setup::ALL.into_iter().flat_map(Script::of);
            assert!(scripts.any(|script| script.name == name), "{name}");
        }
    }

    #[test]
    fn lines_of_walks() {
        let said = [
            "# something",
            "walk 1.0 parent forks: done",
            "walk 1.0 parent: 0+1 none",
            "walk there_and_back.0 parent reads 0+1: 1\r",
        ];
        let walks = walks(said.into_iter());
        assert_eq!(walks.len(), 2);
        assert_eq!(walks["1"].len(), 2);
        let said = "there_and_back.0 parent reads 0+1: 1";
        assert_eq!(walks["there_and_back"], [said]);
    }
}
