// SPDX-License-Identifier: GPL-2.0

//! A driver over drm_pagemap, and what becomes of processes' memory.

// The driver is one of C's: what is true of its pointers is said in one place.
#![allow(clippy::undocumented_unsafe_blocks, clippy::missing_safety_doc)]

mod gpu;
mod support;

use bindings::{
    sim::{
        self, fence, for_each_failure, for_each_failure_of, iommu, owner_list, run, shrink,
        signal_fence, spawn, splits, Errno, Mapped, Process, HUGE_PAGE_SIZE,
    },
    *,
};
use gpu::*;
use std::{
    panic::catch_unwind,
    sync::{atomic::Ordering::SeqCst, Arc},
};
use support::reported;

/// Says to AddressSanitizer that what is left over is left on purpose.
#[no_mangle]
extern "C" fn __lsan_is_turned_off() -> std::ffi::c_int {
    1
}

#[test]
fn to_the_device_and_back() {
    run(|| {
        let gpu = card();
        let (process, memory) = process(16);
        assert_eq!(gpu.migrate(&process, memory, len(16)), 0);
        for i in 0..16 {
            assert_eq!(process.mapped(memory + len(i)), Mapped::Device(i, true));
            assert_eq!(gpu.byte(len(i)), 1 + i as u8);
        }
        assert_eq!(gpu.used(), 16);
        // One page brings all of the allocation home.
        let mut byte = [0];
        process.read(memory + len(3), &mut byte).unwrap();
        assert!((0..16).all(|i| process.mapped(memory + len(i)) == Mapped::Ram(true)));
        assert_eq!((gpu.used(), gpu.released()), (0, 1));
        check(&process, memory, 16);
        // Once more.
        assert_eq!(gpu.migrate(&process, memory, len(16)), 0);
        process.write(memory, &[9]).unwrap();
        assert_eq!((gpu.used(), gpu.released()), (0, 2));
        assert_eq!(gpu.pagemaps.load(SeqCst), 1);
    });
}

#[test]
fn holes_and_zeroes() {
    run(|| {
        let gpu = card();
        let process = Process::new();
        let memory = process.mmap(len(4));
        process.read(memory + len(1), &mut [0]).unwrap();
        assert_eq!(process.mapped(memory + len(1)), Mapped::Zero);
        process.write(memory + len(2), &[7]).unwrap();
        assert_eq!(gpu.migrate(&process, memory, len(4)), 0);
        assert!((0..4).all(|i| is_on_device(&process, memory + len(i))));
        assert_eq!(gpu.evict(), 0);
        for (i, expected) in [0, 0, 7, 0].into_iter().enumerate() {
            let mut byte = [1];
            process.read(memory + len(i), &mut byte).unwrap();
            assert_eq!(byte, [expected]);
        }
    });
}

#[test]
fn what_cannot_be_migrated() {
    run(|| {
        let gpu = card();
        let (process, memory) = process(4);
        // Beyond its end; where nothing is; twice.
        assert_eq!(gpu.migrate(&process, memory, len(5)), error(EINVAL));
        assert_eq!(
            gpu.migrate(&process, memory + len(64), len(1)),
            error(ENOENT)
        );
        assert_eq!((gpu.used(), gpu.released()), (0, 2));
        assert_eq!(gpu.migrate(&process, memory, len(2)), 0);
        assert_eq!(gpu.migrate(&process, memory, len(2)), 0);
        // All or nothing.
        assert_eq!(gpu.migrate(&process, memory, len(4)), error(EBUSY));
        assert_eq!((gpu.used(), gpu.released()), (2, 4));
        assert_eq!(process.mapped(memory + len(2)), Mapped::Ram(true));
        // But the card may do it itself.
        gpu.same.store(true, SeqCst);
        assert_eq!(gpu.migrate(&process, memory, len(4)), 0);
        assert_eq!((gpu.used(), gpu.released()), (4, 5));
        check(&process, memory, 4);
    });
}

#[test]
fn evicted() {
    run(|| {
        let gpu = card();
        let (process, memory) = process(16);
        assert_eq!(gpu.migrate(&process, memory, len(8)), 0);
        assert_eq!(gpu.migrate(&process, memory + len(8), len(8)), 0);
        assert_eq!(gpu.evict(), 0);
        assert!((0..16).all(|i| process.mapped(memory + len(i)) == Mapped::Ram(true)));
        assert_eq!((gpu.used(), gpu.released()), (0, 2));
        check(&process, memory, 16);
    });
}

