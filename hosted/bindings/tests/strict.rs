// SPDX-License-Identifier: GPL-2.0

//! What a machine does not let pass.

mod support;

use bindings::{
    sim::{self, run, Process, PAGE_SIZE},
    *,
};
use std::ptr::null_mut;
use support::{ends, reported};

/// Says to AddressSanitizer that what is left over is left on purpose.
#[no_mangle]
extern "C" fn __lsan_is_turned_off() -> std::ffi::c_int {
    1
}

/// A page of system memory.
fn new_page() -> *mut page {
    // SAFETY: It asks for nothing.
    unsafe { alloc_pages(GFP_KERNEL, 0) }
}

/// A pagemap of `nr` pages, whose table is `ops`.
fn pagemap(nr: usize, ops: &'static dev_pagemap_ops) -> Box<dev_pagemap> {
    // SAFETY: All of its fields are numbers, pointers, or arrays of these.
    let mut pgmap: Box<dev_pagemap> = Box::new(unsafe { std::mem::zeroed() });
    pgmap.type_ = memory_type_MEMORY_DEVICE_PRIVATE;
    pgmap.ops = ops;
    pgmap.nr_pages = nr;
    pgmap
}

static QUIET: dev_pagemap_ops = dev_pagemap_ops {
    folio_free: Some(quiet),
    migrate_to_ram: None,
    memory_failure: None,
    folio_split: None,
};

/// # Safety
///
/// Always safe to call.
unsafe extern "C" fn quiet(_folio: *mut folio) {}

static SLEEPY: dev_pagemap_ops = dev_pagemap_ops {
    folio_free: Some(sleepy),
    ..QUIET
};

/// # Safety
///
/// Always safe to call.
unsafe extern "C" fn sleepy(_folio: *mut folio) {
    // SAFETY: It asks for nothing.
    unsafe { synchronize_rcu() };
}

#[test]
fn what_is_right_is_not_reported() {
    run(|| {
        let mut pgmap = pagemap(8, &QUIET);
        // SAFETY: The pagemap lives until it is unregistered, and the folio is ours.
        unsafe {
            assert_eq!(
                memremap_device_private_pagemap(&raw mut *pgmap, NUMA_NO_NODE),
                0
            );
            let folio = pgmap_request_folio(&raw mut *pgmap, 3, 0);
            assert_eq!(device_private_page_to_offset(folio.cast()), 3);
            // It is in service.
            assert!(IS_ERR(pgmap_request_folio(&raw mut *pgmap, 3, 0).cast()));
            assert!(IS_ERR(pgmap_request_folio(&raw mut *pgmap, 8, 0).cast()));
            folio_unlock(folio);
            folio_put(folio);
            memunmap_device_private_pagemap(&raw mut *pgmap);
        }
    });
}

#[test]
fn a_page_left_over() {
    reported("left over: 1 pages of system memory", || {
        new_page();
    });
}

#[test]
fn memory_left_over() {
    reported("left over: 1 allocations of 100 bytes", || {
        // SAFETY: It asks for nothing.
        unsafe { krealloc_node_align(null_mut(), 100, 8, GFP_KERNEL, NUMA_NO_NODE) };
    });
}

#[test]
fn a_process_left_over() {
    reported("left over: an address space", || {
        std::mem::forget(Process::new());
    });
}

#[test]
fn a_pagemap_left_over() {
    reported("left over: a registered pagemap", || {
        let pgmap = Box::leak(pagemap(8, &QUIET));
        // SAFETY: It lives for ever.
        unsafe { memremap_device_private_pagemap(pgmap, NUMA_NO_NODE) };
    });
}

#[test]
fn a_page_that_was_freed() {
    reported("on a page that nobody has a reference to", || {
        let page = new_page();
        // SAFETY: What is not right is what is tested; `struct page`s stay.
        unsafe {
            __free_pages(page, 0);
            set_page_dirty(page);
        }
    });
}

#[test]
fn an_idle_page_of_a_device() {
    reported("on a page that nobody has a reference to", || {
        let mut pgmap = pagemap(8, &QUIET);
        // SAFETY: As above.
        unsafe {
            memremap_device_private_pagemap(&raw mut *pgmap, NUMA_NO_NODE);
            let folio = pgmap_request_folio(&raw mut *pgmap, 0, 0);
            folio_unlock(folio);
            folio_put(folio);
            page_pgmap(folio.cast());
            memunmap_device_private_pagemap(&raw mut *pgmap);
        }
    });
}

