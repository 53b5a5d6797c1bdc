// SPDX-License-Identifier: GPL-2.0

//! A folio that was dropped is the allocator's.

use dpmem::{DevPagemapOps, Order, RequestedFolio};

fn wrong<T: DevPagemapOps>(folio: RequestedFolio<'_, T>) -> Order {
    drop(folio);
    folio.order()
}

fn main() {}
