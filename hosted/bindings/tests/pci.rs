// SPDX-License-Identifier: GPL-2.0

//! What a machine does not let pass of what a driver does with a PCI device.

// What is not right is what is tested, and the device is there while its driver is called.
#![allow(clippy::missing_safety_doc, clippy::undocumented_unsafe_blocks)]

mod simple;
mod support;

use bindings::{
    sim::{run, PciDevice, PAGE_SIZE},
    *,
};
use simple::{driven, map, unmap, with_driver, Simple, ID};
use std::{
    ffi::c_void,
    ptr::null_mut,
    sync::{
        atomic::{AtomicPtr, AtomicU32, Ordering::SeqCst},
        Arc,
    },
};
use support::{reported, DMA_TO_DEVICE};

/// Says to AddressSanitizer that what is left over is left on purpose.
#[no_mangle]
extern "C" fn __lsan_is_turned_off() -> std::ffi::c_int {
    1
}

#[test]
fn what_is_right_is_not_reported() {
    unsafe fn probe(pdev: *mut pci_dev) {
        unsafe {
            let registers = map(pdev);
            pci_set_master(pdev);
            let device = &raw mut (*pdev).dev;
            let mut addr = 0;
            let memory = dma_alloc_attrs(device, PAGE_SIZE, &raw mut addr, GFP_KERNEL, 0);
            for register in [addr as u32, addr as u32 + 1] {
                writel(register, registers);
                assert_eq!(readl(registers), register);
            }
            dma_free_attrs(device, PAGE_SIZE, memory, addr, 0);
            // It is somebody's.
            let again = pci_request_region(pdev, 0, c"other".as_ptr().cast());
            assert_eq!(again, -(EBUSY as i32));
            unmap(pdev, registers);
        }
    }
    run(|| driven(probe));
}

/// What a driver leaves to its device goes when it is unbound, and the last of it first.
#[test]
fn what_a_device_has_to_release() {
    static RELEASED: AtomicU32 = AtomicU32::new(0);
    unsafe extern "C" fn release(data: *mut c_void) {
        let before = RELEASED.load(SeqCst);
        RELEASED.store(before * 10 + data as u32, SeqCst);
    }
    unsafe fn probe(pdev: *mut pci_dev) {
        for number in 1..=3 {
            let number = std::ptr::without_provenance_mut(number);
            let device = unsafe { &raw mut (*pdev).dev };
            assert_eq!(
                unsafe { devm_add_action_or_reset(device, Some(release), number) },
                0
            );
        }
    }
    run(|| {
        with_driver(probe, |device| {
            assert_eq!(RELEASED.load(SeqCst), 0);
            device.unbind().unwrap();
            assert_eq!(RELEASED.swap(0, SeqCst), 321);
            device.bind().unwrap();
        });
        assert_eq!(RELEASED.load(SeqCst), 321);
    });
}

/// Its registers are all ones, which is no mistake of the driver's.
#[test]
fn a_device_that_was_pulled_out() {
    static KEPT: [AtomicPtr<c_void>; 2] = [const { AtomicPtr::new(null_mut()) }; 2];
    unsafe fn probe(pdev: *mut pci_dev) {
        KEPT[0].store(pdev.cast(), SeqCst);
        KEPT[1].store(unsafe { map(pdev) }, SeqCst);
    }
    run(|| {
        with_driver(probe, |device| {
            let [pdev, registers] = KEPT.each_ref().map(|kept| kept.load(SeqCst));
            unsafe {
                device.pull_out();
                assert_eq!(readl(registers), u32::MAX);
                writel(0, registers);
                unmap(pdev.cast(), registers);
            }
        });
    });
}

#[test]
fn registers_that_were_unmapped() {
    unsafe fn probe(pdev: *mut pci_dev) {
        unsafe {
            let registers = map(pdev);
            unmap(pdev, registers);
            assert_eq!(readl(registers), u32::MAX);
        }
    }
    reported("`readl()` where no registers are mapped", || driven(probe));
}

