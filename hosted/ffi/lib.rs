// SPDX-License-Identifier: GPL-2.0

//! The kernel's `rust/ffi.rs`.

#![no_std]

include!(concat!(env!("OUT_DIR"), "/root.rs"));
