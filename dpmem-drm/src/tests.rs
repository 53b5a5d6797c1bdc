// SPDX-License-Identifier: GPL-2.0

//! KUnit tests: what is copied at once.

use core::{
    cell::Cell,
    ptr::NonNull, //
};

use kernel::{
    bindings,
    page::PAGE_SIZE,
    prelude::*, //
};

use dpmem::{
    NrPages,
    Order,
    PageOffset, //
};

use crate::{
    addr::{
        Addr,
        Protocol, //
    },
    copy::Runs, //
};

/// A run: at which page it begins, where that is on the card, and how many it has.
type Found = (usize, usize, usize);

/// What is at a page: where it is on the card, and the order of the folio on the other side that
/// begins there.
#[derive(Clone, Copy)]
enum At {
    /// Both.
    Folio(usize, u32),
    /// A page of the card, and the other side is nothing, or a folio that began before.
    Nothing(usize),
    /// No page of the card.
    Hole,
    /// A page of another card.
    Stranger,
}

use At::{
    Folio,
    Hole,
    Nothing,
    Stranger, //
};

/// Where no page of the card is.
const NOWHERE: usize = 1 << 20;

/// Stands for the page at `offset`. Nobody looks at it.
fn page(offset: usize) -> *mut bindings::page {
    core::ptr::without_provenance_mut((offset + 1) * align_of::<bindings::page>())
}

/// What [`page`] has said.
fn offset_of(page: NonNull<bindings::page>) -> Option<PageOffset> {
    let offset = page.addr().get() / align_of::<bindings::page>() - 1;
    (offset != NOWHERE).then_some(PageOffset::new(offset))
}

/// The runs of `what`, of at most `max` pages.
fn runs(what: &[At], max: usize) -> Result<KVec<Found>> {
    let mut pages = KVec::with_capacity(what.len(), GFP_KERNEL)?;
    let mut addrs = KVec::with_capacity(what.len(), GFP_KERNEL)?;
    for (i, at) in what.iter().enumerate() {
        let (offset, order) = match *at {
            Folio(offset, order) => (Some(offset), Some(order)),
            Nothing(offset) => (Some(offset), None),
            Hole => (None, None),
            Stranger => (Some(NOWHERE), Some(0)),
        };
        pages.push(offset.map_or(core::ptr::null_mut(), page), GFP_KERNEL)?;
        // The number of the page is a part of its address.
        let addr = order.map_or(0, |_| ((i + 1) * PAGE_SIZE) as u64);
        let order = Order::new(order.unwrap_or(0))?;
        // SAFETY: Nobody has mapped anything, and zero is one of the directions.
        let dir = unsafe { core::mem::zeroed() };
        let addr = Addr::new(addr, Protocol::SYSTEM, order, dir);
        addrs.push(Cell::new(addr), GFP_KERNEL)?;
    }
    let mut found = KVec::new();
    for run in Runs::new(&pages, &addrs, NrPages::new(max), offset_of) {
        let run = run?;
        let first = run.addrs().next().and_then(|addr| addr.get());
        // It begins where a folio does, so its first address says which page that is.
        let first = usize::try_from(first.ok_or(EIO)?)? / PAGE_SIZE - 1;
        if run.addrs().len() != run.nr_pages().get() {
            return Err(EIO);
        }
        found.push(
            (first, run.offset().get(), run.nr_pages().get()),
            GFP_KERNEL,
        )?;
    }
    Ok(found)
}

#[kunit_tests(rust_dpmem_drm_runs)]
mod cases {
    use super::*;

    #[test]
    fn nothing_is_no_run() -> Result {
        assert!(runs(&[], 8)?.is_empty());
        assert!(runs(&[Hole; 4], 8)?.is_empty());
        assert!(runs(&[Nothing(3), Nothing(4)], 8)?.is_empty());
        Ok(())
    }

