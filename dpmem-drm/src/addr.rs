// SPDX-License-Identifier: GPL-2.0

//! Addresses by which a device reaches memory.

use kernel::{
    bindings,
    prelude::*, //
};

use dpmem::Order;

/// How a device reaches memory: its own, that of a peer, or the system's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocol(u64);

impl Protocol {
    /// Through the DMA API.
    // CAST: A small number.
    pub const SYSTEM: Self =
        Self(bindings::drm_interconnect_protocol_DRM_INTERCONNECT_SYSTEM as u64);

    /// The `nth` of the driver's own; the first is 0.
    pub const fn of_driver(nth: u8) -> Self {
        // CAST: Small numbers.
        let first = bindings::drm_interconnect_protocol_DRM_INTERCONNECT_DRIVER as u64;
        // OVERFLOW: As above.
        Self(first + nth as u64)
    }
}

/// An address by which a device reaches a folio, or nothing.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Addr(bindings::drm_pagemap_addr);

impl Addr {
    /// The address `addr` of a folio of `order`.
    pub(crate) fn new(
        addr: u64,
        protocol: Protocol,
        order: Order,
        dir: bindings::dma_data_direction,
    ) -> Self {
        // CAST: The bits of the number are what counts; it is small.
        let protocol = protocol.0 as bindings::drm_interconnect_protocol;
        // SAFETY: The function only puts the four together.
        Self(unsafe { bindings::drm_pagemap_addr_encode(addr, protocol, order.get(), dir) })
    }

    /// As C has it.
    pub(crate) fn into_raw(self) -> bindings::drm_pagemap_addr {
        self.0
    }

    /// The address, if there is one.
    pub fn get(&self) -> Option<u64> {
        (self.0.addr != 0).then_some(self.0.addr)
    }

    /// The direction for which it was mapped.
    pub(crate) fn dir(&self) -> bindings::dma_data_direction {
        // SAFETY: The function only looks at it.
        unsafe { bindings::drm_pagemap_addr_dir(&self.0) }
    }

    /// How it is reached.
    pub fn protocol(&self) -> Protocol {
        Protocol(self.0.proto())
    }

    /// How large the folio is that begins there.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] for one that cannot be.
    pub fn order(&self) -> Result<Order> {
        Order::new(self.0.order().try_into()?)
    }
}
