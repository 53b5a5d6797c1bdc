// SPDX-License-Identifier: GPL-2.0

//! What the kernel's crate `uapi` has, as far as the other crates need it: how an ioctl is
//! numbered.
//!
//! C header: `include/uapi/asm-generic/ioctl.h`

#![no_std]
#![allow(missing_docs)]

pub const _IOC_NONE: u32 = 0;
pub const _IOC_WRITE: u32 = 1;
pub const _IOC_READ: u32 = 2;
pub const _IOC_NRSHIFT: u32 = 0;
pub const _IOC_TYPESHIFT: u32 = 8;
pub const _IOC_SIZESHIFT: u32 = 16;
pub const _IOC_DIRSHIFT: u32 = 30;
pub const _IOC_NRMASK: u32 = 0xff;
pub const _IOC_TYPEMASK: u32 = 0xff;
pub const _IOC_SIZEMASK: u32 = 0x3fff;
pub const _IOC_DIRMASK: u32 = 3;
