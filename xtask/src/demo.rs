// SPDX-License-Identifier: GPL-2.0

//! Stub.

use anyhow::{bail, Result};

use crate::cli::DemoOptions;

/// Runs it.
pub(crate) fn run(_: &DemoOptions) -> Result<bool> {
    bail!("not here yet")
}
