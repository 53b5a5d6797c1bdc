// SPDX-License-Identifier: GPL-2.0

//! The life of a card's memory: registered, asleep, gone.

use kernel::prelude::*;

use dpmem::{
    BoundPagemap,
    DevPagemap,
    MigrateBuffer,
    NrPages,
    Order,
    PageOffset,
    PagemapGuard,
    UserRange, //
};

use crate::{
    ffi::{
        LockedVma,
        NewGpu, //
    },
    vram::Vram, //
};

/// How many pages are moved at once, if huge pages are not larger.
const WINDOW: NrPages = NrPages::new(512);

/// How often pages that somebody is looking at are tried again before the card falls asleep.
const ATTEMPTS: usize = 8;

/// Moves what can be moved of `range`, all at once. Large folios are tried again in small pages, as
/// what cannot be mapped or copied as a whole may be in pieces.
fn migrate_window(
    vram: &DevPagemap<Vram>,
    vma: &LockedVma<'_>,
    range: UserRange,
    buffer: &mut MigrateBuffer,
) -> Result {
    let collected = vma.to_device(vram, range, buffer)?;
    let large = collected.has_large();
    match collected.migrate() {
        Err(EIO | ENOMEM) if large => {
            let again = vma.to_device(vram, range, buffer)?;
            again.fill_split().copy()?.commit();
            Ok(())
        }
        result => result.map(|_| ()),
    }
}

/// Memory of a card, in which processes have pages.
pub(crate) struct Dmem(BoundPagemap<Vram>);

impl Dmem {
    /// Registers the memory of `gpu`, all of it. None is pinned before somebody has pages in it.
    /// May sleep.
    ///
    /// # Errors
    ///
    /// [`ENODEV`] if the card has none, or cannot copy; those of [`BoundPagemap::new`].
    pub(crate) fn new(gpu: NewGpu) -> Result<Self> {
        let card = gpu.gpu();
        let nr = card.vram_size().ok_or(ENODEV)?;
        let pagemap = gpu.into_pagemap(c"nouveau", nr, Vram::new(card, nr)?);
        Ok(Self(BoundPagemap::new(card.device(), pagemap)?))
    }

    /// The memory, until the card is taken away.
    fn vram(&self) -> Result<PagemapGuard<'_, Vram>> {
        self.0.access().ok_or(ENODEV)
    }

    /// Moves what can be moved of `range`, which lies in `vma`, to the card. That the GPU has no
    /// translation for it any more is what the notifier of the process sees to; it asks for one
    /// when it needs it.
    ///
    /// # Context
    ///
    /// May sleep.
    ///
    /// # Errors
    ///
    /// [`ENODEV`]; those of the migration. [`EIO`] and [`ENOMEM`] are the first such error, of a
    /// part that stays where it is; all others are moved.
    pub(crate) fn migrate(&self, vma: &LockedVma<'_>, range: UserRange) -> Result {
        let window = WINDOW.max(Order::of_pmd().nr_pages());
        let mut buffer = MigrateBuffer::new(window.min(range.nr_pages()))?;
        let mut result = Ok(());
        for range in range.windows(buffer.capacity()) {
            // For a window, and not for all of a process's range: the card may be about to go.
            let vram = self.vram()?;
            match migrate_window(&vram, vma, range, &mut buffer) {
                Err(err @ (EIO | ENOMEM)) => result = result.and(Err(err)),
                other => other?,
            }
        }
        result
    }

    /// Brings all pages home, and lets go of the memory, before the card loses its power. May
    /// sleep. The GPU's faults wait until [`Dmem::resume`], as `nouveau_svm_suspend()` sees to.
    ///
    /// # Errors
    ///
    /// Why pages stay on the card. TTM saves them, and the GPU has no translation for them any
    /// more.
    pub(crate) fn suspend(&self) -> Result {
        let vram = self.vram()?;
        let mut evicted = Ok(NrPages::ZERO);
        for _ in 0..ATTEMPTS {
            evicted = vram.evict(PageOffset::ZERO, vram.nr_pages());
            if vram.nr_out() == NrPages::ZERO {
                break;
            }
        }
        // Nothing is copied any more, so what is on the card from here on stays.
        vram.ops().stop();
        let result = match vram.nr_out() {
            NrPages::ZERO => Ok(()),
            // Somebody is looking at them, or the card could not copy them. A page that is left out
            // now has a fault at it that is about to find out that the card is asleep, and to take
            // its translation away on the way; there is nobody to give it another.
            _ => vram
                .invalidate(PageOffset::ZERO, vram.nr_pages())
                .and(evicted)
                .and(Err(EBUSY)),
        };
        vram.ops().unpin();
        result
    }

    /// Takes memory again that was not brought home. May sleep.
    pub(crate) fn resume(&self) -> Result {
        self.vram()?.ops().wake()
    }

    /// Brings all pages home, and unregisters the memory. What is on a card that is gone, or goes
    /// meanwhile, is lost: its processes find zeroes, as the kernel cannot take a page away from
    /// them without giving them another. May sleep.
    pub(crate) fn close(&self) {
        if let Ok(vram) = self.vram() {
            vram.ops().close();
        }
        self.0.close();
    }
}
