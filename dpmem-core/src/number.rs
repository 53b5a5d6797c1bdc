// SPDX-License-Identifier: GPL-2.0

//! The numbers of this crate, as types that cannot be mixed up.
//!
//! All counts and offsets are in pages of `PAGE_SIZE` bytes; the conversions to bytes are here, and
//! checked.

use kernel::{
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*, //
};

/// A count of pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct NrPages(usize);

impl NrPages {
    /// No page.
    pub const ZERO: Self = Self(0);

    /// `nr` pages.
    #[inline]
    pub const fn new(nr: usize) -> Self {
        Self(nr)
    }

    /// As many pages as `bytes` fill; [`EINVAL`] if that is not a whole number of pages.
    #[inline]
    pub const fn from_bytes(bytes: usize) -> Result<Self> {
        if bytes % PAGE_SIZE == 0 {
            Ok(Self(bytes >> PAGE_SHIFT))
        } else {
            Err(EINVAL)
        }
    }

    /// The count.
    #[inline]
    pub const fn get(self) -> usize {
        self.0
    }

    /// The size in bytes, if it can be expressed.
    #[inline]
    pub const fn to_bytes(self) -> Option<usize> {
        self.0.checked_mul(PAGE_SIZE)
    }
}

/// The size of a folio: `1 << order` pages.
///
/// # Invariants
///
/// `1 << order` fits in a `usize` with room to spare: the order is at most [`Order::MAX`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Order(u32);

impl Order {
    /// A single page.
    pub const ZERO: Self = Self(0);

    /// The largest order that can be expressed, far above that of any folio.
    pub const MAX: Self = Self(32);

    /// The order `order`; [`EINVAL`] above [`Order::MAX`].
    #[inline]
    pub const fn new(order: u32) -> Result<Self> {
        if order <= Self::MAX.0 {
            // INVARIANT: Just checked.
            Ok(Self(order))
        } else {
            Err(EINVAL)
        }
    }

    /// The exponent.
    #[inline]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// How many pages a folio of this order has.
    #[inline]
    pub const fn nr_pages(self) -> NrPages {
        // OVERFLOW: By the type invariant. This crate is only built where `usize` has 64 bits.
        NrPages(1 << self.0)
    }
}

/// The position of a page in the device memory of one pagemap, in pages from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct PageOffset(usize);

impl PageOffset {
    /// The first page of a pagemap.
    pub const ZERO: Self = Self(0);

    /// The page at `offset`.
    #[inline]
    pub const fn new(offset: usize) -> Self {
        Self(offset)
    }

    /// The offset, in pages.
    #[inline]
    pub const fn get(self) -> usize {
        self.0
    }

    /// The offset in bytes, if it can be expressed.
    #[inline]
    pub const fn to_bytes(self) -> Option<usize> {
        self.0.checked_mul(PAGE_SIZE)
    }

    /// The page `nr` pages further on, if it can be expressed.
    #[inline]
    pub const fn checked_add(self, nr: NrPages) -> Option<Self> {
        match self.0.checked_add(nr.0) {
            Some(offset) => Some(Self(offset)),
            None => None,
        }
    }

    /// This page, and all pages behind it.
    #[inline]
    pub fn pages(self) -> impl Iterator<Item = Self> {
        (self.0..usize::MAX).map(Self)
    }

    /// The last place at or before this one where a folio of `order` may begin.
    #[inline]
    pub const fn align_down(self, order: Order) -> Self {
        Self(self.0 & !(order.nr_pages().0 - 1))
    }

    /// The next place behind this one that is a multiple of `window` pages, if there are any.
    #[inline]
    pub(crate) const fn next_window(self, window: NrPages) -> Option<Self> {
        let Some(rest) = self.0.checked_rem(window.0) else {
            return None;
        };
        // OVERFLOW: The remainder is smaller than what it is the remainder of.
        self.checked_add(NrPages(window.0 - rest))
    }

    /// Whether a folio of `order` may begin here.
    #[inline]
    pub const fn is_aligned(self, order: Order) -> bool {
        self.0 % order.nr_pages().0 == 0
    }
}

/// A range of physical addresses, in whole pages.
///
/// # Invariants
///
/// It begins at a multiple of `PAGE_SIZE`, has at least one page, and its end can be expressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhysRange {
    start: u64,
    nr: NrPages,
}

impl PhysRange {
    /// `nr` pages from the address `start` on; [`EINVAL`] if that is not where a page begins, if
    /// there is none, or if the range wraps around.
    pub const fn new(start: u64, nr: NrPages) -> Result<Self> {
        let Some(bytes) = nr.to_bytes() else {
            return Err(EINVAL);
        };
        // CAST: `usize` has 64 bits where this crate is built, and a page has fewer bytes than
        // that.
        if bytes == 0 || start % PAGE_SIZE as u64 != 0 || start.checked_add(bytes as u64).is_none()
        {
            return Err(EINVAL);
        }
        // INVARIANT: Just checked.
        Ok(Self { start, nr })
    }

    /// The address of the first byte.
    #[inline]
    pub const fn start(self) -> u64 {
        self.start
    }

    /// How many pages there are.
    #[inline]
    pub const fn nr_pages(self) -> NrPages {
        self.nr
    }
}

/// The address of a page of a process.
///
/// # Invariants
///
/// The address is a multiple of `PAGE_SIZE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct UserAddr(usize);

