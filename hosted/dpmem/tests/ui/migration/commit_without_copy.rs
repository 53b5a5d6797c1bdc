// SPDX-License-Identifier: GPL-2.0

//! Pages would move, and their content would not.

use dpmem::{Collected, DevPagemapOps};

fn wrong<T: DevPagemapOps>(pages: Collected<'_, T>) {
    pages.fill().commit();
}

fn main() {}
