// SPDX-License-Identifier: GPL-2.0

//! Who decides which page of a device is handed out.

use kernel::{
    bitmap::BitmapVec,
    prelude::*,
    static_lock_class,
    str::CStr,
    sync::SpinLock, //
};

use crate::number::{
    NrPages,
    Order,
    PageOffset, //
};

/// The driver's allocator of device memory.
///
/// It deals in offsets, and never sees a page: what is idle, and what is out, is its own business.
/// One that hands out a page twice, or a page that does not exist, makes requests fail. Such an
/// offset is not given back to it.
pub trait OffsetAllocator: Send + Sync {
    /// Takes an idle run of `1 << order` pages that begins at a multiple of its size, or `None` if
    /// there is none.
    ///
    /// # Context
    ///
    /// Process context. May sleep. The mmap lock of a process and the locks of folios are held.
    fn allocate(&self, order: Order) -> Option<PageOffset>;

    /// Takes back a run that [`OffsetAllocator::allocate`] gave. After a split, a run comes back
    /// in pieces.
    ///
    /// # Context
    ///
    /// Called when the last reference to a folio goes away, with any lock of the kernel held:
    /// must not sleep, nor allocate.
    fn free(&self, offset: PageOffset, order: Order);
}

/// An allocator that keeps one bit for every page, and takes the first run that fits: pages that were
/// used before come first, for which the kernel has made everything that it needs.
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
    taken: SpinLock<Taken>,
}

/// The lock's name: a static, because `new()` is compiled into its callers' crates, whose lock class
/// is one, and lockdep wants one name for it.
static LOCK_NAME: &CStr = c"dpmem::BitmapOffsets";

/// Which pages are taken.
struct Taken {
    bits: BitmapVec,
    /// How many pages there are.
    nr: usize,
    /// All pages below this one are taken.
    low: usize,
}

impl Taken {
    /// The first run of `nr` clear bits, at `from` or above, that begins at a multiple of `nr`.
    fn find(&self, nr: usize, from: usize) -> Option<usize> {
        let mut start = from;
        loop {
            // The bitmap's own functions report an index beyond its end as a bug.
            if start >= self.nr {
                return None;
            }
            let clear = self.bits.next_zero_bit(start)?;
            start = clear.checked_next_multiple_of(nr)?;
            let end = start.checked_add(nr).filter(|end| *end <= self.nr)?;
            // Not `next_bit()`: it looks as far as the next taken page, which may be none of a
            // large device.
            match (start..end).find(|page| self.bits.next_zero_bit(*page) != Some(*page)) {
                Some(taken) => start = taken,
                None => return Some(start),
            }
        }
    }
}

impl BitmapOffsets {
    /// An allocator of `nr` pages, all idle. May sleep.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub fn new(nr: NrPages) -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(move || {
            let taken = Taken {
                bits: BitmapVec::new(nr.get(), GFP_KERNEL)?,
                nr: nr.get(),
                low: 0,
            };
            Ok(try_pin_init!(Self {
                taken <- SpinLock::new(taken, LOCK_NAME, static_lock_class!()),
            }))
        })
    }
}

impl OffsetAllocator for BitmapOffsets {
    fn allocate(&self, order: Order) -> Option<PageOffset> {
        let nr = order.nr_pages().get();
        let mut taken = self.taken.lock();
        let start = taken.find(nr, taken.low)?;
        let end = start.checked_add(nr)?;
        for page in start..end {
            taken.bits.set_bit(page);
        }
        // A single page is the lowest that was idle.
        if order == Order::ZERO || start == taken.low {
            taken.low = end;
        }
        Some(PageOffset::new(start))
    }

    fn free(&self, offset: PageOffset, order: Order) {
        let mut taken = self.taken.lock();
        taken.low = taken.low.min(offset.get());
        let end = offset.get().saturating_add(order.nr_pages().get());
        for page in offset.get()..end.min(taken.nr) {
            taken.bits.clear_bit(page);
        }
    }
}
