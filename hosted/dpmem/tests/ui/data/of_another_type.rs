// SPDX-License-Identifier: GPL-2.0

//! What is given to folios is what the engine and the faults see.

use dpmem::{Collected, DevPagemapOps, Filled};
use kernel::sync::Arc;

struct Object;

fn wrong<'m, T: DevPagemapOps<Data = Arc<Object>>>(pages: Collected<'m, T>) -> Filled<'m, T> {
    pages.fill_with(|_| 7u64)
}

fn main() {}
