// SPDX-License-Identifier: GPL-2.0

//! Bringing pages home by what the device knows of them, which is their offsets.

use kernel::prelude::*;

use crate::{
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
        Way, //
    },
    number::{
        NrPages,
        PageOffset, //
    },
    ops::DevPagemapOps,
    pagemap::DevPagemap, //
};

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
    /// [`EINVAL`] if the pages are not all in the pagemap; those of the driver's copy engine. What
    /// had moved by then stays moved, and no page is lost.
    pub fn evict(&self, offset: PageOffset, nr: NrPages) -> Result<NrPages> {
        let end = offset
            .checked_add(nr)
            .filter(|end| end.get() <= self.nr_pages().get())
            .ok_or(EINVAL)?;
        let end = self.folio_end(end);
        let mut buffer = self.evict_buffer().lock();
        let mut moved = 0usize;
        let mut next = self.folio_start(offset);

        while let Some(start) = self.next_out(next).filter(|start| *start < end) {
            // Windows end where a large folio may begin, and so none of them cuts one.
            let window = buffer.capacity();
            let stop = start.next_window(window).map_or(end, |stop| stop.min(end));
            // OVERFLOW: `stop` is above `start`.
            let nr = NrPages::new(stop.get() - start.get());
            let (nr_moved, starved) = self.evict_window(start, nr, buffer.entries())?;
            moved = moved.saturating_add(nr_moved.get());
            if starved && self.split_folios(start, stop) {
                let (nr_moved, _) = self.evict_window(start, nr, buffer.entries())?;
                moved = moved.saturating_add(nr_moved.get());
            }
            next = stop;
        }
        Ok(NrPages::new(moved))
    }

    /// Moves the pages in service among the `nr` from `start` on, which the arrays have room for. Tells
    /// how many have moved, and whether large folios have to be split before more of them can.
    fn evict_window(
        &self,
        start: PageOffset,
        nr: NrPages,
        entries: Entries<'_>,
    ) -> Result<(NrPages, bool)> {
        // SAFETY: The pages lie in this pagemap, which this backend has registered.
        let flight = unsafe { Flight::from_device(self.backend(), start, nr, entries) }?;
        let (filled, large) = Collected::new(self, flight, Way::ToRam).fill_whole();
        let starved = large == Large::NoPlace;
        Ok((filled.copy()?.commit().nr_moved(), starved))
    }

    /// Splits the large folios that are still in service from `start` up to `stop`; false if there is
    /// none that can be split.
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
                any |= unsafe { split(page) }.is_ok();
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

    /// Moves as many pages to system memory as will go. An engine that fails is reported, and does
    /// not keep the rest from being tried.
    pub(crate) fn evict_all(&self) {
        let window = self.evict_buffer().lock().capacity();
        let mut next = PageOffset::ZERO;
        while let Some(start) = self.next_out(next) {
            let all = PageOffset::new(self.nr_pages().get());
            let stop = start.next_window(window).map_or(all, |stop| stop.min(all));
            // OVERFLOW: `start` lies in the pagemap, and below `stop`.
            let nr = NrPages::new(stop.get() - start.get());
            if let Err(err) = self.evict(start, nr) {
                pr_err!("{:?} when bringing home pages from {:?} on\n", err, start);
            }
            next = stop;
        }
    }
}
