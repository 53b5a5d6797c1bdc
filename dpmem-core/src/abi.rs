// SPDX-License-Identifier: GPL-2.0

//! What this crate believes of C: the types of the functions that it calls, and of the fields that
//! it uses.
//!
//! It is compiled in a kernel tree, where bindgen has read the headers, and over a simulated
//! kernel, so that one of the two does not compile where they are not the same. There is no code in
//! it.

use kernel::prelude::*;

// Not the kernel's by its name, so that a test can put a lie in its place.
use super::bindings;

/// Compares functions: what they take, and what they return.
macro_rules! functions {
    ($(fn $name:ident($($arg:ty),* $(,)?) $(-> $returned:ty)?;)*) => {$(
        const _: unsafe extern "C" fn($($arg),*) $(-> $returned)? = bindings::$name;
    )*};
}

/// Compares fields of structures.
macro_rules! fields {
    ($($name:ident { $($field:ident: $ty:ty,)* })*) => {$($(
        const _: fn(&bindings::$name) -> &$ty = |value| &value.$field;
    )*)*};
}

/// Says that a structure is neither [`Send`] nor [`Sync`].
macro_rules! bound_to_a_thread {
    ($($name:ident)*) => {$(
        const _: fn() = {
            trait Unless<A> {
                fn neither() {}
            }
            #[allow(dead_code)]
            struct ItIsSend;
            #[allow(dead_code)]
            struct ItIsSync;
            impl<T: ?Sized> Unless<()> for T {}
            impl<T: ?Sized + Send> Unless<ItIsSend> for T {}
            impl<T: ?Sized + Sync> Unless<ItIsSync> for T {}
            // If it were one of them, there would be a choice, and nothing to choose by.
            <bindings::$name as Unless<_>>::neither
        };
    )*};
}

