// SPDX-License-Identifier: GPL-2.0

//! Which chunks there are, and which of their pages are taken.

use kernel::{
    bitmap::BitmapVec,
    prelude::*,
    sync::Arc, //
};

use super::super::taken::Taken;
use crate::number::{
    NrPages,
    Order,
    PageOffset, //
};

/// A set of indices.
struct Set {
    bits: BitmapVec,
    /// All indices are below this one.
    end: usize,
    /// How many there are in the set.
    len: usize,
}

impl Set {
    /// An empty set of indices below `end`. May sleep.
    fn new(end: usize) -> Result<Self> {
        Ok(Self {
            bits: BitmapVec::new(end, GFP_KERNEL)?,
            end,
            len: 0,
        })
    }

    /// The first index in the set, at `from` or above.
    fn next(&self, from: usize) -> Option<usize> {
        // The bitmap reports an index beyond its end as a bug.
        (from < self.end).then(|| self.bits.next_bit(from))?
    }

    /// The last index in the set.
    fn last(&self) -> Option<usize> {
        self.bits.last_bit()
    }

    /// The first index that is not in the set.
    fn first_missing(&self) -> Option<usize> {
        (self.end > 0).then(|| self.bits.next_zero_bit(0))?
    }

    /// Puts `index` into the set, or takes it out.
    fn set(&mut self, index: usize, is_in: bool) {
        if index >= self.end || (self.next(index) == Some(index)) == is_in {
            return;
        }
        if is_in {
            self.bits.set_bit(index);
            self.len = self.len.saturating_add(1);
        } else {
            self.bits.clear_bit(index);
            self.len = self.len.saturating_sub(1);
        }
    }
}

/// A chunk that is there.
pub(super) struct Chunk<T> {
    taken: Taken,
    /// What the driver keeps it with. Only who takes the chunk out of the table drops the last
    /// reference, or it would happen under the table's lock.
    backing: Arc<T>,
}

impl<T> Chunk<T> {
    /// A chunk with `backing`, whose pages that are taken are `taken`.
    pub(super) fn new(taken: Taken, backing: Arc<T>) -> Self {
        Self { taken, backing }
    }
}

/// Which chunks there are.
pub(super) struct Table<T> {
    /// What is at each place for a chunk.
    chunks: KVVec<Option<Chunk<T>>>,
    /// Where there is a chunk.
    present: Set,
    /// Which chunks have pages that are idle, and pages that are taken.
    partial: Set,
    /// Which chunks have only idle pages.
    idle: Set,
    /// How large a chunk is.
    order: Order,
}

impl<T> Table<T> {
    /// A table with room for `nr` chunks of `order`. May sleep.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub(super) fn new(nr: usize, order: Order) -> Result<Self> {
        let mut chunks = KVVec::with_capacity(nr, GFP_KERNEL)?;
        for _ in 0..nr {
            chunks.push_within_capacity(None)?;
        }
        Ok(Self {
            chunks,
            present: Set::new(nr)?,
            partial: Set::new(nr)?,
            idle: Set::new(nr)?,
            order,
        })
    }

    /// Where the chunk with index `index` begins.
    fn start(&self, index: usize) -> Option<PageOffset> {
        let start = index.checked_mul(self.order.nr_pages().get())?;
        Some(PageOffset::new(start))
    }

    /// The index of the chunk that `offset` lies in, and how far into it.
    fn split(&self, offset: PageOffset) -> (usize, NrPages) {
        let start = offset.align_down(self.order);
        // OVERFLOW: Rounded down.
        let rest = offset.get() - start.get();
        (start.get() >> self.order.get(), NrPages::new(rest))
    }

    /// The chunk with index `index`.
    fn get(&self, index: usize) -> Option<&Chunk<T>> {
        self.chunks.get(index)?.as_ref()
    }

    /// Puts the chunk with index `index` into the sets that it belongs to now.
    fn sort(&mut self, index: usize) {
        let (present, idle, full) = match self.get(index) {
            Some(chunk) => (true, chunk.taken.is_idle(), chunk.taken.is_full()),
            None => (false, false, false),
        };
        self.present.set(index, present);
        self.partial.set(index, present && !idle && !full);
        self.idle.set(index, idle);
    }

    /// Takes a run of `order` out of the chunk with index `index`.
    fn take_from(&mut self, index: usize, order: Order) -> Option<PageOffset> {
        let chunk = self.chunks.get_mut(index)?.as_mut()?;
        let page = chunk.taken.take(order)?;
        self.sort(index);
        self.start(index)?.checked_add(NrPages::new(page))
    }

    /// Takes a run of `order` out of the first chunk with index `from` or above of which some pages
    /// are taken; or tells which index to go on with, if there is one.
    pub(super) fn take_partial(
        &mut self,
        from: usize,
        order: Order,
    ) -> Result<PageOffset, Option<usize>> {
        let index = self.partial.next(from).ok_or(None)?;
        self.take_from(index, order).ok_or(index.checked_add(1))
    }

    /// Takes a run of `order` out of the first idle chunk.
    pub(super) fn take_idle(&mut self, order: Order) -> Option<PageOffset> {
        let index = self.idle.next(0)?;
        self.take_from(index, order)
    }

    /// Takes back what was taken.
    pub(super) fn give(&mut self, offset: PageOffset, order: Order) {
        let (index, page) = self.split(offset);
        if let Some(Some(chunk)) = self.chunks.get_mut(index) {
            chunk.taken.give(page.get(), order);
            self.sort(index);
        }
    }

    /// How many chunks are idle.
    pub(super) fn nr_idle(&self) -> usize {
        self.idle.len
    }

    /// How many chunks there are.
    pub(super) fn nr_present(&self) -> usize {
        self.present.len
    }

    /// The first place for a chunk where there is none.
    pub(super) fn vacant(&self) -> Option<PageOffset> {
        self.start(self.present.first_missing()?)
    }

    /// Puts `chunk` at `start`. If there is no such place, or it is not vacant, it is given back.
    pub(super) fn insert(&mut self, start: PageOffset, chunk: Chunk<T>) -> Result<(), Chunk<T>> {
        let (index, page) = self.split(start);
        match self.chunks.get_mut(index) {
            Some(slot @ None) if page == NrPages::ZERO => *slot = Some(chunk),
            _ => return Err(chunk),
        }
        self.sort(index);
        Ok(())
    }

    /// Takes the last idle chunk out of the table, if there are more than `keep` of them.
    pub(super) fn remove_idle(&mut self, keep: usize) -> Option<Chunk<T>> {
        if self.nr_idle() <= keep {
            return None;
        }
        let index = self.idle.last()?;
        let chunk = self.chunks.get_mut(index)?.take();
        self.sort(index);
        chunk
    }

    /// What the chunk that `offset` lies in is kept with, and how far into it `offset` lies.
    pub(super) fn at(&self, offset: PageOffset) -> Option<(&T, NrPages)> {
        let (index, page) = self.split(offset);
        Some((&*self.get(index)?.backing, page))
    }

    /// The first chunk with index `from` or above: its index, where it begins, and what it is kept
    /// with.
    pub(super) fn next(&self, from: usize) -> Option<(usize, PageOffset, Arc<T>)> {
        let index = self.present.next(from)?;
        Some((index, self.start(index)?, self.get(index)?.backing.clone()))
    }
}
