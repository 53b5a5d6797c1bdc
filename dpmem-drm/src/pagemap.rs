// SPDX-License-Identifier: GPL-2.0

//! A `struct drm_pagemap`, and the memory that it is for.
//!
//! C header: [`include/drm/drm_pagemap.h`](srctree/include/drm/drm_pagemap.h)

use core::{
    mem::offset_of,
    ops::Deref,
    ptr::NonNull, //
};

use kernel::{
    bindings,
    device::{
        Bound,
        Device, //
    },
    devres::Devres,
    error::to_result,
    prelude::*,
    str::CStr,
    sync::Arc,
    types::Opaque,
    workqueue::{
        impl_has_work,
        new_work,
        Work,
        WorkItem, //
    }, //
};

use dpmem::{
    ForeignPagemap,
    NrPages,
    NumaNode, //
};

use crate::{
    ops::{
        PagemapOps,
        Tables, //
    },
    peer::{
        Interconnect,
        OwnerList,
        Peer, //
    }, //
};

/// The memory of a card, of which pages are migrated by DRM.
///
/// It is counted by C: see [`PagemapRef`]. The memory is unregistered when the driver is unbound
/// from the device, or the pagemap destroyed, whichever is first; the driver brings pages home
/// before it is unbound.
///
/// The first two fields are those of C, so that a driver that is partly in C can declare a
/// structure of them.
///
/// # Invariants
///
/// - `drm` is initialised, with the table of `T` and the memory of `memory`, and the value is in a
///   box, which is C's until it calls `destroy()`.
/// - The owner of the memory is that of `peer`.
#[repr(C)]
#[pin_data(PinnedDrop)]
pub struct Pagemap<T: PagemapOps> {
    #[pin]
    drm: Opaque<bindings::drm_pagemap>,
    #[pin]
    peer: Peer,
    ops: T,
    memory: Arc<ForeignPagemap>,
    _unbind: Devres<Unbind>,
    // Only compared.
    device: *mut bindings::device,
    #[pin]
    destroy: Work<Self>,
}

// SAFETY: A pagemap belongs to no thread; the rest is `Send` itself.
unsafe impl<T: PagemapOps> Send for Pagemap<T> {}
// SAFETY: C locks what it changes of `drm`; the rest is `Sync` itself.
unsafe impl<T: PagemapOps> Sync for Pagemap<T> {}

impl_has_work! {
    impl{T: PagemapOps} HasWork<Self> for Pagemap<T> { self.destroy }
}

impl<T: PagemapOps> WorkItem for Pagemap<T> {
    type Pointer = Pin<KBox<Self>>;

    fn run(this: Self::Pointer) {
        drop(this);
    }
}

/// Unregisters the memory when it is dropped.
struct Unbind(Arc<ForeignPagemap>);

impl Drop for Unbind {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<T: PagemapOps> Pagemap<T> {
    /// Where `peer` is.
    pub const PEER_OFFSET: usize = offset_of!(Self, peer);
    /// Where what the driver supplied is.
    pub const OPS_OFFSET: usize = offset_of!(Self, ops);

