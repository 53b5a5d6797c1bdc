// SPDX-License-Identifier: GPL-2.0

//! There is nothing to commit yet.

use dpmem::{Collected, DevPagemapOps};

fn wrong<T: DevPagemapOps>(pages: Collected<'_, T>) {
    pages.commit();
}

fn main() {}
