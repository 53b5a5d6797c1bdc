// SPDX-License-Identifier: GPL-2.0

//! `dma_fence`.
//!
//! Real: references, waiting until somebody has signalled, errors, and that whoever makes a fence
//! may want to know that somebody waits for it. A fence is made and signalled by a test alone. Not
//! simulated: contexts, numbers, callbacks, fences of drivers; a time limit never ends.

use ffi::*;

use crate::{
    consts::MAX_ERRNO,
    errno::*,
    locks::{kref, kref_get, kref_init, kref_put},
    machine::{might_sleep, with},
    report::{fatal, report},
};

#[repr(C)]
pub struct dma_fence {
    pub refcount: kref,
    signalled: bool,
    error: c_int,
    before_waiting: Option<Box<dyn Fn(*mut dma_fence)>>,
    _not_send: *mut c_void,
}

/// A fence, with one reference. Whoever gives up the last one frees it.
pub fn fence(signalled: bool) -> *mut dma_fence {
    new_fence(signalled, None)
}

/// A fence, with one reference, before which whoever waits for it calls `before_waiting`, unless it
/// is signalled: so that a test can do then what it stands for.
pub fn fence_of(before_waiting: impl Fn(*mut dma_fence) + 'static) -> *mut dma_fence {
    new_fence(false, Some(Box::new(before_waiting)))
}

fn new_fence(
    signalled: bool,
    before_waiting: Option<Box<dyn Fn(*mut dma_fence)>>,
) -> *mut dma_fence {
    let fence = Box::into_raw(Box::new(dma_fence {
        refcount: kref::default(),
        signalled,
        error: 0,
        before_waiting,
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
    if unsafe { dma_fence_is_signaled(fence) } {
        report("a fence is signalled twice");
    }
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

pub unsafe extern "C" fn dma_fence_set_error(fence: *mut dma_fence, error: c_int) {
    check(fence, "dma_fence_set_error");
    if unsafe { dma_fence_is_signaled(fence) } || !(-(MAX_ERRNO as c_int)..0).contains(&error) {
        report("a fence gets an error after it was signalled, or one that is none");
    }
    with(|_| unsafe { (*fence).error = error });
}

pub unsafe extern "C" fn dma_fence_get_status(fence: *mut dma_fence) -> c_int {
    check(fence, "dma_fence_get_status");
    with(|_| match unsafe { ((*fence).signalled, (*fence).error) } {
        (false, _) => 0,
        (true, 0) => 1,
        (true, error) => error,
    })
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
    if !unsafe { dma_fence_is_signaled(fence) } {
        // Whoever waits has a reference.
        if let Some(before) = unsafe { &(*fence).before_waiting } {
            before(fence);
        }
    }
    with(|m| {
        while !unsafe { (&raw const (*fence).signalled).read_volatile() } {
            m.wait("a fence");
        }
    });
    timeout
}
