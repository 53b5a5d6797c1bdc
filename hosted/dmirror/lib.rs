// SPDX-License-Identifier: GPL-2.0

//! The sample driver `samples/dmirror`, hosted.

#![no_std]
#![feature(used_with_arg)]

include!(concat!(env!("OUT_DIR"), "/root.rs"));
