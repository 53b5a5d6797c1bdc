// SPDX-License-Identifier: GPL-2.0

//! `--suite dpmem`: our own programs in the guest.

use anyhow::Result;

use super::demo::{self, On};
use super::{walk, Context};
use crate::cli::{KernelChoice, Profile};
use crate::guest::programs;
use crate::ktap::Status;
use crate::report::{Report, Test};
use crate::version::Series;

/// The program again, for devices that reach each other's memory.
const PEERS: &str = "peers";

/// And again, with the memory of the device in the hands of a buddy allocator.
const BUDDY: &str = "buddy";

/// And again, with each allocation failing in turn.
const FAILURES: &str = "failures";

/// And its scenarios for a device of QEMU, which copies by DMA.
const EDU: &str = "edu";

/// And takes the steps that are made from numbers or written down, which the hosted build takes as
/// well.
const WALK: &str = "walk";

/// The same, for devices that reach each other's memory.
const WALK_PEERS: &str = "walk_peers";

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
    let peers = ["peers=1".to_owned()];
    // As much memory as the simulated devices have.
    let memory = ["memory_mib=".to_owned() + &dpmem_ops::DEVICE_MIB.to_string()];
    let memory_and_peers = [memory.clone(), peers.clone()].concat();
    let buddy = ["allocator=1".to_owned()];
    let mut runs = vec![
        demo::Run {
            name: programs::DEMO,
            on: On::Hmm,
            options: &options,
            parameters: &[],
        },
        demo::Run {
            name: PEERS,
            on: On::Hmm,
            options: &["--ktap", "--peers"],
            parameters: &peers,
        },
    ];
    // Which allocator there is does not depend on the kernel.
    if context.thorough && context.options.kernel == KernelChoice::Dpmem {
        runs.push(demo::Run {
            name: BUDDY,
            on: On::Hmm,
            options: &untraced,
            parameters: &buddy,
        });
    }
    if !walk::subjects(context, false).is_empty() {
        runs.push(demo::Run {
            name: WALK,
            on: On::Hmm,
            options: &["--walk"],
            parameters: &memory,
        });
    }
    if !walk::subjects(context, true).is_empty() {
        runs.push(demo::Run {
            name: WALK_PEERS,
            on: On::Hmm,
            options: &["--walk", "--peers"],
            parameters: &memory_and_peers,
        });
    }
    // The kernel with all checks can fail on purpose.
    if context.kernel.profile == Profile::Debug {
        runs.push(demo::Run {
            name: FAILURES,
            on: On::Hmm,
            options: &["--ktap", "--failures"],
            parameters: &[],
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
    if context.filter.needs(WALK) {
        runs.retain(|run| run.name.contains(WALK));
    }
    let booted = demo::boot(context, &suite, &runs, report)?;
    let mut tests = Vec::new();
    for run in &runs {
        if run.name.contains(WALK) {
            let peers = run.name == WALK_PEERS;
            tests.extend(walk::tests(context, &suite, &booted, run.name, peers)?);
            continue;
        }
        // The same tests as in the first run.
        let suite = match run.name {
            BUDDY => format!("{suite}/{BUDDY}"),
            _ => suite.clone(),
        };
        tests.extend(booted.tests(&suite, run.name, None, context.filter));
    }
    if !context.thorough {
        let mut buddy = Test::new(&suite, BUDDY, Ok(()), 0.0);
        buddy.status = Status::Skip;
        buddy.reason = Some("the same tests with another allocator: --full has them".to_owned());
        tests.push(buddy);
    }
    booted.finish(context, &suite, report)?;
    context.add(tests, &suite, report)
}
