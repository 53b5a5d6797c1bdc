// SPDX-License-Identifier: GPL-2.0

//! Which pages of a piece of device memory are taken.

use kernel::prelude::*;

use crate::{
    bits::Bits,
    number::Order, //
};

/// Which pages of a piece of memory are taken. Hands out the first run that fits: pages that were
/// used before come first, for which the kernel has made everything that it needs.
pub(super) struct Taken {
    bits: Bits,
    /// How many pages there are.
    nr: usize,
    /// How many of them are taken.
    nr_taken: usize,
    /// All pages below this one are taken.
    low: usize,
}

impl Taken {
    /// `nr` pages, of which none is taken. May sleep.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub(super) fn new(nr: usize) -> Result<Self> {
        Ok(Self {
            bits: Bits::new(nr)?,
            nr,
            nr_taken: 0,
            low: 0,
        })
    }

    /// Whether no page is taken.
    pub(super) fn is_idle(&self) -> bool {
        self.nr_taken == 0
    }

    /// Whether all pages are taken.
    pub(super) fn is_full(&self) -> bool {
        self.nr_taken >= self.nr
    }

    /// Takes a run of `1 << order` pages that begins at a multiple of its size.
    pub(super) fn take(&mut self, order: Order) -> Option<usize> {
        let nr = order.nr_pages().get();
        let start = self.find(nr)?;
        let end = start.checked_add(nr)?;
        self.bits.set(start..end);
        self.nr_taken = self.nr_taken.saturating_add(nr);
        // A single page is the lowest that was idle.
        if order == Order::ZERO || start == self.low {
            self.low = end;
        }
        Some(start)
    }

    /// Takes back those of the `1 << order` pages from `start` on that are taken.
    pub(super) fn give(&mut self, start: usize, order: Order) {
        let end = start.saturating_add(order.nr_pages().get()).min(self.nr);
        let nr = self.bits.clear(start..end);
        self.nr_taken = self.nr_taken.saturating_sub(nr);
        self.low = self.low.min(start);
    }

    /// The first run of `nr` idle pages that begins at a multiple of `nr`.
    fn find(&self, nr: usize) -> Option<usize> {
        let mut start = self.low;
        loop {
            let clear = self.bits.next_clear(start..self.nr)?;
            start = clear.checked_next_multiple_of(nr)?;
            let end = start.checked_add(nr).filter(|end| *end <= self.nr)?;
            // Which was just found need not be looked at again.
            let next = match start == clear {
                true => start.checked_add(1)?,
                false => start,
            };
            match self.bits.next_set(next..end) {
                Some(taken) => start = taken,
                None => return Some(start),
            }
        }
    }
}