#[test]
fn registers_that_there_are_not() {
    unsafe fn probe(pdev: *mut pci_dev) {
        unsafe {
            let registers = map(pdev);
            writel(0, registers.byte_add(PAGE_SIZE));
            unmap(pdev, registers);
        }
    }
    reported("`writel()` where no registers are mapped", || driven(probe));
}

#[test]
fn registers_at_an_odd_address() {
    unsafe fn probe(pdev: *mut pci_dev) {
        unsafe {
            let registers = map(pdev);
            readl(registers.byte_add(2));
            unmap(pdev, registers);
        }
    }
    reported("that is not a multiple of 4", || driven(probe));
}

#[test]
fn registers_of_a_device_that_is_not_enabled() {
    unsafe fn probe(pdev: *mut pci_dev) {
        unsafe {
            let registers = pci_iomap(pdev, 0, 0);
            readl(registers);
            pci_iounmap(pdev, registers);
        }
    }
    reported("of a device that is not enabled", || driven(probe));
}

#[test]
fn registers_that_are_kept() {
    unsafe fn probe(pdev: *mut pci_dev) {
        unsafe { pci_iomap(pdev, 0, 0) };
    }
    reported("leaves 1 mapped BARs behind", || driven(probe));
}

#[test]
fn a_bar_that_is_kept() {
    unsafe fn probe(pdev: *mut pci_dev) {
        unsafe { pci_request_region(pdev, 0, c"simple".as_ptr().cast()) };
    }
    reported("leaves 1 requested BARs behind", || driven(probe));
}

#[test]
fn a_bar_that_nobody_has() {
    unsafe fn probe(pdev: *mut pci_dev) {
        unsafe { pci_release_region(pdev, 0) };
    }
    reported("a BAR is released that was not requested", || driven(probe));
}

#[test]
fn a_device_of_nobody() {
    static KEPT: AtomicPtr<pci_dev> = AtomicPtr::new(null_mut());
    unsafe fn probe(pdev: *mut pci_dev) {
        KEPT.store(pdev, SeqCst);
    }
    reported("for a device that no driver has", || {
        with_driver(probe, |device| {
            device.unbind().unwrap();
            unsafe { pci_enable_device_mem(KEPT.load(SeqCst)) };
        });
    });
}

#[test]
fn memory_without_being_a_bus_master() {
    unsafe fn probe(pdev: *mut pci_dev) {
        unsafe {
            let registers = map(pdev);
            writel(2, registers);
            unmap(pdev, registers);
        }
    }
    reported("a device uses memory that is no bus master", || {
        driven(probe)
    });
}

#[test]
fn memory_that_is_not_mapped() {
    unsafe fn probe(pdev: *mut pci_dev) {
        unsafe {
            let registers = map(pdev);
            pci_set_master(pdev);
            writel(3, registers);
            unmap(pdev, registers);
        }
    }
    reported("writes what is not mapped for it to write", || {
        driven(probe)
    });
}

#[test]
fn memory_that_another_device_has_mapped() {
    unsafe fn probe(pdev: *mut pci_dev) {
        unsafe {
            let faux = faux_device_create(c"other".as_ptr().cast(), null_mut(), std::ptr::null());
            let other = &raw mut (*faux).dev;
            reach_memory(other);
            assert_eq!(dma_set_mask_and_coherent(other, u32::MAX.into()), 0);
            let mut addr = 0;
            let memory = dma_alloc_attrs(other, 8, &raw mut addr, GFP_KERNEL, 0);
            let registers = map(pdev);
            pci_set_master(pdev);
            writel(addr as u32, registers);
            unmap(pdev, registers);
            dma_free_attrs(other, 8, memory, addr, 0);
            faux_device_destroy(faux);
        }
    }
    reported("a device reads what is not mapped for it to read", || {
        driven(probe)
    });
}

#[test]
fn shared_memory_that_is_kept() {
    unsafe fn probe(pdev: *mut pci_dev) {
        unsafe {
            let mut addr = 0;
            let device = &raw mut (*pdev).dev;
            let memory = dma_alloc_attrs(device, PAGE_SIZE, &raw mut addr, GFP_KERNEL, 0);
            assert!(!memory.is_null() && addr <= u32::MAX.into());
        }
    }
    reported("leaves 1 pieces of memory for DMA behind", || driven(probe));
}

