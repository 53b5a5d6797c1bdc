// SPDX-License-Identifier: GPL-2.0

//! A driver over drm_pagemap, as one in C would be: it has a card with memory, which CPUs cannot
//! reach and other cards can.
//!
//! How fake it is: the card copies when it is told to.

// What is true of the pointers of a driver of C's is said in one place.
#![allow(clippy::undocumented_unsafe_blocks, clippy::missing_safety_doc)]
// Not each test uses all of it.
#![allow(dead_code)]

use bindings::{
    sim::{
        dma_read, dma_resource, dma_write, owner_list, DrmDevice, Mapped, Process, HUGE_PAGE_SIZE,
        PAGE_SIZE,
    },
    *,
};
use ffi::{c_int, c_uint, c_ulong, c_void};
use std::{
    mem::offset_of,
    ptr::{null, null_mut},
    sync::{
        atomic::{AtomicBool, AtomicIsize, AtomicU64, AtomicUsize, Ordering::SeqCst},
        Mutex, MutexGuard, PoisonError,
    },
};

#[cfg(newtype_enums)]
pub const DMA_FROM_DEVICE: dma_data_direction = dma_data_direction::DMA_FROM_DEVICE;
#[cfg(not(newtype_enums))]
pub const DMA_FROM_DEVICE: dma_data_direction = dma_data_direction_DMA_FROM_DEVICE;

/// How much memory the cards have: room for two large folios.
pub const NR: usize = 1024;

pub fn error(err: u32) -> i32 {
    -(err as i32)
}

pub fn card() -> Box<Gpu> {
    Gpu::new(NR, lasting_owners()).expect("nothing fails")
}

pub fn two_cards() -> (Box<Gpu>, Box<Gpu>) {
    let owners = lasting_owners();
    let one = Gpu::new(NR, owners).expect("nothing fails");
    let two = Gpu::new(NR, owners).expect("nothing fails");
    (one, two)
}

/// A process with `nr` pages of memory, each with its number in it.
pub fn process(nr: usize) -> (Process, usize) {
    let process = Process::new();
    let memory = process.mmap(nr * PAGE_SIZE);
    fill(&process, memory, nr);
    (process, memory)
}

pub fn fill(process: &Process, memory: usize, nr: usize) {
    for i in 0..nr {
        let bytes = [1 + (i % 251) as u8; 64];
        process.write(memory + i * PAGE_SIZE, &bytes).unwrap();
    }
}

/// Whether each page has what [`fill`] wrote.
pub fn check(process: &Process, memory: usize, nr: usize) {
    for i in 0..nr {
        let mut bytes = [0; 64];
        process.read(memory + i * PAGE_SIZE, &mut bytes).unwrap();
        assert_eq!(bytes, [1 + (i % 251) as u8; 64], "page {i}");
    }
}

/// Memory of a process that is a huge page.
pub fn huge_process() -> (Process, usize) {
    let process = Process::new();
    let memory = process.mmap(HUGE_PAGE_SIZE);
    process.madvise_hugepage(memory, HUGE_PAGE_SIZE);
    fill(&process, memory, 512);
    assert!(process.is_huge(memory));
    (process, memory)
}

pub fn is_on_device(process: &Process, at: usize) -> bool {
    matches!(process.mapped(at), Mapped::Device(..))
}

pub fn len(nr: usize) -> usize {
    nr * PAGE_SIZE
}

/// The interconnect between cards.
const PEER: u64 = drm_interconnect_protocol_DRM_INTERCONNECT_DRIVER as u64;

/// All cards there are, by where other cards see their memory.
static CARDS: Mutex<Vec<(u64, usize)>> = Mutex::new(Vec::new());

/// Where other cards will see the memory of the next one.
static NEXT_BAR: AtomicU64 = AtomicU64::new(1 << 40);

/// Lists of owners that stay.
static OWNERS: Mutex<Vec<usize>> = Mutex::new(Vec::new());

