// SPDX-License-Identifier: GPL-2.0

//! The translations of a mirror.
//!
//! What follows each other in the address space and in memory is one run, as large folios are.

use core::ptr::NonNull;

use kernel::{
    bindings,
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNodeReservation, //
    }, //
};

use crate::{
    folio::nth_page,
    number::{
        NrPages,
        PageOffset,
        UserAddr, //
    }, //
};

/// Where a translation leads.
#[derive(Clone, Copy)]
pub(super) enum Target {
    /// To system memory.
    Ram(NonNull<bindings::page>),
    /// To a device.
    Device {
        /// The owner, only to be compared: a pagemap that exists has one of its own, and the
        /// translations of one that does not exist any more are gone.
        owner: *mut c_void,
        offset: PageOffset,
        /// The page, if CPUs can address it.
        mapped: Option<NonNull<bindings::page>>,
    },
}

impl Target {
    /// Where the translation of the page `n` pages further on leads, in the same run.
    fn nth(self, n: usize) -> Option<Self> {
        // SAFETY: The pages of a run follow each other.
        let nth = |page| NonNull::new(unsafe { nth_page(page, n) });
        Some(match self {
            Self::Ram(page) => Self::Ram(nth(page)?),
            Self::Device {
                owner,
                offset,
                mapped,
            } => Self::Device {
                owner,
                offset: offset.checked_add(NrPages::new(n))?,
                mapped: match mapped {
                    Some(page) => Some(nth(page)?),
                    None => None,
                },
            },
        })
    }
}

/// What the mirror knows of a page.
#[derive(Clone, Copy)]
pub(super) struct Translation {
    pub(super) target: Target,
    pub(super) writable: bool,
    /// Whether no CPU reaches the page: see [`Mirror::make_exclusive`].
    ///
    /// [`Mirror::make_exclusive`]: super::Mirror::make_exclusive
    pub(super) exclusive: bool,
}

/// Pages that follow each other in the address space and in memory.
#[derive(Clone, Copy)]
pub(super) struct Run {
    /// The address of the first page.
    start: usize,
    /// The translation of that page.
    first: Translation,
}

// SAFETY: A page is not bound to a thread. What keeps it from being freed is the notifier. The owner
// is not looked at.
unsafe impl Send for Run {}

/// Room for a run.
pub(super) type Room = RBTreeNodeReservation<usize, Run>;

/// The translations, in runs, each by the address of its last page. Runs do not overlap.
pub(super) struct Table(RBTree<usize, Run>);

impl Table {
    /// No translation.
    pub(super) fn new() -> Self {
        Self(RBTree::new())
    }

    /// The translation of the page at `addr`.
    pub(super) fn get(&self, addr: UserAddr) -> Option<Translation> {
        let addr = addr.get();
        let cursor = self.0.cursor_lower_bound(&addr)?;
        let (_, run) = cursor.current();
        let n = addr.checked_sub(run.start)? >> PAGE_SHIFT;
        Some(Translation {
            target: run.first.target.nth(n)?,
            ..run.first
        })
    }

    /// Adds the translations of the `nr` pages from `start` on, of which `first` is that of the first.
    /// There must be none of them yet.
    pub(super) fn insert(&mut self, room: Room, start: UserAddr, nr: NrPages, first: Translation) {
        let start = start.get();
        let last = nr
            .get()
            .checked_sub(1)
            .and_then(|n| n.checked_mul(PAGE_SIZE));
        if let Some(last) = last.and_then(|bytes| start.checked_add(bytes)) {
            self.0.insert(room.into_node(last, Run { start, first }));
        }
    }

    /// Removes the translations of the addresses from `start` up to `end`. Of a run that goes on on both
    /// sides, what is before goes as well: a device can ask again.
    pub(super) fn forget(&mut self, start: usize, end: usize) {
        let mut before = None;
        let mut cursor = self.0.cursor_lower_bound_mut(&start);
        while let Some(mut at) = cursor {
            let (last, run) = at.current_mut();
            if run.start >= end {
                break;
            }
            if *last >= end {
                if let Some(target) = run.first.target.nth((end - run.start) >> PAGE_SHIFT) {
                    run.start = end;
                    run.first.target = target;
                    break;
                }
            }
            let run = *run;
            let node;
            (cursor, node) = at.remove_current();
            if run.start < start {
                before = Some((node.into_reservation(), run));
            }
        }
        if let Some((room, run)) = before {
            // OVERFLOW: The run begins below `start`.
            self.0.insert(room.into_node(start - PAGE_SIZE, run));
        }
    }
}
