// SPDX-License-Identifier: GPL-2.0

//! The sample driver `samples/edu`, hosted. Over a kernel that it is not for, which is any before
//! 7.3, there is nothing here.

#![no_std]
#![feature(used_with_arg)]

#[cfg(pci)]
include!(concat!(env!("OUT_DIR"), "/root.rs"));
