// SPDX-License-Identifier: GPL-2.0

//! A registered range of device memory.
//!
//! C header: [`include/linux/memremap.h`](srctree/include/linux/memremap.h)

use core::{
    mem::offset_of,
    ptr::NonNull, //
};

use kernel::{
    bindings,
    device::{
        Bound,
        Device, //
    },
    io::resource::Region,
    prelude::*,
    static_lock_class,
    str::CStr,
    sync::{
        aref::ARef,
        Arc,
        Mutex,
        SetOnce, //
    },
    time::{
        delay::fsleep,
        Delta, //
    },
    types::Opaque, //
};

use crate::{
    backend::Backend,
    counters::{
        Counters,
        Failure, //
    },
    data,
    dma::DmaDevice,
    folio::{
        large_order,
        RequestedFolio, //
    },
    migrate::MigrateBuffer,
    node::NumaNode,
    number::{
        NrPages,
        Order,
        PageOffset,
        PhysRange, //
    },
    offsets::OffsetAllocator,
    ops::{
        DevPagemapOps,
        PagemapVTable, //
    },
    peers::{
        pagemap_of,
        PeerGroup, //
    }, //
};

/// How many pages an eviction takes out of service at a time, unless a large folio has more.
const EVICT_WINDOW: NrPages = NrPages::new(512);

/// The longest pause, in milliseconds, between two attempts to bring home what is left when a
/// pagemap is dropped.
const EVICT_PAUSE: i64 = 512;

/// At this pause, people are told.
const EVICT_PATIENCE: i64 = 256;

/// The name of the lock of the eviction buffer; a static for the reason that is in
/// `offsets/bitmap.rs`.
static LOCK_NAME: &CStr = c"dpmem::evict_buffer";

/// Who owns the pages of a pagemap. What another pagemap has that is of another type is never one
/// of these.
enum Owner<T: DevPagemapOps> {
    /// The pagemap.
    Itself,
    /// The devices that reach each other's memory.
    Group(Arc<PeerGroup<T>>),
    /// What C knows as the owner: an address.
    Other(usize),
}

impl<T: DevPagemapOps> Owner<T> {
    /// What C is told, where `pgmap` is the pagemap.
    fn of(&self, pgmap: *mut bindings::dev_pagemap) -> *mut c_void {
        match self {
            Self::Itself => pgmap.cast(),
            Self::Group(group) => PeerGroup::owner(group),
            // CAST: It is only compared.
            Self::Other(address) => *address as *mut c_void,
        }
    }
}

/// Memory of a device that processes have pages in, registered with the kernel.
///
/// It is registered exactly while the value lives. A driver whose device can be unbound keeps it in
/// a [`BoundPagemap`](crate::BoundPagemap), so that it does not live too long. Dropping it brings
/// all its pages home to system memory first, and tries until that is done; it may sleep for long.
///
/// One that is leaked, by `core::mem::forget()` or a cycle of `Arc`, stays registered. Processes
/// fault at its pages then, with code of the driver's module, which must not be unloaded any more.
/// No reference to the module is held for that: it would keep a module from being unloaded whose
/// exit unregisters the memory, as it should.
///
/// # Invariants
///
/// - `inner` is a registered pagemap of type `MEMORY_DEVICE_PRIVATE` or `MEMORY_DEVICE_COHERENT`,
///   with the table of `T`, and `backend` is the one that registered it.
/// - `inner.owner` is what `owner` says.
/// - `device`, once it is set, keeps its driver for as long as the value lives.
#[pin_data(PinnedDrop)]
pub struct DevPagemap<T: DevPagemapOps> {
    #[pin]
    ops: T,
    backend: Backend,
    owner: Owner<T>,
    device: SetOnce<ARef<Device>>,
    counters: Counters,
    #[pin]
    evict_buffer: Mutex<MigrateBuffer>,
    #[pin]
    inner: Opaque<bindings::dev_pagemap>,
}

