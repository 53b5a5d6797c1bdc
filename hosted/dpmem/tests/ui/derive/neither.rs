// SPDX-License-Identifier: GPL-2.0

//! Both parts are missing, and both are said.

use dpmem::DevPagemapOps;

#[derive(DevPagemapOps)]
struct Vram {
    size: usize,
}

fn main() {}