/// A list of owners that stays.
pub fn lasting_owners() -> &'static mut drm_pagemap_owner_list {
    let list = Box::leak(owner_list());
    lock(&OWNERS).push(&raw const *list as usize);
    list
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A card.
pub struct Gpu {
    pub drm: DrmDevice,
    nr: usize,
    /// Where other cards see its memory.
    bar: u64,
    /// Which pages are in use, and what they have.
    used: Mutex<Vec<bool>>,
    vram: Mutex<Vec<u8>>,
    bos: Mutex<Vec<usize>>,
    owners: *mut drm_pagemap_owner_list,
    pub cache: *mut drm_pagemap_cache,
    /// How many pagemaps it has, active or not.
    pub pagemaps: AtomicUsize,
    /// How many allocations were released.
    pub released: AtomicUsize,
    /// How many copies there were to it, and from it.
    pub copies: (AtomicUsize, AtomicUsize),
    /// How many copies, or populations, go well before one fails.
    pub fail_copy: AtomicIsize,
    pub fail_populate: AtomicIsize,
    /// Its pagemaps can migrate within themselves.
    pub same: AtomicBool,
    /// It is reset when its pagemap is destroyed, which takes a while.
    pub sleeps_in_destroy: AtomicBool,
    pub fence: Mutex<usize>,
    pub timeslice_ms: AtomicUsize,
}

// SAFETY: What is behind the pointers is used under locks.
unsafe impl Send for Gpu {}
// SAFETY: As above.
unsafe impl Sync for Gpu {}

/// Its memory as struct pages.
#[repr(C)]
pub struct Pagemap {
    pub pagemap: dev_pagemap,
    pub dpagemap: drm_pagemap,
    destroy: work_struct,
    peer: drm_pagemap_peer,
    gpu: *const Gpu,
    /// Where it is registered, on a stock kernel.
    base: u64,
}

/// An allocation of its memory.
#[repr(C)]
pub struct Bo {
    pub devmem: drm_pagemap_devmem,
    refs: AtomicUsize,
    gpu: *const Gpu,
    first: usize,
    nr: usize,
}

fn kzalloc<T>() -> *mut T {
    // SAFETY: It asks for nothing.
    let memory = unsafe {
        krealloc_node_align(
            null(),
            size_of::<T>(),
            8,
            GFP_KERNEL | __GFP_ZERO,
            NUMA_NO_NODE,
        )
    };
    memory.cast()
}

/// # Safety
///
/// It must be what [`kzalloc`] gave.
pub unsafe fn kfree<T>(memory: *mut T) {
    // SAFETY: As the caller promises.
    unsafe { krealloc_node_align(memory.cast(), 0, 8, 0, NUMA_NO_NODE) };
}

fn fails(countdown: &AtomicIsize) -> bool {
    countdown.fetch_sub(1, SeqCst) == 0
}

/// An error as C has it.
fn errno(err: u32) -> c_int {
    -(err as c_int)
}

pub fn is_err<T>(ptr: *mut T) -> bool {
    // SAFETY: It looks at the number only.
    unsafe { IS_ERR(ptr.cast()) }
}

// SAFETY of all that follows: the card outlives its pagemaps, which outlive their pages; a `Bo` is
// in memory of its own until its last reference is gone, and C hands back what it was given.

impl Gpu {
    /// A card with `nr` pages of memory, or an error.
    pub fn new(nr: usize, owners: &mut drm_pagemap_owner_list) -> Result<Box<Self>, c_int> {
        let mut gpu = Box::new(Self {
            drm: DrmDevice::new(),
            nr,
            bar: 0,
            used: Mutex::new(vec![false; nr]),
            vram: Mutex::new(vec![0xaa; nr * PAGE_SIZE]),
            bos: Mutex::default(),
            owners,
            cache: null_mut(),
            pagemaps: AtomicUsize::new(0),
            released: AtomicUsize::new(0),
            copies: Default::default(),
            fail_copy: AtomicIsize::new(-1),
            fail_populate: AtomicIsize::new(-1),
            same: AtomicBool::new(false),
            sleeps_in_destroy: AtomicBool::new(false),
            fence: Mutex::new(0),
            timeslice_ms: AtomicUsize::new(0),
        });
        // Where no other card of any test is.
        gpu.bar = NEXT_BAR.fetch_add((nr * PAGE_SIZE) as u64, SeqCst);
        lock(&CARDS).push((gpu.bar, &raw const *gpu as usize));
        unsafe {
            let shrinker = drm_pagemap_shrinker_create_devm(gpu.drm.as_ptr());
            if is_err(shrinker) {
                return Err(shrinker as isize as c_int);
            }
            let cache = drm_pagemap_cache_create_devm(shrinker);
            if is_err(cache) {
                return Err(cache as isize as c_int);
            }
            gpu.cache = cache;
            let this = (&raw const *gpu).cast_mut().cast();
            let err = devm_add_action_or_reset(gpu.drm.device(), Some(evict_all), this);
            match err {
                0 => Ok(gpu),
                err => Err(err),
            }
        }
    }

