// SPDX-License-Identifier: GPL-2.0

//! References that are lost or given up twice, and what is freed while somebody else still uses it.

mod support;

use bindings::{
    sim::{reach_memory, run, Module, Process, PAGE_SIZE},
    *,
};
use std::ptr::null_mut;
use support::{ends, reported, DMA_FROM_DEVICE, DMA_TO_DEVICE};

/// Says to AddressSanitizer that what is left over is left on purpose.
#[no_mangle]
extern "C" fn __lsan_is_turned_off() -> std::ffi::c_int {
    1
}

/// A process, and its address space, which is there for as long as the process is.
fn process() -> (Process, *mut mm_struct) {
    let process = Process::new();
    // SAFETY: The task is the one that runs.
    let mm = process.run(|| unsafe { (*get_current()).mm });
    (process, mm)
}

/// Memory of the kernel.
fn kmalloc(size: usize) -> *mut std::ffi::c_void {
    // SAFETY: It asks for nothing.
    unsafe { krealloc_node_align(null_mut(), size, 8, GFP_KERNEL, NUMA_NO_NODE) }
}

/// Gives it back.
fn kfree(memory: *mut std::ffi::c_void) {
    // SAFETY: It was allocated.
    unsafe { krealloc_node_align(memory, 0, 8, 0, NUMA_NO_NODE) };
}

#[test]
fn an_address_space_grabbed() {
    reported("left over: 1 references to address spaces", || {
        let (_process, mm) = process();
        // SAFETY: The process has it.
        unsafe { mmgrab(mm) };
    });
}

#[test]
fn an_address_space_dropped_twice() {
    reported("`mmdrop()` of the last reference", || {
        let (_process, mm) = process();
        // SAFETY: What is not right is what is tested, here and below.
        unsafe { mmdrop(mm) };
    });
}

#[test]
fn an_address_space_put_twice() {
    reported("of an address space that has no users", || {
        let (process, mm) = process();
        // SAFETY: As above.
        unsafe { mmgrab(mm) };
        drop(process);
        // SAFETY: As above.
        unsafe { mmput(mm) };
        // SAFETY: It was grabbed.
        unsafe { mmdrop(mm) };
    });
}

#[test]
fn an_address_space_put_under_a_spinlock() {
    let with_lock = |put: unsafe extern "C" fn(*mut mm_struct)| {
        let (_process, mm) = process();
        // SAFETY: Zeroes are an unlocked spinlock, and the reference is ours.
        unsafe {
            let mut lock: spinlock_t = std::mem::zeroed();
            mmget(mm);
            spin_lock(&raw mut lock);
            put(mm);
            spin_unlock(&raw mut lock);
        }
    };
    reported("`mmput()` may sleep", || with_lock(mmput));
    run(|| with_lock(mmput_async));
}

#[test]
fn a_device_left_over() {
    reported(
        "left over: 1 devices that somebody has a reference to",
        || {
            // SAFETY: The name is one, and nothing else is asked for.
            unsafe {
                let faux = faux_device_create(c"one".as_ptr().cast(), null_mut(), null_mut());
                get_device(&raw mut (*faux).dev);
                faux_device_destroy(faux);
            }
        },
    );
}

#[test]
fn a_page_freed_twice() {
    reported("on a page that nobody has a reference to", || {
        // SAFETY: As above; `struct page`s stay.
        unsafe {
            let page = alloc_pages(GFP_KERNEL, 0);
            __free_pages(page, 0);
            __free_pages(page, 0);
        }
    });
}

/// # Safety
///
/// Always safe to call.
unsafe extern "C" fn put_once_more(folio: *mut folio) {
    // SAFETY: What is not right is what is tested.
    unsafe { folio_put(folio) };
}

static PUTS: dev_pagemap_ops = dev_pagemap_ops {
    folio_free: Some(put_once_more),
    ..OPS
};

/// A pagemap of 8 pages of device-private memory, which is not registered.
fn pagemap(ops: &'static dev_pagemap_ops) -> dev_pagemap {
    // SAFETY: All of its fields are numbers, pointers, or arrays of these.
    let mut pgmap: dev_pagemap = unsafe { std::mem::zeroed() };
    pgmap.type_ = memory_type_MEMORY_DEVICE_PRIVATE;
    pgmap.ops = ops;
    pgmap.nr_pages = 8;
    pgmap
}

