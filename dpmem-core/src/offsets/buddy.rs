// SPDX-License-Identifier: GPL-2.0

//! Device memory that a buddy allocator hands out.
//!
//! C header: [`include/linux/gpu_buddy.h`](srctree/include/linux/gpu_buddy.h)

use kernel::{
    gpu::buddy::{
        AllocatedBlocks,
        GpuBuddy,
        GpuBuddyAllocFlags,
        GpuBuddyAllocMode, //
    },
    page::PAGE_SIZE,
    prelude::*,
    ptr::Alignment,
    sync::Arc, //
};

use super::{
    chunks::{
        ChunkOffsets,
        ChunkSource, //
    },
    OffsetAllocator, //
};
use crate::number::{
    NrPages,
    Order,
    PageOffset, //
};

/// An allocator for a driver that has one buddy allocator for all of its memory, and other uses for
/// that.
///
/// It takes blocks out of the buddy allocator, of one size, and single pages out of the blocks. So
/// a page costs a bit, and not a block of its own, which is larger than what `struct page` takes;
/// and nothing is freed to the buddy allocator where its lock cannot be taken. When blocks go back
/// is told in [`ChunkOffsets`]. Dropping it may sleep, as dropping that does.
///
/// A page of the pagemap has the offset that it has in the buddy allocator, less
/// [`GpuBuddy::base_offset`].
///
/// # Examples
///
/// ```
/// use dpmem::{BuddyOffsets, OffsetAllocator, Order};
/// use kernel::gpu::buddy::{GpuBuddy, GpuBuddyParams};
/// use kernel::{page::PAGE_SIZE, ptr::Alignment, sizes::SZ_64M, sync::Arc};
///
/// let buddy = Arc::new(
///     GpuBuddy::new(GpuBuddyParams {
///         base_offset: 0,
///         size: SZ_64M as u64,
///         chunk_size: Alignment::new::<PAGE_SIZE>(),
///     })?,
///     GFP_KERNEL,
/// )?;
/// let offsets = BuddyOffsets::new(buddy.clone(), Order::of_pmd())?;
/// let page = offsets.allocate(Order::ZERO).ok_or(ENOMEM)?;
/// assert!(buddy.avail() < buddy.size());
/// offsets.free(page, Order::ZERO);
/// offsets.shrink();
/// assert_eq!(buddy.avail(), buddy.size());
/// # Ok::<(), Error>(())
/// ```
pub struct BuddyOffsets(ChunkOffsets<Blocks>);

/// Where the blocks come from.
struct Blocks {
    buddy: Arc<GpuBuddy>,
    /// How large one is, in bytes.
    size: Alignment,
}

impl ChunkSource for Blocks {
    type Chunk = Pin<KBox<AllocatedBlocks>>;

    fn pin(&self, _vacant: PageOffset) -> Result<(PageOffset, Self::Chunk)> {
        // CAST: `usize` is not wider than `u64`.
        let size = self.size.as_usize() as u64;
        // As large as they are aligned: that makes one block of it.
        let blocks = self.buddy.alloc_blocks(
            GpuBuddyAllocMode::Simple,
            size,
            self.size,
            GpuBuddyAllocFlags::default(),
        );
        let blocks = KBox::pin_init(blocks, GFP_KERNEL)?;
        let start = blocks.iter().next().ok_or(ENOMEM)?.offset();
        let start = start.checked_sub(self.buddy.base_offset()).ok_or(EINVAL)?;
        // CAST: This crate is only built where `usize` has 64 bits.
        let start = PageOffset::new(start as usize / PAGE_SIZE);
        Ok((start, blocks))
    }
}

impl BuddyOffsets {
    /// An allocator of what `buddy` has, that takes `1 << order` pages at a time, which is also the
    /// largest run that it hands out. May sleep.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if `buddy` has no block of this size; [`ENOMEM`].
    pub fn new(buddy: Arc<GpuBuddy>, order: Order) -> Result<Self> {
        let size = order.nr_pages().to_bytes().ok_or(EINVAL)?;
        let size = Alignment::new_checked(size).ok_or(EINVAL)?;
        if size < buddy.chunk_size() {
            return Err(EINVAL);
        }
        // CAST: This crate is only built where `usize` has 64 bits.
        let nr = NrPages::new(buddy.size() as usize / PAGE_SIZE);
        Ok(Self(ChunkOffsets::new(nr, order, Blocks { buddy, size })?))
    }

    /// Gives all idle blocks back to the buddy allocator: for a driver that needs memory for
    /// something else.
    ///
    /// # Context
    ///
    /// May sleep.
    pub fn shrink(&self) {
        self.0.shrink();
    }
}

impl OffsetAllocator for BuddyOffsets {
    fn allocate(&self, order: Order) -> Option<PageOffset> {
        self.0.allocate(order)
    }

    fn free(&self, offset: PageOffset, order: Order) {
        self.0.free(offset, order);
    }
}
