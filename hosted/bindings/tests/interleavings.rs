// SPDX-License-Identifier: GPL-2.0

//! What happens to device memory while others use it, in any order: with `--features shuttle`, in
//! hundreds of orders, which are the same each time.

// What is true of the pointers of a driver of C's is said in one place.
#![allow(clippy::undocumented_unsafe_blocks, clippy::missing_safety_doc)]

mod gpu;
mod simple;

use bindings::{
    sim::{explore, run, shrink, spawn, PAGE_SIZE},
    *,
};
use gpu::*;
use simple::{driven, map, unmap};
use std::{
    ffi::c_void,
    ptr::null_mut,
    sync::{
        atomic::{AtomicU32, Ordering::SeqCst},
        Arc,
    },
};

/// How many orders are tried.
const TIMES: usize = 300;

#[test]
fn a_grace_period_waits_for_readers() {
    explore(TIMES, || {
        run(|| {
            let section = Arc::new(AtomicU32::new(0));
            let reader = {
                let section = section.clone();
                spawn(move || unsafe {
                    rcu_read_lock();
                    section.store(1, SeqCst);
                    rcu_read_lock();
                    rcu_read_unlock();
                    section.store(2, SeqCst);
                    rcu_read_unlock();
                })
            };
            let before = section.load(SeqCst);
            unsafe { synchronize_rcu() };
            assert!(before != 1 || section.load(SeqCst) == 2);
            reader.join();
        });
    });
}

/// Notes that something changes.
unsafe extern "C" fn note(
    sub: *mut mmu_interval_notifier,
    _range: *const mmu_notifier_range,
    seq: usize,
) -> bool {
    unsafe { mmu_interval_set_seq(sub, seq) };
    true
}

static NOTE: mmu_interval_notifier_ops = mmu_interval_notifier_ops {
    invalidate: Some(note),
    invalidate_start: None,
    invalidate_finish: None,
};

#[test]
fn a_notifier_inserted_while_something_changes() {
    explore(TIMES, || {
        run(|| {
            let (process, memory) = process(1);
            let process = Arc::new(process);
            let mm = process.run(|| unsafe { (*get_current()).mm });
            let gives = {
                let process = process.clone();
                spawn(move || process.madvise_dontneed(memory, PAGE_SIZE))
            };
            let mut sub: Box<mmu_interval_notifier> = Box::new(unsafe { std::mem::zeroed() });
            let sub = &raw mut *sub;
            unsafe { mmu_interval_notifier_insert(sub, mm, memory, PAGE_SIZE, &NOTE) };
            let seq = unsafe { mmu_interval_read_begin(sub) };
            let seen = process.mapped(memory);
            gives.join();
            // Nobody has said that it is not as it was.
            if !unsafe { mmu_interval_read_retry(sub, seq) } {
                assert_eq!(process.mapped(memory), seen);
            }
            unsafe { mmu_interval_notifier_remove(sub) };
        });
    });
}

#[test]
fn faults_and_evictions() {
    explore(TIMES, || {
        run(|| {
            let gpu = Arc::new(card());
            let (process, memory) = process(4);
            let process = Arc::new(process);
            assert_eq!(gpu.migrate(&process, memory, len(4)), 0);
            let evicts = {
                let gpu = gpu.clone();
                spawn(move || gpu.evict())
            };
            let reads = {
                let process = process.clone();
                spawn(move || check(&process, memory, 4))
            };
            evicts.join();
            reads.join();
            check(&process, memory, 4);
            assert_eq!((gpu.used(), gpu.released()), (0, 1));
        });
    });
}

#[test]
fn two_devices_want_the_same() {
    explore(TIMES, || {
        run(|| {
            let (one, two) = two_cards();
            let (one, two) = (Arc::new(one), Arc::new(two));
            let (process, memory) = process(2);
            let process = Arc::new(process);
            let other = {
                let (two, process) = (two.clone(), process.clone());
                spawn(move || two.migrate(&process, memory, len(2)))
            };
            let first = one.migrate(&process, memory, len(2));
            let results = [first, other.join()];
            assert!(results
                .iter()
                .all(|result| [0, error(EBUSY)].contains(result)));
            check(&process, memory, 2);
            assert_eq!((one.used(), two.used()), (0, 0));
        });
    });
}

