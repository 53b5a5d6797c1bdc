// SPDX-License-Identifier: GPL-2.0

//! Whoever kept the guard would keep the driver from being unbound.

use dpmem::{BoundPagemap, DevPagemapOps, PagemapGuard};
use kernel::sync::Mutex;

fn wrong<T: DevPagemapOps + 'static>(
    bound: &BoundPagemap<T>,
    kept: &Mutex<Option<PagemapGuard<'static, T>>>,
) {
    *kept.lock() = bound.access();
}

fn main() {}
