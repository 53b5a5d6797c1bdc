// SPDX-License-Identifier: GPL-2.0

//! What is said of what is left over: where it comes from, or how one gets to know.

mod support;

use bindings::{
    sim::{self, run},
    *,
};
use std::{env, process::Command, ptr::null_mut};
use support::DMA_TO_DEVICE;

/// Says to AddressSanitizer that what is left over is left on purpose.
#[no_mangle]
extern "C" fn __lsan_is_turned_off() -> std::ffi::c_int {
    1
}

/// The variable that says which case a program is.
const CASE: &str = "CASE_LEFT_OVER";

/// What is said when `f` runs, in a program of its own: without the variable, and with it. `name`
/// is that of the test.
fn said(name: &str, f: impl FnOnce()) -> Option<[String; 2]> {
    if env::var(CASE).is_ok_and(|case| case == name) {
        run(f);
        return None;
    }
    let program = env::current_exe().unwrap();
    Some([false, true].map(|traced| {
        let mut command = Command::new(&program);
        command
            .args(["--exact", name, "--nocapture"])
            .env_remove("DPMEM_BACKTRACE")
            .env("RUST_BACKTRACE", "0")
            .env(CASE, name);
        if traced {
            command.env("DPMEM_BACKTRACE", "1");
        }
        let output = command.output().unwrap();
        assert!(!output.status.success(), "nothing is left over");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }))
}

const HINT: &str = "with DPMEM_BACKTRACE=1 it is said";

/// `f` leaves `what` behind, of which it can be known that it comes from `place`.
fn traced(name: &str, what: &str, place: &str, f: impl FnOnce()) {
    let Some([plain, traced]) = said(name, f) else {
        return;
    };
    let what = format!("left over: {what}");
    assert!(plain.contains(&what) && plain.contains(HINT), "{plain}");
    assert!(!plain.contains(place), "{plain}");
    let what = format!("{what}, of which one comes from here:\n");
    let (_, from) = traced.split_once(&what).expect("nobody says where from");
    // Something else may be left over as well.
    let from = from.split("left over: ").next().unwrap_or(from);
    assert!(from.contains(place), "{traced}");
    assert!(!traced.contains(HINT), "{traced}");
}

/// A device that reaches all memory.
fn device() -> *mut device {
    // SAFETY: Nothing else is asked for than the name, which is one.
    unsafe {
        let faux = faux_device_create(c"one".as_ptr().cast(), null_mut(), null_mut());
        let dev = &raw mut (*faux).dev;
        reach_memory(dev);
        dev
    }
}

/// A page of system memory.
fn page() -> *mut page {
    // SAFETY: It asks for nothing.
    unsafe { alloc_pages(GFP_KERNEL, 0) }
}

#[test]
fn a_page() {
    traced(
        "a_page",
        "1 pages of system memory",
        "left_over::page",
        || {
            page();
        },
    );
}

#[inline(never)]
fn allocate() {
    // SAFETY: It asks for nothing.
    unsafe { krealloc_node_align(null_mut(), 100, 8, GFP_KERNEL, NUMA_NO_NODE) };
}

#[test]
fn an_allocation() {
    let what = "1 allocations of 100 bytes";
    traced("an_allocation", what, "left_over::allocate", allocate);
}

#[inline(never)]
fn map() {
    // SAFETY: The device and the page are there.
    unsafe { dma_map_page_attrs(device(), page(), 0, sim::PAGE_SIZE, DMA_TO_DEVICE, 0) };
}

#[test]
fn a_mapping() {
    let what = "1 pages that are mapped for a device";
    traced("a_mapping", what, "left_over::map", map);
}

#[inline(never)]
fn map_resource() {
    // SAFETY: The device is there.
    unsafe { dma_map_resource(device(), 0, sim::PAGE_SIZE, DMA_TO_DEVICE, 0) };
}

#[test]
fn a_resource() {
    let what = "1 resources that are mapped for a device";
    traced("a_resource", what, "left_over::map_resource", map_resource);
}

#[inline(never)]
fn take_addresses() {
    sim::iommu();
    let mut state = dma_iova_state::default();
    // SAFETY: The device is there.
    assert!(unsafe { dma_iova_try_alloc(device(), &raw mut state, 0, sim::PAGE_SIZE) });
}

#[test]
fn a_range_of_addresses() {
    let what = "1 ranges of addresses of a device";
    let place = "left_over::take_addresses";
    traced("a_range_of_addresses", what, place, take_addresses);
}

#[inline(never)]
fn share() {
    let mut addr = 0;
    // SAFETY: The device is there.
    unsafe { dma_alloc_attrs(device(), sim::PAGE_SIZE, &raw mut addr, GFP_KERNEL, 0) };
}

#[test]
fn shared_memory() {
    let what = "1 pieces of memory that a device shares";
    traced("shared_memory", what, "left_over::share", share);
}

#[inline(never)]
fn register_pagemap() {
    // SAFETY: All of its fields are numbers, pointers, or arrays of these.
    let pgmap: &mut dev_pagemap = Box::leak(Box::new(unsafe { std::mem::zeroed() }));
    pgmap.type_ = memory_type_MEMORY_DEVICE_PRIVATE;
    pgmap.nr_pages = 8;
    // SAFETY: It is there for ever.
    unsafe { memremap_device_private_pagemap(pgmap, NUMA_NO_NODE) };
}

#[test]
fn a_pagemap() {
    let place = "left_over::register_pagemap";
    traced("a_pagemap", "a registered pagemap", place, register_pagemap);
}

#[inline(never)]
fn register_misc_device() {
    // SAFETY: All of its fields are numbers or pointers.
    let misc: &mut miscdevice = Box::leak(Box::new(unsafe { std::mem::zeroed() }));
    misc.name = c"one".as_ptr().cast();
    // SAFETY: It is there for ever.
    unsafe { misc_register(misc) };
}

#[test]
fn a_misc_device() {
    let place = "left_over::register_misc_device";
    traced(
        "a_misc_device",
        "the device one",
        place,
        register_misc_device,
    );
}

#[test]
fn what_nobody_traces() {
    let Some(said) = said("what_nobody_traces", || {
        std::mem::forget(sim::Workqueue::new())
    }) else {
        return;
    };
    for text in said {
        assert!(text.contains("left over: a workqueue"), "{text}");
        assert!(!text.contains("DPMEM_BACKTRACE"), "{text}");
    }
}
