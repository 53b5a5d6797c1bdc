// SPDX-License-Identifier: GPL-2.0

//! Processes whose memory goes to a device and back, in the lab's virtual machine.
//!
//! Without options, it tells the story of one of them. With `--ktap` it is a test program: every
//! scenario is a test, and so is every script of `dpmem-ops`, and each of them says what it found
//! wrong.

mod broken;
mod charge;
mod coherent;
mod cost;
mod counters;
mod debugfs;
mod device;
mod edu;
mod failures;
mod kernel_bugs;
mod mapping;
mod native;
mod nouveau;
mod pagemap;
mod peers;
mod process;
mod scenarios;
mod smaps;
mod storm;
mod story;
mod trace;
mod unload;
mod walk;
mod xe;

use std::{
    path::{
        Path,
        PathBuf, //
    },
    process::ExitCode, //
};

use anyhow::Result;
use clap::Parser;
use dpmem_ops::{
    Script,
    Setup, //
};

use crate::scenarios::Scenario;

#[derive(Parser)]
struct Options {
    /// Print the results of all scenarios as KTAP.
    #[arg(long)]
    ktap: bool,
    /// With `--ktap`, leave out what a kernel without the series cannot do.
    #[arg(long, requires = "ktap")]
    stock: bool,
    /// With `--ktap` or `--walk`, how the driver is loaded, for which there are things to do.
    #[arg(long, default_value_t = Setup::Usual, conflicts_with = "stock")]
    setup: Setup,
    /// With `--ktap`, run what is there for the device of QEMU instead.
    #[arg(long, requires = "ktap", conflicts_with_all = ["stock", "setup"])]
    edu: bool,
    /// With `--edu`, the device is behind an IOMMU.
    #[arg(long, requires = "edu")]
    iommu: bool,
    /// With `--ktap`, let each allocation fail in turn instead; the kernel must be able to.
    #[arg(long, requires = "ktap", conflicts_with_all = ["stock", "edu"])]
    failures: bool,
    /// With `--ktap`, run what is there for memory that CPUs can address instead.
    #[arg(long, requires = "ktap", conflicts_with_all = ["stock", "setup", "edu"])]
    coherent: bool,
    /// With `--ktap`, run what is there for nouveau's memory instead, or the one of it that is
    /// named.
    #[arg(long, requires = "ktap", value_name = "NAME", num_args = 0..=1, conflicts_with_all = ["stock", "setup", "edu", "failures", "coherent"])]
    nouveau: Option<Option<String>>,
    /// With `--ktap`, run what is there for xe's pagemaps instead.
    #[arg(long, requires = "ktap", conflicts_with_all = ["stock", "setup", "edu", "failures", "coherent", "nouveau"])]
    xe: bool,
    /// With `--ktap`, look at the trace as well: the kernel can do that.
    #[arg(long, requires = "ktap")]
    trace: bool,
    /// Try to show a bug of the kernel's core, and print the result as KTAP.
    #[arg(long, value_name = "NAME", conflicts_with = "ktap")]
    kernel_bug: Option<String>,
    /// Only let a little memory migrate, and say what comes of it.
    #[arg(long, conflicts_with_all = ["ktap", "kernel_bug"])]
    try_it: bool,
    /// Say what ordinary things cost, on a machine that counts instructions; the device is not
    /// used.
    #[arg(long, conflicts_with_all = ["ktap", "kernel_bug", "try_it"])]
    cost: bool,
    /// Take steps that are made from numbers, and those of scripts, and say what is seen after
    /// each, for a comparison.
    #[arg(long, conflicts_with_all = ["ktap", "kernel_bug", "try_it", "cost"])]
    walk: bool,
    /// What /proc/iomem said before the driver was loaded: it is to say the same while the device
    /// is in use.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["ktap", "kernel_bug", "try_it", "cost", "walk"])]
    iomem: Option<PathBuf>,
    /// The device; the other one of a pair has the same name but for the last digit.
    device: PathBuf,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let good = if options.failures {
        let scenarios = match options.coherent {
            true => failures::COHERENT,
            false => failures::of(options.setup),
        };
        all(scenarios, &options)
    } else if let Some(name) = &options.nouveau {
        let named = |known: &str| name.as_ref().is_none_or(|name| name == known);
        let failing = match failures::possible() {
            true => nouveau::FAILING,
            false => &[],
        };
        let known = nouveau::ALL.iter().chain(failing);
        let chosen = known.filter(|(known, _)| named(known));
        all(&chosen.copied().collect::<Vec<_>>(), &options)
    } else if options.xe {
        all(xe::ALL, &options)
    } else if options.edu {
        let more = match options.iommu {
            true => edu::REACHING,
            false => edu::NOT_REACHING,
        };
        let mut scenarios = [edu::ALL, more].concat();
        if failures::possible() {
            scenarios.extend(edu::FAILING);
            if options.iommu {
                scenarios.extend(edu::FAILING_REACHING);
            }
        }
        all(&scenarios, &options)
    } else if options.coherent {
        all(coherent::ALL, &options)
    } else if options.ktap && options.setup == Setup::Peers {
        scripts_and(peers::ALL, &options)
    } else if options.ktap && options.setup != Setup::Usual {
        scripts_and(&[], &options)
    } else if options.ktap {
        let mut scenarios = [
            scenarios::ALL,
            scenarios::while_evicted(options.stock),
            broken::ALL,
            counters::ALL,
            charge::ALL,
            storm::all(options.stock),
        ]
        .concat();
        if options.trace {
            scenarios.extend(trace::ALL);
        }
        scenarios.extend(unload::ALL);
        scripts_and(&scenarios, &options)
    } else if let Some(name) = &options.kernel_bug {
        let Some(bug) = kernel_bugs::ALL.iter().find(|(known, _)| known == name) else {
            println!("# {name}: no such bug is known");
            return ExitCode::from(2);
        };
        all(std::slice::from_ref(bug), &options)
    } else if options.cost {
        cost::tell().unwrap_or_else(|err| {
            println!("# {err:#}");
            false
        })
    } else if options.walk {
        walk::all(&options.device, options.setup).unwrap_or_else(|err| {
            println!("# {err:#}");
            false
        })
    } else if options.try_it {
        match story::try_it(&options.device) {
            Ok(good) => good,
            Err(err) => {
                println!("  {err:#}");
                // That says nothing about the device's memory.
                return ExitCode::from(2);
            }
        }
    } else {
        story::tell(&options.device, options.iomem.as_deref()).unwrap_or_else(|err| {
            println!("  FAILED: {err:#}");
            false
        })
    };
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// A test, and its name.
type Test<'a> = (&'a str, Box<dyn Fn(&Path) -> Result<()> + 'a>);

/// A scenario as a test.
fn test<'a>((name, scenario): &(&'a str, Scenario)) -> Test<'a> {
    (name, Box::new(*scenario))
}

/// Runs the scenarios; true if each went well.
fn all(scenarios: &[(&str, Scenario)], options: &Options) -> bool {
    run(scenarios.iter().map(test).collect(), options)
}

/// Runs the scripts for this setup and then the scenarios; true if each went well.
fn scripts_and(scenarios: &[(&str, Scenario)], options: &Options) -> bool {
    let script = |script: Script| -> Test<'_> {
        (
            script.name,
            Box::new(move |device| walk::scenario(device, script)),
        )
    };
    let scripts = Script::of(options.setup).map(script);
    let all = scripts.chain(scenarios.iter().map(test));
    run(all.collect(), options)
}

/// Runs the tests; true if each went well.
fn run(tests: Vec<Test<'_>>, options: &Options) -> bool {
    println!("TAP version 13");
    println!("1..{}", tests.len());
    let mut good = true;
    for (i, (name, test)) in tests.iter().enumerate() {
        let result = test(&options.device);
        if let Err(err) = &result {
            good = false;
            println!("# {name}: {err:#}");
        }
        let word = if result.is_ok() { "ok" } else { "not ok" };
        println!("{word} {} {name}", i + 1);
    }
    good
}
