// SPDX-License-Identifier: GPL-2.0

//! DRM's pagemaps, for drivers in Rust.
//!
//! DRM has code that GPU drivers share for memory of processes on a card: it migrates, evicts and
//! handles faults, and a driver supplies the places on its card, and copies. This crate is the safe
//! layer over it, as the crate `dpmem` is over what the kernel's core has. A driver without DRM
//! uses that one alone.
//!
//! - [`Pagemap`] is a `struct drm_pagemap` with its device memory, which is registered as `dpmem`
//!   registers it. It is counted: [`PagemapRef`].
//! - [`PagemapOps`] is what a driver supplies.
//! - [`Cache`] keeps a pagemap that nobody uses, for the next who wants one; [`Shrinker`] empties
//!   caches when memory is short.
//! - [`OwnerList`] and [`Peer`] say which devices reach each other's memory.
//!
//! # Context
//!
//! A function whose documentation says nothing of it neither sleeps nor takes a lock, and may be
//! called in any context.
//!
//! C headers: [`include/drm/drm_pagemap.h`](srctree/include/drm/drm_pagemap.h),
//! [`include/drm/drm_pagemap_util.h`](srctree/include/drm/drm_pagemap_util.h)

#![no_std]
#![cfg_attr(CONFIG_RUST, feature(used_with_arg))]

// What `abi.rs` compares.
use kernel::bindings;

mod abi;
mod addr;
mod cache;
mod copy;
mod devmem;
mod fence;
mod ops;
mod pagemap;
mod peer;
#[cfg(CONFIG_RUST_DPMEM_KUNIT_TEST)]
mod tests;

pub use addr::{
    Addr,
    Protocol, //
};
pub use cache::{
    Cache,
    Shrinker, //
};
pub use copy::{
    Run,
    Way, //
};
pub use devmem::{
    Devmem,
    Places,
    ReleasedDevmem, //
};
pub use fence::Fence;
pub use ops::{
    devmem_ops,
    PagemapOps, //
};
pub use pagemap::{
    Pagemap,
    PagemapRef, //
};
pub use peer::{
    Interconnect,
    OwnerList,
    Peer, //
};

/// Prefix of what the crate prints.
const __LOG_PREFIX: &[u8] = b"dpmem_drm\0";
