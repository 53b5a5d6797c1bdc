// SPDX-License-Identifier: GPL-2.0

//! The kernel's `rust/pin-init`.

#![no_std]
#![allow(unexpected_cfgs)]

include!(concat!(env!("OUT_DIR"), "/root.rs"));