#[test]
fn a_process_exits_while_its_memory_is_evicted() {
    explore(TIMES, || {
        run(|| {
            let gpu = Arc::new(card());
            let (process, memory) = process(2);
            assert_eq!(gpu.migrate(&process, memory, len(2)), 0);
            let evicts = {
                let gpu = gpu.clone();
                spawn(move || gpu.evict())
            };
            drop(process);
            let result = evicts.join();
            assert!([0, error(EFAULT), error(EBUSY)].contains(&result));
            assert_eq!((gpu.used(), gpu.released()), (0, 1));
        });
    });
}

#[test]
fn a_device_goes_while_it_is_used() {
    explore(TIMES, || {
        run(|| {
            let gpu = Arc::new(card());
            let (process, memory) = process(2);
            let process = Arc::new(process);
            let kept = gpu.pagemap().unwrap();
            let uses = {
                let (process, kept) = (process.clone(), kept as usize);
                spawn(move || {
                    process.run(|| unsafe {
                        let mm = (*get_current()).mm;
                        let (start, end) = (memory, memory + 2 * PAGE_SIZE);
                        drm_pagemap_populate_mm(kept as *mut drm_pagemap, start, end, mm, 0)
                    })
                })
            };
            gpu.drm.unbind();
            assert!([0, error(ENODEV), error(EBUSY)].contains(&uses.join()));
            assert_eq!(gpu.used(), 0);
            check(&process, memory, 2);
            unsafe { drm_pagemap_put(kept) };
        });
    });
}

#[test]
fn a_pagemap_is_wanted_while_memory_is_short() {
    explore(TIMES, || {
        run(|| {
            let gpu = Arc::new(card());
            let shrinks = spawn(|| shrink(1));
            let uses = {
                let gpu = gpu.clone();
                spawn(move || {
                    for _ in 0..2 {
                        let pagemap = gpu.pagemap().unwrap();
                        unsafe { drm_pagemap_put(pagemap) };
                    }
                })
            };
            let freed = shrinks.join();
            uses.join();
            let pagemaps = gpu.pagemaps.load(SeqCst);
            // If it is unused in the end, it may be the one that is freed.
            assert!(freed + pagemaps > 0 && freed <= 1);
        });
    });
}

#[test]
fn two_want_a_pagemap() {
    explore(TIMES, || {
        run(|| {
            let gpu = Arc::new(card());
            let uses = [(); 2].map(|()| {
                let gpu = gpu.clone();
                spawn(move || {
                    for _ in 0..2 {
                        let pagemap = gpu.pagemap().unwrap();
                        unsafe { drm_pagemap_put(pagemap) };
                    }
                })
            });
            uses.into_iter().for_each(|uses| uses.join());
            // There is one, whoever came first.
            assert_eq!(gpu.pagemaps.load(SeqCst), 1);
        });
    });
}

/// What a handler is told with is its own until `free_irq()` returns, and nobody's after that.
#[test]
fn a_handler_is_freed_while_its_device_says_something() {
    struct Told {
        registers: *mut c_void,
        running: AtomicU32,
    }
    unsafe extern "C" fn handler(_irq: i32, cookie: *mut c_void) -> irqreturn_t {
        unsafe {
            let told = &*cookie.cast::<Told>();
            told.running.store(1, SeqCst);
            readl(told.registers);
            told.running.store(0, SeqCst);
        }
        irqreturn::IRQ_HANDLED
    }
    unsafe fn probe(pdev: *mut pci_dev) {
        unsafe {
            let registers = map(pdev);
            assert_eq!(pci_alloc_irq_vectors(pdev, 1, 1, PCI_IRQ_MSI), 1);
            let irq = pci_irq_vector(pdev, 0) as u32;
            let size = size_of::<Told>();
            let memory = krealloc_node_align(null_mut(), size, 8, GFP_KERNEL, NUMA_NO_NODE);
            memory.cast::<Told>().write(Told {
                registers,
                running: AtomicU32::new(0),
            });
            let name = c"simple".as_ptr().cast();
            assert_eq!(request_irq(irq, Some(handler), 0, name, memory), 0);
            let addr = registers as usize;
            let device = spawn(move || {
                for _ in 0..2 {
                    writel(1, std::ptr::without_provenance_mut(addr));
                }
            });
            free_irq(irq, memory);
            assert_eq!((*memory.cast::<Told>()).running.load(SeqCst), 0);
            krealloc_node_align(memory, 0, 8, 0, NUMA_NO_NODE);
            device.join();
            pci_free_irq_vectors(pdev);
            unmap(pdev, registers);
        }
    }
    explore(TIMES, || run(|| driven(probe)));
}
