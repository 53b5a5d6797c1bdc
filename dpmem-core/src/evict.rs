// SPDX-License-Identifier: GPL-2.0

//! Bringing pages home by what the device knows of them, which is their offsets.

use kernel::prelude::*;

use crate::{
    counters::Failure,
    flight::{
        Entries,
        Flight, //
    },
    folio::{
        large_order,
        split, //
    },
    migrate::{
        Collected,
        Large,
        MigrateBuffer,
        Way, //
    },
    number::{
        NrPages,
        PageOffset, //
    },
    ops::DevPagemapOps,
    pagemap::DevPagemap, //
};

/// How many pieces are evicted at once.
const PIECES: usize = 32;

/// Pieces of a pagemap that are evicted at once: from an offset up to another one.
struct Pieces {
    pieces: [(PageOffset, PageOffset); PIECES],
    len: usize,
    nr: usize,
}

impl Pieces {
    const NONE: Self = Self {
        pieces: [(PageOffset::ZERO, PageOffset::ZERO); PIECES],
        len: 0,
        nr: 0,
    };

    /// Adds a piece, if there are not more than `window` pages then; false if there would be.
    fn add(&mut self, start: PageOffset, stop: PageOffset, window: NrPages) -> bool {
        let nr = stop.get().saturating_sub(start.get());
        let nr = self.nr.saturating_add(nr);
        match self.pieces.get_mut(self.len) {
            Some(slot) if nr <= window.get() => *slot = (start, stop),
            _ => return false,
        }
        self.len = self.len.saturating_add(1);
        self.nr = nr;
        true
    }

    /// Whether there is a piece that has all from `start` up to `stop`.
    fn have(&self, start: PageOffset, stop: PageOffset) -> bool {
        self.iter().any(|piece| piece.0 <= start && stop <= piece.1)
    }

    /// The pieces.
    fn iter(&self) -> impl Iterator<Item = (PageOffset, PageOffset)> + '_ {
        self.pieces.iter().copied().take(self.len)
    }

    /// The pieces, each as an offset and a number of pages.
    fn runs(&self) -> impl Iterator<Item = (PageOffset, NrPages)> + '_ {
        self.iter().map(|(start, stop)| {
            let nr = stop.get().saturating_sub(start.get());
            (start, NrPages::new(nr))
        })
    }
}

/// What has become of an eviction.
#[derive(Default)]
struct Evicted {
    /// How many pages have moved.
    moved: usize,
    /// Why the first of those has not that could not be copied, if there is one.
    error: Option<Error>,
}

impl Evicted {
    fn moved(&mut self, nr: NrPages) {
        self.moved = self.moved.saturating_add(nr.get());
    }

    fn failed(&mut self, err: Error) {
        self.error.get_or_insert(err);
    }
}

impl<T: DevPagemapOps> DevPagemap<T> {
    /// Moves the pages in service among the `nr` pages from `offset` on to system memory, whoever
    /// uses them, and gives the number of those that have moved. Pages that somebody is looking at
    /// just now stay; see [`DevPagemap::nr_out`]. Of a large folio that the range cuts, all pages
    /// move. One for which there is no memory as large is split.
    ///
    /// # Context
    ///
    /// May sleep. Notifiers of the processes that use the pages are called, so no lock may be held
    /// that they take.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if the pages are not all in the pagemap; [`EIO`] if some could not be copied, and
    /// [`ENOMEM`] if the engine had no memory for some, neither of which keeps the others from
    /// moving; any other error of the driver's copy engine, after which nothing more is tried. No
    /// page is lost.
    pub fn evict(&self, offset: PageOffset, nr: NrPages) -> Result<NrPages> {
        self.evict_list([(offset, nr)])
    }

    /// As [`DevPagemap::evict`], for each of the ranges in `list`, which have an offset and a
    /// number of pages, such as the blocks of a buffer: their pages are copied together, as far as
    /// they fit.
    ///
    /// Context and errors are those of [`DevPagemap::evict`]. `list` is walked with the lock of the
    /// eviction held, and so must not evict anything itself.
    pub fn evict_list(
        &self,
        list: impl IntoIterator<Item = (PageOffset, NrPages)>,
    ) -> Result<NrPages> {
        let mut result = Evicted::default();
        self.for_pieces(list, |pieces, buffer| {
            self.evict_pieces(pieces, buffer, &mut result)
        })?;
        match result.error {
            Some(err) => Err(err),
            None => Ok(NrPages::new(result.moved)),
        }
    }

