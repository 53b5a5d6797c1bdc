// SPDX-License-Identifier: GPL-2.0

//! Several processes take pages at once: a list of them is behind a lock, or cannot be changed.

use dpmem::{OffsetAllocator, Order, PageOffset};
use kernel::prelude::*;

struct Idle(KVec<PageOffset>);

impl OffsetAllocator for Idle {
    fn allocate(&self, _: Order) -> Option<PageOffset> {
        self.0.pop()
    }

    fn free(&self, _: PageOffset, _: Order) {}
}

fn main() {}
