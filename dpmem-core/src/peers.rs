// SPDX-License-Identifier: GPL-2.0

//! Devices that reach each other's memory.
//!
//! Each pagemap has an owner, which is only compared: pages of the owner who asks stay where they
//! are, and those of others come home. Mostly a pagemap is its own. The pagemaps of a group have
//! one together.
//!
//! C header: [`include/linux/memremap.h`](srctree/include/linux/memremap.h)

use core::{
    marker::PhantomData,
    ptr::NonNull, //
};

use kernel::{
    bindings,
    prelude::*,
    sync::Arc, //
};

use crate::{
    number::PageOffset,
    ops::DevPagemapOps,
    pagemap::DevPagemap, //
};

/// Devices of one driver that reach each other's private memory, over a link or a bus: memory that
/// one of them has migrates to another directly, and each reads and writes what the others have
/// where it is.
///
/// A group is the owner of its pagemaps: see [`DevPagemap::new_in`] and
/// [`DevPagemap::coherent_in`]. It knows nothing about them, and is there for as long as one of
/// them is.
///
/// # Invariants
///
/// What has the address of a group as its owner is the `inner` of a `DevPagemap<T>`.
pub struct PeerGroup<T: DevPagemapOps> {
    // Something with an address.
    _address: u8,
    // Of exactly this `T`: the owner says so.
    _pagemaps: PhantomData<fn(T) -> T>,
}

impl<T: DevPagemapOps> PeerGroup<T> {
    /// A group without members. May sleep.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub fn new() -> Result<Arc<Self>> {
        // INVARIANT: Nobody knows the address yet, and later on only `DevPagemap<T>` asks for it.
        let group = Self {
            _address: 0,
            _pagemaps: PhantomData,
        };
        Ok(Arc::new(group, GFP_KERNEL)?)
    }

    /// What the pagemaps of the group have as their owner.
    pub(crate) fn owner(this: &Arc<Self>) -> *mut c_void {
        Arc::as_ptr(this).cast_mut().cast()
    }
}

/// The pagemap that `page` belongs to, and where in it.
///
/// # Safety
///
/// `page` must be a page of device memory whose owner is that of a `DevPagemap<T>`, or of such a
/// pagemap itself, and must not be freed during the lifetime that the caller chooses.
pub(crate) unsafe fn pagemap_of<'a, T: DevPagemapOps>(
    page: NonNull<bindings::page>,
) -> Option<(&'a DevPagemap<T>, PageOffset)> {
    // SAFETY: A page of device memory has a pagemap.
    let pgmap = unsafe { bindings::page_pgmap(page.as_ptr()) };
    // SAFETY: The owner is a `DevPagemap<T>` itself, or somebody whose only pagemap this is, or a
    // group of them, whose pagemaps all are such, by their type invariants. It is registered for as
    // long as the page is not freed.
    let pagemap = unsafe { DevPagemap::<T>::from_raw(pgmap) };
    // SAFETY: The page is not freed meanwhile, as the caller promises.
    let offset = unsafe { pagemap.offset_of(page) }?;
    Some((pagemap, offset))
}
