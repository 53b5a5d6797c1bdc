// SPDX-License-Identifier: GPL-2.0

//! `--suite dpmem`: our own programs in the guest.

use anyhow::Result;
use dpmem_ops::Setup;

use super::demo::{self, On};
use super::{driver, walk, Context};
use crate::arch::Arch;
use crate::cli::{KernelChoice, Profile};
use crate::guest::programs;
use crate::ktap::Status;
use crate::report::{Report, Test};
use crate::version::Series;

/// The program again, for devices that reach each other's memory.
const PEERS: &str = "peers";

/// And again, for a driver that brings windows of pages home.
const WINDOWS: &str = "windows";

/// And for one that does both.
const PEER_WINDOWS: &str = "peer_windows";

/// And for memory that CPUs can address.
const COHERENT: &str = "coherent";

/// And again, with the memory of the device in the hands of a buddy allocator.
const BUDDY: &str = "buddy";

/// And its scenarios for a device of QEMU, which copies by DMA.
const EDU: &str = "edu";

/// And again, with the device behind an IOMMU: without, it does not reach all memory.
const IOMMU: &str = "iommu";

/// The IOMMU of a machine, for which its kernel has a driver.
const fn iommu(arch: Arch) -> Option<&'static str> {
    match arch {
        Arch::X86_64 => Some("intel-iommu"),
        Arch::Arm64 => None,
    }
}

/// How the program is called, with each allocation failing in turn.
const FAILURES: [(&str, On, &[&str], Setup); 4] = [
    (
        "failures",
        On::Hmm(driver::DEVICE),
        &["--ktap", "--failures"],
        Setup::Usual,
    ),
    (
        "failures_peers",
        On::Hmm(driver::DEVICE),
        &["--ktap", "--failures", "--setup", "peers"],
        Setup::Peers,
    ),
    (
        "failures_windows",
        On::Hmm(driver::DEVICE),
        &["--ktap", "--failures", "--setup", "windows"],
        Setup::Windows,
    ),
    (
        "failures_coherent",
        On::Hmm(driver::COHERENT),
        &["--ktap", "--failures", "--coherent"],
        Setup::Usual,
    ),
];

/// The first of these again, with a buddy allocator, which allocates as well.
const FAILURES_BUDDY: &str = "failures_buddy";

/// And it takes the steps that are made from numbers or written down, which the hosted build takes
/// as well.
const WALKS: [(&str, Setup); 4] = [
    ("walk", Setup::Usual),
    ("walk_peers", Setup::Peers),
    ("walk_windows", Setup::Windows),
    ("walk_peer_windows", Setup::PeerWindows),
];

/// What the driver is told to be loaded so.
fn parameters(setup: Setup) -> Vec<String> {
    setup
        .parameters()
        .map(|(name, value)| format!("{name}={value}"))
        .collect()
}