#[test]
fn shared_memory_of_another_size() {
    unsafe fn probe(pdev: *mut pci_dev) {
        unsafe {
            let mut addr = 0;
            let device = &raw mut (*pdev).dev;
            let memory = dma_alloc_attrs(device, PAGE_SIZE, &raw mut addr, GFP_KERNEL, 0);
            dma_free_attrs(device, 8, memory, addr, 0);
            dma_free_attrs(device, PAGE_SIZE, memory, addr, 0);
        }
    }
    reported("was not allocated so", || driven(probe));
}

#[test]
fn addresses_that_a_device_reaches() {
    unsafe fn probe(pdev: *mut pci_dev) {
        unsafe {
            let device = &raw mut (*pdev).dev;
            let mask = (1 << 28) - 1;
            assert_eq!(dma_set_mask_and_coherent(device, mask), 0);
            assert_eq!(dma_set_mask(device, 0xffff), -(EIO as i32));
            let page = alloc_pages(GFP_KERNEL, 0);
            let to = DMA_TO_DEVICE;
            let mut before = 0;
            for _ in 0..100 {
                let addr = dma_map_page_attrs(device, page, 0, PAGE_SIZE, to, 0);
                assert!(addr > mask / 2 && addr <= mask && addr != before);
                dma_unmap_page_attrs(device, addr, PAGE_SIZE, to, 0);
                before = addr;
            }
            __free_pages(page, 0);
        }
    }
    run(|| driven(probe));
}

/// A handler that says of itself that it has run, and returns `result`.
unsafe fn ran(cookie: *mut c_void, result: irqreturn_t) -> irqreturn_t {
    unsafe { complete_all(cookie.cast()) };
    result
}

unsafe extern "C" fn handled(_irq: i32, cookie: *mut c_void) -> irqreturn_t {
    unsafe { ran(cookie, irqreturn::IRQ_HANDLED) }
}

/// Has the device say something with this handler, and waits until the handler has returned.
unsafe fn interrupt(pdev: *mut pci_dev, handler: irq_handler_t) {
    unsafe {
        let registers = map(pdev);
        assert_eq!(pci_alloc_irq_vectors(pdev, 1, 8, PCI_IRQ_ALL_TYPES), 1);
        let irq = pci_irq_vector(pdev, 0) as u32;
        assert_eq!(pci_irq_vector(pdev, 1), -(EINVAL as i32));
        let name = c"simple".as_ptr().cast();
        let mut has_run: completion = std::mem::zeroed();
        let cookie = (&raw mut has_run).cast();
        assert_eq!(request_irq(irq, handler, 0, name, cookie), 0);
        // It is somebody's.
        assert_eq!(request_irq(irq, handler, 0, name, cookie), -(EBUSY as i32));
        writel(1, registers);
        wait_for_completion(&raw mut has_run);
        synchronize_irq(irq);
        free_irq(irq, cookie);
        pci_free_irq_vectors(pdev);
        unmap(pdev, registers);
    }
}

#[test]
fn an_interrupt() {
    unsafe fn probe(pdev: *mut pci_dev) {
        unsafe { interrupt(pdev, Some(handled)) };
    }
    run(|| driven(probe));
}

#[test]
fn an_interrupt_that_nobody_cares_about() {
    unsafe extern "C" fn handler(_irq: i32, cookie: *mut c_void) -> irqreturn_t {
        unsafe { ran(cookie, irqreturn::IRQ_NONE) }
    }
    unsafe fn probe(pdev: *mut pci_dev) {
        unsafe { interrupt(pdev, Some(handler)) };
    }
    reported("an interrupt that nobody cares about", || driven(probe));
}

#[test]
fn sleeping_in_a_handler() {
    unsafe extern "C" fn handler(irq: i32, cookie: *mut c_void) -> irqreturn_t {
        unsafe {
            synchronize_rcu();
            handled(irq, cookie)
        }
    }
    unsafe fn probe(pdev: *mut pci_dev) {
        unsafe { interrupt(pdev, Some(handler)) };
    }
    reported("is called in atomic context", || driven(probe));
}