#[test]
fn with_an_iommu() {
    run(|| {
        iommu();
        let gpu = card();
        let (process, memory) = process(16);
        assert_eq!(gpu.migrate(&process, memory, len(16)), 0);
        check(&process, memory, 16);
        assert_eq!(gpu.migrate(&process, memory, len(16)), 0);
        assert_eq!(gpu.evict(), 0);
        check(&process, memory, 16);
    });
}

#[test]
fn between_two_devices() {
    run(|| {
        let (one, two) = two_cards();
        let (process, memory) = process(16);
        // Some here, some there, some at home: two of the three are copied by somebody else.
        assert_eq!(one.migrate(&process, memory, len(4)), 0);
        assert_eq!(one.migrate(&process, memory + len(8), len(4)), 0);
        assert_eq!(two.migrate(&process, memory, len(16)), 0);
        assert!((0..16).all(|i| is_on_device(&process, memory + len(i))));
        assert_eq!((one.used(), one.released(), two.used()), (0, 2, 16));
        assert_eq!(one.copies.1.load(SeqCst), 8);
        assert_eq!(two.copies.0.load(SeqCst), 8);
        check(&process, memory, 16);
        assert_eq!(two.used(), 0);
    });
}

#[test]
fn without_an_interconnect() {
    run(|| {
        // Of two lists of owners.
        let (one, two) = (card(), card());
        let (process, memory) = process(4);
        assert_eq!(one.migrate(&process, memory, len(4)), 0);
        assert_eq!(two.migrate(&process, memory, len(4)), error(EBUSY));
        assert_eq!((one.used(), two.used(), two.released()), (4, 0, 1));
        check(&process, memory, 4);
    });
}

#[test]
fn a_child() {
    run(|| {
        let gpu = card();
        let (parent, memory) = process(8);
        assert_eq!(gpu.migrate(&parent, memory, len(8)), 0);
        let child = parent.fork();
        assert!(is_on_device(&child, memory));
        check(&child, memory, 8);
        assert_eq!(gpu.used(), 0);
        child.write(memory, &[99; 64]).unwrap();
        check(&parent, memory, 8);
        // What two have can be evicted as well.
        assert_eq!(gpu.migrate(&parent, memory + len(4), len(4)), 0);
        let other = parent.fork();
        assert_eq!(gpu.evict(), 0);
        check(&other, memory, 8);
        check(&parent, memory, 8);
    });
}

#[test]
fn evicting_after_the_process() {
    run(|| {
        let gpu = card();
        let (parent, memory) = process(8);
        assert_eq!(gpu.migrate(&parent, memory, len(8)), 0);
        let child = parent.fork();
        drop(parent);
        // The child has the pages, but it was not its address space.
        assert_eq!(gpu.evict(), error(EFAULT));
        assert_eq!(gpu.used(), 8);
        check(&child, memory, 8);
        assert_eq!(gpu.used(), 0);
    });
}

#[test]
fn a_process_that_exits() {
    run(|| {
        let gpu = card();
        let (process, memory) = process(8);
        assert_eq!(gpu.migrate(&process, memory, len(8)), 0);
        drop(process);
        assert_eq!((gpu.used(), gpu.released()), (0, 1));
    });
}

#[test]
fn large_folios() {
    run(|| {
        let gpu = card();
        let (process, memory) = huge_process();
        assert_eq!(gpu.migrate(&process, memory, HUGE_PAGE_SIZE), 0);
        assert!(process.is_huge(memory) && is_on_device(&process, memory));
        assert_eq!(gpu.copies.0.load(SeqCst), 1);
        check(&process, memory, 512);
        assert!(process.is_huge(memory) && !is_on_device(&process, memory));
        assert_eq!(gpu.copies.1.load(SeqCst), 1);
        assert_eq!(gpu.migrate(&process, memory, HUGE_PAGE_SIZE), 0);
        assert_eq!(gpu.evict(), 0);
        assert!(process.is_huge(memory) && splits().is_empty());
        check(&process, memory, 512);
        assert_eq!((gpu.used(), gpu.released()), (0, 2));
    });
}

