// SPDX-License-Identifier: GPL-2.0

//! Memory of processes on the card: `nouveau_dmem.c`, in Rust.
//!
//! - `ffi.rs` is the boundary: what nouveau calls, and what is called of it. All else is safe
//!   code.
//! - `dmem.rs` is the life of the memory: registered, asleep, gone.
//! - `power.rs` knows whether the card is asleep.
//! - `vram.rs` is what nouveau supplies for it: where memory comes from, and how it is copied.

mod dmem;
mod ffi;
mod power;
mod vram;

/// Prefix of what is printed.
const __LOG_PREFIX: &[u8] = b"nouveau\0";