// SAFETY: A pagemap is not bound to a thread; the rest is `Send` itself.
unsafe impl<T: DevPagemapOps> Send for DevPagemap<T> {}
// SAFETY: What the methods do to `inner` through a shared reference is done by C, which locks; the
// rest is `Sync` itself.
unsafe impl<T: DevPagemapOps> Sync for DevPagemap<T> {}

impl<T: DevPagemapOps> DevPagemap<T> {
    /// Registers `nr` pages of memory that only the device can address, on `node`. `name` is for
    /// people, and for a directory in debugfs.
    ///
    /// # Context
    ///
    /// May sleep, for long if there are many pages. No mmap lock may be held: the kernel takes some
    /// behind the locks of CPU and memory hotplug, which this takes where the memory has physical
    /// addresses.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if `nr` is zero; [`ENOMEM`]; [`ERANGE`] if this machine has no room for so many
    /// pages; [`EOPNOTSUPP`] if its page tables cannot name them; what `ops` fails with.
    pub fn new<E>(
        name: &'static CStr,
        nr: NrPages,
        node: NumaNode,
        ops: impl PinInit<T, E>,
    ) -> impl PinInit<Self, Error>
    where
        Error: From<E>,
    {
        Self::private(Owner::Itself, name, nr, node, ops)
    }

    /// As [`DevPagemap::new`], for a device that belongs to `group`.
    pub fn new_in<E>(
        group: Arc<PeerGroup<T>>,
        name: &'static CStr,
        nr: NrPages,
        node: NumaNode,
        ops: impl PinInit<T, E>,
    ) -> impl PinInit<Self, Error>
    where
        Error: From<E>,
    {
        Self::private(Owner::Group(group), name, nr, node, ops)
    }

    /// As [`DevPagemap::new`], for a driver that is partly in C, and there calls functions that
    /// want to know the owner of the pages: that is `owner`. It is only compared.
    ///
    /// # Safety
    ///
    /// No other pagemap may have this owner, nor may there be a group of devices with it.
    pub unsafe fn new_owned_by<E>(
        owner: NonNull<c_void>,
        name: &'static CStr,
        nr: NrPages,
        node: NumaNode,
        ops: impl PinInit<T, E>,
    ) -> impl PinInit<Self, Error>
    where
        Error: From<E>,
    {
        // CAST: It is only compared.
        Self::private(Owner::Other(owner.as_ptr() as usize), name, nr, node, ops)
    }

    /// Registers private memory.
    fn private<E>(
        owner: Owner<T>,
        name: &'static CStr,
        nr: NrPages,
        node: NumaNode,
        ops: impl PinInit<T, E>,
    ) -> impl PinInit<Self, Error>
    where
        Error: From<E>,
    {
        // SAFETY: `init()` gives a pagemap that is pinned beside the backend.
        let backend = move |pgmap| unsafe { Backend::private(name, nr, pgmap) };
        let kind = bindings::memory_type_MEMORY_DEVICE_PRIVATE;
        Self::init(name, nr, kind, node, owner, backend, ops)
    }

    /// Registers memory of the device that CPUs can address as well, at `region`, on `node`. The
    /// driver has requested the addresses, so that nobody else uses them, and leaves them to the
    /// pagemap. `name` is as above.
    ///
    /// # Context
    ///
    /// May sleep, for long if there are many pages. No mmap lock may be held: the kernel takes some
    /// behind the locks of CPU and memory hotplug, which this takes where the memory has physical
    /// addresses.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if the region does not begin and end at a multiple of 2 MiB; [`EINVAL`] or
    /// [`EBUSY`] if the kernel knows the addresses as something else; [`ENOMEM`]; what `ops` fails
    /// with.
    pub fn coherent<E>(
        name: &'static CStr,
        region: Region,
        node: NumaNode,
        ops: impl PinInit<T, E>,
    ) -> impl PinInit<Self, Error>
    where
        Error: From<E>,
    {
        Self::on_region(Owner::Itself, name, region, node, ops)
    }

