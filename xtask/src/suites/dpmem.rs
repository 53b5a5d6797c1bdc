// SPDX-License-Identifier: GPL-2.0

//! Stub.

use anyhow::{bail, Result};

use super::Context;
use crate::report::Report;

/// Runs the suite.
pub(crate) fn run(_: &Context<'_>, _: &mut Report) -> Result<()> {
    bail!("not here yet")
}
