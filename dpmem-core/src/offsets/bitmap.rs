// SPDX-License-Identifier: GPL-2.0

//! One bit for every page.

use kernel::{
    prelude::*,
    static_lock_class,
    str::CStr, //
};

use super::{
    taken::Taken,
    OffsetAllocator, //
};
use crate::{
    lock::SpinLockIrqSave,
    number::{
        NrPages,
        Order,
        PageOffset, //
    }, //
};

/// An allocator that keeps one bit for every page, and takes the first run that fits: pages that
/// were used before come first, for which the kernel has made everything that it needs.
///
/// The bits are one allocation, of which the kernel has none larger than 4 MiB, so that this is for
/// devices of no more than `1 << 25` pages. Dropping it may sleep.
///
/// # Examples
///
/// ```
/// use dpmem::{BitmapOffsets, NrPages, OffsetAllocator, Order};
///
/// let offsets = KBox::pin_init(BitmapOffsets::new(NrPages::new(8)), GFP_KERNEL)?;
/// let first = offsets.allocate(Order::ZERO).ok_or(ENOMEM)?;
/// let four = offsets.allocate(Order::new(2)?).ok_or(ENOMEM)?;
/// assert_eq!((first.get(), four.get()), (0, 4));
/// offsets.free(first, Order::ZERO);
/// # Ok::<(), Error>(())
/// ```
#[pin_data]
pub struct BitmapOffsets {
    #[pin]
    taken: SpinLockIrqSave<Taken>,
}

/// The lock's name: a static, because `new()` is compiled into its callers' crates, whose lock
/// class is one, and lockdep wants one name for it.
static LOCK_NAME: &CStr = c"dpmem::BitmapOffsets";

impl BitmapOffsets {
    /// An allocator of `nr` pages, all idle. May sleep.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub fn new(nr: NrPages) -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(move || {
            let taken = Taken::new(nr.get())?;
            Ok(try_pin_init!(Self {
                taken <- SpinLockIrqSave::new(taken, LOCK_NAME, static_lock_class!()),
            }))
        })
    }
}

impl OffsetAllocator for BitmapOffsets {
    fn allocate(&self, order: Order) -> Option<PageOffset> {
        self.taken.lock().take(order).map(PageOffset::new)
    }

    fn free(&self, offset: PageOffset, order: Order) {
        self.taken.lock().give(offset.get(), order);
    }
}