    /// As [`DevPagemap::coherent`], for a device that belongs to `group`. What its peers see of the
    /// memory is what CPUs do: pages that can be read and written where they are, and have no place
    /// that they know of.
    pub fn coherent_in<E>(
        group: Arc<PeerGroup<T>>,
        name: &'static CStr,
        region: Region,
        node: NumaNode,
        ops: impl PinInit<T, E>,
    ) -> impl PinInit<Self, Error>
    where
        Error: From<E>,
    {
        Self::on_region(Owner::Group(group), name, region, node, ops)
    }

    /// Registers coherent memory.
    fn on_region<E>(
        owner: Owner<T>,
        name: &'static CStr,
        region: Region,
        node: NumaNode,
        ops: impl PinInit<T, E>,
    ) -> impl PinInit<Self, Error>
    where
        Error: From<E>,
    {
        // Where these are no pages, the backend says so.
        let nr = PhysRange::of(&region).map_or(NrPages::ZERO, PhysRange::nr_pages);
        // SAFETY: As in `private()`.
        let backend = move |pgmap| unsafe { Backend::coherent(region, pgmap) };
        let kind = bindings::memory_type_MEMORY_DEVICE_COHERENT;
        Self::init(name, nr, kind, node, owner, backend, ops)
    }

    /// Registers what the backend that `backend` makes for a pagemap has, which is `nr` pages.
    fn init<E>(
        name: &'static CStr,
        nr: NrPages,
        kind: bindings::memory_type,
        node: NumaNode,
        owner: Owner<T>,
        backend: impl FnOnce(NonNull<bindings::dev_pagemap>) -> Result<Backend>,
        ops: impl PinInit<T, E>,
    ) -> impl PinInit<Self, Error>
    where
        Error: From<E>,
    {
        try_pin_init!(&this in Self {
            ops <- ops,
            backend: {
                // SAFETY: Not read, only named: the field lies where `this` points to.
                let inner = unsafe { &raw mut (*this.as_ptr()).inner };
                backend(NonNull::new(inner.cast()).ok_or(EINVAL)?)?
            },
            owner,
            device: SetOnce::new(),
            counters: Counters::new(name, nr)?,
            evict_buffer <- Mutex::new(
                MigrateBuffer::new(large_order().map_or(EVICT_WINDOW, |large| {
                    EVICT_WINDOW.max(large.nr_pages())
                }))?,
                LOCK_NAME,
                static_lock_class!()
            ),
            // INVARIANT: `register()` registers it, with the owner and the table set here.
            inner <- Opaque::try_ffi_init(move |slot: *mut bindings::dev_pagemap| {
                // SAFETY: `slot` is ours to write to.
                unsafe { slot.write_bytes(0, 1) };
                // SAFETY: As above, and zeroes are a valid `dev_pagemap`. Nobody else knows it.
                let pgmap = unsafe { &mut *slot };
                pgmap.type_ = kind;
                pgmap.ops = PagemapVTable::<T>::build();
                // SAFETY: The fields above are initialised in the order in which they stand, so
                // the owner is there.
                let owner = unsafe { &(*this.as_ptr()).owner };
                pgmap.owner = owner.of(slot);
                // SAFETY: As above.
                let backend = unsafe { &(*this.as_ptr()).backend };
                // SAFETY: All fields but those just set are zero.
                unsafe { backend.register(node.as_raw()) }
            }),
        }? Error)
    }

    /// The pagemap that `inner` is a part of.
    ///
    /// # Safety
    ///
    /// `inner` must be that field of a `DevPagemap<T>` that lives for `'a`. It may be the one that
    /// is being dropped: a `DevPagemap` is not `Unpin`, so the drop's reference is not exclusive.
    pub(crate) unsafe fn from_raw<'a>(inner: *mut bindings::dev_pagemap) -> &'a Self {
        // SAFETY: The caller promises that `inner` is this field, so the result is in bounds.
        let this = unsafe { inner.byte_sub(offset_of!(Self, inner)) };
        // SAFETY: The caller promises that the pagemap lives for `'a`.
        unsafe { &*this.cast() }
    }

