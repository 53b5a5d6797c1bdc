// SPDX-License-Identifier: GPL-2.0

//! What AddressSanitizer finds in C and in drivers, and the model does not. It ends the program, so
//! each case is one.

#![feature(cfg_sanitize)]
#![cfg(sanitize = "address")]

mod support;

use bindings::*;
use std::ptr::null_mut;

/// Runs `f` in a program of its own, which must end with a report of `what`. `name` is that of the
/// test.
fn found(name: &str, what: &str, f: impl FnOnce()) {
    support::ends(name, &format!("AddressSanitizer: {what}"), f);
}

/// Memory of the kernel.
fn kmalloc(size: usize) -> *mut u8 {
    // SAFETY: It asks for nothing.
    unsafe { krealloc_node_align(null_mut(), size, 8, GFP_KERNEL, NUMA_NO_NODE) }.cast()
}

/// Gives it back.
fn kfree(memory: *mut u8) {
    // SAFETY: It was allocated.
    unsafe { krealloc_node_align(memory.cast(), 0, 8, 0, NUMA_NO_NODE) };
}

#[test]
fn memory_that_was_freed() {
    found("memory_that_was_freed", "heap-use-after-free", || {
        let memory = kmalloc(100);
        kfree(memory);
        // SAFETY: What is not right is what is tested.
        assert_ne!(unsafe { memory.read_volatile() }, 0);
    });
}

#[test]
fn memory_behind_an_allocation() {
    found(
        "memory_behind_an_allocation",
        "heap-buffer-overflow",
        || {
            let memory = kmalloc(100);
            // SAFETY: As above.
            unsafe { memory.add(100).write_volatile(1) };
            kfree(memory);
        },
    );
}

#[test]
fn the_content_of_a_page_that_was_freed() {
    let name = "the_content_of_a_page_that_was_freed";
    found(name, "heap-use-after-free", || {
        // SAFETY: As above; and nothing else has the page.
        unsafe {
            let page = alloc_pages(GFP_KERNEL, 0);
            let content = kmap_local_page(page).cast::<u8>();
            content.write_volatile(1);
            __free_pages(page, 0);
            assert_ne!(content.read_volatile(), 0);
        }
    });
}
