// SPDX-License-Identifier: GPL-2.0

//! The places are given back at once.

#![deny(unused_must_use)]

use dpmem::{Collected, DevPagemapOps};

fn wrong<T: DevPagemapOps>(pages: Collected<'_, T>) {
    pages.fill();
}

fn main() {}
