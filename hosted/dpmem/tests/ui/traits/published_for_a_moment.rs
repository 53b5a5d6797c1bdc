// SPDX-License-Identifier: GPL-2.0

//! What is published is taken back at once.

#![deny(unused_must_use)]

use dpmem::ModuleSlot;
use kernel::{prelude::*, sync::Arc};

static SLOT: ModuleSlot<usize> = ModuleSlot::new();

fn wrong() -> Result {
    SLOT.publish(Arc::new(1, GFP_KERNEL)?)?;
    Ok(())
}

fn main() {}
