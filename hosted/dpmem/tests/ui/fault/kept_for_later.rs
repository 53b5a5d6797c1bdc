// SPDX-License-Identifier: GPL-2.0

//! A fault is over when it is answered.

use dpmem::{DevPagemapOps, Fault};
use kernel::sync::Mutex;

struct Later<T: DevPagemapOps + 'static> {
    faults: Mutex<Option<Fault<'static, T>>>,
}

fn wrong<T: DevPagemapOps>(later: &Later<T>, fault: Fault<'_, T>) {
    *later.faults.lock() = Some(fault);
}

fn main() {}
