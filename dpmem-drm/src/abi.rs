// SPDX-License-Identifier: GPL-2.0

//! What this crate believes of DRM's C, and of what it needs besides: the types of the functions
//! that it calls. Those of structures are in the tables that it fills.
//!
//! As `abi.rs` of the crate `dpmem`: it is compiled in a kernel tree and over a simulated kernel,
//! and there is no code in it.

use kernel::{
    bindings,
    prelude::*, //
};

/// Compares functions: what they take, and what they return.
macro_rules! functions {
    ($(fn $name:ident($($arg:ty),* $(,)?) $(-> $returned:ty)?;)*) => {$(
        const _: unsafe extern "C" fn($($arg),*) $(-> $returned)? = bindings::$name;
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
