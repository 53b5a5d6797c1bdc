// SPDX-License-Identifier: GPL-2.0

//! A pagemap is registered where it is.

use dpmem::{DevPagemap, DevPagemapOps, NrPages, NumaNode};

fn wrong<T: DevPagemapOps>(ops: T) -> DevPagemap<T> {
    DevPagemap::new(c"vram", NrPages::new(512), NumaNode::LOCAL, ops)
}

fn main() {}