    /// Registers `nr` pages of `card`, whose device is `device`. `list` has the peers of the
    /// driver; `name` is for people. May sleep.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`]; those of [`ForeignPagemap::new`].
    ///
    /// # Safety
    ///
    /// - `card` must be a DRM device whose parent is `device`.
    /// - `interconnect` must be as [`Peer::new`] wants it, and know `private` for a pagemap that
    ///   lies around the peer, and look at nothing of it but `drm.drm`, which is set.
    /// - All pages must have been brought home when the driver is unbound from the device, and DRM
    ///   put none into service later on.
    /// - What `T` says must be true: [`PagemapOps::places`] names pages that the piece of memory
    ///   has, and nobody else; the fence of a copy is signalled when the copy is over; the queue
    ///   outlives what is queued on it, and is empty before the driver's module goes.
    /// - Dropping `ops` must use nothing of the device.
    #[allow(clippy::new_ret_no_self, clippy::too_many_arguments)]
    pub unsafe fn new(
        card: NonNull<bindings::drm_device>,
        device: &Device<Bound>,
        list: &OwnerList,
        interconnect: Interconnect,
        private: *mut c_void,
        name: &'static CStr,
        nr: NrPages,
        ops: T,
    ) -> Result<PagemapRef<T>> {
        let raw_device = core::ptr::from_ref(device).cast_mut().cast();
        let node = NumaNode::of(device);
        let pagemap = KBox::try_pin_init(
            try_pin_init!(&this in Self {
                drm <- Opaque::ffi_init(move |slot: *mut bindings::drm_pagemap| {
                    // SAFETY: `slot` is ours to write to.
                    unsafe { slot.write_bytes(0, 1) };
                    // What `interconnect` looks at.
                    //
                    // SAFETY: As above.
                    unsafe { (*slot).drm = card.as_ptr() };
                }),
                // SAFETY: The caller promises it.
                peer <- unsafe { Peer::new(list, interconnect, private) },
                memory: {
                    // SAFETY: The fields above are initialised.
                    let owner = unsafe { &(*this.as_ptr()).peer }.owner();
                    // SAFETY: The function asks for nothing.
                    let ops = unsafe { bindings::drm_pagemap_pagemap_ops_get() };
                    let ops = NonNull::new(ops.cast_mut()).ok_or(EINVAL)?;
                    let owner = NonNull::new(owner).ok_or(EINVAL)?;
                    // SAFETY: The table is DRM's, and static: its functions look at what DRM leaves
                    // with a page. DRM puts pages into service that the driver names, which nobody
                    // else has, and none after unbinding, as the caller promises. Nobody but us can
                    // close it.
                    let memory = unsafe { ForeignPagemap::new(owner, ops, name, nr, node) };
                    Arc::pin_init(memory, GFP_KERNEL)?
                },
                _unbind: {
                    // SAFETY: The fields above are initialised.
                    let memory = unsafe { &(*this.as_ptr()).memory };
                    Devres::new(device, Unbind(memory.clone()))?
                },
                ops,
                device: raw_device,
                destroy <- new_work!("dpmem_drm::Pagemap::destroy"),
                // INVARIANT: That is what this does, unless it fails; then the rest is dropped.
                _: {
                    // SAFETY: The fields above are initialised.
                    let this = unsafe { &*this.as_ptr() };
                    let (dpagemap, memory) = (this.drm.get(), this.memory.as_raw());
                    let table = &Tables::<T>::PAGEMAP;
                    // SAFETY: All of it lives until `destroy()` is called: the memory with the
                    // value, and the table is a constant. The device is one of DRM's, as the caller
                    // promises.
                    to_result(unsafe {
                        bindings::drm_pagemap_init(dpagemap, memory, card.as_ptr(), table)
                    })?;
                },
            }? Error),
            GFP_KERNEL,
        )?;
        // SAFETY: What is pinned stays so: it is given to C, which gives it back to `destroy()`.
        let pagemap = KBox::into_raw(unsafe { Pin::into_inner_unchecked(pagemap) });
        // INVARIANT: `drm_pagemap_init()` has left a reference.
        Ok(PagemapRef(NonNull::new(pagemap).ok_or(EINVAL)?))
    }

    /// The pagemap that `dpagemap` is a part of.
    ///
    /// # Safety
    ///
    /// `dpagemap` must be that of a `Pagemap<T>`, to which somebody has a reference during the
    /// lifetime that the caller chooses.
    pub unsafe fn from_raw<'a>(dpagemap: *mut bindings::drm_pagemap) -> &'a Self {
        // CAST: It is the first field.
        // SAFETY: The caller promises it.
        unsafe { &*dpagemap.cast() }
    }

