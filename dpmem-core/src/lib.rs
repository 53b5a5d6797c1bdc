// SPDX-License-Identifier: GPL-2.0

//! Device-private memory for GPU and accelerator drivers.
//!
//! Device-private memory is memory of a device that the CPU cannot address, and that a process
//! nevertheless sees as its own: the page table holds a special entry, and a CPU access faults the
//! data back. This crate is the safe layer over the kernel's interface to it.
//!
//! - [`DevPagemap`] is a registered range of device memory: it is registered exactly while the
//!   value lives, and dropping it brings every page home first.
//! - [`DevPagemapOps`] is what a driver supplies: an [`OffsetAllocator`], which decides which page
//!   of the device is handed out, and a [`CopyEngine`], which moves the bytes.
//!   `#[derive(DevPagemapOps)]` makes one out of a struct with these two fields.
//! - [`MigrateVma`] moves pages of a process to the device and back. A migration is a sequence of
//!   types, each of which is consumed by the next: [`Collected`], [`Filled`], [`Copied`],
//!   [`Committed`]. Dropping one before the commit restores what was.
//! - [`Mirror`] is the address space of a process as the device sees it.
//!
//! A driver never sees a page frame number, a physical address or an idle page, unless it leaves its
//! pages to code in C ([`ForeignPagemap`]). Device memory is named by [`PageOffset`], relative to its
//! pagemap.
//!
//! # Context
//!
//! A function whose documentation says nothing of it neither sleeps nor takes a lock, and may be
//! called in any context. Of a value that may sleep when it is dropped, its type says so.
//!
//! Reference: <https://docs.kernel.org/mm/hmm.html>

#![no_std]
#![cfg_attr(CONFIG_RUST, feature(used_with_arg))]
// How a tracepoint is switched on. Stable since Rust 1.87.
#![cfg_attr(CONFIG_JUMP_LABEL, feature(asm_goto))]

// The derive macro writes `::dpmem::`, and this crate's own tests use it.
#[allow(unused_extern_crates)]
extern crate self as dpmem;

// What `abi.rs` compares.
use kernel::bindings;

mod abi;
mod backend;
mod bits;
mod bound;
mod copy;
mod counters;
mod data;
mod dma;
mod evict;
mod fault;
mod flight;
mod folio;
mod foreign;
mod hmm_pfn;
mod lock;
mod memory;
mod migrate;
mod migrate_pfn;
mod mirror;
mod module;
mod node;
mod number;
mod offsets;
mod ops;
mod pagemap;
mod peers;
mod resource;
#[cfg(CONFIG_RUST_DPMEM_KUNIT_TEST)]
mod tests;
mod vma;

pub use bound::{
    BoundPagemap,
    PagemapGuard, //
};
pub use copy::{
    Batch,
    CopyEngine,
    DevicePages,
    DevicePagesMut,
    Fence,
    RamPage,
    RamPageMut,
    RamPages,
    RamPagesMut,
    Transfer, //
};
pub use counters::DebugfsRoot;
pub use data::FolioData;
pub use dma::{
    DmaDevice,
    DmaMap,
    DmaMapped,
    DmaPages, //
};
pub use dpmem_macros::DevPagemapOps;
pub use fault::{
    Fault,
    FaultAnswer,
    FaultError, //
};
pub use folio::RequestedFolio;
pub use foreign::ForeignPagemap;
pub use memory::DeviceMemory;
pub use migrate::{
    Collected,
    Committed,
    Copied,
    Filled,
    MigrateBuffer,
    MigrateVma, //
};
pub use mirror::{
    Access,
    BoundMirrors,
    DevicePlace,
    HmmBuffer,
    Location,
    Mirror,
    PageState,
    PageTable,
    Place,
    Visited, //
};
pub use module::{
    ModuleSlot,
    Published, //
};
pub use node::NumaNode;
pub use number::{
    NrPages,
    Order,
    PageOffset,
    PhysRange,
    UserAddr,
    UserRange, //
};
#[cfg(CONFIG_GPU_BUDDY = "y")]
pub use offsets::BuddyOffsets;
pub use offsets::{
    BitmapOffsets,
    ChunkOffsets,
    ChunkSource,
    OffsetAllocator, //
};
pub use ops::DevPagemapOps;
pub use pagemap::DevPagemap;
pub use peers::PeerGroup;

/// Prefix of what the crate prints.
const __LOG_PREFIX: &[u8] = b"dpmem\0";
