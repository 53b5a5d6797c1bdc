// SPDX-License-Identifier: GPL-2.0

//! `lab machines`: the series on machines and configurations of other kinds, as a list has them.

use anyhow::{anyhow, bail, Result};
use serde::Deserialize;

use super::{failed_to_run, Cell};
use crate::arch::Arch;
use crate::cli::{
    config_symbol, kernel_arguments, Driver, MachineOptions, MachinesOptions, Profile, SuiteChoice,
};
use crate::progress;
use crate::repo;
use crate::report::Report;
use crate::suites::Filter;
use crate::version::Series;

/// The list.
const LIST: &str = "xtask/suites/machines.toml";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    machine: Vec<Machine>,
}

/// One of them, and what runs there.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Machine {
    name: String,
    /// What is special about it, for people.
    what: String,
    arch: Arch,
    cpu: Option<String>,
    append: Option<String>,
    #[serde(default)]
    config: Vec<String>,
    /// Shell lines that do not fail in such a machine.
    #[serde(default)]
    checks: Vec<String>,
    /// The suites that run with upstream's driver.
    #[serde(default)]
    c: Vec<SuiteChoice>,
    /// The suites that run with ours.
    #[serde(default)]
    rust: Vec<SuiteChoice>,
}

impl Machine {
    fn options(&self) -> Result<MachineOptions> {
        let append = self.append.as_deref().map(kernel_arguments).transpose();
        Ok(MachineOptions {
            cpu: self.cpu.clone(),
            append: append.map_err(|error| self.wrong(&error))?,
            // KVM has what the host's CPU has.
            emulated: self.cpu.is_some(),
            checks: self.checks.clone(),
            ..MachineOptions::default()
        })
    }

    /// The cells of a test with it, one for each driver.
    fn cells(&self, series: Series) -> Result<Vec<Cell>> {
        let config = self.config.iter().map(|line| config_symbol(line));
        let config: Vec<String> = config
            .collect::<Result<_, _>>()
            .map_err(|error| self.wrong(&error))?;
        let machine = self.options()?;
        let suites = [(Driver::C, &self.c), (Driver::Rust, &self.rust)];
        let cell = |(driver, suites): (Driver, &Vec<SuiteChoice>)| Cell {
            driver: Some(driver),
            suites: suites.clone(),
            thorough: false,
            name: Some(self.name.clone()),
            config: config.clone(),
            machine: machine.clone(),
            ..Cell::dpmem(series, self.arch, Profile::Plain)
        };
        let with_suites = suites.into_iter().filter(|(_, suites)| !suites.is_empty());
        Ok(with_suites.map(cell).collect())
    }

    fn wrong(&self, error: &str) -> anyhow::Error {
        anyhow!("{LIST}: {}: {error}", self.name)
    }
}

/// Reads the list.
fn load() -> Result<Vec<Machine>> {
    Ok(repo::toml::<List>(LIST)?.machine)
}

/// Runs `lab machines`; false if something failed.
pub(crate) fn run(options: &MachinesOptions) -> Result<bool> {
    let mut report = Report::new("machines")?;
    test(options.linux, &options.filter, &mut report).map_err(|error| report.ended_by(error))?;
    report.finish()
}