    /// A reference to its pagemap, which is made if there is none.
    pub fn pagemap(&self) -> Result<*mut drm_pagemap, c_int> {
        unsafe {
            let err = drm_pagemap_cache_lock_lookup(self.cache);
            if err != 0 {
                return Err(err);
            }
            let mut dpagemap = drm_pagemap_get_from_cache(self.cache);
            if dpagemap.is_null() {
                dpagemap = self.new_pagemap();
                if !is_err(dpagemap) {
                    drm_pagemap_cache_set_pagemap(self.cache, dpagemap);
                }
            }
            drm_pagemap_cache_unlock_lookup(self.cache);
            match is_err(dpagemap) {
                true => Err(dpagemap as isize as c_int),
                false => Ok(dpagemap),
            }
        }
    }

    unsafe fn new_pagemap(&self) -> *mut drm_pagemap {
        unsafe {
            let this = kzalloc::<Pagemap>();
            let fail = |err: u32| std::ptr::without_provenance_mut(errno(err) as usize);
            if this.is_null() {
                return fail(ENOMEM);
            }
            (*this).gpu = self;
            let work = &raw mut (*this).destroy;
            init_work_with_key(work, Some(destroy_work), false, null(), null_mut());
            let pagemap = &raw mut (*this).pagemap;
            let dpagemap = &raw mut (*this).dpagemap;
            if drm_pagemap_init(dpagemap, pagemap, self.drm.as_ptr(), &OPS) != 0 {
                kfree(this);
                return fail(ENOMEM);
            }
            self.pagemaps.fetch_add(1, SeqCst);
            let peer = &raw mut (*this).peer;
            (*peer).private = this.cast();
            if drm_pagemap_acquire_owner(peer, self.owners, Some(has_interconnect)) != 0 {
                drm_pagemap_put(dpagemap);
                return fail(ENOMEM);
            }
            (*pagemap).type_ = memory_type_MEMORY_DEVICE_PRIVATE;
            (*pagemap).owner = (*peer).owner.cast();
            (*pagemap).ops = drm_pagemap_pagemap_ops_get();
            if register(this, self.nr) != 0 {
                drm_pagemap_put(dpagemap);
                return fail(ENOMEM);
            }
            dpagemap
        }
    }

    /// Memory for `size` bytes, with one reference; or null.
    unsafe fn new_bo(
        &self,
        dpagemap: *mut drm_pagemap,
        mm: *mut mm_struct,
        size: usize,
    ) -> *mut Bo {
        let nr = size / PAGE_SIZE;
        let first = {
            let mut used = lock(&self.used);
            let align = nr.next_power_of_two();
            let mut firsts = (0..self.nr).step_by(align).filter(|at| at + nr <= self.nr);
            let Some(first) = firsts.find(|at| !used[*at..at + nr].contains(&true)) else {
                return null_mut();
            };
            used[first..first + nr].fill(true);
            first
        };
        unsafe {
            let bo = kzalloc::<Bo>();
            if bo.is_null() {
                lock(&self.used)[first..first + nr].fill(false);
                return bo;
            }
            mmgrab(mm);
            bo.cast::<u8>().write_bytes(0, size_of::<Bo>());
            (*bo).refs = AtomicUsize::new(1);
            (*bo).gpu = self;
            ((*bo).first, (*bo).nr) = (first, nr);
            let fence = std::mem::take(&mut *lock(&self.fence)) as *mut dma_fence;
            let dev = self.drm.device();
            let devmem = &raw mut (*bo).devmem;
            drm_pagemap_devmem_init(devmem, dev, mm, &DEVMEM_OPS, dpagemap, size, fence);
            lock(&self.bos).push(bo as usize);
            bo
        }
    }

    /// A reference to each of its allocations.
    pub fn bos(&self) -> Vec<*mut Bo> {
        let bos = lock(&self.bos);
        let all = bos.iter().map(|bo| *bo as *mut Bo);
        all.inspect(|bo| unsafe {
            (**bo).refs.fetch_add(1, SeqCst);
        })
        .collect()
    }

