// SPDX-License-Identifier: GPL-2.0

//! The kernel's `rust/kernel`, over a simulated C side.

#![no_std]
#![feature(arbitrary_self_types)]
#![feature(derive_coerce_pointee)]
#![feature(file_with_nul)]
#![feature(generic_arg_infer)]
#![feature(unsigned_is_multiple_of)]
#![feature(used_with_arg)]
#![allow(dead_code, stable_features, unexpected_cfgs)]
// Whatever is included counts as expanded.
#![allow(macro_expanded_macro_exports_accessed_by_absolute_paths)]

include!(concat!(env!("OUT_DIR"), "/root.rs"));