#[test]
fn large_folios_between_two_devices() {
    run(|| {
        let (one, two) = two_cards();
        let (process, memory) = huge_process();
        assert_eq!(one.migrate(&process, memory, HUGE_PAGE_SIZE), 0);
        assert_eq!(two.migrate(&process, memory, HUGE_PAGE_SIZE), 0);
        assert!(process.is_huge(memory));
        assert_eq!(one.copies.1.load(SeqCst), 1);
        check(&process, memory, 512);
    });
}

#[test]
fn a_large_folio_that_is_split() {
    run(|| {
        let gpu = card();
        let (process, memory) = huge_process();
        assert_eq!(gpu.migrate(&process, memory, HUGE_PAGE_SIZE), 0);
        process.munmap(memory, len(100));
        assert!(!process.is_huge(memory + len(100)));
        // What is left is brought home page by page.
        let mut byte = [0];
        process.read(memory + len(300), &mut byte).unwrap();
        assert_eq!(byte, [1 + (300 % 251) as u8]);
        assert_eq!((gpu.used(), gpu.released()), (0, 1));
        assert_eq!(splits().len(), 1);
    });
}

#[test]
fn no_large_folio_at_home() {
    let mut seen = Vec::new();
    for_each_failure_of(&["folio_alloc"], || {
        let gpu = card();
        let (process, memory) = huge_process();
        assert_eq!(gpu.migrate(&process, memory, HUGE_PAGE_SIZE), 0);
        check(&process, memory, 512);
        assert_eq!((gpu.used(), gpu.released()), (0, 1));
        seen.push((splits().len(), gpu.copies.1.load(SeqCst)));
    });
    // Single pages will do for a CPU.
    assert_eq!(seen, [(0, 1), (1, 512)]);
    seen.clear();
    for_each_failure_of(&["folio_alloc"], || {
        let gpu = card();
        let (process, memory) = huge_process();
        assert_eq!(gpu.migrate(&process, memory, HUGE_PAGE_SIZE), 0);
        assert_eq!(gpu.evict(), 0);
        check(&process, memory, 512);
        seen.push((splits().len(), gpu.copies.1.load(SeqCst)));
    });
    // An eviction copies them in vain, as it cannot split, and tries again.
    assert_eq!(seen, [(0, 1), (0, 513)]);
}

#[test]
fn all_or_nothing() {
    let mut results = Vec::new();
    for_each_failure_of(&["folio_trylock", "migrate_folio"], || {
        let gpu = card();
        let (process, memory) = process(4);
        let result = gpu.migrate(&process, memory, len(4));
        let there = (0..4).filter(|i| is_on_device(&process, memory + len(*i)));
        results.push((result, there.count()));
        check(&process, memory, 4);
    });
    assert_eq!(results[0], (0, 4));
    // What cannot be locked is known before; what cannot be moved in the end stays alone.
    assert_eq!(results[1..5], [(error(EBUSY), 0); 4]);
    assert_eq!(results[5..9], [(error(EBUSY), 3); 4]);
    // The rest of the failures are on the way back.
    assert!(results[9..].iter().all(|result| *result == (0, 4)));
}

#[test]
fn two_allocations_side_by_side() {
    run(|| {
        let gpu = card();
        let (process, memory) = process(8);
        assert_eq!(memory % len(8), 0);
        assert_eq!(gpu.migrate(&process, memory, len(2)), 0);
        assert_eq!(gpu.migrate(&process, memory + len(2), len(4)), 0);
        // What is looked at is as large as the second, and begins where that much does.
        process.read(memory + len(3), &mut [0]).unwrap();
        let there = |i: usize| is_on_device(&process, memory + len(i));
        assert_eq!(
            [0, 1, 2, 3, 4, 5].map(there),
            [true, true, false, false, true, true]
        );
        assert_eq!(gpu.released(), 0);
        check(&process, memory, 8);
        assert_eq!((gpu.used(), gpu.released()), (0, 2));
    });
}

#[test]
fn a_large_hole() {
    run(|| {
        let gpu = card();
        let process = Process::new();
        let memory = process.mmap(HUGE_PAGE_SIZE);
        process.madvise_hugepage(memory, HUGE_PAGE_SIZE);
        // C counts it as one page of 512 that was moved: it says that it was not, and it was.
        let result = gpu.migrate(&process, memory, HUGE_PAGE_SIZE);
        assert_eq!(result, error(EBUSY));
        assert!(process.is_huge(memory) && is_on_device(&process, memory));
        assert_eq!((gpu.used(), gpu.released()), (512, 0));
        let mut byte = [1];
        process.read(memory + len(5), &mut byte).unwrap();
        assert_eq!(byte, [0]);
        assert_eq!((gpu.used(), gpu.released()), (0, 1));
    });
}