functions! {
    fn __bitmap_clear(*mut c_ulong, c_uint, c_int);
    fn __bitmap_set(*mut c_ulong, c_uint, c_int);
    fn __release_region(
        *mut bindings::resource, bindings::resource_size_t, bindings::resource_size_t
    );
    fn __spin_lock_init(*mut bindings::spinlock_t, *const c_char, *mut bindings::lock_class_key);
    fn _find_next_bit(*const c_ulong, c_ulong, c_ulong) -> c_ulong;
    fn _find_next_zero_bit(*const c_ulong, c_ulong, c_ulong) -> c_ulong;
    fn cancel_work_sync(*mut bindings::work_struct) -> bool;
    fn clear_highpage(*mut bindings::page);
    fn copy_highpage(*mut bindings::page, *mut bindings::page);
    fn dev_to_node(*mut bindings::device) -> c_int;
    fn dma_addressing_limited(*mut bindings::device) -> bool;
    fn dma_iova_destroy(
        *mut bindings::device,
        *mut bindings::dma_iova_state,
        usize,
        bindings::dma_data_direction,
        c_ulong,
    );
    fn dma_iova_free(*mut bindings::device, *mut bindings::dma_iova_state);
    fn dma_iova_link(
        *mut bindings::device,
        *mut bindings::dma_iova_state,
        bindings::phys_addr_t,
        usize,
        usize,
        bindings::dma_data_direction,
        c_ulong,
    ) -> c_int;
    fn dma_iova_size(*mut bindings::dma_iova_state) -> usize;
    fn dma_iova_sync(*mut bindings::device, *mut bindings::dma_iova_state, usize, usize) -> c_int;
    fn dma_iova_try_alloc(
        *mut bindings::device, *mut bindings::dma_iova_state, bindings::phys_addr_t, usize
    ) -> bool;
    fn dma_map_page_attrs(
        *mut bindings::device,
        *mut bindings::page,
        usize,
        usize,
        bindings::dma_data_direction,
        c_ulong,
    ) -> bindings::dma_addr_t;
    fn dma_mapping_error(*mut bindings::device, bindings::dma_addr_t) -> c_int;
    fn dma_unmap_page_attrs(
        *mut bindings::device, bindings::dma_addr_t, usize, bindings::dma_data_direction, c_ulong
    );
    fn dma_use_iova(*mut bindings::dma_iova_state) -> bool;
    fn folio_alloc_movable(c_uint) -> *mut bindings::folio;
    fn folio_init_locked_dirty(*mut bindings::folio);
    fn folio_order(*const bindings::folio) -> c_uint;
    fn folio_put(*mut bindings::folio);
    fn folio_trylock(*mut bindings::folio) -> bool;
    fn folio_unlock(*mut bindings::folio);
    fn get_page_unless_zero(*mut bindings::page) -> bool;
    fn hmm_pfn_to_map_order(c_ulong) -> c_uint;
    fn hmm_pfn_to_page(c_ulong) -> *mut bindings::page;
    fn hmm_range_fault(*mut bindings::hmm_range) -> c_int;
    fn is_device_coherent_page(*const bindings::page) -> bool;
    fn is_device_private_page(*const bindings::page) -> bool;
    fn is_zero_pfn(c_ulong) -> bool;
    fn is_zone_device_page(*const bindings::page) -> bool;
    fn make_device_exclusive(
        *mut bindings::mm_struct, c_ulong, *mut c_void, *mut *mut bindings::folio
    ) -> *mut bindings::page;
    fn memcpy_from_whole_page(*mut c_char, *mut bindings::page);
    fn memcpy_to_whole_page(*mut bindings::page, *const c_char);
    fn memremap_pages(*mut bindings::dev_pagemap, c_int) -> *mut c_void;
    fn memunmap_pages(*mut bindings::dev_pagemap);
    fn migrate_device_finalize(*mut c_ulong, *mut c_ulong, c_ulong);
    fn migrate_device_pages(*mut c_ulong, *mut c_ulong, c_ulong);
    fn migrate_pfn_to_page(c_ulong) -> *mut bindings::page;
    fn migrate_vma_finalize(*mut bindings::migrate_vma);
    fn migrate_vma_pages(*mut bindings::migrate_vma);
    fn migrate_vma_setup(*mut bindings::migrate_vma) -> c_int;
    fn mmu_interval_notifier_insert(
        *mut bindings::mmu_interval_notifier,
        *mut bindings::mm_struct,
        c_ulong,
        c_ulong,
        *const bindings::mmu_interval_notifier_ops,
    ) -> c_int;
    fn mmu_interval_notifier_remove(*mut bindings::mmu_interval_notifier);
    fn mmu_interval_read_begin(*mut bindings::mmu_interval_notifier) -> c_ulong;
    fn mmu_interval_read_retry(*mut bindings::mmu_interval_notifier, c_ulong) -> bool;
    fn mmu_interval_set_seq(*mut bindings::mmu_interval_notifier, c_ulong);
    fn mmu_notifier_range_blockable(*const bindings::mmu_notifier_range) -> bool;
    fn module_put(*mut bindings::module);
    fn node_online(c_int) -> bool;
    fn page_folio(*mut bindings::page) -> *mut bindings::folio;
    fn page_pgmap(*const bindings::page) -> *mut bindings::dev_pagemap;
    fn page_to_migrate_pfn(*const bindings::page) -> c_ulong;
    fn page_to_pfn(*const bindings::page) -> c_ulong;
    fn page_to_phys(*const bindings::page) -> bindings::phys_addr_t;
    fn page_zone_device_data(*const bindings::page) -> *mut c_void;
    fn percpu_ref_put(*mut bindings::percpu_ref);
    fn percpu_ref_tryget_live(*mut bindings::percpu_ref) -> bool;
    fn pfn_to_page(c_ulong) -> *mut bindings::page;
    fn pmd_shift() -> c_uint;
    fn pud_shift() -> c_uint;
    fn set_page_dirty(*mut bindings::page) -> bool;
    fn set_page_zone_device_data(*mut bindings::page, *mut c_void);
    fn spin_assert_is_held(*mut bindings::spinlock_t);
    fn spin_lock_irqsave(*mut bindings::spinlock_t) -> c_ulong;
    fn spin_trylock_irqsave(*mut bindings::spinlock_t, *mut c_ulong) -> bool;
    fn spin_unlock_irqrestore(*mut bindings::spinlock_t, c_ulong);
    fn split_folio(*mut bindings::folio) -> c_int;
    fn split_huge_page(*mut bindings::page) -> c_int;
    fn synchronize_rcu();
    fn thp_migration_supported() -> bool;
    fn try_module_get(*mut bindings::module) -> bool;
    fn vma_alloc_folio_movable(
        *mut bindings::vm_area_struct, c_ulong, c_uint
    ) -> *mut bindings::folio;
    fn zone_device_folio_inherit(*mut bindings::folio, *const bindings::folio);
    fn zone_device_folio_init(*mut bindings::folio, *mut bindings::dev_pagemap, c_uint);
}

