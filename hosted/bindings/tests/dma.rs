// SPDX-License-Identifier: GPL-2.0

//! What is mapped for a device otherwise than it is used or unmapped.

// Addresses of memory and of devices that are there are all that the functions ask for; what is not
// right besides is what is tested.
#![allow(clippy::undocumented_unsafe_blocks)]

mod support;

use bindings::{
    sim::{self, run, PAGE_SIZE},
    *,
};
use std::ptr::null_mut;
use support::{reported, DMA_FROM_DEVICE, DMA_NONE, DMA_TO_DEVICE};

/// Says to AddressSanitizer that what is left over is left on purpose.
#[no_mangle]
extern "C" fn __lsan_is_turned_off() -> std::ffi::c_int {
    1
}

/// How long the range of a test is.
const SIZE: usize = 2 * PAGE_SIZE;

/// Calls `f` with a device and a page.
fn with_page(f: impl FnOnce(*mut device, *mut page)) {
    unsafe {
        let faux = faux_device_create(c"one".as_ptr().cast(), null_mut(), null_mut());
        let dev = &raw mut (*faux).dev;
        reach_memory(dev);
        let page = alloc_pages(GFP_KERNEL, 0);
        f(dev, page);
        __free_pages(page, 0);
        faux_device_destroy(faux);
    }
}

/// A range of addresses, and a page that can be linked into it.
struct Range {
    dev: *mut device,
    page: *mut page,
    state: dma_iova_state,
}

impl Range {
    /// Links the page at `offset`, for the device to read from.
    fn link(&mut self, offset: usize) {
        let (state, phys) = (&raw mut self.state, unsafe { page_to_phys(self.page) });
        let to = DMA_TO_DEVICE;
        // What is wrong is reported.
        unsafe { dma_iova_link(self.dev, state, phys, offset, PAGE_SIZE, to, 0) };
    }

    /// Lets the device see what is linked up to `len`.
    fn sync(&mut self, len: usize) {
        assert_eq!(
            unsafe { dma_iova_sync(self.dev, &raw mut self.state, 0, len) },
            0
        );
    }

    /// Unlinks `len` bytes, and gives the range back.
    fn destroy(&mut self, len: usize, direction: dma_data_direction) {
        unsafe { dma_iova_destroy(self.dev, &raw mut self.state, len, direction, 0) };
    }

    /// Gives the range back, into which nothing is linked.
    fn free(&mut self) {
        unsafe { dma_iova_free(self.dev, &raw mut self.state) };
    }
}

/// Calls `f` with a range of a machine that has an IOMMU.
fn with_range(f: impl FnOnce(&mut Range)) {
    sim::iommu();
    with_page(|dev, page| unsafe {
        let mut state = dma_iova_state::default();
        assert!(dma_iova_try_alloc(dev, &raw mut state, 0, SIZE));
        f(&mut Range { dev, page, state });
    });
}

#[test]
fn a_range_as_it_should_be_used() {
    run(|| {
        with_range(|range| {
            range.link(0);
            range.link(PAGE_SIZE);
            range.sync(SIZE);
            sim::dma_read(range.state.addr, &mut [0]);
            range.destroy(SIZE, DMA_TO_DEVICE);
        });
        with_range(Range::free);
    });
}

/// What a device reads goes on from one link to the next.
#[test]
fn a_transfer_over_two_links() {
    run(|| {
        with_range(|range| {
            range.link(0);
            range.link(PAGE_SIZE);
            range.sync(SIZE);
            // The same page, twice.
            unsafe {
                let memory = kmap_local_page(range.page);
                memory.cast::<[u8; 2]>().write([1, 2]);
                kunmap_local(memory);
            }
            let mut read = [0; PAGE_SIZE + 1];
            sim::dma_read(range.state.addr + 1, &mut read);
            assert_eq!((read[0], read[PAGE_SIZE - 1], read[PAGE_SIZE]), (2, 1, 2));
            range.destroy(SIZE, DMA_TO_DEVICE);
        });
    });
}

#[test]
fn a_transfer_beyond_the_last_link() {
    reported("a device reads what is not mapped for it to read", || {
        with_range(|range| {
            range.link(0);
            range.sync(PAGE_SIZE);
            sim::dma_read(range.state.addr + 1, &mut [0; PAGE_SIZE]);
            range.destroy(PAGE_SIZE, DMA_TO_DEVICE);
        });
    });
}

