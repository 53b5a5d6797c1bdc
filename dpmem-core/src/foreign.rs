// SPDX-License-Identifier: GPL-2.0

//! Device memory whose folios somebody else looks after.
//!
//! C header: [`include/linux/memremap.h`](srctree/include/linux/memremap.h)

use core::ptr::NonNull;

use kernel::{
    bindings,
    prelude::*,
    str::CStr,
    sync::{
        atomic::{
            ordering::Full,
            Atomic, //
        },
        Completion, //
    },
    types::Opaque, //
};

use crate::{
    backend::Backend,
    node::NumaNode,
    number::{
        NrPages,
        PageOffset, //
    }, //
};

/// Private memory of a device that is registered by its driver, and whose pages code in C puts into
/// service, migrates, and brings home: that of DRM, for example. For a driver that does this itself
/// there is
/// [`DevPagemap`](crate::DevPagemap).
///
/// The structure may live longer than the registration: see [`ForeignPagemap::close`].
///
/// # Context
///
/// Dropping it sleeps, as closing it does.
///
/// # Invariants
///
/// `inner` is registered by `backend`, with the table that was given, unless `closing` is set. Then
/// whoever has set it unregisters it, and says so with `closed`.
#[pin_data(PinnedDrop)]
pub struct ForeignPagemap {
    backend: Backend,
    closing: Atomic<bool>,
    #[pin]
    closed: Completion,
    #[pin]
    inner: Opaque<bindings::dev_pagemap>,
}

// SAFETY: A pagemap is not bound to a thread; the rest is `Send` itself.
unsafe impl Send for ForeignPagemap {}
// SAFETY: What the methods do to `inner` through a shared reference is done by C, which locks; the
// rest is `Sync` itself.
unsafe impl Sync for ForeignPagemap {}

impl ForeignPagemap {
    /// Registers `nr` pages on `node`, whose owner is `owner`, and whose pages are looked after by
    /// `ops`. `name` is for people, where the kernel has a name for it.
    ///
    /// # Context
    ///
    /// May sleep, for long if there are many pages and the kernel makes a `struct page` for each.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if `nr` is zero; [`ENOMEM`]; [`ERANGE`] if this machine has no room for so many
    /// pages; [`EOPNOTSUPP`] if its page tables cannot name them.
    ///
    /// # Safety
    ///
    /// - `ops` must be a table of private memory that is valid for as long as the value lives, and
    ///   whose functions need nothing of a page but what the code that puts it into service has
    ///   left there.
    /// - That code must put no page into service that is in service, nor one after
    ///   [`ForeignPagemap::close`] was called.
    pub unsafe fn new(
        owner: NonNull<c_void>,
        ops: NonNull<bindings::dev_pagemap_ops>,
        name: &'static CStr,
        nr: NrPages,
        node: NumaNode,
    ) -> impl PinInit<Self, Error> {
        try_pin_init!(&this in Self {
            backend: {
                // SAFETY: Not read, only named: the field lies where `this` points to.
                let inner = unsafe { &raw mut (*this.as_ptr()).inner };
                let inner = NonNull::new(inner.cast()).ok_or(EINVAL)?;
                // SAFETY: It is pinned beside the backend.
                unsafe { Backend::private(name, nr, inner) }?
            },
            closing: Atomic::new(false),
            closed <- Completion::new(),
            // INVARIANT: `register()` registers it, with the table set here.
            inner <- Opaque::try_ffi_init(move |slot: *mut bindings::dev_pagemap| {
                // SAFETY: `slot` is ours to write to.
                unsafe { slot.write_bytes(0, 1) };
                // SAFETY: As above, and zeroes are a valid `dev_pagemap`. Nobody else knows it.
                let pgmap = unsafe { &mut *slot };
                pgmap.type_ = bindings::memory_type_MEMORY_DEVICE_PRIVATE;
                pgmap.ops = ops.as_ptr();
                pgmap.owner = owner.as_ptr();
                // SAFETY: The fields are initialised in the order in which they stand above, so the
                // backend is there.
                let backend = unsafe { &(*this.as_ptr()).backend };
                // SAFETY: All fields but those just set are zero.
                unsafe { backend.register(node.as_raw()) }
            }),
        }? Error)
    }

    /// The C structure, which is there for as long as the value lives.
    pub fn as_raw(&self) -> *mut bindings::dev_pagemap {
        self.inner.get()
    }

    /// How many pages there are.
    pub fn nr_pages(&self) -> NrPages {
        self.backend.nr_pages()
    }

    /// The number by which functions in C know the page at `offset`, if there is one: where device
    /// memory has an index space of its own, that is the offset; elsewhere, a page frame number.
    pub fn number_of(&self, offset: PageOffset) -> Option<usize> {
        if offset.get() >= self.nr_pages().get() {
            return None;
        }
        self.backend.number_of(offset)
    }

    /// The offset of `page`, or `None` if it is no page of this pagemap.
    ///
    /// # Safety
    ///
    /// `page` must stay in service meanwhile: the caller holds a reference, has it locked, keeps
    /// hmm from losing it by the lock of a notifier, or is the one who gives up the last reference.
    pub unsafe fn offset_of(&self, page: NonNull<bindings::page>) -> Option<PageOffset> {
        // SAFETY: It stays in service, so that there is a reference, as the caller promises.
        unsafe { self.backend.offset_of(page) }
    }

    /// Unregisters the memory, as soon as no page of it is in service any more; or waits for
    /// somebody else who is doing so. What brings pages home goes on meanwhile, or is over.
    ///
    /// # Context
    ///
    /// Sleeps.
    pub fn close(&self) {
        if self.closing.xchg(true, Full) {
            return self.closed.wait_for_completion();
        }
        // SAFETY: It is registered, and ours to unregister, by the type invariants. Nothing puts a
        // page into service from now on, as the caller of `new()` has promised.
        unsafe { self.backend.unregister() };
        self.closed.complete_all();
    }
}

#[pinned_drop]
impl PinnedDrop for ForeignPagemap {
    fn drop(self: Pin<&mut Self>) {
        self.close();
    }
}
