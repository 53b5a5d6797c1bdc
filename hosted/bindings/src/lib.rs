// SPDX-License-Identifier: GPL-2.0

//! The C side of the kernel, simulated: the same names and types as bindgen gives, over a model of
//! memory management.
//!
//! The crate `kernel` and `dpmem` are the kernel's own files, and reach C through this crate alone.
//! What is C's is in the files below; each says how much of it is real. Not simulated: what
//! `not_simulated!` is said of, which is there to be compiled, and ends the test when it is called.
//! What is for tests is in [`sim`].
//!
//! The model is strict: what would be silent corruption in a kernel is a report here, with a
//! backtrace, and a test that has one fails. See [`sim::run`].

#![feature(c_variadic)]
#![allow(non_camel_case_types, non_snake_case, non_upper_case_globals)]
#![allow(clippy::missing_safety_doc, clippy::too_many_arguments)]

/// Declares functions of C that nothing here needs to work: calling one is the end of the test.
macro_rules! not_simulated {
    ($(fn $name:ident($($arg:ty),* $(,)?) $(-> $ret:ty)?;)*) => {$(
        pub unsafe extern "C" fn $name($(_: $arg),*) $(-> $ret)? {
            crate::report::fatal(concat!("`", stringify!($name), "()` is not simulated"))
        }
    )*};
}

mod alloc;
mod atomic;
mod bits;
mod buddy;
mod consts;
mod debugfs;
mod device_private;
mod devices;
mod dma;
mod driver;
mod drm;
mod edu;
mod files;

mod hmm;
mod host;
mod irq;
mod lockdep;
mod locks;
mod machine;
mod memory_failure;
mod migrate;
mod mm;
mod mmio;
mod mmu_notifier;
mod pages;
mod pci;
mod pgtable;
mod printk;
mod process;
mod rbtree;
mod regions;
mod report;
mod rest;
mod task;
mod time;
mod trace;
mod wait;
mod workqueue;

/// What tests use: machines, processes, failures.
pub mod sim {
    pub use crate::{
        debugfs::{debugfs, read_debugfs},
        device_private::{coherent_memory, registered},
        dma::{dma_read, dma_resource, dma_write, iommu, reach_32_bits, reach_memory},
        driver::Module,
        drm::{
            fence::{fence, fence_of, signal_fence},
            util::{owner_list, shrink},
            DrmDevice,
        },
        edu::{Edu, Held},
        files::OpenFile,
        hmm::restless,
        host::explore,
        machine::{changes, for_each_failure, for_each_failure_of, run, spawn, Change, Thread},
        mm::PAGE_SIZE,
        pages::splits,
        pci::{Hardware, PciDevice, PciId, Register, Slot},
        printk::has_printed,
        process::{Errno, Mapped, Process, HUGE_PAGE_SIZE},
        time::{now, pass},
        trace::{events, Event},
        workqueue::Workqueue,
    };
}

/// The numbers of the errors, from the kernel's headers.
mod errno {
    include!(concat!(env!("OUT_DIR"), "/errno.rs"));
}

pub use self::{
    alloc::*,
    atomic::*,
    bits::*,
    buddy::*,
    consts::*,
    debugfs::{
        debugfs_create_dir, debugfs_create_file_full, debugfs_remove, default_llseek, dentry,
        noop_llseek, seq_file, seq_lseek, seq_printf, seq_read, simple_open, single_open,
        single_release,
    },
    device_private::*,
    devices::*,
    dma::*,
    driver::{module_put, try_module_get},
    drm::{
        __BindgenBitfieldUnit, dma_fence, dma_fence_get, dma_fence_get_status,
        dma_fence_is_signaled, dma_fence_put, dma_fence_set_error, dma_fence_wait_timeout,
        drm_dev_enter, drm_dev_exit, drm_dev_get, drm_dev_put, drm_dev_unplug, drm_device,
        drm_interconnect_protocol, drm_interconnect_protocol_DRM_INTERCONNECT_DRIVER,
        drm_interconnect_protocol_DRM_INTERCONNECT_SYSTEM, drm_pagemap, drm_pagemap_acquire_owner,
        drm_pagemap_addr, drm_pagemap_addr_dir, drm_pagemap_addr_encode, drm_pagemap_cache,
        drm_pagemap_cache_create_devm, drm_pagemap_cache_lock_lookup,
        drm_pagemap_cache_set_pagemap, drm_pagemap_cache_unlock_lookup, drm_pagemap_destroy,
        drm_pagemap_dev_hold, drm_pagemap_devmem, drm_pagemap_devmem_init, drm_pagemap_devmem_ops,
        drm_pagemap_evict_to_ram, drm_pagemap_get, drm_pagemap_get_from_cache,
        drm_pagemap_get_from_cache_if_active, drm_pagemap_get_unless_zero, drm_pagemap_init,
        drm_pagemap_migrate_details, drm_pagemap_migrate_to_devmem, drm_pagemap_ops,
        drm_pagemap_owner, drm_pagemap_owner_list, drm_pagemap_page_to_dpagemap,
        drm_pagemap_pagemap_ops_get, drm_pagemap_peer, drm_pagemap_populate_mm, drm_pagemap_put,
        drm_pagemap_reinit, drm_pagemap_release_owner, drm_pagemap_shrinker,
        drm_pagemap_shrinker_create_devm,
    },
    errno::*,
    files::*,
    hmm::*,
    irq::*,
    locks::*,
    migrate::*,
    mm::*,
    mmio::*,
    mmu_notifier::*,
    pages::*,
    pci::*,
    printk::*,
    process::{_copy_from_user, _copy_to_user, copy_from_user, copy_to_user},
    rbtree::*,
    regions::*,
    rest::*,
    task::*,
    time::*,
    trace::*,
    wait::*,
    workqueue::*,
};