    /// Evicts everything. Gives the last error.
    pub fn evict(&self) -> c_int {
        let mut result = 0;
        for bo in self.bos() {
            unsafe {
                match drm_pagemap_evict_to_ram(&raw mut (*bo).devmem) {
                    0 => {}
                    err => result = err,
                }
                bo_put(bo);
            }
        }
        result
    }

    /// Migrates memory of `process` to it, if it can.
    pub fn migrate(&self, process: &Process, start: usize, len: usize) -> c_int {
        let dpagemap = match self.pagemap() {
            Ok(dpagemap) => dpagemap,
            Err(err) => return err,
        };
        let timeslice = self.timeslice_ms.load(SeqCst);
        let result = process.run(|| unsafe {
            let mm = (*get_current()).mm;
            drm_pagemap_populate_mm(dpagemap, start, start + len, mm, timeslice)
        });
        unsafe { drm_pagemap_put(dpagemap) };
        result
    }

    /// How many pages of its memory are in use.
    pub fn used(&self) -> usize {
        lock(&self.used).iter().filter(|used| **used).count()
    }

    pub fn released(&self) -> usize {
        self.released.load(SeqCst)
    }

    /// What is at `offset` of its memory.
    pub fn byte(&self, offset: usize) -> u8 {
        lock(&self.vram)[offset]
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        self.drm.unbind();
        // What is destroyed by a work item.
        while self.pagemaps.load(SeqCst) > 0 {
            unsafe { fsleep(100) };
        }
        let this = &raw const *self as usize;
        lock(&CARDS).retain(|(_, card)| *card != this);
    }
}

/// Gives a reference up.
pub unsafe fn bo_put(bo: *mut Bo) {
    unsafe {
        let gpu = (*bo).gpu;
        {
            let mut bos = lock(&(*gpu).bos);
            if (*bo).refs.fetch_sub(1, SeqCst) > 1 {
                return;
            }
            bos.retain(|other| *other != bo as usize);
        }
        lock(&(*gpu).used)[(*bo).first..(*bo).first + (*bo).nr].fill(false);
        dma_fence_put((*bo).devmem.pre_migrate_fence);
        mmdrop((*bo).devmem.mm);
        kfree(bo);
    }
}

unsafe extern "C" fn evict_all(gpu: *mut c_void) {
    let gpu = unsafe { &*gpu.cast::<Gpu>() };
    gpu.evict();
}

#[cfg(dpmem_offset)]
unsafe fn register(this: *mut Pagemap, nr: usize) -> c_int {
    unsafe {
        (*this).pagemap.nr_pages = nr;
        memremap_device_private_pagemap(&raw mut (*this).pagemap, NUMA_NO_NODE)
    }
}

#[cfg(dpmem_offset)]
unsafe fn unregister(this: *mut Pagemap) {
    unsafe {
        if !(*this).pagemap.private.is_null() {
            memunmap_device_private_pagemap(&raw mut (*this).pagemap);
        }
    }
}

#[cfg(not(dpmem_offset))]
unsafe fn register(this: *mut Pagemap, nr: usize) -> c_int {
    unsafe {
        let size = nr * PAGE_SIZE;
        let name = c"gpu".as_ptr().cast();
        let res = request_free_mem_region(&raw mut iomem_resource, size as _, name);
        if is_err(res) {
            return res as isize as c_int;
        }
        let pagemap = &raw mut (*this).pagemap;
        *(*pagemap).__bindgen_anon_1.range.as_mut() = range {
            start: (*res).start,
            end: (*res).end,
        };
        (*pagemap).nr_range = 1;
        let addr = memremap_pages(pagemap, NUMA_NO_NODE);
        if is_err(addr) {
            release_mem_region((*res).start, size as _);
            return addr as isize as c_int;
        }
        (*this).base = (*res).start;
        0
    }
}

#[cfg(not(dpmem_offset))]
unsafe fn unregister(this: *mut Pagemap) {
    unsafe {
        if (*this).base != 0 {
            memunmap_pages(&raw mut (*this).pagemap);
            let range = *(*this).pagemap.__bindgen_anon_1.range.as_ref();
            release_mem_region(range.start, range.end + 1 - range.start);
        }
    }
}