#[test]
fn copies_that_fail() {
    run(|| {
        let gpu = card();
        let (process, memory) = process(8);
        gpu.fail_copy.store(3, SeqCst);
        assert_eq!(gpu.migrate(&process, memory, len(8)), error(EIO));
        assert_eq!((gpu.used(), gpu.released()), (0, 1));
        check(&process, memory, 8);
        assert_eq!(gpu.migrate(&process, memory, len(8)), 0);
        gpu.fail_copy.store(3, SeqCst);
        assert_eq!(process.read(memory, &mut [0]), Err(Errno(EIO)));
        assert_eq!((gpu.used(), gpu.released()), (8, 1));
        // An eviction tries again.
        gpu.fail_copy.store(3, SeqCst);
        assert_eq!(gpu.evict(), 0);
        check(&process, memory, 8);
        assert_eq!((gpu.used(), gpu.released()), (0, 2));
    });
}

#[test]
fn copies_between_devices_that_fail() {
    run(|| {
        let (one, two) = two_cards();
        let (process, memory) = process(8);
        assert_eq!(one.migrate(&process, memory, len(4)), 0);
        one.fail_copy.store(2, SeqCst);
        assert_eq!(two.migrate(&process, memory, len(8)), error(EIO));
        assert_eq!((one.used(), two.used(), two.released()), (4, 0, 1));
        check(&process, memory, 8);
    });
}

#[test]
fn populations_that_fail() {
    run(|| {
        let gpu = card();
        let (process, memory) = process(8);
        gpu.fail_populate.store(0, SeqCst);
        assert_eq!(gpu.migrate(&process, memory, len(8)), error(EIO));
        assert_eq!((gpu.used(), gpu.released()), (0, 1));
        assert_eq!(gpu.migrate(&process, memory, len(8)), 0);
        gpu.fail_populate.store(0, SeqCst);
        assert_eq!(gpu.evict(), 0);
        check(&process, memory, 8);
    });
}

#[test]
fn a_time_slice() {
    run(|| {
        let gpu = card();
        let (process, memory) = process(1);
        gpu.timeslice_ms.store(50, SeqCst);
        let now = || unsafe { ktime_to_ms(ktime_get()) };
        let before = now();
        assert_eq!(gpu.migrate(&process, memory, len(1)), 0);
        check(&process, memory, 1);
        assert!(now() - before >= 50);
        // An eviction does not wait.
        gpu.timeslice_ms.store(100_000, SeqCst);
        assert_eq!(gpu.migrate(&process, memory, len(1)), 0);
        assert_eq!(gpu.evict(), 0);
        check(&process, memory, 1);
    });
}

#[test]
fn a_fence_to_wait_for() {
    run(|| {
        let gpu = Arc::new(card());
        let (process, memory) = process(2);
        let fence = fence(false);
        *gpu.fence.lock().unwrap() = fence as usize;
        // Ours, besides the card's.
        unsafe { dma_fence_get(fence) };
        let ours = fence as usize;
        let other = spawn(move || unsafe { signal_fence(ours as *mut dma_fence) });
        assert_eq!(gpu.migrate(&process, memory, len(2)), 0);
        other.join();
        assert!(unsafe { dma_fence_is_signaled(fence) });
        unsafe { dma_fence_put(fence) };
        check(&process, memory, 2);
    });
}

#[test]
fn a_device_that_is_unbound() {
    run(|| {
        let gpu = card();
        let (process, memory) = process(8);
        assert_eq!(gpu.migrate(&process, memory, len(8)), 0);
        let kept = gpu.pagemap().unwrap();
        gpu.drm.unbind();
        assert_eq!((gpu.used(), gpu.released()), (0, 1));
        check(&process, memory, 8);
        // It is there for as long as somebody has it, but it is no use.
        let result = process.run(|| unsafe {
            let mm = (*get_current()).mm;
            drm_pagemap_populate_mm(kept, memory, memory + len(8), mm, 0)
        });
        assert_eq!(result, error(ENODEV));
        assert_eq!(gpu.pagemaps.load(SeqCst), 1);
        unsafe { drm_pagemap_put(kept) };
    });
}

