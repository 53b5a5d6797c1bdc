// SPDX-License-Identifier: GPL-2.0

//! A folio is a part of its pagemap.

use dpmem::{DevPagemap, DevPagemapOps, Order};
use kernel::{prelude::*, sync::Arc};

fn wrong<T: DevPagemapOps>(pagemap: Arc<DevPagemap<T>>) -> Result<Order> {
    let folio = pagemap.request_folio(Order::ZERO)?;
    drop(pagemap);
    Ok(folio.order())
}

fn main() {}
