// SPDX-License-Identifier: GPL-2.0

//! `--suite dpmem`: our own programs in the guest.

use anyhow::Result;

use super::{demo, Context};
use crate::cli::KernelChoice;
use crate::guest::programs;
use crate::report::Report;

/// Runs the suite.
pub(crate) fn run(context: &Context<'_>, report: &mut Report) -> Result<()> {
    let suite = context.suite("dpmem");
    let options = match context.options.kernel {
        KernelChoice::Dpmem => &["--ktap"][..],
        KernelChoice::Stock => &["--ktap", "--stock"],
    };
    let booted = demo::boot(context, &suite, options, &[], report)?;
    for test in booted.tests(&suite, programs::DEMO, None) {
        if context.filter.takes(&test.name) {
            report.add(test)?;
        }
    }
    booted.finish(context, &suite, report)
}
