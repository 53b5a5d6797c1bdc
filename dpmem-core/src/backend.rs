// SPDX-License-Identifier: GPL-2.0

//! Where the `struct page`s of device memory come from.
//!
//! A backend registers a range of device memory with the kernel, puts folios of it into service,
//! and converts between pages and offsets. Nothing outside of it knows more of a page than its
//! offset.

mod stock;

pub(crate) use stock::Backend;