#[test]
fn an_unlocked_page_unlocked() {
    reported("unlocked that is not locked", || {
        let page = new_page();
        // SAFETY: As above.
        unsafe {
            folio_unlock(page.cast());
            __free_pages(page, 0);
        }
    });
}

#[test]
fn a_locked_page_freed() {
    reported("freed that is locked", || {
        let page = new_page();
        // SAFETY: As above.
        unsafe {
            folio_init_locked_dirty(page.cast());
            __free_pages(page, 0);
        }
    });
}

#[test]
fn a_page_beyond_the_end_of_a_folio() {
    let words = "`folio_page()` beyond the end of a folio";
    for order in [0, 2] {
        reported(words, || {
            // SAFETY: As above; nobody looks at what is beyond.
            unsafe {
                let folio = folio_alloc_movable(order);
                let nr = 1usize << order;
                folio_page(folio, nr - 1);
                folio_page(folio, nr);
                folio_put(folio);
            }
        });
    }
}

#[test]
fn sleeping_under_a_spinlock() {
    reported("in atomic context", || {
        // SAFETY: Zeroes are an unlocked spinlock.
        unsafe {
            let mut lock: spinlock_t = std::mem::zeroed();
            spin_lock(&raw mut lock);
            __free_pages(new_page(), 0);
            spin_unlock(&raw mut lock);
        }
    });
}

#[test]
fn sleeping_in_folio_free() {
    reported("`synchronize_rcu()` may sleep", || {
        let mut pgmap = pagemap(8, &SLEEPY);
        // SAFETY: As above.
        unsafe {
            memremap_device_private_pagemap(&raw mut *pgmap, NUMA_NO_NODE);
            let folio = pgmap_request_folio(&raw mut *pgmap, 0, 0);
            folio_unlock(folio);
            folio_put(folio);
            memunmap_device_private_pagemap(&raw mut *pgmap);
        }
    });
}

#[test]
fn a_mutex_of_somebody_else() {
    reported("unlocked by somebody who has not locked it", || {
        // SAFETY: Zeroes are an unlocked mutex.
        unsafe {
            let mut lock: mutex = std::mem::zeroed();
            mutex_unlock(&raw mut lock);
        }
    });
}

#[test]
fn an_unregistered_pagemap() {
    reported("pagemap that is not registered", || {
        let mut pgmap = pagemap(8, &QUIET);
        // SAFETY: As above.
        assert!(unsafe { IS_ERR(pgmap_request_folio(&raw mut *pgmap, 0, 0).cast()) });
    });
}

#[test]
fn a_destination_that_is_not_locked() {
    reported("the destination of a migration is not locked", || {
        let process = Process::new();
        let memory = process.mmap(PAGE_SIZE);
        process.write(memory, &[1]).unwrap();
        process.run(|| {
            let (mut src, mut dst) = ([0], [0]);
            // SAFETY: The arrays have room for the page. What is not right is what is tested.
            unsafe {
                let mm = (*get_current()).mm;
                mmap_read_lock(mm);
                let mut args: migrate_vma = std::mem::zeroed();
                args.vma = vma_lookup(mm, memory);
                args.src = src.as_mut_ptr();
                args.dst = dst.as_mut_ptr();
                (args.start, args.end) = (memory, memory + PAGE_SIZE);
                args.flags = migrate_vma_direction_MIGRATE_VMA_SELECT_SYSTEM as usize;
                assert_eq!(migrate_vma_setup(&raw mut args), 0);
                assert_eq!(args.cpages, 1);
                *args.dst = page_to_migrate_pfn(folio_alloc_movable(0).cast());
                migrate_vma_pages(&raw mut args);
                migrate_vma_finalize(&raw mut args);
                mmap_read_unlock(mm);
            }
        });
    });
}