/// The pagemap that `dpagemap` is a part of.
unsafe fn pagemap_of(dpagemap: *mut drm_pagemap) -> *mut Pagemap {
    unsafe { dpagemap.byte_sub(offset_of!(Pagemap, dpagemap)) }.cast()
}

unsafe extern "C" fn destroy(dpagemap: *mut drm_pagemap, is_atomic_or_reclaim: bool) {
    unsafe {
        let this = pagemap_of(dpagemap);
        let work = &raw mut (*this).destroy;
        if (*(*this).gpu).sleeps_in_destroy.load(SeqCst) {
            fsleep(1);
        }
        match is_atomic_or_reclaim {
            true => {
                queue_work_on(wq_misc_consts_WORK_CPU_UNBOUND as c_int, system_wq, work);
            }
            false => destroy_work(work),
        }
    }
}

unsafe extern "C" fn destroy_work(work: *mut work_struct) {
    unsafe {
        let this = work
            .byte_sub(offset_of!(Pagemap, destroy))
            .cast::<Pagemap>();
        let gpu = (*this).gpu;
        unregister(this);
        drm_pagemap_release_owner(&raw mut (*this).peer);
        kfree(this);
        (*gpu).pagemaps.fetch_sub(1, SeqCst);
    }
}

/// Cards of one kind reach each other: those with a shared list.
unsafe extern "C" fn has_interconnect(_: *mut drm_pagemap_peer, _: *mut drm_pagemap_peer) -> bool {
    true
}

unsafe extern "C" fn device_map(
    dpagemap: *mut drm_pagemap,
    dev: *mut device,
    page: *mut page,
    order: c_uint,
    dir: dma_data_direction,
) -> drm_pagemap_addr {
    unsafe {
        let gpu = (*pagemap_of(dpagemap)).gpu;
        assert_eq!(drm_pagemap_page_to_dpagemap(page), dpagemap);
        let offset = device_private_page_to_offset(page) * PAGE_SIZE;
        let at = (*gpu).bar + offset as u64;
        let addr = dma_map_resource(dev, at, PAGE_SIZE << order, dir, 0);
        drm_pagemap_addr {
            addr,
            _bitfield_align_1: [],
            _bitfield_1: drm_pagemap_addr::new_bitfield_1(PEER, order.into(), 2),
        }
    }
}

unsafe extern "C" fn device_unmap(
    _dpagemap: *mut drm_pagemap,
    dev: *mut device,
    addr: *const drm_pagemap_addr,
) {
    unsafe {
        let size = PAGE_SIZE << (*addr).order();
        assert_eq!(((*addr).proto(), (*addr).dir()), (PEER, 2));
        dma_unmap_resource(dev, (*addr).addr, size, DMA_FROM_DEVICE, 0);
    }
}

unsafe extern "C" fn populate_mm(
    dpagemap: *mut drm_pagemap,
    start: c_ulong,
    end: c_ulong,
    mm: *mut mm_struct,
    timeslice_ms: c_ulong,
) -> c_int {
    unsafe {
        let gpu = &*(*pagemap_of(dpagemap)).gpu;
        let mut idx = 0;
        if !drm_dev_enter(gpu.drm.as_ptr(), &raw mut idx) {
            return errno(ENODEV);
        }
        let bo = gpu.new_bo(dpagemap, mm, end - start);
        let mut result = errno(ENOMEM);
        if !bo.is_null() {
            let mut details: drm_pagemap_migrate_details = std::mem::zeroed();
            details.timeslice_ms = timeslice_ms;
            details.set_can_migrate_same_pagemap(gpu.same.load(SeqCst).into());
            let devmem = &raw mut (*bo).devmem;
            result = drm_pagemap_migrate_to_devmem(devmem, mm, start, end, &raw const details);
        }
        drm_dev_exit(idx);
        result
    }
}

pub static OPS: drm_pagemap_ops = drm_pagemap_ops {
    device_map: Some(device_map),
    device_unmap: Some(device_unmap),
    populate_mm: Some(populate_mm),
    destroy: Some(destroy),
};

unsafe extern "C" fn devmem_release(devmem: *mut drm_pagemap_devmem) {
    unsafe {
        let bo = devmem.cast::<Bo>();
        (*(*bo).gpu).released.fetch_add(1, SeqCst);
        bo_put(bo);
    }
}

