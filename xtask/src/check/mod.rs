// SPDX-License-Identifier: GPL-2.0

//! `cargo xtask test`: everything, one step after another, in one report.

mod cargo;
pub(crate) mod checkpatch;
mod hosted;
pub(crate) mod machines;
mod tree;

pub(crate) use cargo::cargo_in;

use anyhow::{Context as _, Result};

use crate::arch::Arch;
use crate::cache::Cache;
use crate::cli::{
    Driver, KernelChoice, KernelOptions, LinuxChoice, MachineOptions, Profile, Purpose,
};
use crate::cli::{SuiteChoice, TestOptions};
use crate::kernel::profile_name;
use crate::ktap::Status;
use crate::lab;
use crate::progress;
use crate::report::{Report, Test};
use crate::suites;
use crate::tools::Tools;
use crate::version::Series;

/// Upstream's test that only measures.
const BENCHMARK: &str = "benchmark_thp_migration";

/// One kernel, and what is run on it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cell {
    series: Series,
    arch: Arch,
    profile: Profile,
    kernel: KernelChoice,
    driver: Option<Driver>,
    suites: Vec<SuiteChoice>,
    demo: bool,
    /// With the test that only measures, and takes as long as all others together, and with what
    /// repeats others.
    thorough: bool,
    /// What the configuration or the machine is called, if it is not the usual one.
    name: Option<String>,
    config: Vec<String>,
    machine: MachineOptions,
}

impl Cell {
    fn stock(series: Series, arch: Arch, profile: Profile) -> Self {
        Self {
            series,
            arch,
            profile,
            kernel: KernelChoice::Stock,
            driver: None,
            suites: vec![SuiteChoice::Hmm, SuiteChoice::Bugs],
            demo: false,
            thorough: true,
            name: None,
            config: Vec::new(),
            machine: MachineOptions::default(),
        }
    }

    fn dpmem(series: Series, arch: Arch, profile: Profile) -> Self {
        let suites = vec![
            SuiteChoice::Hmm,
            SuiteChoice::Kunit,
            SuiteChoice::Dpmem,
            SuiteChoice::Nouveau,
            SuiteChoice::Xe,
            SuiteChoice::Bugs,
        ];
        Self {
            kernel: KernelChoice::Dpmem,
            suites,
            ..Self::stock(series, arch, profile)
        }
    }

    /// Upstream's driver with the series, and the bugs that it mends.
    fn series(series: Series, arch: Arch, profile: Profile) -> Self {
        Self {
            driver: Some(Driver::C),
            suites: vec![SuiteChoice::Hmm, SuiteChoice::Bugs],
            ..Self::dpmem(series, arch, profile)
        }
    }

    /// Our driver on the kernel as upstream made it.
    fn sample(series: Series, arch: Arch, profile: Profile) -> Self {
        Self {
            kernel: KernelChoice::Stock,
            driver: Some(Driver::Rust),
            ..Self::dpmem(series, arch, profile)
        }
    }

    fn options(&self) -> KernelOptions {
        KernelOptions {
            linux: LinuxChoice::Package(self.series),
            arch: self.arch,
            kernel: self.kernel,
            driver: self.driver,
            profile: self.profile,
            purpose: match self.suites.as_slice() {
                [SuiteChoice::Mm] => Purpose::Mm,
                _ => Purpose::Lab,
            },
            prefix: None,
            config: self.config.clone(),
        }
    }

    fn label(&self) -> String {
        let driver = match (self.options().driver(), self.kernel) {
            (Driver::C, KernelChoice::Stock) => "c",
            (Driver::C, KernelChoice::Dpmem) => "c-with-series",
            (Driver::Rust, KernelChoice::Stock) => "rust-on-stock",
            (Driver::Rust, KernelChoice::Dpmem) => "rust",
        };
        let name = self.name.as_deref();
        format!(
            "{}/{}/{}/{driver}",
            self.series,
            self.arch.name(),
            name.unwrap_or(profile_name(self.profile))
        )
    }

    /// What is said of the test that only measures, where it does not run.
    fn no_benchmark(&self) -> Test {
        let mut test = Test::new(&format!("{}/hmm", self.label()), BENCHMARK, Ok(()), 0.0);
        test.status = Status::Skip;
        test.reason =
            Some("it measures, and takes minutes: --full has it, and bench migrate".to_owned());
        test
    }

    fn run(&self, report: &mut Report) -> Result<()> {
        let without = format!("!{BENCHMARK}");
        let filter = (!self.thorough).then_some(without.as_str());
        lab::with_kernel(
            &self.options(),
            &self.machine,
            &self.label(),
            filter,
            report,
            |context, report| {
                let context = &suites::Context {
                    thorough: self.thorough,
                    ..*context
                };
                for &suite in &self.suites {
                    suites::run(suite, context, report)?;
                    if suite == SuiteChoice::Hmm && !self.thorough {
                        report.add(self.no_benchmark())?;
                    }
                }
                if self.demo {
                    suites::demo::run(context, report)?;
                }
                Ok(())
            },
        )
    }
}

