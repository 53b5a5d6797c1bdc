// SPDX-License-Identifier: GPL-2.0

//! The part of a machine that a device belongs to.
//!
//! C header: [`include/linux/numa.h`](srctree/include/linux/numa.h)

use kernel::{
    bindings,
    device::Device,
    prelude::*, //
};

use crate::dma::as_raw;

/// A NUMA node, to which the memory of a device is counted and where the kernel keeps what it needs
/// for it.
///
/// [`kernel::alloc::NumaNode`] cannot be asked for its number, nor does it know whether there is
/// such a node.
///
/// # Invariants
///
/// The node is online, or the number is `NUMA_NO_NODE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NumaNode(i32);

impl NumaNode {
    /// The node of the CPU that registers the memory.
    // INVARIANT: By its value.
    pub const LOCAL: Self = Self(bindings::NUMA_NO_NODE);

    /// The node with the number `node`.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if there is none.
    pub fn new(node: u32) -> Result<Self> {
        if node >= bindings::MAX_NUMNODES {
            return Err(EINVAL);
        }
        // CAST: There are at most 1024 nodes.
        let node = node as i32;
        // SAFETY: The number is one that a node can have.
        if unsafe { bindings::node_online(node) } {
            // INVARIANT: Just checked. What was online once keeps what makes a node.
            Ok(Self(node))
        } else {
            Err(EINVAL)
        }
    }

    /// The node that `device` is near to, or [`NumaNode::LOCAL`] if that is not known.
    pub fn of(device: &Device) -> Self {
        // SAFETY: The device is valid.
        let node = unsafe { bindings::dev_to_node(as_raw(device)) };
        u32::try_from(node).map_or(Self::LOCAL, |node| Self::new(node).unwrap_or(Self::LOCAL))
    }

    /// The number.
    pub(crate) fn as_raw(self) -> i32 {
        self.0
    }
}