impl UserAddr {
    /// The page at `addr`; [`EINVAL`] if that is not where a page begins.
    #[inline]
    pub const fn new(addr: usize) -> Result<Self> {
        if addr % PAGE_SIZE == 0 {
            // INVARIANT: Just checked.
            Ok(Self(addr))
        } else {
            Err(EINVAL)
        }
    }

    /// The page that `addr` lies in.
    #[inline]
    pub const fn containing(addr: usize) -> Self {
        // INVARIANT: Rounded down.
        Self(addr & !(PAGE_SIZE - 1))
    }

    /// The address.
    #[inline]
    pub const fn get(self) -> usize {
        self.0
    }

    /// The range of `nr` pages that this page lies in and that begins at a multiple of its size;
    /// `None` if there is no such range.
    pub const fn window(self, nr: NrPages) -> Option<UserRange> {
        let Some(bytes) = nr.to_bytes() else {
            return None;
        };
        let Some(rest) = self.0.checked_rem(bytes) else {
            return None;
        };
        // OVERFLOW: The remainder is not larger than what it is the remainder of.
        // INVARIANT: The difference of two multiples of `PAGE_SIZE`.
        match UserRange::new(Self(self.0 - rest), nr) {
            Ok(range) => Some(range),
            Err(_) => None,
        }
    }
}

/// A range of pages of a process.
///
/// # Invariants
///
/// It has at least one page, and its end can be expressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserRange {
    start: UserAddr,
    nr: NrPages,
}

impl UserRange {
    /// `nr` pages from `start` on; [`EINVAL`] if there is none, or if the range wraps around.
    pub const fn new(start: UserAddr, nr: NrPages) -> Result<Self> {
        let Some(bytes) = nr.to_bytes() else {
            return Err(EINVAL);
        };
        if bytes == 0 || start.0.checked_add(bytes).is_none() {
            return Err(EINVAL);
        }
        // INVARIANT: Just checked.
        Ok(Self { start, nr })
    }

    /// The pages from `start` up to `end`; [`EINVAL`] if there is none.
    pub const fn between(start: UserAddr, end: UserAddr) -> Result<Self> {
        match end.0.checked_sub(start.0) {
            Some(bytes) => Self::new(start, NrPages(bytes >> PAGE_SHIFT)),
            None => Err(EINVAL),
        }
    }

    /// The first page.
    #[inline]
    pub const fn start(self) -> UserAddr {
        self.start
    }

    /// The first page behind the range.
    #[inline]
    pub const fn end(self) -> UserAddr {
        // OVERFLOW: By the type invariants.
        // INVARIANT: The sum of two multiples of `PAGE_SIZE`.
        UserAddr(self.start.0 + self.nr.0 * PAGE_SIZE)
    }

    /// How many pages there are.
    #[inline]
    pub const fn nr_pages(self) -> NrPages {
        self.nr
    }

    /// The page with index `i`, if the range has so many.
    #[inline]
    pub const fn page(self, i: usize) -> Option<UserAddr> {
        if i < self.nr.0 {
            // OVERFLOW: Below the end, which can be expressed.
            // INVARIANT: The sum of two multiples of `PAGE_SIZE`.
            Some(UserAddr(self.start.0 + i * PAGE_SIZE))
        } else {
            None
        }
    }

    /// The index of the page at `addr`, if the range has it.
    #[inline]
    pub const fn index_of(self, addr: UserAddr) -> Option<usize> {
        match addr.0.checked_sub(self.start.0) {
            Some(bytes) if bytes >> PAGE_SHIFT < self.nr.0 => Some(bytes >> PAGE_SHIFT),
            _ => None,
        }
    }

    /// The pages that are in `other` as well; `None` if there is none.
    pub const fn intersection(self, other: Self) -> Option<Self> {
        match self.starting_at(other.start) {
            Some(rest) => rest.ending_at(other.end()),
            None => None,
        }
    }

    /// What of the range lies at `from` or above; `None` if nothing does.
    pub const fn starting_at(self, from: UserAddr) -> Option<Self> {
        if from.0 <= self.start.0 {
            return Some(self);
        }
        if from.0 >= self.end().0 {
            return None;
        }
        // INVARIANT: `from` lies inside, so there is at least one page, and the end is the same.
        Some(Self {
            start: from,
            nr: NrPages((self.end().0 - from.0) >> PAGE_SHIFT),
        })
    }

    /// What of the range lies below `end`; `None` if nothing does.
    pub const fn ending_at(self, end: UserAddr) -> Option<Self> {
        if end.0 >= self.end().0 {
            return Some(self);
        }
        if end.0 <= self.start.0 {
            return None;
        }
        // INVARIANT: `end` lies above the start and below the end.
        Some(Self {
            start: self.start,
            nr: NrPages((end.0 - self.start.0) >> PAGE_SHIFT),
        })
    }

    /// The first `max` pages of the range, or all of it; `None` if `max` is zero.
    pub const fn first(self, max: NrPages) -> Option<Self> {
        let nr = if max.0 < self.nr.0 { max } else { self.nr };
        if nr.0 == 0 {
            return None;
        }
        // INVARIANT: At least one page, and not longer than `self`.
        Some(Self {
            start: self.start,
            nr,
        })
    }

    /// The range in pieces of at most `max` pages, in order.
    pub fn windows(self, max: NrPages) -> impl Iterator<Item = UserRange> {
        let mut rest = Some(self);
        core::iter::from_fn(move || {
            let window = rest?.first(max)?;
            rest = rest?.starting_at(window.end());
            Some(window)
        })
    }
}