#[test]
fn a_migration_without_the_lock() {
    reported("`migrate_vma_setup()` without the mmap lock", || {
        let process = Process::new();
        let memory = process.mmap(PAGE_SIZE);
        process.run(|| {
            let (mut src, mut dst) = ([0], [0]);
            // SAFETY: As above.
            unsafe {
                let mm = (*get_current()).mm;
                mmap_read_lock(mm);
                let vma = vma_lookup(mm, memory);
                mmap_read_unlock(mm);
                let mut args: migrate_vma = std::mem::zeroed();
                args.vma = vma;
                args.src = src.as_mut_ptr();
                args.dst = dst.as_mut_ptr();
                (args.start, args.end) = (memory, memory + PAGE_SIZE);
                args.flags = migrate_vma_direction_MIGRATE_VMA_SELECT_SYSTEM as usize;
                migrate_vma_setup(&raw mut args);
                migrate_vma_finalize(&raw mut args);
            }
        });
    });
}

#[test]
fn the_lock_of_an_address_space_twice() {
    reported("takes the mmap lock that it has", || {
        let process = Process::new();
        process.run(|| {
            // SAFETY: The process lives.
            unsafe {
                let mm = (*get_current()).mm;
                mmap_read_lock(mm);
                mmap_read_lock(mm);
                mmap_read_unlock(mm);
                mmap_read_unlock(mm);
            }
        });
    });
}

#[test]
fn the_lock_of_an_address_space_of_somebody_else() {
    let words = "the mmap lock is given up by a thread that does not have it";
    reported(words, || {
        let process = std::sync::Arc::new(Process::new());
        let other = process.clone();
        process.run(|| {
            // SAFETY: The process lives.
            let lock = || unsafe { mmap_read_lock((*get_current()).mm) };
            // SAFETY: As above.
            let unlock = || unsafe { mmap_read_unlock((*get_current()).mm) };
            lock();
            sim::spawn(move || other.run(unlock)).join();
            unlock();
        });
    });
}

/// A mutex of a class of its own.
fn mutex(name: &'static std::ffi::CStr) -> Box<mutex> {
    // SAFETY: All of its fields are numbers or pointers.
    let mut lock: Box<mutex> = Box::new(unsafe { std::mem::zeroed() });
    // SAFETY: As above. A key is only an address, and this one is nobody else's.
    let key = Box::leak(Box::new(unsafe { std::mem::zeroed::<lock_class_key>() }));
    // SAFETY: The lock is there, and so are its name and its key for ever.
    unsafe { __mutex_init(&raw mut *lock, name.as_ptr().cast(), key) };
    lock
}

/// Holds `lock` while `f` runs.
fn locked(lock: &mut mutex, f: impl FnOnce()) {
    // SAFETY: The lock was initialised.
    unsafe { mutex_lock(lock) };
    f();
    // SAFETY: As above, and it was locked.
    unsafe { mutex_unlock(lock) };
}

/// An allocation that may wait.
fn allocate_and_free() {
    // SAFETY: What was allocated is freed.
    unsafe {
        let memory = krealloc_node_align(null_mut(), 8, 8, GFP_KERNEL, NUMA_NO_NODE);
        krealloc_node_align(memory, 0, 8, 0, NUMA_NO_NODE);
    }
}

#[test]
fn two_orders_of_two_locks() {
    reported(
        "`one` is taken while `two` is held, and it was one before two",
        || {
            let (mut one, mut two) = (mutex(c"one"), mutex(c"two"));
            locked(&mut one, || locked(&mut two, || {}));
            locked(&mut two, || locked(&mut one, || {}));
        },
    );
}

#[test]
fn a_circle_of_three_locks() {
    reported(
        "`one` is taken while `three` is held, and it was one before two before three",
        || {
            let (mut one, mut two, mut three) = (mutex(c"one"), mutex(c"two"), mutex(c"three"));
            locked(&mut one, || locked(&mut two, || {}));
            locked(&mut two, || locked(&mut three, || {}));
            locked(&mut three, || locked(&mut one, || {}));
        },
    );
}

#[test]
fn a_lock_that_is_only_tried_is_in_no_order() {
    run(|| {
        let (mut one, mut two) = (mutex(c"one"), mutex(c"two"));
        locked(&mut one, || locked(&mut two, || {}));
        locked(&mut two, || {
            // SAFETY: The lock was initialised, and nobody has it.
            unsafe {
                assert_eq!(mutex_trylock(&raw mut *one), 1);
                mutex_unlock(&raw mut *one);
            }
        });
    });
}