    /// The pagemap that `page` belongs to, and where in it that is: for a driver that is partly in
    /// C, and is asked there for the address of a page.
    ///
    /// # Context
    ///
    /// Any. Does not sleep.
    ///
    /// # Safety
    ///
    /// `page` must be a page of a `DevPagemap<T>`, and must not be freed during the lifetime that
    /// the caller chooses.
    pub unsafe fn of_page<'a>(page: NonNull<bindings::page>) -> Option<(&'a Self, PageOffset)> {
        // SAFETY: The caller promises it.
        unsafe { pagemap_of::<T>(page) }
    }

    /// Where the pages come from.
    #[inline]
    pub(crate) fn backend(&self) -> &Backend {
        &self.backend
    }

    /// What has happened.
    #[inline]
    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What evictions keep their arrays in.
    #[inline]
    pub(crate) fn evict_buffer(&self) -> &Mutex<MigrateBuffer> {
        &self.evict_buffer
    }

    /// Who owns the pages, as `migrate_vma` and `hmm_range` want to know it.
    #[inline]
    pub(crate) fn owner(&self) -> *mut c_void {
        // By the type invariants.
        self.owner.of(self.as_raw())
    }

    /// The C structure, which is valid for as long as the value lives.
    #[inline]
    pub(crate) fn as_raw(&self) -> *mut bindings::dev_pagemap {
        self.inner.get()
    }

    /// Whether `pgmap` is this pagemap, or one of its group.
    ///
    /// # Safety
    ///
    /// `pgmap` must be registered for as long as this takes.
    #[inline]
    pub(crate) unsafe fn reaches(&self, pgmap: NonNull<bindings::dev_pagemap>) -> bool {
        // SAFETY: The caller promises a registered pagemap, whose owner does not change.
        unsafe { (*pgmap.as_ptr()).owner == self.owner() }
    }

    /// Whether the pagemap belongs to a group, so that there may be peers.
    #[inline]
    pub(crate) fn has_peers(&self) -> bool {
        matches!(self.owner, Owner::Group(_))
    }

    /// The device that the memory belongs to, which keeps its driver for as long as the pagemap
    /// lives; `None` unless the pagemap is in a [`BoundPagemap`](crate::BoundPagemap). What the
    /// driver got from the device after that may be gone.
    #[inline]
    pub fn device(&self) -> Option<DmaDevice<'_>> {
        let device = self.device.as_ref()?;
        // SAFETY: The device has its driver for as long as `self` lives, by the type invariants.
        Some(unsafe { DmaDevice::new(device) })
    }

    /// Says whose memory it is.
    ///
    /// # Safety
    ///
    /// The device must keep its driver until the pagemap has been dropped.
    pub(crate) unsafe fn set_device(&self, device: &Device<Bound>) {
        // INVARIANT: The caller promises it. It is set once; who does it again has lost nothing.
        self.device.populate(ARef::from(&**device));
    }

    /// What the driver supplied.
    #[inline]
    pub fn ops(&self) -> &T {
        &self.ops
    }

    /// How many pages there are.
    #[inline]
    pub fn nr_pages(&self) -> NrPages {
        self.backend.nr_pages()
    }

    /// Whether CPUs can address the memory.
    #[inline]
    pub fn is_coherent(&self) -> bool {
        self.backend.is_coherent()
    }

    /// How many pages are out: requested, or in service. Does not sleep.
    #[inline]
    pub fn nr_out(&self) -> NrPages {
        self.backend.nr_out()
    }

    /// Takes a run of `1 << order` pages out of the allocator, and puts it into service as a folio.
    ///
    /// # Context
    ///
    /// May sleep.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`] if the allocator has none; [`EINVAL`] if the kernel has no folios of this order,
    /// which is [`Order::of_pmd`] for private memory, or zero; [`EINVAL`] or [`EBUSY`] if what the
    /// allocator handed out is not an idle run of this pagemap. If it lies in the pagemap, it is
    /// not given back, lest it be offered again.
    pub fn request_folio(&self, order: Order) -> Result<RequestedFolio<'_, T>> {
        // The kernel would queue a large folio of coherent memory for splitting, and complain when
        // it is freed: only those of private memory are meant to be.
        if order != Order::ZERO && (self.is_coherent() || Some(order) != large_order()) {
            return Err(EINVAL);
        }
        let Some(offset) = self.ops.offsets().allocate(order) else {
            self.counters.failed(Failure::NoRoom);
            return Err(ENOMEM);
        };
        // SAFETY: The pagemap is registered, by the type invariants.
        let folio = unsafe { self.backend.request_folio(offset, order) };
        match folio {
            Ok(folio) => {
                self.counters.requested(offset, order);
                // SAFETY: The folio, which begins with its first page, is locked, and nobody knows
                // it yet.
                unsafe { data::init::<T::Data>(folio.cast()) };
                // SAFETY: The folio was just requested, with this order: it is locked, and lock and
                // reference are ours. Nobody knows it, and its data was initialised above.
                Ok(unsafe { RequestedFolio::from_raw(self, folio, order) })
            }
            Err(err @ (EINVAL | EBUSY)) => {
                self.counters.failed(Failure::BadOffset);
                kernel::pr_err_once!("a driver's allocator offers {:?}: {:?}\n", offset, err);
                // Beyond the end is nobody's: an allocator that is larger than its pagemap loses
                // nothing.
                let end = offset.checked_add(order.nr_pages());
                if end.is_some_and(|end| end.get() > self.nr_pages().get()) {
                    self.ops.offsets().free(offset, order);
                }
                Err(err)
            }
            Err(err) => {
                self.counters.failed(Failure::NoMemory);
                self.ops.offsets().free(offset, order);
                Err(err)
            }
        }
    }

    /// The offset of `page`, or `None` if it is not one of ours.
    ///
    /// # Safety
    ///
    /// The caller must hold a reference to `page`, or be the one who gives up the last.
    #[inline]
    pub(crate) unsafe fn offset_of(&self, page: NonNull<bindings::page>) -> Option<PageOffset> {
        // SAFETY: The caller promises it.
        unsafe { self.backend.offset_of(page) }
    }

    /// As [`DevPagemap::offset_of`], for a page that is known to be one of the pagemap.
    ///
    /// # Safety
    ///
    /// `page` must be one of the pagemap, and the caller must hold a reference to it, or be the one
    /// who gives up the last.
    #[inline]
    pub(crate) unsafe fn own_offset(&self, page: NonNull<bindings::page>) -> PageOffset {
        // SAFETY: The caller promises it.
        unsafe { self.backend.own_offset(page) }
    }

    /// The first page at `from` or above that is out.
    #[inline]
    pub(crate) fn next_out(&self, from: PageOffset) -> Option<PageOffset> {
        self.backend.next_out(from)
    }
}

#[pinned_drop]
impl<T: DevPagemapOps> PinnedDrop for DevPagemap<T> {
    fn drop(self: Pin<&mut Self>) {
        // A page that somebody looks at just now cannot be brought home, nor one for which there is
        // no memory at this moment. Nothing tells when such a moment is over, and nobody else will
        // try, so this goes on until all are home.
        let mut pause = 1;
        let mut told = None;
        loop {
            if let Err(err) = self.evict(PageOffset::ZERO, self.nr_pages()) {
                if told.replace(err) != Some(err) {
                    pr_err!("pages of a device cannot be brought home: {:?}\n", err);
                }
            }
            let left = self.nr_out();
            if left == NrPages::ZERO {
                break;
            }
            if pause == EVICT_PATIENCE {
                pr_warn!(
                    "still waiting for {} pages of a device to come home\n",
                    left.get()
                );
            }
            fsleep(Delta::from_millis(pause));
            pause = EVICT_PAUSE.min(pause * 2);
        }
        // SAFETY: The pagemap is registered, by the type invariants. Requests borrow it, and so do
        // those who have it from its owner: there are none any more. A fault borrows it from the
        // page that was touched, which is out for as long, and none is.
        unsafe { self.backend.unregister() };
    }
}
