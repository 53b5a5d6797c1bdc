// SPDX-License-Identifier: GPL-2.0

//! xe's pagemaps, `drivers/xe-glue`, hosted.

#![no_std]
// What is behind the pointers that C gets is the model's.
#![allow(improper_ctypes)]

include!(concat!(env!("OUT_DIR"), "/root.rs"));