/// What is always run: 7.3 on x86-64, as upstream made it and with the series, with the C driver
/// and with ours.
fn usual() -> Vec<Cell> {
    let mut cells = of(Series::V7_3, Arch::X86_64, Profile::Plain);
    for cell in &mut cells {
        // The benchmark takes as long as a quarter of this; `bench migrate` measures, and what
        // takes hours has it.
        cell.thorough = false;
        // Without the series, the other backend: where the two differ is below what these suites
        // share with it. There is also a bug of the kernel that takes our driver to be seen.
        if cell.kernel == KernelChoice::Stock && cell.driver == Some(Driver::Rust) {
            cell.suites = vec![SuiteChoice::Hmm, SuiteChoice::Kunit, SuiteChoice::Bugs];
        }
        // What a stock kernel does with a bug takes minutes, as some hang there.
        if cell.kernel == KernelChoice::Stock && cell.driver.is_none() {
            cell.suites = vec![SuiteChoice::Hmm];
        }
    }
    cells
}

/// What takes hours: all kernels, and upstream's tests of memory management. arm64 is among them:
/// with a kernel more to build, and a machine that is slower to emulate, a cold start would take
/// longer than an hour.
fn all() -> Vec<Cell> {
    let mut cells = Vec::new();
    for series in [Series::V7_3, Series::V7_2] {
        for arch in Arch::ALL {
            for profile in [Profile::Plain, Profile::Debug] {
                cells.extend(of(series, arch, profile));
            }
        }
        let mut mm = Cell::dpmem(series, Arch::X86_64, Profile::Plain);
        mm.suites = vec![SuiteChoice::Mm];
        cells.push(mm);
    }
    cells
}

/// The kernels of one kind. Each of the three trees begins as a copy of the one before.
fn of(series: Series, arch: Arch, profile: Profile) -> Vec<Cell> {
    let mut dpmem = Cell::dpmem(series, arch, profile);
    dpmem.demo = (series, arch, profile) == (Series::V7_3, Arch::X86_64, Profile::Plain);
    vec![
        Cell::stock(series, arch, profile),
        Cell::sample(series, arch, profile),
        dpmem,
        Cell::series(series, arch, profile),
    ]
}

/// Runs everything; false if something failed.
pub(crate) fn run(options: &TestOptions) -> Result<bool> {
    let mut report = Report::new("check")?;
    cargo::format(&mut report)?;
    cargo::lint(&mut report)?;
    cargo::test(&mut report)?;
    cargo::document(&mut report)?;
    // All else needs the source of a kernel, which is a package.
    if let Err(error) = packages() {
        failed_to_run("kernels", Err(error), &mut report)?;
        return report.finish();
    }
    // The first that needs the source, and the last that needs no kernel.
    let mut hosted_kernels = vec![(Series::V7_3, KernelChoice::Dpmem)];
    if options.full {
        hosted_kernels.extend([
            (Series::V7_3, KernelChoice::Stock),
            (Series::V7_2, KernelChoice::Dpmem),
            (Series::V7_2, KernelChoice::Stock),
        ]);
    }
    for (series, kernel) in hosted_kernels {
        let outcome = hosted::run(series, kernel, options.full, &mut report);
        failed_to_run("hosted", outcome, &mut report)?;
    }
    if options.full {
        let outcome = hosted::coverage(&mut report);
        failed_to_run("coverage", outcome, &mut report)?;
    }
    let cells = if options.full { all() } else { usual() };
    for cell in &cells {
        let outcome = cell.run(&mut report);
        failed_to_run(&cell.label(), outcome, &mut report)?;
    }
    if options.full {
        let outcome = machines::test(Series::V7_3, &[], &mut report);
        failed_to_run("machines", outcome, &mut report)?;
        for series in [Series::V7_3, Series::V7_2] {
            let outcome = checkpatch::test(&LinuxChoice::Package(series), &mut report);
            failed_to_run("checkpatch", outcome, &mut report)?;
            let outcome = tree::install_and_remove(series, &mut report);
            failed_to_run("install", outcome, &mut report)?;
            let outcome = tree::lint(series, &mut report);
            failed_to_run(
                "clippy and rustdoc in the kernel tree",
                outcome,
                &mut report,
            )?;
        }
    }
    report.finish()
}

/// Whether there can be packages here, such as the source of a kernel.
fn packages() -> Result<()> {
    let tools = Tools::for_packages(&Cache::open()?)?;
    tools.root().map(|_| ()).context(
        "without a Debian root there is no source of a kernel: `cargo xtask lab test --linux DIR` \
         takes a tree of your own",
    )
}

