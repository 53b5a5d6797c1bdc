// SPDX-License-Identifier: GPL-2.0

//! The devices of a group have one driver.

use dpmem::{DevPagemap, DevPagemapOps, NrPages, NumaNode, PeerGroup};
use kernel::{prelude::*, sync::Arc};

fn wrong<T: DevPagemapOps, U: DevPagemapOps>(
    group: Arc<PeerGroup<U>>,
    ops: T,
) -> impl PinInit<DevPagemap<T>, Error> {
    DevPagemap::<T>::new_in(group, c"vram", NrPages::new(512), NumaNode::LOCAL, ops)
}

fn main() {}
