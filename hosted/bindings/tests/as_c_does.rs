// SPDX-License-Identifier: GPL-2.0

//! What a driver might count on if the model were kinder than C.

mod support;

use bindings::{
    sim::{dma_read, dma_write, for_each_failure_of, reach_memory, run, Process, PAGE_SIZE},
    *,
};
use std::{
    ffi::c_void,
    ptr::{addr_of_mut, null_mut},
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};
use support::{reported, DMA_BIDIRECTIONAL, DMA_TO_DEVICE};

/// Lets something be done with a faux device.
fn with_faux(f: impl FnOnce(*mut device)) {
    // SAFETY: The name is one, and nothing else is asked for. The device lives until it is
    // destroyed.
    unsafe {
        let faux = faux_device_create(c"one".as_ptr().cast(), null_mut(), null_mut());
        f(&raw mut (*faux).dev);
        faux_device_destroy(faux);
    }
}

/// Lets something be done with the content of a page of `flags`.
fn with_page(flags: gfp_t, f: impl FnOnce(*mut page, &mut [u8])) {
    // SAFETY: The page is ours until it is freed, and nobody else looks at it.
    unsafe {
        let page = alloc_pages(flags, 0);
        let data = kmap_local_page(page).cast::<u8>();
        f(page, std::slice::from_raw_parts_mut(data, PAGE_SIZE));
        kunmap_local(data.cast());
        __free_pages(page, 0);
    }
}

#[test]
fn memory_is_not_zero_unless_it_is_asked_to_be() {
    run(|| {
        with_page(GFP_KERNEL, |_, data| {
            assert!(data.iter().all(|byte| *byte != 0))
        });
        with_page(GFP_KERNEL | __GFP_ZERO, |_, data| {
            assert!(data.iter().all(|byte| *byte == 0));
        });
        let process = Process::new();
        let memory = process.mmap(2 * PAGE_SIZE);
        process.write(memory, &[1]).unwrap();
        let mut content = [1; 2 * PAGE_SIZE];
        process.read(memory, &mut content).unwrap();
        assert_eq!(content[0], 1);
        assert!(content[1..].iter().all(|byte| *byte == 0));
    });
}

#[test]
fn a_device_on_no_bus_can_do_no_dma() {
    reported("that has no DMA mask", || {
        with_faux(|dev| {
            with_page(GFP_KERNEL, |page, _| {
                // SAFETY: Both are there.
                let addr = unsafe { dma_map_page_attrs(dev, page, 0, PAGE_SIZE, DMA_TO_DEVICE, 0) };
                // SAFETY: As above.
                assert_ne!(unsafe { dma_mapping_error(dev, addr) }, 0);
            });
        });
    });
}

#[test]
fn a_device_on_no_bus_has_no_mask_to_be_set() {
    run(|| {
        with_faux(|dev| {
            // SAFETY: It is there, here and below.
            let refused = unsafe { dma_set_mask_and_coherent(dev, u64::MAX) };
            assert_eq!(refused, -(EIO as i32));
            // SAFETY: As above.
            unsafe { reach_memory(dev) };
            // SAFETY: As above.
            assert_eq!(unsafe { dma_set_mask_and_coherent(dev, u64::MAX >> 32) }, 0);
        });
    });
}

#[test]
fn what_is_mapped_for_both_directions() {
    run(|| {
        with_faux(|dev| {
            // SAFETY: It is there.
            unsafe { reach_memory(dev) };
            with_page(GFP_KERNEL, |page, data| {
                // SAFETY: Both are there.
                let addr =
                    unsafe { dma_map_page_attrs(dev, page, 0, PAGE_SIZE, DMA_BIDIRECTIONAL, 0) };
                data.fill(7);
                let mut seen = [0; 16];
                dma_read(addr, &mut seen);
                assert_eq!(seen, [7; 16]);
                dma_write(addr, &[9; 16]);
                assert_eq!(data[..16], [9; 16]);
                // SAFETY: It was mapped like this.
                unsafe { dma_unmap_page_attrs(dev, addr, PAGE_SIZE, DMA_BIDIRECTIONAL, 0) };
            });
        });
    });
}

/// Says that nothing is to be done.
///
/// # Safety
///
/// None is needed.
unsafe extern "C" fn nothing(
    _sub: *mut mmu_interval_notifier,
    _range: *const mmu_notifier_range,
    _seq: usize,
) -> bool {
    true
}

static NOTHING: mmu_interval_notifier_ops = mmu_interval_notifier_ops {
    invalidate: Some(nothing),
    invalidate_start: None,
    invalidate_finish: None,
};