/// A step that could not be run has failed; the others are run all the same.
fn failed_to_run(what: &str, outcome: Result<()>, report: &mut Report) -> Result<()> {
    match outcome {
        Ok(()) => Ok(()),
        Err(error) => {
            progress::error(&format!("{what}: {}", crate::disk::explain(&error)));
            report.could_not(what, &error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::collections::BTreeSet;
    use std::fs;

    use dpmem_ops::{Script, Setup};
    use regex::Regex;

    use crate::repo;

    /// The tests that there are: scripts, scenarios by their names, functions that are tests, and
    /// what such functions are collected in.
    fn known() -> BTreeSet<String> {
        let test = Regex::new(r"#\[test\](?:\s*#\[[^\]]*\])*\s*fn (\w+)\(").unwrap();
        let suite = Regex::new(r"#\[kunit_tests\((\w+)\)\]").unwrap();
        let scenario = Regex::new(r#"\(\s*"(\w+)",\s*\w+,?\s*\)"#).unwrap();
        let scripts = Setup::ALL.into_iter().flat_map(Script::of);
        let mut known: BTreeSet<_> = scripts.map(|script| script.name.to_owned()).collect();
        for folder in ["dpmem-core", "dpmem-drm", "guest/demo", "hosted"] {
            let sources = walkdir::WalkDir::new(repo::top().join(folder)).into_iter();
            for entry in sources.filter_entry(|entry| entry.file_name() != "target") {
                let entry = entry.unwrap();
                let path = entry.path();
                if path.extension().is_none_or(|ext| ext != "rs") {
                    continue;
                }
                let source = fs::read_to_string(path).unwrap();
                let patterns: &[&Regex] = match folder {
                    "guest/demo" => &[&scenario],
                    _ => &[&test, &suite],
                };
                for pattern in patterns {
                    let found = pattern.captures_iter(&source);
                    known.extend(found.map(|found| found[1].to_owned()));
                }
                let is_program = path
                    .parent()
                    .is_some_and(|folder| folder.ends_with("tests"));
                if folder == "hosted" && is_program {
                    let name = path.file_stem().unwrap().to_string_lossy();
                    known.insert(name.into_owned());
                }
            }
        }
        known
    }

    #[test]
    fn what_shows_it_exists() {
        let known = known();
        let table = repo::top().join("Documentation/capabilities.rst");
        let table = fs::read_to_string(table).unwrap();
        let name = Regex::new(r"``([a-z0-9_]+)``").unwrap();
        let mut rows = 0;
        for row in table.split("\n   * - ").skip(1) {
            let Some((_, shown_by)) = row
                .split_once("\n     - ")
                .unwrap()
                .1
                .split_once("\n     - ")
            else {
                panic!("a row without a third column: {row}");
            };
            let shown_by = shown_by.split("\n\n").next().unwrap();
            if shown_by == "what shows it" {
                continue;
            }
            rows += 1;
            assert!(shown_by.contains("``"), "nothing is named in: {row}");
            for found in name.captures_iter(shown_by) {
                assert!(known.contains(&found[1]), "there is no test {}", &found[1]);
            }
        }
        assert!(rows > 30, "the table has {rows} rows");
    }

    /// Samples have nothing of C's, and ports have it in one file.
    #[test]
    fn what_is_unsafe_is_where_it_belongs() {
        let of_c = Regex::new(r"\bunsafe\b|\bbindings::|\*(mut|const)\s").unwrap();
        let mut ports = 0;
        for folder in ["samples", "drivers"] {
            for entry in walkdir::WalkDir::new(repo::top().join(folder)) {
                let path = entry.unwrap().into_path();
                if path.extension().is_none_or(|ext| ext != "rs") {
                    continue;
                }
                let source = fs::read_to_string(&path).unwrap();
                let found = source.lines().find(|line| of_c.is_match(line));
                if folder == "drivers" && path.ends_with("src/ffi.rs") {
                    assert!(found.is_some(), "{}", path.display());
                    ports += 1;
                } else {
                    assert_eq!(found, None, "{}", path.display());
                }
            }
        }
        // nouveau and xe.
        assert_eq!(ports, 2);
    }

    #[test]
    fn full_is_every_kernel_with_every_driver() {
        let all = all();
        let labels: Vec<String> = all
            .iter()
            .filter(|cell| cell.suites != [SuiteChoice::Mm])
            .map(Cell::label)
            .collect();
        let unique: BTreeSet<&String> = labels.iter().collect();
        for cell in usual() {
            assert!(labels.contains(&cell.label()));
        }
        // Versions, architectures, profiles, and four kernels with a driver.
        assert_eq!(labels.len(), 2 * 2 * 2 * 4);
        assert_eq!(unique.len(), labels.len());
    }
}
