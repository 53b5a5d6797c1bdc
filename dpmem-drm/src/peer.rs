// SPDX-License-Identifier: GPL-2.0

//! Which devices reach each other's memory.
//!
//! C header: [`include/drm/drm_pagemap_util.h`](srctree/include/drm/drm_pagemap_util.h)

use core::ptr::NonNull;

use kernel::{
    bindings,
    error::to_result,
    prelude::*,
    types::Opaque, //
};

/// All peers of a driver, of which some have an owner together.
#[repr(transparent)]
pub struct OwnerList(Opaque<bindings::drm_pagemap_owner_list>);

impl OwnerList {
    /// The list that C has.
    ///
    /// # Safety
    ///
    /// It must be valid for `'a`, and after that for as long as there is a [`Peer`] in it.
    pub unsafe fn from_raw<'a>(list: NonNull<bindings::drm_pagemap_owner_list>) -> &'a Self {
        // CAST: `OwnerList` is transparent.
        // SAFETY: The caller promises it.
        unsafe { list.cast().as_ref() }
    }
}

/// Says whether two peers reach each other. Called with the list locked; may sleep.
pub type Interconnect =
    unsafe extern "C" fn(*mut bindings::drm_pagemap_peer, *mut bindings::drm_pagemap_peer) -> bool;

/// One that has memory which others may reach, or that reaches memory of others.
///
/// # Invariants
///
/// It is in a list, and has an owner.
#[pin_data(PinnedDrop)]
#[repr(transparent)]
pub struct Peer {
    #[pin]
    inner: Opaque<bindings::drm_pagemap_peer>,
}

// SAFETY: A peer belongs to no thread.
unsafe impl Send for Peer {}
// SAFETY: What is read of it does not change.
unsafe impl Sync for Peer {}

impl Peer {
    /// Puts a peer, whose field for the driver is `private`, into `list`. It gets the owner of
    /// those whom it reaches, and who reach each other; otherwise one of its own. May sleep.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`].
    ///
    /// # Safety
    ///
    /// It must be right to call `interconnect` with any peer of the list, and with this one from
    /// now on, also while the structure that it lies in is not initialised but for what the caller
    /// knows to be.
    pub unsafe fn new(
        list: &OwnerList,
        interconnect: Interconnect,
        private: *mut c_void,
    ) -> impl PinInit<Self, Error> + '_ {
        try_pin_init!(Self {
            // INVARIANT: That is what the function does.
            inner <- Opaque::try_ffi_init(move |slot: *mut bindings::drm_pagemap_peer| {
                // SAFETY: `slot` is ours to write to.
                unsafe { slot.write_bytes(0, 1) };
                // SAFETY: As above, and zeroes are a valid peer.
                unsafe { (*slot).private = private };
                // SAFETY: The list is valid; the caller promises the rest.
                to_result(unsafe {
                    bindings::drm_pagemap_acquire_owner(slot, list.0.get(), Some(interconnect))
                })
            }),
        }? Error)
    }

    /// Its owner, which is only compared.
    pub fn owner(&self) -> *mut c_void {
        // SAFETY: It is initialised, and the field does not change before it is dropped.
        unsafe { (*self.inner.get()).owner }.cast()
    }
}

#[pinned_drop]
impl PinnedDrop for Peer {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: It is in a list, by the type invariants, and not used again.
        unsafe { bindings::drm_pagemap_release_owner(self.inner.get()) };
    }
}