#[cfg(dpmem_hmm_unlocked)]
functions! {
    fn hmm_range_fault_unlocked_timeout(*mut bindings::hmm_range, c_ulong) -> c_int;
}

#[cfg(dpmem_offset)]
functions! {
    fn device_private_offset_to_page(*const bindings::dev_pagemap, c_ulong) -> *mut bindings::page;
    fn device_private_page_to_offset(*const bindings::page) -> c_ulong;
    fn memremap_device_private_pagemap(*mut bindings::dev_pagemap, c_int) -> c_int;
    fn memunmap_device_private_pagemap(*mut bindings::dev_pagemap);
    fn migrate_device_range(*mut c_ulong, *mut bindings::dev_pagemap, c_ulong, c_ulong) -> c_int;
    fn pgmap_request_folio(*mut bindings::dev_pagemap, c_ulong, c_uint) -> *mut bindings::folio;
}

#[cfg(not(dpmem_offset))]
functions! {
    fn migrate_device_range(*mut c_ulong, c_ulong, c_ulong) -> c_int;
    fn request_free_mem_region(
        *mut bindings::resource, c_ulong, *const c_char
    ) -> *mut bindings::resource;
}

fields! {
    migrate_vma {
        vma: *mut bindings::vm_area_struct,
        dst: *mut c_ulong,
        src: *mut c_ulong,
        cpages: c_ulong,
        npages: c_ulong,
        start: c_ulong,
        end: c_ulong,
        pgmap_owner: *mut c_void,
        flags: c_ulong,
        fault_page: *mut bindings::page,
    }
    hmm_range {
        notifier: *mut bindings::mmu_interval_notifier,
        notifier_seq: c_ulong,
        start: c_ulong,
        end: c_ulong,
        hmm_pfns: *mut c_ulong,
        default_flags: c_ulong,
        pfn_flags_mask: c_ulong,
        dev_private_owner: *mut c_void,
    }
    dev_pagemap {
        type_: bindings::memory_type,
        ops: *const bindings::dev_pagemap_ops,
        owner: *mut c_void,
        nr_range: c_int,
    }
    mmu_notifier_range {
        mm: *mut bindings::mm_struct,
        start: c_ulong,
        end: c_ulong,
        flags: c_uint,
        event: bindings::mmu_notifier_event,
        owner: *mut c_void,
    }
    mmu_interval_notifier {
        ops: *const bindings::mmu_interval_notifier_ops,
        mm: *mut bindings::mm_struct,
        invalidate_seq: c_ulong,
    }
    vm_fault {
        page: *mut bindings::page,
        pte: *mut bindings::pte_t,
    }
    range {
        start: u64,
        end: u64,
    }
    dma_iova_state {
        addr: bindings::dma_addr_t,
        __size: u64,
    }
}

bound_to_a_thread! {
    dev_pagemap
    folio
    hmm_range
    migrate_vma
    mm_struct
    mmu_interval_notifier
    mmu_notifier_range
    page
    vm_area_struct
    vm_fault
}