/// Runs the suite.
pub(crate) fn run(context: &Context<'_>, report: &mut Report) -> Result<()> {
    let suite = context.suite("dpmem");
    let mut options = vec!["--ktap"];
    if context.options.kernel == KernelChoice::Stock {
        options.push("--stock");
    }
    // The trace names the pages of the allocator that hands them out in order.
    let untraced = options.clone();
    if context.kernel.profile == Profile::Debug {
        options.push("--trace");
    }
    let [peers, windows, both] = [Setup::Peers, Setup::Windows, Setup::PeerWindows].map(parameters);
    let buddy = ["allocator=1".to_owned()];
    let mut runs = vec![
        demo::Run {
            name: programs::DEMO,
            on: On::Hmm(driver::DEVICE),
            options: &options,
            parameters: &[],
        },
        demo::Run {
            name: PEERS,
            on: On::Hmm(driver::DEVICE),
            options: &["--ktap", "--setup", "peers"],
            parameters: &peers,
        },
        demo::Run {
            name: WINDOWS,
            on: On::Hmm(driver::DEVICE),
            options: &["--ktap", "--setup", "windows"],
            parameters: &windows,
        },
        demo::Run {
            name: PEER_WINDOWS,
            on: On::Hmm(driver::DEVICE),
            options: &["--ktap", "--setup", "peer_windows"],
            parameters: &both,
        },
        demo::Run {
            name: COHERENT,
            on: On::Hmm(driver::COHERENT),
            options: &["--ktap", "--coherent"],
            parameters: &[],
        },
    ];
    // Which allocator there is does not depend on the kernel.
    if context.thorough && context.options.kernel == KernelChoice::Dpmem {
        runs.push(demo::Run {
            name: BUDDY,
            on: On::Hmm(driver::DEVICE),
            options: &untraced,
            parameters: &buddy,
        });
    }
    // As much memory as the simulated devices have.
    let memory = format!("memory_mib={}", dpmem_ops::DEVICE_MIB);
    let walks: Vec<_> = WALKS
        .into_iter()
        .filter(|(_, setup)| !walk::subjects(context, *setup).is_empty())
        .map(|(name, setup)| {
            let parameters = [vec![memory.clone()], parameters(setup)].concat();
            (name, ["--walk", "--setup", setup.name()], parameters)
        })
        .collect();
    runs.extend(walks.iter().map(|(name, options, parameters)| demo::Run {
        name,
        on: On::Hmm(driver::DEVICE),
        options,
        parameters,
    }));
    // The kernel with all checks can fail on purpose.
    let failures =
        FAILURES.map(|(name, on, options, setup)| (name, on, options, parameters(setup)));
    if context.kernel.profile == Profile::Debug {
        runs.extend(
            failures
                .iter()
                .map(|(name, on, options, parameters)| demo::Run {
                    name,
                    on: *on,
                    options,
                    parameters,
                }),
        );
        runs.push(demo::Run {
            name: FAILURES_BUDDY,
            on: On::Hmm(driver::DEVICE),
            options: &["--ktap", "--failures"],
            parameters: &buddy,
        });
    }
    // The sample for it is written for the newer kernel.
    if context.kernel.series == Series::V7_3 {
        runs.push(demo::Run {
            name: EDU,
            on: On::Edu,
            options: &["--ktap", "--edu"],
            parameters: &[],
        });
    }
    // The others have no test of such a name, and take their time.
    if context.filter.needs("walk") {
        runs.retain(|run| walk_of(run).is_some());
    } else if context.filter.needs("failing_") {
        let mut names = vec![FAILURES_BUDDY];
        names.extend(FAILURES.map(|(name, ..)| name));
        runs.retain(|run| names.contains(&run.name) || run.on == On::Edu);
    } else if context.filter.needs("edu_") {
        runs.retain(|run| run.on == On::Edu);
    }
    let booted = demo::boot(context, &suite, &[], &runs, report)?;
    let mut tests = Vec::new();
    for run in &runs {
        if let Some(setup) = walk_of(run) {
            tests.extend(walk::tests(context, &suite, &booted, run.name, setup)?);
            continue;
        }
        // The same tests as in the first run.
        let suite = match run.name {
            BUDDY | FAILURES_BUDDY => format!("{suite}/{BUDDY}"),
            _ => suite.clone(),
        };
        tests.extend(booted.tests(&suite, run.name, None, context.filter));
    }
    let found = !tests.is_empty();
    if !context.thorough {
        let mut buddy = Test::new(&suite, BUDDY, Ok(()), 0.0);
        buddy.status = Status::Skip;
        buddy.reason = Some("the same tests with another allocator: --full has them".to_owned());
        tests.push(buddy);
    }
    booted.finish(context, &suite, report)?;
    if found {
        context.add(tests, &suite, report)?;
    }
    // The first run has the device without one.
    let on_machine = runs.iter().any(|run| run.on == On::Edu);
    let more = match iommu(context.kernel.arch).filter(|_| on_machine) {
        Some(device) => behind(context, device, report)?,
        None => Vec::new(),
    };
    // What a filter asks for may be in one of both.
    if found && more.is_empty() {
        return Ok(());
    }
    context.add(more, &suite, report)
}

/// Runs what is there for the device of QEMU behind an IOMMU.
fn behind(context: &Context<'_>, iommu: &str, report: &mut Report) -> Result<Vec<Test>> {
    let suite = format!("{}/{IOMMU}", context.suite("dpmem"));
    let run = demo::Run {
        name: EDU,
        on: On::Edu,
        options: &["--ktap", "--edu", "--iommu"],
        parameters: &[],
    };
    let booted = demo::boot(context, &suite, &[iommu], &[run], report)?;
    let tests = booted.tests(&suite, EDU, None, context.filter);
    booted.finish(context, &suite, report)?;
    Ok(tests)
}

/// How the driver is loaded for a run of walks.
fn walk_of(run: &demo::Run<'_>) -> Option<Setup> {
    let mut walks = WALKS.into_iter();
    walks
        .find(|(name, _)| *name == run.name)
        .map(|(_, setup)| setup)
}