#[test]
fn a_link_that_begins_inside_a_page() {
    reported("begins inside a page", || {
        with_range(|range| {
            range.link(0);
            let (state, phys) = (&raw mut range.state, unsafe { page_to_phys(range.page) });
            let to = DMA_TO_DEVICE;
            unsafe { dma_iova_link(range.dev, state, phys + 8, PAGE_SIZE, 8, to, 0) };
            range.destroy(PAGE_SIZE, DMA_TO_DEVICE);
        });
    });
}

#[test]
fn a_link_that_does_not_begin_as_its_range_does() {
    reported("does not lie in its page", || {
        with_range(|range| {
            let (state, phys) = (&raw mut range.state, unsafe { page_to_phys(range.page) });
            let to = DMA_TO_DEVICE;
            // A kernel would map what is before the range.
            unsafe { dma_iova_link(range.dev, state, phys + 8, 0, 8, to, 0) };
            range.free();
        });
    });
}

#[test]
fn a_range_that_begins_inside_a_page() {
    run(|| {
        sim::iommu();
        with_page(|dev, page| unsafe {
            let (phys, to) = (page_to_phys(page) + 8, DMA_TO_DEVICE);
            let mut state = dma_iova_state::default();
            assert!(dma_iova_try_alloc(dev, &raw mut state, phys, 16));
            assert_eq!(state.addr % PAGE_SIZE as u64, 8);
            assert_eq!(dma_iova_link(dev, &raw mut state, phys, 0, 16, to, 0), 0);
            assert_eq!(dma_iova_sync(dev, &raw mut state, 0, 16), 0);
            let memory = kmap_local_page(page);
            memory.cast::<u8>().add(23).write(7);
            kunmap_local(memory);
            let mut read = [0; 16];
            sim::dma_read(state.addr, &mut read);
            assert_eq!(read[15], 7);
            dma_iova_destroy(dev, &raw mut state, 16, to, 0);
        });
    });
}

#[test]
fn links_with_a_hole_between() {
    reported("what is unlinked was not linked so", || {
        with_range(|range| {
            range.link(PAGE_SIZE);
            range.destroy(PAGE_SIZE, DMA_TO_DEVICE);
        });
    });
}

#[test]
fn more_than_a_page_mapped() {
    reported("not all of one folio", || {
        with_page(|dev, page| unsafe {
            let (size, to) = (PAGE_SIZE, DMA_TO_DEVICE);
            let addr = dma_map_page_attrs(dev, page, 8, size, to, 0);
            dma_unmap_page_attrs(dev, addr, size, to, 0);
        });
    });
}

#[test]
fn a_page_mapped_in_no_direction() {
    reported("`dma_map_page()` in no direction", || {
        with_page(|dev, page| unsafe {
            let addr = dma_map_page_attrs(dev, page, 0, PAGE_SIZE, DMA_NONE, 0);
            dma_unmap_page_attrs(dev, addr, PAGE_SIZE, DMA_NONE, 0);
        });
    });
}

#[test]
fn a_range_that_is_not_to_be_had() {
    run(|| {
        with_page(|dev, _| unsafe {
            // What a driver left there.
            let mut state = dma_iova_state { addr: 1, __size: 1 };
            assert!(!dma_iova_try_alloc(dev, &raw mut state, 0, SIZE));
            assert!(!dma_use_iova(&raw mut state));
        });
    });
}

#[test]
fn a_range_left_over() {
    let words = "left over: 1 ranges of addresses of a device";
    reported(words, || with_range(|_| {}));
}

#[test]
fn a_range_that_is_not_synced() {
    reported("a device reads what is not mapped for it to read", || {
        with_range(|range| {
            range.link(0);
            sim::dma_read(range.state.addr, &mut [0]);
            range.destroy(PAGE_SIZE, DMA_TO_DEVICE);
        });
    });
}

#[test]
fn a_range_of_another_device() {
    let words = "`dma_iova_sync()` for a range that the device does not have";
    reported(words, || {
        with_range(|range| {
            range.link(0);
            with_page(|other, _| {
                let dev = std::mem::replace(&mut range.dev, other);
                range.sync(PAGE_SIZE);
                range.dev = dev;
            });
            range.destroy(PAGE_SIZE, DMA_TO_DEVICE);
        });
    });
}

#[test]
fn a_range_that_was_given_back() {
    let words = "`dma_iova_free()` for a range that the device does not have";
    reported(words, || {
        with_range(|range| {
            range.free();
            range.free();
        });
    });
}

/// What is said of a link that has no place.
const NO_PLACE: &str = "memory is linked beyond a range, or where something is linked";

#[test]
fn a_link_beyond_the_end() {
    reported(NO_PLACE, || {
        with_range(|range| {
            range.link(SIZE);
            range.destroy(PAGE_SIZE, DMA_TO_DEVICE);
        });
    });
}