/// Tests on the machines that one of the patterns takes, or on all if there is none.
pub(super) fn test(series: Series, patterns: &[String], report: &mut Report) -> Result<()> {
    let filters = patterns.iter().map(|pattern| Filter::new(Some(pattern)));
    let filters: Vec<Filter> = filters.collect::<Result<_>>()?;
    let takes = |name: &str| filters.is_empty() || filters.iter().any(|of| of.takes(name));
    let mut machines = load()?;
    machines.retain(|machine| takes(&machine.name));
    if machines.is_empty() {
        bail!("no machine of {LIST} matches the filter");
    }
    // What is wrong with the list is said before anything is made that takes minutes.
    let cells = machines.iter().map(|machine| machine.cells(series));
    let cells: Vec<Vec<Cell>> = cells.collect::<Result<_>>()?;
    for (machine, cells) in machines.iter().zip(&cells) {
        progress::say(format!("{}: {}", machine.name, machine.what));
        for cell in cells {
            let outcome = cell.run(report);
            failed_to_run(&cell.label(), outcome, report)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::collections::BTreeSet;

    /// The cells of all machines of the list.
    fn all() -> Vec<(Machine, Vec<Cell>)> {
        let cells = |machine: Machine| {
            let cells = machine.cells(Series::V7_3).unwrap();
            (machine, cells)
        };
        load().unwrap().into_iter().map(cells).collect()
    }

    #[test]
    fn each_has_a_name_and_something_to_run() {
        let mut names = BTreeSet::new();
        let mut labels = BTreeSet::new();
        for (machine, cells) in all() {
            assert!(!cells.is_empty(), "{} runs nothing", machine.name);
            assert!(!machine.what.is_empty(), "{}", machine.name);
            assert!(!machine.checks.is_empty(), "{} is not told", machine.name);
            for cell in cells {
                assert!(
                    labels.insert(cell.label()),
                    "{} is there twice",
                    cell.label()
                );
            }
            // It is a part of the names of folders.
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(machine.name.chars().all(plain), "{}", machine.name);
            assert!(names.insert(machine.name));
        }
    }

    #[test]
    fn each_suite_has_its_driver() {
        for (_, cells) in all() {
            for cell in cells {
                for suite in &cell.suites {
                    let taken = cell.driver.is_some_and(|driver| suite.takes(driver));
                    assert!(taken, "{}", cell.label());
                    // One is a kernel of its own, and the other is none.
                    assert!(!matches!(suite, SuiteChoice::Mm | SuiteChoice::All));
                }
            }
        }
    }

    #[test]
    fn those_of_one_kernel_are_together() {
        let mut before: Vec<(Arch, Vec<String>)> = Vec::new();
        for (machine, cells) in all() {
            let kernel = (machine.arch, cells[0].config.clone());
            if before.last() != Some(&kernel) {
                assert!(!before.contains(&kernel), "{} comes late", machine.name);
                before.push(kernel);
            }
        }
    }

    /// And a machine without anything special is the one that other tests have.
    #[test]
    fn a_processor_is_emulated_where_it_is_said() {
        for (machine, cells) in all() {
            for cell in cells {
                assert_eq!(cell.machine.emulated, machine.cpu.is_some());
                assert!(cell.machine != MachineOptions::default() || !cell.config.is_empty());
                assert!(!cell.thorough);
            }
        }
    }

    /// What the series has to be tested on, by what makes it so.
    #[test]
    fn what_has_to_be_there_is_there() {
        use SuiteChoice::{Bugs, Dpmem, Hmm, Kunit};
        let all = all();
        let there = |arch: Arch, text: &str, c: &[SuiteChoice], rust: &[SuiteChoice]| {
            let says = |cell: &Cell| format!("{:?} {:?}", cell.machine, cell.config).contains(text);
            let (machine, _) = all
                .iter()
                .find(|(machine, cells)| machine.arch == arch && says(&cells[0]))
                .unwrap_or_else(|| panic!("no machine has {text}"));
            assert_eq!((&*machine.c, &*machine.rust), (c, rust), "{text}");
        };
        let x86 = |text, c: &[_], rust: &[_]| there(Arch::X86_64, text, c, rust);
        x86("max,phys-bits=36", &[Hmm, Bugs], &[Kunit]);
        x86("max,phys-bits=40", &[Hmm], &[]);
        x86("max,phys-bits=46", &[Hmm], &[]);
        x86("max,phys-bits=52", &[Hmm], &[]);
        x86("nokaslr", &[Hmm], &[]);
        x86("no5lvl", &[Hmm], &[Kunit]);
        x86("Skylake-Server,phys-bits=46", &[Hmm, Bugs], &[Kunit]);
        x86("Skylake-Server,phys-bits=36", &[Hmm], &[Kunit]);
        x86("l1tf=flush", &[Hmm, Bugs], &[Kunit]);
        x86("hugetlb_free_vmemmap=on", &[Hmm], &[Kunit]);
        x86("HUGETLB_PAGE_OPTIMIZE_VMEMMAP=n", &[Hmm], &[Kunit]);
        x86("TRANSPARENT_HUGEPAGE=n", &[], &[Hmm, Kunit]);
        for of_both in ["DMA_CMA=y", "DEBUG_VM=y", "DEBUG_PAGE_REF=y", "page_ref:*"] {
            x86(of_both, &[Hmm], &[Kunit]);
        }
        there(Arch::Arm64, "52-bit", &[Hmm, Bugs], &[Kunit, Dpmem]);
        let va_39 = "ARM64_VA_BITS_39=y";
        there(Arch::Arm64, va_39, &[Hmm, Bugs], &[Kunit, Dpmem]);
    }
}
