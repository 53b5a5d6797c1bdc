// SPDX-License-Identifier: GPL-2.0

//! The mappings that a range of a process's memory lies in.
//!
//! C header: [`include/linux/mm.h`](srctree/include/linux/mm.h)

use kernel::{
    mm::{
        virt::VmaRef,
        MmWithUser,
        MmapReadGuard, //
    },
    prelude::*, //
};

use crate::number::{
    NrPages,
    UserAddr,
    UserRange, //
};

impl UserRange {
    /// Calls `f` for the pieces of the range, in order, each of which lies in one mapping and has
    /// `max` pages at most: what `migrate_vma` works on. The mmap lock is held for reading during
    /// each call, and not between them.
    ///
    /// # Context
    ///
    /// May sleep. Takes the mmap lock of `mm`.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if there is memory without a mapping; [`EINTR`] if the calling process has got a
    /// signal; what `f` fails with. Pieces that came before have been dealt with.
    pub fn for_each_vma(
        self,
        mm: &MmWithUser,
        max: NrPages,
        mut f: impl FnMut(&MmapReadGuard<'_>, &VmaRef, UserRange) -> Result,
    ) -> Result {
        let mut rest = Some(self);
        while let Some(range) = rest {
            if current!().signal_pending() {
                return Err(EINTR);
            }
            let mmap = mm.mmap_read_lock();
            let vma = mmap.vma_lookup(range.start().get()).ok_or(EINVAL)?;
            let piece = range
                .ending_at(UserAddr::new(vma.end())?)
                .and_then(|range| range.first(max))
                .ok_or(EINVAL)?;
            f(&mmap, vma, piece)?;
            rest = range.starting_at(piece.end());
        }
        Ok(())
    }
}