#[test]
fn a_link_where_one_is() {
    reported(NO_PLACE, || {
        with_range(|range| {
            range.link(0);
            range.link(0);
            range.destroy(PAGE_SIZE, DMA_TO_DEVICE);
        });
    });
}

#[test]
fn a_range_of_which_less_is_unlinked() {
    reported("what is unlinked was not linked so", || {
        with_range(|range| {
            range.link(0);
            range.link(PAGE_SIZE);
            range.destroy(PAGE_SIZE, DMA_TO_DEVICE);
        });
    });
}

#[test]
fn a_range_that_is_unlinked_for_another_direction() {
    reported("what is unlinked was not linked so", || {
        with_range(|range| {
            range.link(0);
            range.destroy(PAGE_SIZE, DMA_FROM_DEVICE);
        });
    });
}

#[test]
fn a_range_freed_that_has_memory() {
    let words = "a range of addresses is freed that memory is linked into";
    reported(words, || {
        with_range(|range| {
            range.link(0);
            range.free();
        });
    });
}

#[test]
fn a_page_freed_that_is_linked() {
    reported("a page is freed that a device may still use", || {
        with_range(|range| unsafe {
            range.page = alloc_pages(GFP_KERNEL, 0);
            range.link(0);
            __free_pages(range.page, 0);
            range.destroy(PAGE_SIZE, DMA_TO_DEVICE);
        });
    });
}

/// What is said of a page that was mapped otherwise.
const NOT_SO: &str =
    "what is unmapped was not mapped for this device, with this size and direction";

#[test]
fn a_page_unmapped_twice() {
    reported(NOT_SO, || {
        with_page(|dev, page| unsafe {
            let addr = dma_map_page_attrs(dev, page, 0, PAGE_SIZE, DMA_TO_DEVICE, 0);
            dma_unmap_page_attrs(dev, addr, PAGE_SIZE, DMA_TO_DEVICE, 0);
            dma_unmap_page_attrs(dev, addr, PAGE_SIZE, DMA_TO_DEVICE, 0);
        });
    });
}

#[test]
fn a_page_unmapped_for_another_direction() {
    reported(NOT_SO, || {
        with_page(|dev, page| unsafe {
            let addr = dma_map_page_attrs(dev, page, 0, PAGE_SIZE, DMA_TO_DEVICE, 0);
            dma_unmap_page_attrs(dev, addr, PAGE_SIZE, DMA_FROM_DEVICE, 0);
            dma_unmap_page_attrs(dev, addr, PAGE_SIZE, DMA_TO_DEVICE, 0);
        });
    });
}

#[test]
fn a_resource_unmapped_of_another_size() {
    let words = "a resource is unmapped that was not mapped for this device";
    reported(words, || {
        with_page(|dev, _| unsafe {
            let addr = dma_map_resource(dev, 0, SIZE, DMA_TO_DEVICE, 0);
            dma_unmap_resource(dev, addr, PAGE_SIZE, DMA_TO_DEVICE, 0);
            dma_unmap_resource(dev, addr, SIZE, DMA_TO_DEVICE, 0);
        });
    });
}

#[test]
fn a_resource_where_none_is() {
    let words = "a resource is mapped where no physical addresses are";
    reported(words, || {
        with_page(|dev, _| unsafe {
            let addr = dma_map_resource(dev, 1 << 52, SIZE, DMA_TO_DEVICE, 0);
            dma_unmap_resource(dev, addr, SIZE, DMA_TO_DEVICE, 0);
        });
    });
}

#[test]
fn a_resource_used_for_another_direction() {
    let words = "a device uses a resource that is not mapped for it, or for another direction";
    reported(words, || {
        with_page(|dev, _| unsafe {
            let addr = dma_map_resource(dev, 0, SIZE, DMA_TO_DEVICE, 0);
            assert_eq!(sim::dma_resource(addr, SIZE, DMA_FROM_DEVICE), None);
            dma_unmap_resource(dev, addr, SIZE, DMA_TO_DEVICE, 0);
        });
    });
}

#[test]
fn shared_memory_freed_of_another_size() {
    let words = "memory that a device shares is freed, and was not allocated so";
    reported(words, || {
        with_page(|dev, _| unsafe {
            let mut addr = 0;
            let memory = dma_alloc_attrs(dev, SIZE, &raw mut addr, GFP_KERNEL, 0);
            dma_free_attrs(dev, PAGE_SIZE, memory, addr, 0);
            dma_free_attrs(dev, SIZE, memory, addr, 0);
        });
    });
}
