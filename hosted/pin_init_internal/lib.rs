// SPDX-License-Identifier: GPL-2.0

//! The kernel's `rust/pin-init/internal`.

#![allow(missing_docs, unexpected_cfgs)]

include!(concat!(env!("OUT_DIR"), "/root.rs"));