#[test]
fn a_page_of_a_device_put_while_it_is_freed() {
    let words = "a reference to a page is given up that nobody had";
    reported(words, || {
        let mut pgmap = pagemap(&PUTS);
        // SAFETY: The pagemap lives until it is unregistered, and the folio is ours.
        unsafe {
            assert_eq!(
                memremap_device_private_pagemap(&raw mut pgmap, NUMA_NO_NODE),
                0
            );
            let folio = pgmap_request_folio(&raw mut pgmap, 0, 0);
            folio_unlock(folio);
            folio_put(folio);
            memunmap_device_private_pagemap(&raw mut pgmap);
        }
    });
}

#[test]
fn a_page_freed_that_is_mapped() {
    reported("a page is freed that is mapped", || {
        let (process, mm) = process();
        let memory = process.mmap(PAGE_SIZE);
        process.write(memory, &[1]).unwrap();
        let mut folio = null_mut();
        // SAFETY: The process lives, and the folio is locked and has a reference, which is ours.
        // The other one is that of the page table.
        unsafe {
            mmap_read_lock(mm);
            make_device_exclusive(mm, memory, null_mut(), &raw mut folio);
            mmap_read_unlock(mm);
            folio_unlock(folio);
            process.read(memory, &mut [0]).unwrap();
            folio_put(folio);
            folio_put(folio);
        }
    });
}

#[test]
fn a_page_freed_that_a_device_may_use() {
    reported("a page is freed that a device may still use", || {
        // SAFETY: As above. The device lives until it is destroyed.
        unsafe {
            let faux = faux_device_create(c"one".as_ptr().cast(), null_mut(), null_mut());
            let dev = &raw mut (*faux).dev;
            reach_memory(dev);
            let page = alloc_pages(GFP_KERNEL, 0);
            let direction = DMA_FROM_DEVICE;
            let addr = dma_map_page_attrs(dev, page, 0, PAGE_SIZE, direction, 0);
            __free_pages(page, 0);
            dma_unmap_page_attrs(dev, addr, PAGE_SIZE, direction, 0);
            faux_device_destroy(faux);
        }
    });
}

#[test]
fn a_mapping_left_over() {
    reported("left over: 1 pages that are mapped for a device", || {
        // SAFETY: As above.
        unsafe {
            let faux = faux_device_create(c"one".as_ptr().cast(), null_mut(), null_mut());
            reach_memory(&raw mut (*faux).dev);
            let page = alloc_pages(GFP_KERNEL, 0);
            let direction = DMA_TO_DEVICE;
            dma_map_page_attrs(&raw mut (*faux).dev, page, 0, PAGE_SIZE, direction, 0);
            faux_device_destroy(faux);
        }
    });
}

#[test]
fn a_count_raised_from_zero() {
    reported("a reference count is raised from zero", || {
        let mut count = refcount_t::default();
        // SAFETY: It is ours.
        unsafe { refcount_inc(&raw mut count) };
    });
}

#[test]
fn a_count_below_zero() {
    reported("a reference count falls below zero", || {
        let mut count = refcount_t::default();
        // SAFETY: It is ours.
        unsafe { refcount_dec_and_test(&raw mut count) };
    });
}

#[test]
fn a_count_that_falls_to_zero_unseen() {
    let words = "a reference count has fallen to zero, and nobody has noticed";
    reported(words, || {
        // SAFETY: It is ours.
        unsafe {
            let mut count = REFCOUNT_INIT(1);
            refcount_dec(&raw mut count);
        }
    });
}

#[test]
fn memory_freed_twice() {
    ends("memory_freed_twice", "or is freed twice", || {
        let memory = kmalloc(100);
        kfree(memory);
        kfree(memory);
    });
}

static NOTHING: mmu_interval_notifier_ops = mmu_interval_notifier_ops {
    invalidate: None,
    invalidate_start: None,
    invalidate_finish: None,
};

#[test]
fn a_notifier_freed_that_was_not_removed() {
    let name = "a_notifier_freed_that_was_not_removed";
    ends(name, "has a notifier that was not removed in it", || {
        let (_process, mm) = process();
        let notifier = kmalloc(size_of::<mmu_interval_notifier>());
        // SAFETY: The memory is large enough, and the table lives for ever.
        unsafe { mmu_interval_notifier_insert(notifier.cast(), mm, 0, PAGE_SIZE, &NOTHING) };
        kfree(notifier);
    });
}

