// SPDX-License-Identifier: GPL-2.0

//! What this crate believes of DRM's C, and of what it needs besides: the types of the functions
//! that it calls, and which structures belong to one thread. Those of fields are in the tables that
//! it fills.
//!
//! As `abi.rs` of the crate `dpmem`: it is compiled in a kernel tree and over a simulated kernel,
//! and there is no code in it.

use kernel::prelude::*;

// Not the kernel's by its name, so that a test can put a lie in its place.
use super::bindings;

/// Compares functions: what they take, and what they return.
macro_rules! functions {
    ($(fn $name:ident($($arg:ty),* $(,)?) $(-> $returned:ty)?;)*) => {$(
        const _: unsafe extern "C" fn($($arg),*) $(-> $returned)? = bindings::$name;
    )*};
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
    fn dma_fence_get_status(*mut bindings::dma_fence) -> c_int;
    fn dma_fence_put(*mut bindings::dma_fence);
    fn dma_fence_wait_timeout(*mut bindings::dma_fence, bool, c_long) -> c_long;
    fn dma_map_resource(
        *mut bindings::device,
        bindings::phys_addr_t,
        usize,
        bindings::dma_data_direction,
        c_ulong,
    ) -> bindings::dma_addr_t;
    fn dma_unmap_resource(
        *mut bindings::device, bindings::dma_addr_t, usize, bindings::dma_data_direction, c_ulong
    );
    fn drm_pagemap_acquire_owner(
        *mut bindings::drm_pagemap_peer,
        *mut bindings::drm_pagemap_owner_list,
        Option<
            unsafe extern "C" fn(
                *mut bindings::drm_pagemap_peer,
                *mut bindings::drm_pagemap_peer,
            ) -> bool,
        >,
    ) -> c_int;
    fn drm_pagemap_addr_dir(*const bindings::drm_pagemap_addr) -> bindings::dma_data_direction;
    fn drm_pagemap_addr_encode(
        bindings::dma_addr_t,
        bindings::drm_interconnect_protocol,
        c_uint,
        bindings::dma_data_direction,
    ) -> bindings::drm_pagemap_addr;
    fn drm_pagemap_cache_create_devm(
        *mut bindings::drm_pagemap_shrinker
    ) -> *mut bindings::drm_pagemap_cache;
    fn drm_pagemap_cache_lock_lookup(*mut bindings::drm_pagemap_cache) -> c_int;
    fn drm_pagemap_cache_set_pagemap(
        *mut bindings::drm_pagemap_cache, *mut bindings::drm_pagemap
    );
    fn drm_pagemap_cache_unlock_lookup(*mut bindings::drm_pagemap_cache);
    fn drm_pagemap_get_from_cache(
        *mut bindings::drm_pagemap_cache
    ) -> *mut bindings::drm_pagemap;
    fn drm_pagemap_init(
        *mut bindings::drm_pagemap,
        *mut bindings::dev_pagemap,
        *mut bindings::drm_device,
        *const bindings::drm_pagemap_ops,
    ) -> c_int;
    fn drm_pagemap_page_to_dpagemap(*mut bindings::page) -> *mut bindings::drm_pagemap;
    fn drm_pagemap_pagemap_ops_get() -> *const bindings::dev_pagemap_ops;
    fn drm_pagemap_put(*mut bindings::drm_pagemap);
    fn drm_pagemap_release_owner(*mut bindings::drm_pagemap_peer);
    fn drm_pagemap_shrinker_create_devm(
        *mut bindings::drm_device
    ) -> *mut bindings::drm_pagemap_shrinker;
}

bound_to_a_thread! {
    dma_fence
    drm_pagemap
    drm_pagemap_devmem
    drm_pagemap_owner_list
    drm_pagemap_peer
}
