// SPDX-License-Identifier: GPL-2.0

//! What drivers print: it goes to the standard error output, and is kept for the test.
//!
//! Real: the text, and the prefix of who says it. Not simulated: levels, which are dropped, so that
//! all is printed; the name of the device, limits of how often, `scnprintf()`.

use core::ffi::CStr;

use ffi::*;

use crate::{
    devices::device,
    machine::{note_message, with},
};

pub const KERN_EMERG: &[u8; 3] = b"\x010\0";
pub const KERN_ALERT: &[u8; 3] = b"\x011\0";
pub const KERN_CRIT: &[u8; 3] = b"\x012\0";
pub const KERN_ERR: &[u8; 3] = b"\x013\0";
pub const KERN_WARNING: &[u8; 3] = b"\x014\0";
pub const KERN_NOTICE: &[u8; 3] = b"\x015\0";
pub const KERN_INFO: &[u8; 3] = b"\x016\0";
pub const KERN_DEBUG: &[u8; 3] = b"\x017\0";
pub const KERN_CONT: &[u8; 3] = b"\x01c\0";

/// The formats of Rust have a string, which is the prefix, and what `core::fmt` has made of the
/// rest, or that alone.
pub unsafe extern "C" fn _printk(fmt: *const c_char, mut args: ...) -> c_int {
    let fmt = unsafe { CStr::from_ptr(fmt.cast()) }.to_bytes();
    let has_prefix = fmt.windows(2).any(|pair| pair == b"%s");
    if has_prefix {
        let prefix = unsafe { CStr::from_ptr(args.arg::<*const c_char>().cast()) };
        eprint!("{}: ", prefix.to_string_lossy());
    }
    let text = unsafe {
        &*args
            .arg::<*const c_void>()
            .cast::<core::fmt::Arguments<'_>>()
    };
    eprint!("{text}");
    note_message(text.to_string());
    0
}

pub unsafe extern "C" fn _dev_printk(
    _level: *const c_char,
    _dev: *const device,
    _fmt: *const c_char,
    mut args: ...
) {
    let text = unsafe {
        &*args
            .arg::<*const c_void>()
            .cast::<core::fmt::Arguments<'_>>()
    };
    eprint!("{text}");
    note_message(text.to_string());
}

/// Whether something was printed on this machine that has `words` in it.
pub fn has_printed(words: &str) -> bool {
    with(|m| m.messages.iter().any(|text| text.contains(words)))
}

extern "C" {
    /// What C calls for `%pA`. The crate `kernel` has it; here it is only what its type is compared
    /// with.
    pub fn rust_fmt_argument(buf: *mut c_char, end: *mut c_char, ptr: *const c_void)
        -> *mut c_char;
}

pub unsafe extern "C" fn scnprintf(
    _buf: *mut c_char,
    _size: usize,
    _fmt: *const c_char,
    mut _args: ...
) -> c_int {
    crate::report::fatal("`scnprintf()` is not simulated")
}
