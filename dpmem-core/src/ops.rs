// SPDX-License-Identifier: GPL-2.0

//! What a driver supplies for its device memory, and the table of C functions made from it.
//!
//! C header: [`include/linux/memremap.h`](srctree/include/linux/memremap.h)

use core::{
    marker::PhantomData,
    ptr::NonNull, //
};

use kernel::bindings;

use crate::{
    copy::CopyEngine,
    data::{
        self,
        FolioData, //
    },
    fault::{
        Fault,
        FaultAnswer, //
    },
    folio::order_of,
    offsets::OffsetAllocator,
    pagemap::DevPagemap, //
};

/// What a driver supplies for a pagemap: `struct dev_pagemap_ops`, and what stands behind it.
///
/// `#[derive(DevPagemapOps)]` implements it for a struct that has an allocator of offsets and a
/// copy engine:
///
/// ```ignore
/// #[derive(DevPagemapOps)]
/// #[pin_data]
/// struct Vram {
///     #[offsets]
///     #[pin]
///     offsets: BitmapOffsets,
///     #[engine]
///     engine: CopyRing,
/// }
/// ```
///
/// It is `'static`, because a pagemap that is leaked stays registered, and CPU faults go on asking
/// for its pages.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not what a driver supplies for its device memory",
    label = "this has no allocator of offsets and no copy engine",
    note = "add `#[derive(DevPagemapOps)]` to a struct with fields marked `#[offsets]` and `#[engine]`"
)]
pub trait DevPagemapOps: Sized + Send + Sync + 'static {
    /// Who decides which page is handed out.
    type Offsets: OffsetAllocator;

    /// What is kept with each folio.
    type Data: FolioData;

    /// What moves the bytes.
    type Engine: CopyEngine<Data = Self::Data>;

    /// The allocator of offsets.
    fn offsets(&self) -> &Self::Offsets;

    /// The copy engine.
    fn engine(&self) -> &Self::Engine;

    /// Answers a CPU fault at a page of the device.
    ///
    /// The default brings the page home, which is what nearly every driver wants.
    ///
    /// # Context
    ///
    /// Process context, with the mmap lock of the faulting process held for reading and the page
    /// locked. May sleep. A lock that is held while memory of a process is touched, or while
    /// another migration waits for a page, must not be taken.
    fn migrate_to_ram(fault: Fault<'_, Self>) -> FaultAnswer<'_> {
        fault.migrate()
    }
}

/// The table of C functions for the driver `T`.
pub(crate) struct PagemapVTable<T: DevPagemapOps>(PhantomData<T>);

impl<T: DevPagemapOps> PagemapVTable<T> {
    const VTABLE: bindings::dev_pagemap_ops = bindings::dev_pagemap_ops {
        folio_free: Some(Self::folio_free),
        migrate_to_ram: Some(Self::migrate_to_ram),
        // Absent: the kernel then reports that it cannot handle the failure, and does nothing.
        memory_failure: None,
        // Absent if there is no data: the kernel then gives the parts their pagemap, which is all
        // there is to do.
        folio_split: if data::is_kept::<T::Data>() {
            Some(Self::folio_split)
        } else {
            None
        },
    };

    /// The table.
    pub(crate) const fn build() -> &'static bindings::dev_pagemap_ops {
        &Self::VTABLE
    }

    /// # Safety
    ///
    /// `folio` must belong to a pagemap with this table, and its last reference must be gone.
    unsafe extern "C" fn folio_free(folio: *mut bindings::folio) {
        // The kernel has no folio that is null.
        let Some(folio) = NonNull::new(folio) else {
            return;
        };
        // A folio begins with its first page.
        let page = folio.cast::<bindings::page>();
        // SAFETY: A page of device memory has a pagemap.
        let pgmap = unsafe { bindings::page_pgmap(page.as_ptr()) };
        // SAFETY: The caller promises that the pagemap has this table, so a `DevPagemap<T>` made
        // it. The folio still counts as a reference to it, until we have returned.
        let pagemap = unsafe { DevPagemap::<T>::from_raw(pgmap) };

        // SAFETY: The caller is the one who gave up the last reference.
        let order = unsafe { order_of(folio) };
        // SAFETY: As above, and the pagemap is that of the page.
        let offset = unsafe { pagemap.own_offset(page) };
        // Before the page is idle, which somebody may then request.
        //
        // SAFETY: This is the first page of the folio. Every folio of the pagemap was initialised,
        // and nobody has a reference to this one any more. It is initialised again when it is
        // requested.
        let data = unsafe { data::take::<T::Data>(page) };
        // SAFETY: Every folio of the pagemap comes from its backend, and the caller promises that
        // the last reference is gone. All that is to be known of it was asked above.
        unsafe { pagemap.backend().release(offset, order) };
        pagemap.ops().offsets().free(offset, order);
        pagemap.counters().freed(offset, order);
        drop(data);
    }

    /// # Safety
    ///
    /// `head` must be a folio of a pagemap with this table that the kernel is splitting, and `tail`
    /// null, or a part of it that nobody knows yet.
    unsafe extern "C" fn folio_split(head: *mut bindings::folio, tail: *mut bindings::folio) {
        let (Some(head), Some(tail)) = (NonNull::new(head), NonNull::new(tail)) else {
            // This is the head's turn, which keeps what it has.
            return;
        };
        // What the kernel does where this function is absent.
        //
        // SAFETY: The caller promises it.
        unsafe { bindings::zone_device_folio_inherit(tail.as_ptr(), head.as_ptr()) };
        // SAFETY: As above. Folios begin with their first pages.
        unsafe { data::share::<T::Data>(head.cast(), tail.cast()) };
    }

    /// # Safety
    ///
    /// `vmf` must be a fault at a locked page of a pagemap with this table, to which the caller
    /// holds a reference, and the caller must hold the mmap lock for reading.
    unsafe extern "C" fn migrate_to_ram(vmf: *mut bindings::vm_fault) -> bindings::vm_fault_t {
        // SAFETY: The fault is valid, and names the page.
        let page = unsafe { (*vmf).page };
        // SAFETY: A page of device memory has a pagemap.
        let pgmap = unsafe { bindings::page_pgmap(page) };
        // SAFETY: The caller promises that the pagemap has this table, so a `DevPagemap<T>` made
        // it. The caller's reference to the page keeps it.
        let pagemap = unsafe { DevPagemap::<T>::from_raw(pgmap) };
        // SAFETY: The caller promises all that is asked for, for as long as this function runs.
        let fault = unsafe { Fault::from_raw(vmf, pagemap) };
        let address = fault.address();
        // SAFETY: The caller holds a reference to the page.
        let offset = NonNull::new(page).and_then(|page| unsafe { pagemap.offset_of(page) });

        let answer = T::migrate_to_ram(fault).into_raw();
        // The page is there until the caller puts its reference, and so is the pagemap.
        if let Some(offset) = offset {
            pagemap.counters().fault(address, offset, answer);
        }
        answer
    }
}