#[test]
fn a_lock_that_notifiers_take_held_over_an_allocation() {
    static LOCK: std::sync::atomic::AtomicPtr<mutex> =
        std::sync::atomic::AtomicPtr::new(null_mut());

    /// # Safety
    ///
    /// [`LOCK`] must be a lock.
    unsafe extern "C" fn invalidate(
        sub: *mut mmu_interval_notifier,
        _range: *const mmu_notifier_range,
        seq: usize,
    ) -> bool {
        let lock = LOCK.load(std::sync::atomic::Ordering::Relaxed);
        // SAFETY: The caller promises it; the notifier is there while it is called.
        unsafe {
            mutex_lock(lock);
            mmu_interval_set_seq(sub, seq);
            mutex_unlock(lock);
        }
        true
    }
    static OPS: mmu_interval_notifier_ops = mmu_interval_notifier_ops {
        invalidate: Some(invalidate),
        invalidate_start: None,
        invalidate_finish: None,
    };

    // Reclaiming memory would call the notifier, which would wait for the lock.
    reported(
        "the order of locks is inverted: `fs_reclaim` is taken while `table` is held",
        || {
            let process = Process::new();
            let memory = process.mmap(PAGE_SIZE);
            process.write(memory, &[1]).unwrap();
            let mut table = mutex(c"table");
            LOCK.store(&raw mut *table, std::sync::atomic::Ordering::Relaxed);
            // SAFETY: All of its fields are numbers or pointers.
            let mut sub: Box<mmu_interval_notifier> = Box::new(unsafe { std::mem::zeroed() });
            process.run(|| {
                // SAFETY: The process has an address space, and the notifier stays until it is
                // removed.
                let inserted = unsafe {
                    let mm = (*get_current()).mm;
                    mmu_interval_notifier_insert(&raw mut *sub, mm, memory, PAGE_SIZE, &OPS)
                };
                assert_eq!(inserted, 0);
            });
            process.madvise_dontneed(memory, PAGE_SIZE);
            locked(&mut table, allocate_and_free);
            // SAFETY: It was inserted.
            unsafe { mmu_interval_notifier_remove(&raw mut *sub) };
        },
    );
}

#[test]
fn an_access_to_user_space_with_the_mmap_lock() {
    reported(
        "two locks of the class `mmap_lock` are held at once",
        || {
            let process = Process::new();
            let memory = process.mmap(PAGE_SIZE);
            process.write(memory, &[1]).unwrap();
            process.run(|| {
                let mut byte = 0u8;
                // SAFETY: There is room for a byte, and the process has an address space.
                unsafe {
                    let mm = (*get_current()).mm;
                    mmap_read_lock(mm);
                    copy_from_user((&raw mut byte).cast(), memory as *const _, 1);
                    mmap_read_unlock(mm);
                }
            });
        },
    );
}

#[test]
fn a_thread_that_keeps_a_lock() {
    reported("a thread ends that holds `kept`", || {
        let mut lock = mutex(c"kept");
        // SAFETY: The lock was initialised.
        unsafe { mutex_lock(&raw mut *lock) };
    });
}

#[test]
fn a_mutex_locked_twice() {
    let words = "deadlock: this thread has the mutex already";
    ends("a_mutex_locked_twice", words, || {
        // SAFETY: Zeroes are an unlocked mutex, of no class.
        unsafe {
            let mut lock: mutex = std::mem::zeroed();
            mutex_lock(&raw mut lock);
            mutex_lock(&raw mut lock);
        }
    });
}

/// Waits for what nobody completes.
fn wait_for_ever() {
    // SAFETY: It is initialised before it is used.
    unsafe {
        let mut completion: completion = std::mem::zeroed();
        init_completion(&raw mut completion);
        wait_for_completion(&raw mut completion);
    }
}

#[test]
fn what_nobody_completes() {
    let words = "deadlock: this thread waits for a completion, and all others wait as well";
    ends("what_nobody_completes", words, wait_for_ever);
}

#[test]
fn a_thread_that_does_not_end() {
    // Who is the last one to wait is chance, and so is what follows.
    let words = "BUG: deadlock: ";
    ends("a_thread_that_does_not_end", words, || {
        sim::spawn(wait_for_ever).join();
    });
}

