// SPDX-License-Identifier: GPL-2.0

//! A piece of a card's memory that is for a part of a process's.

use core::{
    marker::PhantomData,
    ptr::NonNull, //
};

use kernel::{
    bindings,
    prelude::*, //
};

use dpmem::{
    ForeignPagemap,
    NrPages,
    Order,
    PageOffset, //
};

/// A `struct drm_pagemap_devmem`, which is a part of a buffer of the driver's.
///
/// # Invariants
///
/// It is valid during `'a`.
pub struct Devmem<'a> {
    inner: NonNull<bindings::drm_pagemap_devmem>,
    _valid: PhantomData<&'a bindings::drm_pagemap_devmem>,
}

impl Devmem<'_> {
    /// # Safety
    ///
    /// It must be valid for the lifetime that the caller chooses.
    pub(crate) unsafe fn new(inner: NonNull<bindings::drm_pagemap_devmem>) -> Self {
        // INVARIANT: The caller promises it.
        Self {
            inner,
            _valid: PhantomData,
        }
    }

    /// The C structure.
    pub fn as_raw(&self) -> *mut bindings::drm_pagemap_devmem {
        self.inner.as_ptr()
    }
}

/// A piece of memory that is not used any more: no page of it is in service, and none will be.
#[must_use = "the driver has references to give back"]
pub struct ReleasedDevmem(NonNull<bindings::drm_pagemap_devmem>);

impl ReleasedDevmem {
    /// # Safety
    ///
    /// What DRM had of it must be the caller's.
    pub(crate) unsafe fn new(inner: NonNull<bindings::drm_pagemap_devmem>) -> Self {
        Self(inner)
    }

    /// The C structure. What DRM had of it is the caller's now.
    pub fn into_raw(self) -> *mut bindings::drm_pagemap_devmem {
        self.0.as_ptr()
    }
}

/// Where the pages of a piece of memory are, which a driver fills in from the first page to the
/// last.
pub struct Places<'a> {
    memory: &'a ForeignPagemap,
    numbers: &'a mut [c_ulong],
    filled: usize,
}

impl<'a> Places<'a> {
    pub(crate) fn new(memory: &'a ForeignPagemap, numbers: &'a mut [c_ulong]) -> Self {
        Self {
            memory,
            numbers,
            filled: 0,
        }
    }

    /// The next `bytes` are at `offset` bytes of the card's memory.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if that is no memory of the pagemap, not a whole number of pages, or more than
    /// there are pages to fill in.
    pub fn push(&mut self, offset: u64, bytes: u64) -> Result {
        let first = NrPages::from_bytes(offset.try_into()?)?;
        let nr = NrPages::from_bytes(bytes.try_into()?)?;
        let end = first.get().checked_add(nr.get()).ok_or(EINVAL)?;
        for page in first.get()..end {
            let number = self.memory.number_of(PageOffset::new(page));
            let slot = self.numbers.get_mut(self.filled).ok_or(EINVAL)?;
            *slot = number.ok_or(EINVAL)?;
            // OVERFLOW: There is such a slot.
            self.filled += 1;
        }
        Ok(())
    }

    /// [`EINVAL`] unless each page has its place.
    ///
    /// And unless a large folio that begins where one may, has only pages of this piece of memory:
    /// DRM looks at the place of its first page alone. A kernel that does not look at that one
    /// itself may want one to begin anywhere.
    pub(crate) fn finish(self) -> Result {
        if self.filled != self.numbers.len() {
            return Err(EINVAL);
        }
        let nr = Order::of_pmd().nr_pages().get();
        let may_begin = |run: &[c_ulong]| run.first().is_some_and(|first| first % nr == 0);
        let is_whole = |run: &[c_ulong]| {
            let first = run.first().copied().unwrap_or(0);
            // OVERFLOW: They are pages of one pagemap.
            run.iter().enumerate().all(|(i, page)| *page == first + i)
        };
        let mut runs = self.numbers.windows(nr);
        if !runs.all(|run| !may_begin(run) || is_whole(run)) {
            return Err(EINVAL);
        }
        #[cfg(not(dpmem_offset))]
        if !self.numbers.chunks_exact(nr).all(may_begin) {
            return Err(EINVAL);
        }
        Ok(())
    }
}