    /// Lets devices forget where the pages in service among the `nr` pages from `offset` on are,
    /// and leaves them where they are: for a driver that is about to move what is behind them.
    /// Those that somebody has a reference to are among them. Those whose folio is locked are left
    /// out: who has locked it moves it, such as a fault, which tells the notifiers itself.
    ///
    /// # Context
    ///
    /// That of [`DevPagemap::evict`].
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if the pages are not all in the pagemap.
    pub fn invalidate(&self, offset: PageOffset, nr: NrPages) -> Result {
        self.for_pieces([(offset, nr)], |pieces, buffer| {
            // SAFETY: The pagemap is registered, by its type invariants.
            let flight =
                unsafe { Flight::from_device(self.backend(), pieces.runs(), buffer.entries()) };
            // Collecting them has told the notifiers, and now they go back.
            flight.map(drop)
        })
    }

    /// Calls `f` with what is out of each of the ranges in `list`, as much at a time as the buffer
    /// has room for. Large folios that a range cuts are there as a whole.
    fn for_pieces(
        &self,
        list: impl IntoIterator<Item = (PageOffset, NrPages)>,
        mut f: impl FnMut(&Pieces, &mut MigrateBuffer) -> Result,
    ) -> Result {
        let mut buffer = self.evict_buffer().lock();
        let window = buffer.capacity();
        let mut pieces = Pieces::NONE;
        for (offset, nr) in list {
            let end = offset
                .checked_add(nr)
                .filter(|end| end.get() <= self.nr_pages().get())
                .ok_or(EINVAL)?;
            if nr == NrPages::ZERO {
                continue;
            }
            let end = self.folio_end(end);
            let mut next = self.folio_start(offset);
            while let Some(start) = self.next_out(next).filter(|start| *start < end) {
                // Pieces end where a large folio may begin, and so none of them cuts one.
                let stop = start.next_window(window).map_or(end, |stop| stop.min(end));
                next = stop;
                // Of a large folio that several ranges cut.
                if pieces.have(start, stop) {
                    continue;
                }
                if !pieces.add(start, stop, window) {
                    f(&pieces, &mut buffer)?;
                    pieces = Pieces::NONE;
                    // No piece is longer than a window.
                    pieces.add(start, stop, window);
                }
            }
        }
        f(&pieces, &mut buffer)
    }

    /// Moves the pages in service in `pieces`, which the buffer has room for.
    ///
    /// # Errors
    ///
    /// Those of an engine that has failed as a whole.
    fn evict_pieces(
        &self,
        pieces: &Pieces,
        buffer: &mut MigrateBuffer,
        result: &mut Evicted,
    ) -> Result {
        let split = || {
            pieces.iter().fold(false, |any, (start, stop)| {
                self.split_folios(start, stop) || any
            })
        };
        let once = self.evict_once(pieces, buffer.entries());
        let again = match once {
            Ok((moved, Large::NoPlace)) if split() => {
                result.moved(moved);
                self.evict_once(pieces, buffer.entries())
            }
            // What is too large for the device to be mapped may not be in pieces.
            Err(ENOMEM) if split() => self.evict_once(pieces, buffer.entries()),
            once => once,
        };
        match again {
            Ok((moved, _)) => result.moved(moved),
            Err(EIO | ENOMEM) => self.evict_singly(pieces, buffer, result)?,
            Err(err) => return Err(err),
        }
        Ok(())
    }

    /// As [`DevPagemap::evict_pieces`], folio by folio: there is one that cannot be copied, or
    /// there is not enough memory to copy all of them at once.
    fn evict_singly(
        &self,
        pieces: &Pieces,
        buffer: &mut MigrateBuffer,
        result: &mut Evicted,
    ) -> Result {
        for (start, stop) in pieces.iter() {
            let mut next = Some(start);
            while let Some(offset) = next.and_then(|next| self.next_out(next)) {
                if offset >= stop {
                    break;
                }
                next = offset.checked_add(NrPages::new(1));
                next = next.map(|end| self.folio_end(end));
                let mut folio = Pieces::NONE;
                folio.add(offset, next.unwrap_or(stop), buffer.capacity());
                match self.evict_once(&folio, buffer.entries()) {
                    Ok((moved, _)) => result.moved(moved),
                    Err(err @ (EIO | ENOMEM)) => result.failed(err),
                    Err(err) => return Err(err),
                }
            }
        }
        Ok(())
    }

