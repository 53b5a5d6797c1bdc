// SPDX-License-Identifier: GPL-2.0

//! What is to be copied, in pieces that a copy engine can copy at once.

use core::{
    cell::Cell,
    ptr::NonNull, //
};

use kernel::{
    bindings,
    prelude::*, //
};

use dpmem::{
    NrPages,
    PageOffset, //
};

use crate::addr::Addr;

/// Where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the card.
    ToDevice,
    /// From the card.
    ToRam,
}

/// Pages that lie beside each other on the card.
pub struct Run<'a> {
    offset: PageOffset,
    // A driver in C may use those that have nothing for itself.
    addrs: &'a [Cell<Addr>],
}

impl Run<'_> {
    /// Where on the card it begins.
    pub fn offset(&self) -> PageOffset {
        self.offset
    }

    /// How many pages it has, of which there is at least one.
    pub fn nr_pages(&self) -> NrPages {
        NrPages::new(self.addrs.len())
    }

    /// The other side: for the first page of each folio there, its address. What others have means
    /// nothing.
    pub fn addrs(&self) -> impl ExactSizeIterator<Item = Addr> + '_ {
        self.addrs.iter().map(Cell::get)
    }

    /// As C has them: as many as there are pages, and C may change them.
    pub fn addrs_as_raw(&self) -> *mut bindings::drm_pagemap_addr {
        // CAST: `Cell` and `Addr` are transparent.
        self.addrs.as_ptr().cast_mut().cast()
    }
}

/// The runs of a copy: of each page that has both a place on the card and an address on the other
/// side.
pub(crate) struct Runs<'a, F> {
    pages: &'a [*mut bindings::page],
    addrs: &'a [Cell<Addr>],
    at: usize,
    max: usize,
    offset_of: F,
}

impl<'a, F: Fn(NonNull<bindings::page>) -> Option<PageOffset>> Runs<'a, F> {
    /// Runs of at most `max` pages, but for a folio that has more. `offset_of` knows where a page
    /// is on the card.
    pub(crate) fn new(
        pages: &'a [*mut bindings::page],
        addrs: &'a [Cell<Addr>],
        max: NrPages,
        offset_of: F,
    ) -> Self {
        Self {
            pages,
            addrs,
            at: 0,
            max: max.get(),
            offset_of,
        }
    }

    /// What is to be copied at `at`, if something is: where it is on the card, and how many pages
    /// it has.
    fn folio(&self, at: usize) -> Result<Option<(PageOffset, usize)>> {
        let (Some(page), Some(addr)) = (self.pages.get(at), self.addrs.get(at)) else {
            return Ok(None);
        };
        let addr = addr.get();
        let Some((page, _)) = NonNull::new(*page).zip(addr.get()) else {
            return Ok(None);
        };
        let offset = (self.offset_of)(page).ok_or(EINVAL)?;
        let nr = addr.order()?.nr_pages().get();
        // A folio is not cut by the end of what is migrated.
        if nr > self.addrs.len().saturating_sub(at) {
            return Err(EINVAL);
        }
        Ok(Some((offset, nr)))
    }

    /// The run that begins at or behind `self.at`.
    fn run(&mut self) -> Result<Option<Run<'a>>> {
        let (offset, first) = loop {
            if self.at >= self.addrs.len() {
                return Ok(None);
            }
            if let Some(found) = self.folio(self.at)? {
                break found;
            }
            // OVERFLOW: It is less than the length.
            self.at += 1;
        };
        let mut nr = first;
        // OVERFLOW: What `folio()` has found ends within the slice.
        while let Some((next, more)) = self.folio(self.at + nr)? {
            // OVERFLOW: As above.
            let longer = nr + more;
            if longer > self.max || offset.checked_add(NrPages::new(nr)) != Some(next) {
                break;
            }
            nr = longer;
        }
        // OVERFLOW: As above.
        let end = self.at + nr;
        let addrs = self.addrs.get(self.at..end).ok_or(EINVAL)?;
        self.at = end;
        Ok(Some(Run { offset, addrs }))
    }
}

impl<'a, F: Fn(NonNull<bindings::page>) -> Option<PageOffset>> Iterator for Runs<'a, F> {
    type Item = Result<Run<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let run = self.run();
        if run.is_err() {
            // There is nothing behind an error.
            self.at = self.addrs.len();
        }
        run.transpose()
    }
}