#[test]
fn a_notifier_removed_twice() {
    reported("a notifier is removed that is not there", || {
        let (_process, mm) = process();
        // SAFETY: All of its fields are numbers or pointers.
        let mut notifier: mmu_interval_notifier = unsafe { std::mem::zeroed() };
        // SAFETY: The address space is the process's, and the notifier is there until the end. Each
        // removal takes a reference to the address space: the second one is ours.
        unsafe {
            mmgrab(mm);
            let sub = &raw mut notifier;
            assert_eq!(
                mmu_interval_notifier_insert(sub, mm, 0, PAGE_SIZE, &NOTHING),
                0
            );
            mmu_interval_notifier_remove(sub);
            mmu_interval_notifier_remove(sub);
        }
    });
}

static OPS: dev_pagemap_ops = dev_pagemap_ops {
    folio_free: None,
    migrate_to_ram: None,
    memory_failure: None,
    folio_split: None,
};

#[test]
fn a_pagemap_freed_that_is_registered() {
    let name = "a_pagemap_freed_that_is_registered";
    ends(name, "has a registered pagemap in it", || {
        let pgmap = kmalloc(size_of::<dev_pagemap>()).cast::<dev_pagemap>();
        // SAFETY: The memory is large enough, and the table lives for ever.
        unsafe {
            pgmap.write(pagemap(&OPS));
            assert_eq!(memremap_device_private_pagemap(pgmap, NUMA_NO_NODE), 0);
        }
        kfree(pgmap.cast());
    });
}

/// Calls `f` with a misc device that is registered.
fn with_misc_device(f: impl FnOnce(*mut miscdevice)) {
    let misc = kmalloc(size_of::<miscdevice>()).cast::<miscdevice>();
    // SAFETY: The memory is large enough, all fields may be zero, and the name is there for ever.
    unsafe {
        misc.write(std::mem::zeroed());
        (*misc).name = c"one".as_ptr().cast();
        assert_eq!(misc_register(misc), 0);
    }
    f(misc);
}

#[test]
fn a_misc_device_freed_that_is_registered() {
    let name = "a_misc_device_freed_that_is_registered";
    ends(name, "has a registered misc device in it", || {
        with_misc_device(|misc| kfree(misc.cast()));
    });
}

#[test]
fn a_misc_device_unregistered_twice() {
    let words = "a misc device is unregistered that is not there";
    reported(words, || {
        with_misc_device(|misc| {
            // SAFETY: It was registered. What is not right is what is tested.
            unsafe {
                misc_deregister(misc);
                misc_deregister(misc);
            }
            kfree(misc.cast());
        });
    });
}

#[test]
fn a_misc_device_left_over() {
    reported("left over: the device one", || with_misc_device(|_| {}));
}

/// Loads a driver that is nothing but a reference to its own module, which it puts `puts` times.
fn with_driver(puts: usize) {
    extern "C" fn init() -> i32 {
        // SAFETY: The module of what is built in.
        i32::from(!unsafe { try_module_get(null_mut()) })
    }

    extern "C" fn exit() {
        // SAFETY: As above.
        assert!(!unsafe { try_module_get(null_mut()) }, "it is going");
    }

    // SAFETY: They belong together.
    let driver = unsafe { Module::load(init, exit) }.unwrap();
    // SAFETY: As above.
    (0..puts).for_each(|_| unsafe { module_put(null_mut()) });
    drop(driver);
}

#[test]
fn a_module_that_is_in_use() {
    reported("by 1 references to its module", || with_driver(0));
}

#[test]
fn a_module_put_twice() {
    reported("that nobody has", || with_driver(2));
}

#[test]
fn a_module_that_nobody_uses() {
    run(|| with_driver(1));
}

#[test]
fn a_spinlock_of_nobody() {
    reported("unlocked by somebody who has not locked it", || {
        // SAFETY: Zeroes are an unlocked spinlock.
        unsafe {
            let mut lock: spinlock_t = std::mem::zeroed();
            spin_unlock(&raw mut lock);
        }
    });
}

#[test]
fn an_rcu_section_without_an_end() {
    // SAFETY: As above.
    reported("ends in atomic context", || unsafe { rcu_read_lock() });
}

#[test]
fn an_rcu_section_without_a_beginning() {
    // SAFETY: As above.
    let unlock = || unsafe { rcu_read_unlock() };
    reported("by somebody who does not read", unlock);
}

#[test]
fn sleeping_in_an_rcu_section() {
    reported("`vfree()` may sleep", || {
        // SAFETY: It asks for nothing, and what is freed was allocated.
        unsafe {
            let memory = vrealloc_node_align(null_mut(), 100, 8, GFP_KERNEL, NUMA_NO_NODE);
            rcu_read_lock();
            vrealloc_node_align(memory, 0, 8, 0, NUMA_NO_NODE);
            rcu_read_unlock();
        }
    });
}
