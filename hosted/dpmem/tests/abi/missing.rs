// SPDX-License-Identifier: GPL-2.0

//! What kernels without the series have, which is what `abi.rs` asks for in a program that does not
//! say which kernel it is for.

use kernel::{bindings::*, ffi::*};

pub unsafe extern "C" fn migrate_device_range(_: *mut c_ulong, _: c_ulong, _: c_ulong) -> c_int {
    0
}

pub unsafe extern "C" fn request_free_mem_region(
    _: *mut resource,
    _: c_ulong,
    _: *const c_char,
) -> *mut resource {
    core::ptr::null_mut()
}
