// SPDX-License-Identifier: GPL-2.0

//! What a machine does not let pass.

use bindings::{
    sim::{run, Process, PAGE_SIZE},
    *,
};
use std::{
    panic::{catch_unwind, AssertUnwindSafe},
    ptr::null_mut,
};

/// Runs `f`, which must be reported, in these words.
fn reported(words: &str, f: impl FnOnce()) {
    let result = catch_unwind(AssertUnwindSafe(|| run(f)));
    let Err(panic) = result else {
        panic!("nothing was reported");
    };
    let text = panic.downcast_ref::<String>().expect("a report is text");
    assert!(text.contains(words), "{text}");
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
            folio_lock(page.cast());
            __free_pages(page, 0);
        }
    });
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
                *args.dst = migrate_pfn(page_to_pfn(folio_alloc_movable(0).cast()));
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
