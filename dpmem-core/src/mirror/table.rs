// SPDX-License-Identifier: GPL-2.0

//! The translations of a mirror.
//!
//! What follows each other in the address space and in memory is one run, as large folios are.

use core::ptr::NonNull;

use kernel::{
    bindings,
    dma::DmaAddress,
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    rbtree::{
        RBTree,
        RBTreeNodeReservation, //
    }, //
};

#[cfg(CONFIG_RUST_DPMEM_KUNIT_TEST)]
use kernel::prelude::*;

use crate::{
    folio::nth_page,
    number::{
        NrPages,
        PageOffset,
        UserAddr,
        UserRange, //
    }, //
};

/// Where a translation leads.
#[derive(Clone, Copy)]
pub(super) enum Target {
    /// To system memory.
    Ram {
        page: NonNull<bindings::page>,
        /// Where the device of the mirror finds the page, if the mirror has one.
        dma: Option<DmaAddress>,
    },
    /// To a device.
    Device {
        /// The pagemap that the page belongs to. It is there for as long as the page is not freed.
        pgmap: NonNull<bindings::dev_pagemap>,
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
            Self::Ram { page, dma } => Self::Ram {
                page: nth(page)?,
                dma: match dma {
                    // CAST: A `usize` is not wider than the address of a device.
                    Some(dma) => Some(dma.checked_add(n.checked_mul(PAGE_SIZE)? as DmaAddress)?),
                    None => None,
                },
            },
            Self::Device {
                pgmap,
                offset,
                mapped,
            } => Self::Device {
                pgmap,
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
    /// Whether the page table of the device was told of it, or of a part of it.
    told: bool,
}

/// System memory that is mapped for a device: all of a run.
#[derive(Clone, Copy)]
pub(super) struct DmaRun {
    pub(super) address: DmaAddress,
    pub(super) nr: NrPages,
    pub(super) writable: bool,
}

impl Run {
    /// What is mapped for a device, of a run whose last page is at `last`.
    fn dma(&self, last: usize) -> Option<DmaRun> {
        let Target::Ram {
            dma: Some(address), ..
        } = self.first.target
        else {
            return None;
        };
        let more = last.checked_sub(self.start)? >> PAGE_SHIFT;
        Some(DmaRun {
            address,
            nr: NrPages::new(more.checked_add(1)?),
            writable: self.first.writable,
        })
    }
}

// SAFETY: A page is not bound to a thread, nor is its pagemap. What keeps it from being freed is
// the notifier.
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
        self.get_run(addr).map(|(translation, _)| translation)
    }

    /// The translation of the page at `addr`, and how many pages its run has from there on.
    pub(super) fn get_run(&self, addr: UserAddr) -> Option<(Translation, NrPages)> {
        let addr = addr.get();
        let cursor = self.0.cursor_lower_bound(&addr)?;
        let (last, run) = cursor.current();
        let n = addr.checked_sub(run.start)? >> PAGE_SHIFT;
        let translation = Translation {
            target: run.first.target.nth(n)?,
            ..run.first
        };
        let more = last.checked_sub(addr)? >> PAGE_SHIFT;
        Some((translation, NrPages::new(more.checked_add(1)?)))
    }

    /// Notes that the page table of the device is being told of the run that the page at `addr` is
    /// in.
    pub(super) fn tell(&mut self, addr: UserAddr) {
        if let Some(mut at) = self.0.cursor_lower_bound_mut(&addr.get()) {
            at.current_mut().1.told = true;
        }
    }

    /// Calls `f` for the addresses of the runs of which the page table of the device was told, and
    /// which have one of those from `start` up to `end`: all of each run, and neighbours together.
    pub(super) fn each_told(&self, start: usize, end: usize, mut f: impl FnMut(UserRange)) {
        let mut tell = |(first, behind): (usize, usize)| {
            let bounds = (UserAddr::containing(first), UserAddr::containing(behind));
            // Neither is outside of the address space of a process, nor is the first behind the last.
            if let Ok(range) = UserRange::between(bounds.0, bounds.1) {
                f(range);
            }
        };
        let (mut next, mut told) = (start, None);
        while let Some(at) = self.0.cursor_lower_bound(&next) {
            let (last, run) = at.current();
            if run.start >= end {
                break;
            }
            let behind = last.saturating_add(PAGE_SIZE);
            if run.told {
                told = match told {
                    Some((first, before)) if before == run.start => Some((first, behind)),
                    before => {
                        before.into_iter().for_each(&mut tell);
                        Some((run.start, behind))
                    }
                };
            }
            if behind == usize::MAX {
                break;
            }
            next = behind;
        }
        told.into_iter().for_each(tell);
    }

    /// Whether [`Table::each_told`] would find something.
    pub(super) fn any_told(&self, start: usize, end: usize) -> bool {
        let mut any = false;
        self.each_told(start, end, |_| any = true);
        any
    }

    /// Whether a page of `range` is the device's alone.
    pub(super) fn any_exclusive(&self, range: UserRange) -> bool {
        let (mut next, end) = (range.start().get(), range.end().get());
        while let Some(at) = self.0.cursor_lower_bound(&next) {
            let (last, run) = at.current();
            if run.start >= end {
                break;
            }
            if run.first.exclusive {
                return true;
            }
            next = last.saturating_add(PAGE_SIZE);
        }
        false
    }