unsafe extern "C" fn populate(
    devmem: *mut drm_pagemap_devmem,
    npages: c_ulong,
    places: *mut c_ulong,
) -> c_int {
    unsafe {
        let bo = &*devmem.cast::<Bo>();
        if fails(&(*bo.gpu).fail_populate) {
            return errno(EIO);
        }
        assert_eq!(npages, bo.nr);
        #[cfg(dpmem_offset)]
        let first = bo.first;
        #[cfg(not(dpmem_offset))]
        let first = bo.first + ((*pagemap_of((*devmem).dpagemap)).base >> PAGE_SHIFT) as usize;
        for i in 0..bo.nr {
            *places.add(i) = (first + i) as c_ulong;
        }
        0
    }
}

/// The card whose memory has `page`, and where.
unsafe fn place(page: *mut page) -> (&'static Gpu, usize) {
    unsafe {
        let dpagemap = drm_pagemap_page_to_dpagemap(page);
        let gpu = &*(*pagemap_of(dpagemap)).gpu;
        (
            gpu,
            device_private_page_to_offset(page) as usize * PAGE_SIZE,
        )
    }
}

unsafe extern "C" fn copy_to_devmem(
    pages: *mut *mut page,
    addrs: *mut drm_pagemap_addr,
    npages: c_ulong,
    fence: *mut dma_fence,
) -> c_int {
    unsafe {
        if !fence.is_null() && dma_fence_wait_timeout(fence, false, 1000) <= 0 {
            return errno(EIO);
        }
        let mut i = 0;
        while i < npages {
            let (page, addr) = (*pages.add(i), *addrs.add(i));
            if page.is_null() {
                i += 1;
                continue;
            }
            let (gpu, offset) = place(page);
            if fails(&gpu.fail_copy) {
                return errno(EIO);
            }
            gpu.copies.0.fetch_add(1, SeqCst);
            let nr = 1 << folio_order(page_folio(page));
            let mut bytes = vec![0; nr * PAGE_SIZE];
            // Where nothing was, there are zeroes.
            if addr.addr != 0 {
                assert_eq!((addr.proto(), 1 << addr.order(), addr.dir()), (0, nr, 1));
                dma_read(addr.addr, &mut bytes);
            }
            lock(&gpu.vram)[offset..offset + bytes.len()].copy_from_slice(&bytes);
            i += nr;
        }
        0
    }
}

unsafe extern "C" fn copy_to_ram(
    pages: *mut *mut page,
    addrs: *mut drm_pagemap_addr,
    npages: c_ulong,
    _fence: *mut dma_fence,
) -> c_int {
    unsafe {
        let mut i = 0;
        while i < npages {
            let (page, addr) = (*pages.add(i), *addrs.add(i));
            i += 1;
            if page.is_null() || addr.addr == 0 {
                continue;
            }
            let (gpu, offset) = place(page);
            if fails(&gpu.fail_copy) {
                return errno(EIO);
            }
            gpu.copies.1.fetch_add(1, SeqCst);
            let len = PAGE_SIZE << addr.order();
            let bytes = lock(&gpu.vram)[offset..offset + len].to_vec();
            if addr.proto() == PEER {
                let Some(at) = dma_resource(addr.addr, len, DMA_FROM_DEVICE) else {
                    return errno(EIO);
                };
                let cards = lock(&CARDS);
                let (bar, card) = cards
                    .iter()
                    .find(|(bar, card)| {
                        let size = (*(*card as *const Gpu)).nr * PAGE_SIZE;
                        (*bar..bar + size as u64).contains(&at)
                    })
                    .expect("there is a card");
                let to = (at - bar) as usize;
                lock(&(*(*card as *const Gpu)).vram)[to..to + len].copy_from_slice(&bytes);
            } else {
                dma_write(addr.addr, &bytes);
            }
            i += (1 << addr.order()) - 1;
        }
        0
    }
}

static DEVMEM_OPS: drm_pagemap_devmem_ops = drm_pagemap_devmem_ops {
    devmem_release: Some(devmem_release),
    #[cfg(dpmem_offset)]
    populate_devmem_offsets: Some(populate),
    #[cfg(not(dpmem_offset))]
    populate_devmem_pfn: Some(populate),
    copy_to_devmem: Some(copy_to_devmem),
    copy_to_ram: Some(copy_to_ram),
};
