// SPDX-License-Identifier: GPL-2.0

//! Every open file sees what is published.

use core::cell::Cell;
use dpmem::ModuleSlot;

static SLOT: ModuleSlot<Cell<usize>> = ModuleSlot::new();

fn main() {}
