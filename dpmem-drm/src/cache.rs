// SPDX-License-Identifier: GPL-2.0

//! Pagemaps that are kept for the next who wants one.
//!
//! C header: [`include/drm/drm_pagemap_util.h`](srctree/include/drm/drm_pagemap_util.h)

use core::ptr::NonNull;

use kernel::{
    bindings,
    error::{
        from_err_ptr,
        to_result, //
    },
    prelude::*,
    types::Opaque, //
};

use crate::{
    ops::PagemapOps,
    pagemap::PagemapRef, //
};

/// Destroys pagemaps that nobody uses when memory is short. It belongs to a device, and goes when
/// its driver is unbound.
#[repr(transparent)]
pub struct Shrinker(Opaque<bindings::drm_pagemap_shrinker>);

impl Shrinker {
    /// A shrinker for the caches of `drm`. May sleep.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`].
    ///
    /// # Safety
    ///
    /// `drm` must be a DRM device whose parent is being bound to its driver, and the lifetime end
    /// when that is undone.
    pub unsafe fn new<'a>(drm: NonNull<bindings::drm_device>) -> Result<&'a Self> {
        // SAFETY: The caller promises a valid device.
        let shrinker = unsafe { bindings::drm_pagemap_shrinker_create_devm(drm.as_ptr()) };
        let shrinker = NonNull::new(from_err_ptr(shrinker)?).ok_or(ENOMEM)?;
        // SAFETY: It is there until the driver is unbound.
        Ok(unsafe { Self::from_raw(shrinker) })
    }

    /// The shrinker that C has.
    ///
    /// # Safety
    ///
    /// It must be valid for `'a`.
    pub unsafe fn from_raw<'a>(shrinker: NonNull<bindings::drm_pagemap_shrinker>) -> &'a Self {
        // CAST: `Shrinker` is transparent.
        // SAFETY: The caller promises it.
        unsafe { shrinker.cast().as_ref() }
    }

    /// The C structure.
    pub fn as_raw(&self) -> *mut bindings::drm_pagemap_shrinker {
        self.0.get()
    }

    /// A cache that it empties. It goes as the shrinker does, when the driver is unbound. May
    /// sleep.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub fn new_cache(&self) -> Result<&Cache> {
        // SAFETY: The shrinker is valid.
        let cache = unsafe { bindings::drm_pagemap_cache_create_devm(self.as_raw()) };
        let cache = NonNull::new(from_err_ptr(cache)?).ok_or(ENOMEM)?;
        // SAFETY: It is there until the driver is unbound.
        Ok(unsafe { Cache::from_raw(cache) })
    }
}

/// Room for one pagemap, which is kept there when nobody uses it.
#[repr(transparent)]
pub struct Cache(Opaque<bindings::drm_pagemap_cache>);

/// A cache in which nobody else looks for a pagemap.
struct Locked<'a>(&'a Cache);

impl Cache {
    /// The cache that C has.
    ///
    /// # Safety
    ///
    /// It must be valid for `'a`.
    pub unsafe fn from_raw<'a>(cache: NonNull<bindings::drm_pagemap_cache>) -> &'a Self {
        // CAST: `Cache` is transparent.
        // SAFETY: The caller promises it.
        unsafe { cache.cast().as_ref() }
    }

    /// The C structure.
    pub fn as_raw(&self) -> *mut bindings::drm_pagemap_cache {
        self.0.get()
    }

    /// The pagemap that is there, or else the one that `create` makes, which is there from then on.
    /// May sleep.
    ///
    /// # Errors
    ///
    /// [`EINTR`] if a signal comes while somebody else is at it; [`ENOMEM`]; those of `create`.
    ///
    /// # Safety
    ///
    /// Whatever was put into this cache must be a pagemap with the operations `T`.
    pub unsafe fn find_or_create<T: PagemapOps>(
        &self,
        create: impl FnOnce() -> Result<PagemapRef<T>>,
    ) -> Result<PagemapRef<T>> {
        let locked = Locked::new(self)?;
        // SAFETY: The cache is locked.
        let found = unsafe { bindings::drm_pagemap_get_from_cache(locked.0.as_raw()) };
        if let Some(found) = NonNull::new(from_err_ptr(found)?) {
            // SAFETY: The function has got a reference for us, and the caller promises which one it
            // is.
            return Ok(unsafe { PagemapRef::from_raw(found) });
        }
        let new = create()?;
        // SAFETY: As above; there is none in it, and this one has just been made.
        unsafe { bindings::drm_pagemap_cache_set_pagemap(locked.0.as_raw(), new.as_raw()) };
        Ok(new)
    }
}

impl<'a> Locked<'a> {
    fn new(cache: &'a Cache) -> Result<Self> {
        // SAFETY: The cache is valid.
        to_result(unsafe { bindings::drm_pagemap_cache_lock_lookup(cache.as_raw()) })?;
        Ok(Self(cache))
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // SAFETY: We have locked it.
        unsafe { bindings::drm_pagemap_cache_unlock_lookup(self.0.as_raw()) };
    }
}
