// SPDX-License-Identifier: GPL-2.0

//! nouveau's device memory, `drivers/nouveau-rs`, hosted.

#![no_std]

include!(concat!(env!("OUT_DIR"), "/root.rs"));