    /// As [`DevPagemap::evict_pieces`], but a large folio stays if there is no memory as large:
    /// tells whether that was so.
    fn evict_once(&self, pieces: &Pieces, entries: Entries<'_>) -> Result<(NrPages, Large)> {
        // SAFETY: The pagemap is registered, by its type invariants.
        let flight = unsafe { Flight::from_device(self.backend(), pieces.runs(), entries) }?;
        // SAFETY: These are pages of this pagemap, and have no destinations yet.
        let collected = unsafe { Collected::new(self, flight, Way::ToRam) };
        let (filled, large) = collected.fill_whole();
        let moved = filled.copy()?.commit().nr_moved();
        if let Some((start, _)) = pieces.iter().next() {
            self.counters()
                .evicted(start, NrPages::new(pieces.nr), moved);
        }
        Ok((moved, large))
    }

    /// Splits the large folios that are still in service from `start` up to `stop`; false if there
    /// is none that can be split.
    fn split_folios(&self, start: PageOffset, stop: PageOffset) -> bool {
        let Some(large) = large_order() else {
            return false;
        };
        let mut any = false;
        let mut next = Some(start);
        while let Some(offset) = next.filter(|offset| *offset < stop) {
            // SAFETY: The pagemap is registered, by its type invariants.
            if let Some(page) = unsafe { self.backend().large_folio_at(offset) } {
                // SAFETY: The page exists until the pagemap is unregistered.
                match unsafe { split(page) } {
                    Ok(()) => {
                        any = true;
                        self.counters().split(1);
                    }
                    Err(_) => self.counters().failed(Failure::PageBusy),
                }
            }
            next = offset.next_window(large.nr_pages());
        }
        any
    }

    /// The beginning of the large folio in service that `offset` lies in, or `offset`.
    fn folio_start(&self, offset: PageOffset) -> PageOffset {
        let Some(large) = large_order() else {
            return offset;
        };
        let start = offset.align_down(large);
        // SAFETY: The pagemap is registered, by its type invariants.
        match unsafe { self.backend().large_folio_at(start) } {
            Some(_) => start,
            None => offset,
        }
    }

    /// The end of the large folio in service that `end` cuts, or `end`.
    fn folio_end(&self, end: PageOffset) -> PageOffset {
        let start = self.folio_start(end);
        if start == end {
            return end;
        }
        // A large folio that is in service lies in the pagemap.
        large_order()
            .and_then(|large| start.checked_add(large.nr_pages()))
            .unwrap_or(end)
    }
}

#[cfg(CONFIG_RUST_DPMEM_KUNIT_TEST)]
#[kunit_tests(rust_dpmem_evict)]
mod tests {
    use super::*;

    #[test]
    fn pieces_fill_a_window_and_no_more() {
        let at = PageOffset::new;
        let window = NrPages::new(8);
        let mut pieces = Pieces::NONE;
        assert!(pieces.add(at(16), at(20), window));
        assert!(pieces.add(at(3), at(6), window));
        assert!(!pieces.add(at(100), at(102), window));
        assert!(pieces.add(at(100), at(101), window));
        let mut runs = pieces.runs().map(|(offset, nr)| (offset.get(), nr.get()));
        assert!(runs.next() == Some((16, 4)));
        assert!(runs.next() == Some((3, 3)));
        assert!(runs.next() == Some((100, 1)));
        assert!(runs.next().is_none());
    }

    #[test]
    fn a_piece_is_there_once() {
        let at = PageOffset::new;
        let mut pieces = Pieces::NONE;
        assert!(!pieces.have(at(16), at(20)));
        assert!(pieces.add(at(16), at(20), NrPages::new(8)));
        assert!(pieces.have(at(16), at(20)));
        assert!(pieces.have(at(17), at(19)));
        assert!(!pieces.have(at(15), at(20)));
        assert!(!pieces.have(at(16), at(21)));
    }

    #[test]
    fn there_is_an_end_of_pieces() {
        let mut pieces = Pieces::NONE;
        let (start, stop) = (PageOffset::ZERO, PageOffset::new(1));
        for _ in 0..PIECES {
            assert!(pieces.add(start, stop, NrPages::new(usize::MAX)));
        }
        assert!(!pieces.add(start, stop, NrPages::new(usize::MAX)));
    }
}
