// SPDX-License-Identifier: GPL-2.0

//! Stub.

use anyhow::{bail, Result};

use crate::cli::TestOptions;

/// Runs it.
pub(crate) fn run(_: &TestOptions) -> Result<bool> {
    bail!("not here yet")
}
