// SPDX-License-Identifier: GPL-2.0

//! Who decides which page of a device is handed out.
//!
//! - [`BitmapOffsets`] is for a device whose memory is there, all of it, for as long as its pagemap
//!   is.
//! - [`ChunkOffsets`] is for a driver that must pin memory before it can use it, piece by piece.
//! - `BuddyOffsets`, where the kernel has `CONFIG_GPU_BUDDY`, is for a driver that has one buddy
//!   allocator for all of its memory, and other users of that.
//! - A driver that has an allocator of its own, as those with TTM, implements [`OffsetAllocator`]
//!   for it.

mod bitmap;
#[cfg(CONFIG_GPU_BUDDY = "y")]
mod buddy;
mod chunks;
mod taken;

pub use bitmap::BitmapOffsets;
#[cfg(CONFIG_GPU_BUDDY = "y")]
pub use buddy::BuddyOffsets;
pub use chunks::{
    ChunkOffsets,
    ChunkSource, //
};

use crate::number::{
    Order,
    PageOffset, //
};

/// The driver's allocator of device memory.
///
/// It deals in offsets, and never sees a page: what is idle, and what is out, is its own business.
/// One that hands out a page twice, or a page that does not exist, makes requests fail. Such an
/// offset is not given back to it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an allocator of offsets",
    label = "this cannot say which page of a device is handed out",
    note = "take `BitmapOffsets` or `ChunkOffsets`, or implement `OffsetAllocator` for it"
)]
pub trait OffsetAllocator: Send + Sync + 'static {
    /// Takes an idle run of `1 << order` pages that begins at a multiple of its size, or `None` if
    /// there is none, or none can be had just now.
    ///
    /// # Context
    ///
    /// Process context. May sleep, and allocate. The mmap lock of a process and the locks of folios
    /// may be held: it must not wait for somebody who waits for one of them, and so neither bring
    /// pages of any pagemap home nor request any.
    fn allocate(&self, order: Order) -> Option<PageOffset>;

    /// Takes back a run that [`OffsetAllocator::allocate`] gave. After a split, a run comes back
    /// in pieces.
    ///
    /// # Context
    ///
    /// Called when the last reference to a folio goes away, with any lock of the kernel held, and
    /// for coherent memory also in an interrupt: must not sleep, nor allocate. Who has to sleep to
    /// give memory back keeps a note, and a work item for it, as [`ChunkOffsets`] does.
    fn free(&self, offset: PageOffset, order: Order);
}
