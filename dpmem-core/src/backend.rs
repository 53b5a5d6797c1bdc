// SPDX-License-Identifier: GPL-2.0

//! Where the `struct page`s of device memory come from.
//!
//! A backend registers a range of device memory with the kernel, puts folios of it into service,
//! and converts between pages and offsets. Nothing outside of it knows more of a page than its
//! offset.
//!
//! `Kbuild.rust` sets `dpmem_offset` where the kernel has an index space for device memory.

#[cfg(dpmem_offset)]
mod offset;
#[cfg(not(dpmem_offset))]
mod stock;

#[cfg(dpmem_offset)]
pub(crate) use offset::Backend;
#[cfg(not(dpmem_offset))]
pub(crate) use stock::Backend;
