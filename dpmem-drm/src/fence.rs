// SPDX-License-Identifier: GPL-2.0

//! What is signalled when a device has done something.
//!
//! C header: [`include/linux/dma-fence.h`](srctree/include/linux/dma-fence.h)

use core::{
    mem::ManuallyDrop,
    ops::Deref,
    ptr::NonNull, //
};

use kernel::{
    bindings,
    error::to_result,
    prelude::*, //
};

/// A reference to a `struct dma_fence`.
///
/// # Invariants
///
/// The reference is ours.
pub struct Fence(NonNull<bindings::dma_fence>);

// SAFETY: A fence belongs to no thread.
unsafe impl Send for Fence {}
// SAFETY: As above, and C locks what it changes.
unsafe impl Sync for Fence {}

impl Fence {
    /// Takes over a reference.
    ///
    /// # Safety
    ///
    /// The reference must be the caller's, who gives it up.
    pub unsafe fn from_raw(fence: NonNull<bindings::dma_fence>) -> Self {
        // INVARIANT: The caller promises it.
        Self(fence)
    }

    /// The C structure.
    pub fn as_raw(&self) -> *mut bindings::dma_fence {
        self.0.as_ptr()
    }

    /// Waits until it is signalled. Sleeps, and is not interrupted.
    ///
    /// # Errors
    ///
    /// That with which it was: what it stands for was not done.
    pub fn wait(&self) -> Result {
        // CAST: The largest `long`.
        let forever = c_long::MAX;
        // SAFETY: The reference is ours, by the type invariants.
        let waited = unsafe { bindings::dma_fence_wait_timeout(self.as_raw(), false, forever) };
        // SAFETY: As above.
        let status = unsafe { bindings::dma_fence_get_status(self.as_raw()) };
        // A wait that cannot be interrupted, and has no end, does not fail.
        if waited < 0 {
            return Err(EIO);
        }
        to_result(status.min(0))
    }
}

impl Drop for Fence {
    fn drop(&mut self) {
        // SAFETY: The reference is ours, by the type invariants, and not used again.
        unsafe { bindings::dma_fence_put(self.as_raw()) };
    }
}

/// A fence to which somebody else has a reference.
pub(crate) struct BorrowedFence(ManuallyDrop<Fence>);

impl BorrowedFence {
    /// The fence at `fence`, if there is one.
    ///
    /// # Safety
    ///
    /// It must be null, or valid for as long as the value lives.
    pub(crate) unsafe fn new(fence: *mut bindings::dma_fence) -> Option<Self> {
        let fence = NonNull::new(fence)?;
        // INVARIANT: The reference is not given back, so that it need not be ours: the caller
        // promises that there is one.
        Some(Self(ManuallyDrop::new(Fence(fence))))
    }
}

impl Deref for BorrowedFence {
    type Target = Fence;

    fn deref(&self) -> &Fence {
        &self.0
    }
}