#[test]
fn a_handler_without_its_thread() {
    unsafe extern "C" fn handler(_irq: i32, cookie: *mut c_void) -> irqreturn_t {
        unsafe { ran(cookie, irqreturn::IRQ_WAKE_THREAD) }
    }
    unsafe fn probe(pdev: *mut pci_dev) {
        unsafe { interrupt(pdev, Some(handler)) };
    }
    reported("a handler wakes its thread, and has none", || driven(probe));
}

#[test]
fn interrupts_that_are_kept() {
    unsafe fn probe(pdev: *mut pci_dev) {
        unsafe { pci_alloc_irq_vectors(pdev, 1, 1, PCI_IRQ_MSI) };
    }
    reported("leaves 1 interrupts behind", || driven(probe));
}

#[test]
fn interrupts_that_have_a_handler() {
    unsafe fn probe(pdev: *mut pci_dev) {
        unsafe {
            assert_eq!(pci_alloc_irq_vectors(pdev, 1, 1, PCI_IRQ_MSI), 1);
            let irq = pci_irq_vector(pdev, 0) as u32;
            request_irq(
                irq,
                Some(handled),
                0,
                c"simple".as_ptr().cast(),
                pdev.cast(),
            );
            pci_free_irq_vectors(pdev);
        }
    }
    reported("interrupts are given back that have a handler", || {
        driven(probe)
    });
}

#[test]
fn more_interrupts_than_there_are() {
    unsafe fn probe(pdev: *mut pci_dev) {
        let none = -(ENOSPC as i32);
        unsafe {
            assert_eq!(pci_alloc_irq_vectors(pdev, 2, 8, PCI_IRQ_ALL_TYPES), none);
            assert_eq!(pci_alloc_irq_vectors(pdev, 1, 1, PCI_IRQ_MSIX), none);
            assert_eq!(pci_alloc_irq_vectors(pdev, 1, 1, PCI_IRQ_INTX), 1);
            assert_eq!(pci_irq_type(pdev), PCI_IRQ_INTX);
            pci_free_irq_vectors(pdev);
        }
    }
    run(|| driven(probe));
}

#[test]
fn a_handler_that_there_is_not() {
    unsafe fn probe(pdev: *mut pci_dev) {
        unsafe { free_irq(1, pdev.cast()) };
    }
    reported("an interrupt handler is freed that is not there", || {
        driven(probe)
    });
}

#[test]
fn memory_of_a_handler() {
    unsafe fn probe(pdev: *mut pci_dev) {
        unsafe {
            assert_eq!(pci_alloc_irq_vectors(pdev, 1, 1, PCI_IRQ_MSI), 1);
            let irq = pci_irq_vector(pdev, 0) as u32;
            let memory = krealloc_node_align(null_mut(), 64, 8, GFP_KERNEL, NUMA_NO_NODE);
            let cookie = memory.byte_add(32);
            request_irq(irq, Some(handled), 0, c"simple".as_ptr().cast(), cookie);
            krealloc_node_align(memory, 0, 8, 0, NUMA_NO_NODE);
            free_irq(irq, cookie);
            pci_free_irq_vectors(pdev);
        }
    }
    reported(
        "memory is freed that an interrupt handler is told with",
        || driven(probe),
    );
}

#[test]
fn a_device_left_over() {
    reported("left over: a PCI device", || {
        std::mem::forget(PciDevice::plug(ID, &[], Arc::new(Simple::default())));
    });
}

#[test]
fn a_driver_left_over() {
    reported("left over: a PCI driver", || {
        let driver = Box::leak(Box::new(pci_driver::default()));
        unsafe { __pci_register_driver(driver, null_mut(), c"simple".as_ptr().cast()) };
    });
}

#[test]
fn a_driver_that_is_not_there() {
    reported("a PCI driver is unregistered that is not there", || {
        let mut driver = pci_driver::default();
        unsafe { pci_unregister_driver(&raw mut driver) };
    });
}