#[test]
fn a_notifier_inserted_with_the_mmap_lock() {
    reported(
        "two locks of the class `mmap_lock` are held at once",
        || {
            let process = Process::new();
            let memory = process.mmap(PAGE_SIZE);
            process.run(|| {
                // SAFETY: All of its fields are numbers or pointers.
                let mut sub: Box<mmu_interval_notifier> = Box::new(unsafe { std::mem::zeroed() });
                let sub = &raw mut *sub;
                // SAFETY: The process has an address space, and the notifier stays until it is
                // removed.
                unsafe {
                    let mm = (*get_current()).mm;
                    mmap_read_lock(mm);
                    mmu_interval_notifier_insert(sub, mm, memory, PAGE_SIZE, &NOTHING);
                    mmap_read_unlock(mm);
                    mmu_interval_notifier_remove(sub);
                }
            });
        },
    );
}

/// How many run at this moment, and how often one has run.
static RUNNING: AtomicUsize = AtomicUsize::new(0);
static RUNS: AtomicUsize = AtomicUsize::new(0);

/// Queues itself once more, and sees whether it runs twice at once then.
///
/// # Safety
///
/// `item` must stay.
unsafe extern "C" fn work(item: *mut work_struct) {
    assert_eq!(RUNNING.fetch_add(1, SeqCst), 0, "it runs twice at once");
    if RUNS.fetch_add(1, SeqCst) == 0 {
        // SAFETY: The item is a static, and the queue is there for ever.
        unsafe { queue_work_on(64, system_wq, item) };
        // Time for the other thread to begin.
        for _ in 0..1000 {
            std::thread::yield_now();
        }
    }
    RUNNING.fetch_sub(1, SeqCst);
}

#[test]
fn a_work_item_does_not_run_twice_at_once() {
    static mut ITEM: std::mem::MaybeUninit<work_struct> = std::mem::MaybeUninit::uninit();
    run(|| {
        let item = addr_of_mut!(ITEM).cast::<work_struct>();
        // SAFETY: The item is a static of this test, and the queue is there for ever.
        unsafe {
            init_work_with_key(item, Some(work), false, c"w".as_ptr().cast(), null_mut());
            queue_work_on(64, system_wq, item);
        }
        while RUNS.load(SeqCst) < 2 {
            std::thread::yield_now();
        }
        // SAFETY: As above.
        unsafe { cancel_work_sync(item) };
    });
}

/// Whether an item that queues itself while it is cancelled was told that it did.
static QUEUED: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Waits until it is being cancelled, and queues itself once more.
///
/// # Safety
///
/// `item` must stay.
unsafe extern "C" fn queue_again(item: *mut work_struct) {
    // It is queued again and again, until that is refused.
    // SAFETY: The item is a static, and the queue is there for ever.
    let queued = unsafe { queue_work_on(64, system_wq, item) };
    QUEUED.store(usize::from(queued), SeqCst);
}

#[test]
fn a_work_item_that_is_cancelled_cannot_be_queued() {
    static mut ITEM: std::mem::MaybeUninit<work_struct> = std::mem::MaybeUninit::uninit();
    run(|| {
        let item = addr_of_mut!(ITEM).cast::<work_struct>();
        // SAFETY: The item is a static of this test, and the queue is there for ever.
        unsafe {
            init_work_with_key(
                item,
                Some(queue_again),
                false,
                c"w".as_ptr().cast(),
                null_mut(),
            );
            queue_work_on(64, system_wq, item);
        }
        // Without an end of its own, it is cancelled while it waits or runs; then it is over.
        // SAFETY: As above.
        unsafe { cancel_work_sync(item) };
        let last = QUEUED.load(SeqCst);
        for _ in 0..1000 {
            std::thread::yield_now();
        }
        assert_eq!(
            QUEUED.load(SeqCst),
            last,
            "it runs although it was cancelled"
        );
    });
}

#[test]
fn a_signal_ends_what_can_be_interrupted() {
    let mut seen = 0;
    for_each_failure_of(&["signal_pending", "folio_lock_killable"], || {
        let process = Process::new();
        let memory = process.mmap(PAGE_SIZE);
        process.write(memory, &[1]).unwrap();
        process.run(|| {
            let mut folio: *mut folio = null_mut();
            // SAFETY: The task is the one that runs, and has an address space.
            unsafe {
                seen += signal_pending(get_current());
                let mm = (*get_current()).mm;
                mmap_read_lock(mm);
                let owner: *mut c_void = (&raw mut folio).cast();
                let page = make_device_exclusive(mm, memory, owner, &raw mut folio);
                mmap_read_unlock(mm);
                if IS_ERR(page.cast()) {
                    assert_eq!(PTR_ERR(page.cast()), -(EINTR as isize));
                    seen += 1;
                } else {
                    folio_unlock(folio);
                    folio_put(folio);
                }
            }
        });
    });
    assert_eq!(seen, 2);
}
