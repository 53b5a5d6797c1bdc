// SPDX-License-Identifier: GPL-2.0

//! A folio takes its data with it when it is freed.

use dpmem::{DevPagemapOps, Fault};
use kernel::sync::{Arc, ArcBorrow};

struct Object;

fn wrong<'f, T: DevPagemapOps<Data = Arc<Object>>>(
    fault: Fault<'f, T>,
) -> Option<ArcBorrow<'f, Object>> {
    fault.data()
}

fn main() {}