#[test]
fn a_thread_that_nobody_waits_for_does_not_end() {
    // The machine is not switched off before it ends.
    let words = "BUG: deadlock: ";
    ends("a_thread_that_nobody_waits_for_does_not_end", words, || {
        sim::spawn(wait_for_ever);
    });
}

#[test]
fn a_fence_that_is_signalled_twice() {
    reported("a fence is signalled twice", || {
        let fence = sim::fence(true);
        // SAFETY: The reference is ours.
        unsafe {
            sim::signal_fence(fence);
            dma_fence_put(fence);
        }
    });
}

#[test]
fn an_error_that_nobody_sees() {
    reported("a fence gets an error after it was signalled", || {
        let fence = sim::fence(true);
        // SAFETY: The reference is ours.
        unsafe {
            dma_fence_set_error(fence, -(EIO as i32));
            dma_fence_put(fence);
        }
    });
}

#[test]
fn a_fence_with_an_error() {
    run(|| {
        let fence = sim::fence_of(|fence| {
            // SAFETY: Whoever waits has a reference.
            unsafe {
                dma_fence_set_error(fence, -(EIO as i32));
                sim::signal_fence(fence);
            }
        });
        // SAFETY: The reference is ours.
        unsafe {
            assert_eq!(dma_fence_get_status(fence), 0);
            assert_eq!(dma_fence_wait_timeout(fence, false, 7), 7);
            assert_eq!(dma_fence_get_status(fence), -(EIO as i32));
            dma_fence_put(fence);
        }
    });
}

#[test]
fn a_workqueue_left_over() {
    reported("left over: a workqueue", || {
        std::mem::forget(sim::Workqueue::new());
    });
}

#[test]
fn an_owner_of_memory_that_goes() {
    reported("an owner goes of whom there is memory", || {
        let mut list = sim::owner_list();
        // SAFETY: All of its fields are pointers.
        let mut peer: drm_pagemap_peer = unsafe { std::mem::zeroed() };
        /// # Safety
        ///
        /// Always safe to call.
        unsafe extern "C" fn apart(_: *mut drm_pagemap_peer, _: *mut drm_pagemap_peer) -> bool {
            false
        }
        let mut pgmap = pagemap(8, &QUIET);
        // SAFETY: The three live until the end.
        unsafe {
            drm_pagemap_acquire_owner(&raw mut peer, &raw mut *list, Some(apart));
            pgmap.owner = peer.owner.cast();
            memremap_device_private_pagemap(&raw mut *pgmap, NUMA_NO_NODE);
            drm_pagemap_release_owner(&raw mut peer);
            memunmap_device_private_pagemap(&raw mut *pgmap);
        }
    });
}

/// A process, and a page of it that has failed while somebody had a reference to it.
fn failed_page() -> (Process, *mut page) {
    let process = Process::new();
    let memory = process.mmap(PAGE_SIZE);
    process.write(memory, &[1]).unwrap();
    let page = process.run(|| {
        let mut folio = null_mut();
        // SAFETY: The process has an address space, and the page is locked and has a reference.
        unsafe {
            let mm = (*get_current()).mm;
            mmap_read_lock(mm);
            let page = make_device_exclusive(mm, memory, null_mut(), &raw mut folio);
            mmap_read_unlock(mm);
            folio_unlock(folio);
            page
        }
    });
    process.poison(memory).unwrap();
    (process, page)
}

#[test]
fn a_page_that_has_failed_stays() {
    run(|| {
        let (_process, page) = failed_page();
        // SAFETY: The reference is ours.
        unsafe { __free_pages(page, 0) };
    });
}

#[test]
fn a_page_that_has_failed_is_read() {
    reported("the memory of the page has failed", || {
        let (_process, page) = failed_page();
        // SAFETY: The reference is ours.
        unsafe {
            kmap_local_page(page);
            __free_pages(page, 0);
        }
    });
}

#[test]
fn a_page_that_has_failed_is_left_over() {
    reported("left over: 1 pages of system memory", || {
        failed_page();
    });
}

#[test]
fn a_page_that_has_failed_is_freed() {
    reported("a page is freed whose memory has failed", || {
        let (_process, page) = failed_page();
        // SAFETY: One reference is ours, and the other one is not.
        unsafe {
            __free_pages(page, 0);
            __free_pages(page, 0);
        }
    });
}