    /// The pagemap of a page.
    ///
    /// # Safety
    ///
    /// `page` must be in service as DRM has put it there for a `Pagemap<T>`, and stay so during the
    /// lifetime that the caller chooses.
    pub(crate) unsafe fn of_page<'a>(page: NonNull<bindings::page>) -> &'a Self {
        // SAFETY: The caller promises such a page.
        let dpagemap = unsafe { bindings::drm_pagemap_page_to_dpagemap(page.as_ptr()) };
        // SAFETY: A page has a reference to it.
        unsafe { Self::from_raw(dpagemap) }
    }

    /// Takes the pagemap back from C. Sleeps unless `atomic`.
    ///
    /// # Safety
    ///
    /// `dpagemap` must be that of a `Pagemap<T>`, to which nobody has a reference any more. Called
    /// once.
    pub(crate) unsafe fn destroy(dpagemap: *mut bindings::drm_pagemap, atomic: bool) {
        // CAST: It is the first field.
        // SAFETY: It came from a box, by the type invariants, and is not used again.
        let pagemap = Pin::from(unsafe { KBox::from_raw(dpagemap.cast::<Self>()) });
        if !atomic {
            return drop(pagemap);
        }
        let queue = core::ptr::from_ref(pagemap.ops.destroy_queue());
        // SAFETY: It outlives what is queued on it, as was promised when the pagemap was made.
        unsafe { &*queue }.enqueue(pagemap);
    }

    /// The C structure.
    pub fn as_raw(&self) -> *mut bindings::drm_pagemap {
        self.drm.get()
    }

    /// What the driver supplied.
    pub fn ops(&self) -> &T {
        &self.ops
    }

    /// How many pages there are.
    pub fn nr_pages(&self) -> NrPages {
        self.memory.nr_pages()
    }

    /// The memory.
    pub(crate) fn memory(&self) -> &ForeignPagemap {
        &self.memory
    }

    /// Whether the memory is that of `device`.
    pub(crate) fn is_on(&self, device: *mut bindings::device) -> bool {
        self.device == device
    }
}

#[pinned_drop]
impl<T: PagemapOps> PinnedDrop for Pagemap<T> {
    fn drop(self: Pin<&mut Self>) {
        // Before the owner is given back.
        self.memory.close();
    }
}

/// A reference to a pagemap.
///
/// # Invariants
///
/// The reference is ours.
pub struct PagemapRef<T: PagemapOps>(NonNull<Pagemap<T>>);

// SAFETY: A pagemap is `Send` and `Sync`, and whoever gives up the last reference destroys it as
// DRM does.
unsafe impl<T: PagemapOps> Send for PagemapRef<T> {}
// SAFETY: As above.
unsafe impl<T: PagemapOps> Sync for PagemapRef<T> {}

impl<T: PagemapOps> PagemapRef<T> {
    /// Takes over a reference.
    ///
    /// # Safety
    ///
    /// The reference must be the caller's, who gives it up, and be to a `Pagemap<T>`.
    pub unsafe fn from_raw(dpagemap: NonNull<bindings::drm_pagemap>) -> Self {
        // CAST: It is the first field.
        // INVARIANT: The caller promises it.
        Self(dpagemap.cast())
    }

    /// Gives the reference to C.
    pub fn into_raw(self) -> *mut bindings::drm_pagemap {
        let dpagemap = self.as_raw();
        core::mem::forget(self);
        dpagemap
    }
}

impl<T: PagemapOps> Deref for PagemapRef<T> {
    type Target = Pagemap<T>;

    fn deref(&self) -> &Pagemap<T> {
        // SAFETY: The reference is ours, by the type invariants.
        unsafe { self.0.as_ref() }
    }
}

impl<T: PagemapOps> Drop for PagemapRef<T> {
    fn drop(&mut self) {
        // SAFETY: The reference is ours, by the type invariants, and not used again.
        unsafe { bindings::drm_pagemap_put(self.as_raw()) };
    }
}