#[test]
fn a_pagemap_is_used_again() {
    run(|| {
        let gpu = card();
        let first = gpu.pagemap().unwrap();
        assert_eq!(gpu.pagemap().unwrap(), first);
        let active = || unsafe { drm_pagemap_get_from_cache_if_active(gpu.cache) };
        assert_eq!(active(), first);
        (0..3).for_each(|_| unsafe { drm_pagemap_put(first) });
        // It is idle, and there.
        assert!(active().is_null());
        assert_eq!(gpu.pagemaps.load(SeqCst), 1);
        assert_eq!(gpu.pagemap().unwrap(), first);
        // What is in use is not shrunk.
        assert_eq!(shrink(1), 0);
        unsafe { drm_pagemap_put(first) };
        assert_eq!(shrink(1), 1);
        assert_eq!(shrink(1), 0);
        let second = gpu.pagemap().unwrap();
        unsafe { drm_pagemap_put(second) };
        // The rest goes with the device.
        gpu.drm.unbind();
        while gpu.pagemaps.load(SeqCst) > 0 {
            unsafe { fsleep(100) };
        }
    });
}

#[test]
fn owners() {
    unsafe extern "C" fn even(a: *mut drm_pagemap_peer, b: *mut drm_pagemap_peer) -> bool {
        let number = |peer: *mut drm_pagemap_peer| unsafe { (*peer).private } as usize;
        number(a) % 2 == number(b) % 2
    }
    run(|| {
        let mut list = owner_list();
        let mut peers: [drm_pagemap_peer; 6] = unsafe { std::mem::zeroed() };
        let (peers, list) = (peers.as_mut_ptr(), &raw mut *list);
        let peer = |i: usize| unsafe { peers.add(i) };
        for i in 0..6 {
            unsafe {
                (*peer(i)).private = i as *mut _;
                assert_eq!(drm_pagemap_acquire_owner(peer(i), list, Some(even)), 0);
            }
        }
        let owner = |i: usize| unsafe { (*peer(i)).owner };
        assert!((0..6).all(|i| owner(i) == owner(i % 2)) && owner(0) != owner(1));
        (0..6).for_each(|i| unsafe { drm_pagemap_release_owner(peer(i)) });
    });
}

#[test]
fn whatever_fails() {
    let nr = for_each_failure(|| {
        let owners = lasting_owners();
        let (Ok(one), Ok(two)) = (Gpu::new(8, owners), Gpu::new(8, owners)) else {
            return;
        };
        let process = Process::new();
        let memory = process.mmap(len(4));
        let written = (0..4).all(|i| process.write(memory + len(i), &[i as u8 + 1; 64]).is_ok());
        one.migrate(&process, memory, len(2));
        two.migrate(&process, memory, len(4));
        one.evict();
        two.evict();
        for i in (0..4).filter(|_| written) {
            let mut bytes = [0; 64];
            if process.read(memory + len(i), &mut bytes).is_ok() {
                assert_eq!(bytes, [i as u8 + 1; 64]);
            }
        }
        shrink(10);
    });
    assert!(nr > 50, "{nr}");
}

#[test]
fn whatever_fails_with_large_folios() {
    let names = &[
        "kmalloc",
        "kvmalloc",
        "folio_alloc",
        "dma_map_page",
        "migrate_folio",
    ];
    for_each_failure_of(names, || {
        let Ok(gpu) = Gpu::new(512, lasting_owners()) else {
            return;
        };
        let (process, memory) = huge_process();
        gpu.migrate(&process, memory, HUGE_PAGE_SIZE);
        let mut byte = [0];
        if process.read(memory + len(7), &mut byte).is_ok() {
            assert_eq!(byte, [8]);
        }
        gpu.migrate(&process, memory, HUGE_PAGE_SIZE);
        gpu.evict();
    });
}

// What is not right, and reported.

#[test]
fn sleeping_in_destroy() {
    reported(
        "`fsleep()` may sleep, and is called in atomic context",
        || {
            let gpu = card();
            gpu.sleeps_in_destroy.store(true, SeqCst);
            let pagemap = gpu.pagemap().unwrap();
            unsafe { drm_pagemap_put(pagemap) };
            assert_eq!(shrink(1), 1);
        },
    );
}

