// SPDX-License-Identifier: GPL-2.0

//! Bringing pages home by what the device knows of them, which is their offsets.

use kernel::prelude::*;

use crate::{
    flight::Flight,
    migrate::{
        Collected,
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
    /// just now stay; see [`DevPagemap::nr_out`].
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
        let mut buffer = self.evict_buffer().lock();
        let window = buffer.capacity();
        let mut moved = 0usize;
        let mut next = offset;

        while let Some(start) = self.next_out(next).filter(|s| *s < end) {
            let stop = start.checked_add(window).map_or(end, |stop| stop.min(end));
            // OVERFLOW: `stop` is not below `start`.
            let nr = NrPages::new(stop.get() - start.get());
            let entries = buffer.entries();
            // SAFETY: The pages lie in this pagemap, which this backend has registered.
            let flight = unsafe { Flight::from_device(self.backend(), start, nr, entries) }?;
            let nr = Collected::new(self, flight, Way::ToRam).migrate()?;
            moved = moved.saturating_add(nr.get());
            next = stop;
        }
        Ok(NrPages::new(moved))
    }

    /// Moves as many pages to system memory as will go. An engine that fails is reported, and does
    /// not keep the rest from being tried.
    pub(crate) fn evict_all(&self) {
        let window = self.evict_buffer().lock().capacity();
        let mut next = PageOffset::ZERO;
        while let Some(start) = self.next_out(next) {
            // OVERFLOW: `start` lies in the pagemap.
            let rest = NrPages::new(self.nr_pages().get() - start.get());
            let nr = window.min(rest);
            if let Err(err) = self.evict(start, nr) {
                pr_err!("{:?} when bringing home pages from {:?} on\n", err, start);
            }
            match start.checked_add(nr) {
                Some(stop) => next = stop,
                None => break,
            }
        }
    }
}
