// SPDX-License-Identifier: GPL-2.0

//! Who decides which page of a device is handed out.
//!
//! A driver has one allocator. This one has two, so that both can be tried: a bitmap, as for a
//! device whose memory is for processes only, and the kernel's buddy allocator, as for one that has
//! other uses for it.

use kernel::{
    gpu::buddy::{
        GpuBuddy,
        GpuBuddyParams, //
    },
    page::PAGE_SIZE,
    prelude::*,
    ptr::Alignment,
    sync::Arc, //
};

use dpmem::{
    BitmapOffsets,
    BuddyOffsets,
    NrPages,
    OffsetAllocator,
    Order,
    PageOffset, //
};

/// Which allocator a device has.
#[derive(Clone, Copy)]
pub(crate) enum Allocator {
    Bitmap,
    Buddy,
}

impl Allocator {
    /// What the module's parameter says; [`EINVAL`] if there is no such allocator.
    pub(crate) fn from_parameter(allocator: u8) -> Result<Self> {
        match allocator {
            0 => Ok(Self::Bitmap),
            1 => Ok(Self::Buddy),
            _ => Err(EINVAL),
        }
    }
}

/// The allocator of a device.
pub(crate) enum Offsets {
    Bitmap(Pin<KBox<BitmapOffsets>>),
    Buddy(BuddyOffsets),
}

impl Offsets {
    /// An allocator of `nr` pages. May sleep.
    pub(crate) fn new(nr: NrPages, allocator: Allocator) -> Result<Self> {
        Ok(match allocator {
            Allocator::Bitmap => Self::Bitmap(KBox::pin_init(BitmapOffsets::new(nr), GFP_KERNEL)?),
            Allocator::Buddy => {
                let buddy = GpuBuddy::new(GpuBuddyParams {
                    base_offset: 0,
                    // CAST: `usize` is not wider than `u64`.
                    size: nr.to_bytes().ok_or(EINVAL)? as u64,
                    chunk_size: Alignment::new::<PAGE_SIZE>(),
                })?;
                Self::Buddy(BuddyOffsets::new(
                    Arc::new(buddy, GFP_KERNEL)?,
                    Order::of_pmd(),
                )?)
            }
        })
    }
}

impl OffsetAllocator for Offsets {
    fn allocate(&self, order: Order) -> Option<PageOffset> {
        match self {
            Self::Bitmap(offsets) => offsets.allocate(order),
            Self::Buddy(offsets) => offsets.allocate(order),
        }
    }

    fn free(&self, offset: PageOffset, order: Order) {
        match self {
            Self::Bitmap(offsets) => offsets.free(offset, order),
            Self::Buddy(offsets) => offsets.free(offset, order),
        }
    }
}
