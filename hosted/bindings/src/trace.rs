// SPDX-License-Identifier: GPL-2.0

//! Static keys, and the tracepoints of `linux/trace/dpmem.h`.
//!
//! Real: the arguments. Not simulated: the ring buffer, switching them on and off, other
//! tracepoints. All are on, and what they say is kept for the test.

use std::{ffi::CStr, time::Instant};

use ffi::*;
use pin_init::Zeroable;

use crate::machine::with;

#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct static_key {
    enabled: c_int,
}

#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct static_key_false {
    key: static_key,
}

#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct tracepoint {
    pub key: static_key_false,
}

pub unsafe extern "C" fn static_key_count(key: *mut static_key) -> c_int {
    unsafe { (*key).enabled }
}

/// What a tracepoint of dpmem said. `pagemap` is which one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A folio was taken out of the allocator.
    Request {
        pagemap: u64,
        offset: usize,
        order: u32,
    },
    /// A folio went back to the allocator.
    Free {
        pagemap: u64,
        offset: usize,
        order: u32,
    },
    /// Of so many pages that were copied, so many have moved.
    Migrate {
        pagemap: u64,
        to_device: bool,
        copied: usize,
        moved: usize,
    },
    /// A CPU touched a page of the device.
    Fault {
        pagemap: u64,
        address: usize,
        offset: usize,
        answer: u32,
    },
    /// So many large folios were split.
    Split { pagemap: u64, folios: usize },
    /// Of `nr` pages, so many came home.
    Evict {
        pagemap: u64,
        offset: usize,
        nr: usize,
        moved: usize,
    },
    /// Why something did not work, and how often.
    Failure {
        pagemap: u64,
        cause: String,
        nr: usize,
    },
}

/// Takes what the tracepoints have said on this machine since the last call, in order, and when.
pub fn events() -> Vec<(Instant, Event)> {
    with(|m| std::mem::take(&mut m.events))
}

/// Defines the tracepoints that C defines for Rust.
macro_rules! tracepoints {
    ($(fn $key:ident, $name:ident($($arg:ident: $ty:ty),*) { $event:expr })*) => {$(
        // Rust only reads its address.
        pub static mut $key: tracepoint = tracepoint {
            key: static_key_false { key: static_key { enabled: 1 } },
        };

        pub unsafe extern "C" fn $name($($arg: $ty),*) {
            let event = $event;
            let now = Instant::now();
            with(|m| m.events.push((now, event)));
        }
    )*};
}

tracepoints! {
    fn __tracepoint_dpmem_request, rust_do_trace_dpmem_request(
        pagemap: u64, offset: c_ulong, order: c_uint
    ) {
        Event::Request { pagemap, offset, order }
    }
    fn __tracepoint_dpmem_free, rust_do_trace_dpmem_free(
        pagemap: u64, offset: c_ulong, order: c_uint
    ) {
        Event::Free { pagemap, offset, order }
    }
    fn __tracepoint_dpmem_migrate, rust_do_trace_dpmem_migrate(
        pagemap: u64, to_device: bool, copied: c_ulong, moved: c_ulong
    ) {
        Event::Migrate { pagemap, to_device, copied, moved }
    }
    fn __tracepoint_dpmem_fault, rust_do_trace_dpmem_fault(
        pagemap: u64, address: c_ulong, offset: c_ulong, answer: c_uint
    ) {
        Event::Fault { pagemap, address, offset, answer }
    }
    fn __tracepoint_dpmem_split, rust_do_trace_dpmem_split(pagemap: u64, folios: c_ulong) {
        Event::Split { pagemap, folios }
    }
    fn __tracepoint_dpmem_evict, rust_do_trace_dpmem_evict(
        pagemap: u64, offset: c_ulong, nr: c_ulong, moved: c_ulong
    ) {
        Event::Evict { pagemap, offset, nr, moved }
    }
    fn __tracepoint_dpmem_failure, rust_do_trace_dpmem_failure(
        pagemap: u64, cause: *const c_char, nr: c_ulong
    ) {
        // The kernel copies it as well.
        Event::Failure { pagemap, cause: unsafe { text(cause) }, nr }
    }
}

unsafe fn text(string: *const c_char) -> String {
    unsafe { CStr::from_ptr(string.cast()) }
        .to_string_lossy()
        .into_owned()
}
