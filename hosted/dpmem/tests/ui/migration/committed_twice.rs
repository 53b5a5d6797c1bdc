// SPDX-License-Identifier: GPL-2.0

//! Pages move once.

use dpmem::{Copied, DevPagemapOps};

fn wrong<T: DevPagemapOps>(pages: Copied<'_, T>) {
    pages.commit();
    pages.commit();
}

fn main() {}