    #[test]
    fn what_lies_beside_each_other_is_one() -> Result {
        let pages = [Folio(4, 0), Folio(5, 0), Folio(6, 0)];
        assert_eq!(runs(&pages, 8)?[..], [(0, 4, 3)]);
        // Backwards, twice the same, and one left out.
        let pages = [Folio(4, 0), Folio(3, 0), Folio(3, 0), Folio(5, 0)];
        let single = [(0, 4, 1), (1, 3, 1), (2, 3, 1), (3, 5, 1)];
        assert_eq!(runs(&pages, 8)?[..], single);
        Ok(())
    }

    #[test]
    fn holes_are_between_runs() -> Result {
        let pages = [Hole, Folio(4, 0), Hole, Folio(6, 0), Folio(7, 0), Hole];
        assert_eq!(runs(&pages, 8)?[..], [(1, 4, 1), (3, 6, 2)]);
        // The card has something there, and nobody copies to it.
        let pages = [Nothing(3), Folio(4, 0), Nothing(5), Folio(6, 0)];
        assert_eq!(runs(&pages, 8)?[..], [(1, 4, 1), (3, 6, 1)]);
        Ok(())
    }

    #[test]
    fn a_folio_is_as_long_as_it_is() -> Result {
        // Only its first page has an address, and there need be no others.
        let pages = [Folio(8, 2), Nothing(9), Hole, Hole, Folio(12, 0)];
        assert_eq!(runs(&pages, 8)?[..], [(0, 8, 5)]);
        let pages = [Folio(7, 0), Folio(8, 1), Hole, Folio(12, 1), Hole];
        assert_eq!(runs(&pages, 8)?[..], [(0, 7, 3), (3, 12, 2)]);
        Ok(())
    }

    #[test]
    fn no_run_is_too_long() -> Result {
        let pages: [At; 7] = core::array::from_fn(|i| Folio(i, 0));
        assert_eq!(runs(&pages, 3)?[..], [(0, 0, 3), (3, 3, 3), (6, 6, 1)]);
        assert_eq!(runs(&pages, 7)?[..], [(0, 0, 7)]);
        // What does not fit begins the next one.
        let pages = [Folio(0, 0), Folio(1, 1), Hole, Folio(3, 0)];
        assert_eq!(runs(&pages, 2)?[..], [(0, 0, 1), (1, 1, 2), (3, 3, 1)]);
        // But a folio is not split.
        let pages = [Folio(0, 2), Hole, Hole, Hole, Folio(4, 0)];
        assert_eq!(runs(&pages, 2)?[..], [(0, 0, 4), (4, 4, 1)]);
        Ok(())
    }

    #[test]
    fn a_folio_that_is_cut_is_an_error() {
        let cut = [Folio(0, 0), Folio(2, 1)];
        assert_eq!(runs(&cut, 8).err(), Some(EINVAL));
        // Also if it would have been a part of the run before.
        let cut = [Folio(0, 0), Folio(1, 2), Hole, Hole];
        assert_eq!(runs(&cut, 8).err(), Some(EINVAL));
    }

    #[test]
    fn a_page_of_somebody_else_is_an_error() {
        assert_eq!(runs(&[Stranger], 8).err(), Some(EINVAL));
        assert_eq!(runs(&[Folio(0, 0), Stranger], 8).err(), Some(EINVAL));
        // Where nothing is copied, nobody looks.
        assert!(runs(&[Folio(0, 1), Stranger], 8).is_ok());
    }

    #[test]
    fn there_is_nothing_behind_an_error() -> Result {
        let pages = [page(0), page(NOWHERE), page(1)];
        // SAFETY: As in `runs()`.
        let dir = || unsafe { core::mem::zeroed() };
        let addrs = pages.map(|_| Cell::new(Addr::new(1, Protocol::SYSTEM, Order::ZERO, dir())));
        let mut runs = Runs::new(&pages, &addrs, NrPages::new(8), offset_of);
        assert!(runs.next().is_some_and(|run| run.is_err()));
        assert!(runs.next().is_none());
        Ok(())
    }
}