/// In C, the cache is looked at when the device is unbound, and the pagemap may be freed by then.
#[test]
fn the_last_reference_between_unplugging_and_unbinding() {
    reported("a cache has a pagemap that was destroyed", || {
        let gpu = card();
        let pagemap = gpu.pagemap().unwrap();
        gpu.drm.unplug();
        unsafe { drm_pagemap_put(pagemap) };
        gpu.drm.unbind();
    });
}

#[test]
fn memory_freed_that_pages_are_in() {
    let result = catch_unwind(|| {
        run(|| {
            let gpu = card();
            let (process, memory) = process(1);
            assert_eq!(gpu.migrate(&process, memory, len(1)), 0);
            let bo = gpu.bos()[0];
            // One reference for this, and one that is the pages'.
            unsafe { bo_put(bo) };
            let copy = unsafe { std::ptr::read(bo) };
            unsafe { kfree(bo) };
            // There is nothing to go on with.
            std::mem::forget((process, gpu, copy));
        })
    });
    let panic = result.expect_err("nothing was reported");
    let text = panic.downcast_ref::<String>().expect("a report is text");
    assert!(
        text.contains("device memory that pages may be in in it"),
        "{text}"
    );
}

#[test]
fn a_pagemap_left_over() {
    reported("left over: a `drm_pagemap` in use", || {
        let gpu = card();
        gpu.pagemap().unwrap();
        std::mem::forget(gpu);
    });
}

#[test]
fn a_fence_left_over() {
    reported("left over: a fence", || {
        fence(true);
    });
}

#[test]
fn a_device_entered_for_ever() {
    reported("left over: a `drm_dev_enter()` without its exit", || {
        let drm = sim::DrmDevice::new();
        let mut idx = 0;
        assert!(unsafe { drm_dev_enter(drm.as_ptr(), &raw mut idx) });
        std::mem::forget(drm);
    });
}

#[test]
fn a_resource_unmapped_otherwise() {
    reported("was not mapped for this device, with this size", || {
        let drm = sim::DrmDevice::new();
        let from = gpu::DMA_FROM_DEVICE;
        unsafe {
            let addr = dma_map_resource(drm.device(), 0x1000, 0x2000, from, 0);
            dma_unmap_resource(drm.device(), addr, 0x1000, from, 0);
            dma_unmap_resource(drm.device(), addr, 0x2000, from, 0);
        }
    });
}

#[test]
fn a_resource_left_mapped() {
    reported("1 resources that are mapped for a device", || {
        let drm = sim::DrmDevice::new();
        unsafe { dma_map_resource(drm.device(), 0x1000, 0x1000, gpu::DMA_FROM_DEVICE, 0) };
    });
}

#[test]
fn a_page_of_something_else() {
    reported("that is not one of a drm_pagemap", || {
        unsafe extern "C" fn quiet(_: *mut folio) {}
        static QUIET: dev_pagemap_ops = dev_pagemap_ops {
            folio_free: Some(quiet),
            migrate_to_ram: None,
            memory_failure: None,
            folio_split: None,
        };
        unsafe {
            let mut pagemap: dev_pagemap = std::mem::zeroed();
            pagemap.type_ = memory_type_MEMORY_DEVICE_PRIVATE;
            (pagemap.nr_pages, pagemap.ops) = (8, &QUIET);
            memremap_device_private_pagemap(&raw mut pagemap, NUMA_NO_NODE);
            let folio = pgmap_request_folio(&raw mut pagemap, 0, 0);
            assert!(drm_pagemap_page_to_dpagemap(folio.cast()).is_null());
            folio_unlock(folio);
            folio_put(folio);
            memunmap_device_private_pagemap(&raw mut pagemap);
        }
    });
}

#[test]
fn a_cache_without_its_lock() {
    reported("a mutex is not held that must be", || {
        let gpu = card();
        assert!(unsafe { drm_pagemap_get_from_cache(gpu.cache) }.is_null());
    });
}

#[test]
fn an_owner_released_twice() {
    reported("an owner is released twice", || {
        unsafe extern "C" fn all(_: *mut drm_pagemap_peer, _: *mut drm_pagemap_peer) -> bool {
            true
        }
        let mut list = owner_list();
        unsafe {
            let mut peer: drm_pagemap_peer = std::mem::zeroed();
            drm_pagemap_acquire_owner(&raw mut peer, &raw mut *list, Some(all));
            drm_pagemap_release_owner(&raw mut peer);
            drm_pagemap_release_owner(&raw mut peer);
        }
    });
}
