// SPDX-License-Identifier: GPL-2.0

//! `dma_fence`.
//!
//! Real: references, and waiting until somebody has signalled. A fence is made and signalled by a test alone. Not
//! simulated: contexts, numbers, callbacks, errors, fences of drivers; a time limit never ends.

use ffi::*;

use crate::{
    errno::*,
    locks::{kref, kref_get, kref_init, kref_put},
    machine::{might_sleep, with},
    report::{fatal, report},
};

#[repr(C)]
pub struct dma_fence {
    pub refcount: kref,
    signalled: bool,
    _not_send: *mut c_void,
}

/// A fence, with one reference. Whoever gives up the last one frees it.
pub fn fence(signalled: bool) -> *mut dma_fence {
    let fence = Box::into_raw(Box::new(dma_fence {
        refcount: kref::default(),
        signalled,
        _not_send: std::ptr::null_mut(),
    }));
    unsafe { kref_init(&raw mut (*fence).refcount) };
    with(|m| m.drm.fences.insert(fence as usize));
    fence
}

/// The end of everybody's waiting for `fence`.
///
/// # Safety
///
/// Somebody must have a reference to it.
pub unsafe fn signal_fence(fence: *mut dma_fence) {
    check(fence, "dma_fence_signal");
    with(|m| {
        unsafe { (*fence).signalled = true };
        m.changed();
    });
}

/// Ends the test if there is no such fence.
fn check(fence: *mut dma_fence, what: &str) {
    if !with(|m| m.drm.fences.contains(&(fence as usize))) {
        fatal(format!("`{what}()` of a fence that is gone"));
    }
}

pub unsafe extern "C" fn dma_fence_get(fence: *mut dma_fence) -> *mut dma_fence {
    if !fence.is_null() {
        check(fence, "dma_fence_get");
        unsafe { kref_get(&raw mut (*fence).refcount) };
    }
    fence
}

pub unsafe extern "C" fn dma_fence_put(fence: *mut dma_fence) {
    if fence.is_null() {
        return;
    }
    check(fence, "dma_fence_put");
    if unsafe { kref_put(&raw mut (*fence).refcount) } {
        with(|m| m.drm.fences.remove(&(fence as usize)));
        let fence = unsafe { Box::from_raw(fence) };
        if !fence.signalled {
            report("a fence is freed that was never signalled");
        }
    }
}

pub unsafe extern "C" fn dma_fence_is_signaled(fence: *mut dma_fence) -> bool {
    check(fence, "dma_fence_is_signaled");
    with(|_| unsafe { (*fence).signalled })
}

pub unsafe extern "C" fn dma_fence_wait_timeout(
    fence: *mut dma_fence,
    intr: bool,
    timeout: c_long,
) -> c_long {
    might_sleep("dma_fence_wait_timeout");
    check(fence, "dma_fence_wait_timeout");
    if timeout < 0 {
        report("`dma_fence_wait_timeout()` with a time limit that is over");
        return -(EINVAL as c_long);
    }
    if intr && with(|m| m.fails("dma_fence_wait_timeout")) {
        return -(ERESTARTSYS as c_long);
    }
    if timeout == 0 {
        return c_long::from(unsafe { dma_fence_is_signaled(fence) });
    }
    with(|m| {
        while !unsafe { (&raw const (*fence).signalled).read_volatile() } {
            m.wait("a fence");
        }
    });
    timeout
}
