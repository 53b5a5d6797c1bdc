// SPDX-License-Identifier: GPL-2.0

//! The entries of the arrays that a migration works on.
//!
//! C header: [`include/linux/migrate.h`](srctree/include/linux/migrate.h)

use core::ptr::NonNull;

use kernel::{
    bindings,
    prelude::*, //
};

use crate::number::Order;

/// An entry of `migrate_vma::src` or `migrate_vma::dst`.
///
/// It carries flags and the number of a page. The number never leaves this crate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct MigratePfn(c_ulong);

impl MigratePfn {
    /// No page.
    pub(crate) const NONE: Self = Self(0);

    // CAST: The constants come as `u32`, for a field of type `unsigned long`.
    const VALID: c_ulong = bindings::MIGRATE_PFN_VALID as c_ulong;
    const MIGRATE: c_ulong = bindings::MIGRATE_PFN_MIGRATE as c_ulong;
    const WRITE: c_ulong = bindings::MIGRATE_PFN_WRITE as c_ulong;
    const COMPOUND: c_ulong = bindings::MIGRATE_PFN_COMPOUND as c_ulong;

    /// The entry with the value `raw`.
    #[inline]
    pub(crate) const fn from_raw(raw: c_ulong) -> Self {
        Self(raw)
    }

    /// The value that C knows.
    #[inline]
    pub(crate) const fn into_raw(self) -> c_ulong {
        self.0
    }

    /// Whether the entry names a page.
    #[inline]
    pub(crate) const fn is_valid(self) -> bool {
        self.0 & Self::VALID != 0
    }

    /// Whether the page, or the hole, takes part in the migration.
    #[inline]
    pub(crate) const fn is_migrating(self) -> bool {
        self.0 & Self::MIGRATE != 0
    }

    /// Whether the process may write to the page.
    #[inline]
    pub(crate) const fn is_writable(self) -> bool {
        self.0 & Self::WRITE != 0
    }

    /// Whether the entry stands for a whole large folio, or for a hole of that size. The entries
    /// behind it are empty then.
    #[inline]
    pub(crate) const fn is_compound(self) -> bool {
        self.0 & Self::COMPOUND != 0
    }

    /// The same entry, for a folio of `order`.
    #[inline]
    pub(crate) const fn with_order(self, order: Order) -> Self {
        if order.get() > 0 {
            Self(self.0 | Self::COMPOUND)
        } else {
            self
        }
    }

    /// The same entry, writable if `writable`.
    #[inline]
    pub(crate) const fn with_write(self, writable: bool) -> Self {
        if writable {
            Self(self.0 | Self::WRITE)
        } else {
            self
        }
    }

    /// The entry that names `page`.
    ///
    /// # Safety
    ///
    /// `page` must point to a `struct page`.
    #[inline]
    pub(crate) unsafe fn of_page(page: *const bindings::page) -> Self {
        // SAFETY: The caller promises a valid page.
        Self(unsafe { bindings::page_to_migrate_pfn(page) })
    }

    /// The page that the entry names, or `None` if it names none.
    #[inline]
    pub(crate) fn page(self) -> Option<NonNull<bindings::page>> {
        if !self.is_valid() {
            return None;
        }
        // SAFETY: An entry with the valid flag was made from a page, by C or by `of_page`. The
        // function only computes the page's address and does not look at it.
        NonNull::new(unsafe { bindings::migrate_pfn_to_page(self.0) })
    }
}
