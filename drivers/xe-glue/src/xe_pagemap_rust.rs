// SPDX-License-Identifier: GPL-2.0

//! xe's device memory for processes: the pagemap part of `xe_svm.c`, in Rust.
//!
//! - `ffi.rs` is the boundary: what xe calls, and what is called of it. All else is safe
//!   code.
//! - `vram.rs` is what xe supplies for DRM's pagemaps: where memory is, and how it is copied.

mod ffi;
mod vram;

/// Prefix of what is printed.
const __LOG_PREFIX: &[u8] = b"xe\0";
