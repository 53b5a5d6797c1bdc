// SPDX-License-Identifier: GPL-2.0

//! The kernel's `rust/build_error.rs`: here, what is not optimised away is a panic.

#![no_std]

include!(concat!(env!("OUT_DIR"), "/root.rs"));