    /// Adds the translations of the `nr` pages from `start` on, of which `first` is that of the
    /// first. There must be none of them yet.
    pub(super) fn insert(&mut self, room: Room, start: UserAddr, nr: NrPages, first: Translation) {
        let start = start.get();
        let last = nr
            .get()
            .checked_sub(1)
            .and_then(|n| n.checked_mul(PAGE_SIZE));
        if let Some(last) = last.and_then(|bytes| start.checked_add(bytes)) {
            let run = Run {
                start,
                first,
                told: false,
            };
            self.0.insert(room.into_node(last, run));
        }
    }

    /// Removes the translations of the addresses from `start` up to `end`. Of a run that goes on on
    /// both sides, what is before goes as well: a device can ask again. A run that is mapped for a
    /// device goes as a whole, as it was mapped, and `unmap` is called for it.
    ///
    /// What the page table of the device was told of it, it has to have forgotten.
    pub(super) fn forget(&mut self, start: usize, end: usize, mut unmap: impl FnMut(DmaRun)) {
        let mut before = None;
        let mut cursor = self.0.cursor_lower_bound_mut(&start);
        while let Some(mut at) = cursor {
            let (last, run) = at.current_mut();
            // Behind the last node, the cursor goes back to the one before.
            if run.start >= end || *last < start {
                break;
            }
            let dma = run.dma(*last);
            run.told = false;
            if *last >= end && dma.is_none() {
                if let Some(target) = run.first.target.nth((end - run.start) >> PAGE_SHIFT) {
                    run.start = end;
                    run.first.target = target;
                    break;
                }
            }
            let run = *run;
            let node;
            (cursor, node) = at.remove_current();
            match dma {
                Some(dma) => unmap(dma),
                None if run.start < start => before = Some((node.into_reservation(), run)),
                None => {}
            }
        }
        if let Some((room, run)) = before {
            // OVERFLOW: The run begins below `start`.
            self.0.insert(room.into_node(start - PAGE_SIZE, run));
        }
    }
}

#[cfg(CONFIG_RUST_DPMEM_KUNIT_TEST)]
#[kunit_tests(rust_dpmem_mirror_table)]
mod tests {
    use super::*;

    const PAGES: usize = 64;

    fn addr(page: usize) -> Result<UserAddr> {
        UserAddr::new(page * PAGE_SIZE)
    }

    fn to_device(offset: usize) -> Translation {
        Translation {
            target: Target::Device {
                pgmap: NonNull::dangling(),
                offset: PageOffset::new(offset),
                mapped: None,
            },
            writable: true,
            exclusive: false,
        }
    }

    fn offset_at(table: &Table, page: usize) -> Result<Option<usize>> {
        Ok(match table.get(addr(page)?).map(|t| t.target) {
            Some(Target::Device { offset, .. }) => Some(offset.get()),
            Some(Target::Ram { .. }) => return Err(EINVAL),
            None => None,
        })
    }

    /// Many operations, beside a table that has one entry for each page. A run may lose more than
    /// it was told to forget, but never less, and what is left is right.
    #[test]
    fn runs_are_cut_and_stay_right() -> Result {
        let mut table = Table::new();
        let mut model = [None; PAGES];
        let mut seed = 1usize;
        let mut random = |below: usize| {
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (seed >> 33) % below
        };
        for round in 0..2000 {
            let start = random(PAGES);
            let nr = 1 + random(PAGES - start);
            let end = start + nr;
            table.forget(start * PAGE_SIZE, end * PAGE_SIZE, |_| ());
            model.get_mut(start..end).ok_or(EINVAL)?.fill(None);
            if random(2) == 0 {
                let first = round * PAGES;
                let room = Room::new(GFP_KERNEL)?;
                table.insert(room, addr(start)?, NrPages::new(nr), to_device(first));
                let run = model.get_mut(start..end).ok_or(EINVAL)?;
                for (i, entry) in run.iter_mut().enumerate() {
                    *entry = Some(first + i);
                }
            }
            for (page, entry) in model.iter_mut().enumerate() {
                let found = offset_at(&table, page)?;
                assert!(found.is_none() || found == *entry);
                *entry = found;
            }
        }
        Ok(())
    }

    #[test]
    fn a_cut_keeps_one_side() -> Result {
        let mut table = Table::new();
        table.insert(
            Room::new(GFP_KERNEL)?,
            addr(10)?,
            NrPages::new(10),
            to_device(100),
        );
        // The end.
        table.forget(18 * PAGE_SIZE, 30 * PAGE_SIZE, |_| ());
        assert!(offset_at(&table, 17)? == Some(107));
        assert!(offset_at(&table, 18)?.is_none());
        // The beginning.
        table.forget(0, 12 * PAGE_SIZE, |_| ());
        assert!(offset_at(&table, 11)?.is_none());
        assert!(offset_at(&table, 12)? == Some(102));
        // The middle.
        table.forget(14 * PAGE_SIZE, 15 * PAGE_SIZE, |_| ());
        assert!(offset_at(&table, 14)?.is_none());
        assert!(offset_at(&table, 15)? == Some(105));
        Ok(())
    }
}
