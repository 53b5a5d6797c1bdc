// SPDX-License-Identifier: GPL-2.0

//! KUnit tests: the numbers, the allocators, and a pagemap that is registered, used, unregistered.

mod bound;
mod offsets;
mod registration;

use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        ArcBorrow, //
    },
    types::ForeignOwnable, //
};

use crate::{
    flight::Flight,
    folio::large_order,
    migrate_pfn::MigratePfn,
    Batch,
    BitmapOffsets,
    CopyEngine,
    DevPagemap,
    DevPagemapOps,
    FolioData,
    MigrateBuffer,
    NrPages,
    NumaNode,
    OffsetAllocator,
    Order,
    PageOffset,
    UserAddr,
    UserRange, //
};

/// An engine for pages that nobody maps.
pub(crate) struct Idle;

impl CopyEngine for Idle {
    type Fence<'a> = ();
    type Data = ();

    fn submit<'a>(&'a self, batch: &mut Batch<'a, Self>) -> Result {
        match batch.count() {
            0 => Ok(()),
            _ => Err(EIO),
        }
    }
}

/// The same, of a driver that keeps something with each folio.
struct Keeping;

impl CopyEngine for Keeping {
    type Fence<'a> = ();
    type Data = Arc<Kept>;

    fn submit(&self, batch: &mut Batch<'_, Self>) -> Result {
        match batch.count() {
            0 => Ok(()),
            _ => Err(EIO),
        }
    }
}

/// What is kept: it counts those that are gone.
struct Kept(Arc<Atomic<usize>>);

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.add(1, Relaxed);
    }
}

#[derive(DevPagemapOps)]
#[pin_data]
pub(crate) struct Device<A: OffsetAllocator, E: CopyEngine = Idle> {
    #[offsets]
    #[pin]
    offsets: A,
    #[engine]
    engine: E,
}

/// An allocator without a memory: always offers the same page.
pub(crate) struct Always(PageOffset);

impl OffsetAllocator for Always {
    fn allocate(&self, _order: Order) -> Option<PageOffset> {
        Some(self.0)
    }

    fn free(&self, _offset: PageOffset, _order: Order) {}
}

pub(crate) fn pagemap(nr: NrPages) -> Result<Pin<KBox<DevPagemap<Device<BitmapOffsets>>>>> {
    let device = try_pin_init!(Device {
        offsets <- BitmapOffsets::new(nr),
        engine: Idle,
    }? Error);
    KBox::pin_init(
        DevPagemap::new(c"dpmem-kunit", nr, NumaNode::LOCAL, device),
        GFP_KERNEL,
    )
}

pub(crate) fn always(nr: NrPages, offset: usize) -> Result<Pin<KBox<DevPagemap<Device<Always>>>>> {
    let device = try_pin_init!(Device {
        offsets: Always(PageOffset::new(offset)),
        engine: Idle,
    }? Error);
    KBox::pin_init(
        DevPagemap::new(c"dpmem-kunit", nr, NumaNode::LOCAL, device),
        GFP_KERNEL,
    )
}

#[kunit_tests(rust_dpmem_number)]
mod number {
    use super::*;

    #[test]
    fn addresses_are_pages() {
        assert!(UserAddr::new(PAGE_SIZE).is_ok());
        assert!(UserAddr::new(PAGE_SIZE + 1).is_err());
        assert_eq!(UserAddr::containing(PAGE_SIZE + 1).get(), PAGE_SIZE);
    }

    #[test]
    fn a_range_neither_is_empty_nor_wraps() -> Result {
        let start = UserAddr::new(PAGE_SIZE)?;
        assert!(UserRange::new(start, NrPages::ZERO).is_err());
        assert!(UserRange::new(start, NrPages::new(usize::MAX)).is_err());
        let all = usize::MAX / PAGE_SIZE;
        assert!(UserRange::new(start, NrPages::new(all)).is_err());
        assert!(UserRange::new(start, NrPages::new(all - 1)).is_ok());
        Ok(())
    }

    #[test]
    fn windows_cover_a_range_once() -> Result {
        let range = UserRange::new(UserAddr::new(5 * PAGE_SIZE)?, NrPages::new(7))?;
        let mut expected = range.start();
        let mut total = 0;
        for window in range.windows(NrPages::new(3)) {
            assert!(window.start() == expected);
            assert!(window.nr_pages() <= NrPages::new(3));
            expected = window.end();
            total += window.nr_pages().get();
        }
        assert!(expected == range.end());
        assert_eq!(total, 7);
        assert_eq!(range.windows(NrPages::ZERO).count(), 0);
        Ok(())
    }

    #[test]
    fn ranges_are_clipped() -> Result {
        let page = |n: usize| UserAddr::new(n * PAGE_SIZE);
        let range = UserRange::new(page(2)?, NrPages::new(4))?;
        assert!(range.starting_at(page(6)?).is_none());
        assert!(range.ending_at(page(2)?).is_none());
        let tail = range.starting_at(page(5)?).ok_or(EINVAL)?;
        assert_eq!(tail.nr_pages().get(), 1);
        let head = range.ending_at(page(3)?).ok_or(EINVAL)?;
        assert_eq!(head.nr_pages().get(), 1);
        assert!(range.starting_at(page(0)?) == Some(range));
        assert!(range.ending_at(page(9)?) == Some(range));
        assert!(range.page(3) == Some(page(5)?));
        assert!(range.page(4).is_none());
        Ok(())
    }

    #[test]
    fn orders_are_bounded() -> Result {
        assert_eq!(Order::new(9)?.nr_pages().get(), 512);
        assert!(Order::new(33).is_err());
        assert!(PageOffset::new(512).is_aligned(Order::new(9)?));
        assert!(!PageOffset::new(256).is_aligned(Order::new(9)?));
        assert!(PageOffset::new(usize::MAX)
            .checked_add(NrPages::new(1))
            .is_none());
        assert!(NrPages::from_bytes(PAGE_SIZE + 1).is_err());
        Ok(())
    }

    #[test]
    fn migrate_pfns_keep_their_flags() {
        let entry = MigratePfn::from_raw(0).with_write(true);
        assert!(entry.is_writable());
        assert!(!entry.is_valid());
        assert!(!entry.is_migrating());
        assert!(entry.page().is_none());
        assert!(MigratePfn::NONE.with_write(false) == MigratePfn::NONE);
    }
}

#[kunit_tests(rust_dpmem_pagemap)]
mod pagemap_life {
    use super::*;

    #[test]
    fn a_folio_comes_and_goes() -> Result {
        let pagemap = pagemap(NrPages::new(1024))?;
        assert_eq!(pagemap.nr_pages().get(), 1024);
        assert_eq!(pagemap.nr_out().get(), 0);
        let first = pagemap.request_folio(Order::ZERO)?;
        let second = pagemap.request_folio(Order::ZERO)?;
        assert!(first.offset() == Some(PageOffset::ZERO));
        assert!(second.offset() == Some(PageOffset::new(1)));
        assert_eq!(pagemap.nr_out().get(), 2);
        drop(first);
        assert_eq!(pagemap.nr_out().get(), 1);
        let again = pagemap.request_folio(Order::ZERO)?;
        assert!(again.offset() == Some(PageOffset::ZERO));
        drop(second);
        drop(again);
        assert_eq!(pagemap.nr_out().get(), 0);
        // Every page, those that were out before among them.
        for _ in 0..1024 {
            assert!(pagemap.request_folio(Order::ZERO).is_ok());
        }
        Ok(())
    }

    #[test]
    fn all_pages_can_be_out_and_no_more() -> Result {
        let pagemap = pagemap(NrPages::new(3))?;
        let folios = [
            pagemap.request_folio(Order::ZERO)?,
            pagemap.request_folio(Order::ZERO)?,
            pagemap.request_folio(Order::ZERO)?,
        ];
        assert!(pagemap.request_folio(Order::ZERO).err() == Some(ENOMEM));
        drop(folios);
        assert!(pagemap.request_folio(Order::ZERO).is_ok());
        Ok(())
    }

    #[test]
    fn a_page_is_never_out_twice() -> Result {
        let pagemap = always(NrPages::new(512), 7)?;
        let folio = pagemap.request_folio(Order::ZERO)?;
        assert!(pagemap.request_folio(Order::ZERO).err() == Some(EBUSY));
        drop(folio);
        assert!(pagemap.request_folio(Order::ZERO).is_ok());
        Ok(())
    }

    #[test]
    fn nothing_lies_beyond_the_end() -> Result {
        let pagemap = always(NrPages::new(512), 512)?;
        assert!(pagemap.request_folio(Order::ZERO).err() == Some(EINVAL));
        let pagemap = always(NrPages::new(512), usize::MAX)?;
        assert!(pagemap.request_folio(Order::ZERO).err() == Some(EINVAL));
        Ok(())
    }

    #[test]
    fn what_is_not_there_is_not_collected() -> Result {
        let pagemap = pagemap(NrPages::new(512))?;
        let mut buffer = MigrateBuffer::new(NrPages::new(2))?;
        for offset in [511, usize::MAX] {
            let pieces = [(PageOffset::new(offset), NrPages::new(2))].into_iter();
            // SAFETY: The pagemap is registered for as long as it lives.
            let flight =
                unsafe { Flight::from_device(pagemap.backend(), pieces, buffer.entries()) };
            assert!(flight.err() == Some(EINVAL));
        }
        Ok(())
    }

    #[test]
    fn a_large_folio_comes_and_goes() -> Result {
        let Some(large) = large_order() else {
            return Ok(());
        };
        let nr = large.nr_pages();
        let pagemap = pagemap(NrPages::new(3 * nr.get()))?;
        let small = pagemap.request_folio(Order::ZERO)?;
        let folio = pagemap.request_folio(large)?;
        assert!(folio.order() == large);
        assert!(folio.offset() == Some(PageOffset::new(nr.get())));
        assert_eq!(pagemap.nr_out().get(), 1 + nr.get());
        let other = pagemap.request_folio(large)?;
        // There is room, but not in one piece.
        assert!(pagemap.request_folio(large).err() == Some(ENOMEM));
        drop((small, folio, other));
        assert_eq!(pagemap.nr_out().get(), 0);
        // What was a large folio is made of pages again.
        for _ in 0..3 * nr.get() {
            assert!(pagemap.request_folio(Order::ZERO)?.order() == Order::ZERO);
        }
        Ok(())
    }

    #[test]
    fn no_large_folio_where_a_page_is_out() -> Result {
        let Some(large) = large_order() else {
            return Ok(());
        };
        let pagemap = always(large.nr_pages(), 0)?;
        let small = pagemap.request_folio(Order::ZERO)?;
        assert!(pagemap.request_folio(large).err() == Some(EBUSY));
        drop(small);
        let folio = pagemap.request_folio(large)?;
        assert!(pagemap.request_folio(Order::ZERO).err() == Some(EBUSY));
        drop(folio);
        // Neither is one of another size, nor one that begins in between.
        assert!(pagemap.request_folio(Order::new(1)?).err() == Some(EINVAL));
        let pagemap = always(NrPages::new(3 * large.nr_pages().get()), 1)?;
        assert!(pagemap.request_folio(large).err() == Some(EINVAL));
        Ok(())
    }

    #[test]
    fn sizes_are_checked() {
        assert!(always(NrPages::ZERO, 0).err() == Some(EINVAL));
        assert!(always(NrPages::new(usize::MAX), 0).is_err());
    }

    #[test]
    fn evicting_what_was_never_requested_does_nothing() -> Result {
        let pagemap = pagemap(NrPages::new(1024))?;
        let moved = pagemap.evict(PageOffset::ZERO, pagemap.nr_pages())?;
        assert_eq!(moved.get(), 0);
        // A folio that is ours is locked, so it stays.
        let folio = pagemap.request_folio(Order::ZERO)?;
        let moved = pagemap.evict(PageOffset::ZERO, pagemap.nr_pages())?;
        assert_eq!(moved.get(), 0);
        drop(folio);
        let beyond = NrPages::new(1025);
        assert!(pagemap.evict(PageOffset::ZERO, beyond).err() == Some(EINVAL));
        assert!(pagemap.evict(PageOffset::new(usize::MAX), beyond).is_err());
        Ok(())
    }
}

#[kunit_tests(rust_dpmem_data)]
mod data {
    use super::*;

    type Pagemap = DevPagemap<Device<BitmapOffsets, Keeping>>;

    fn keeping(nr: NrPages) -> Result<Pin<KBox<Pagemap>>> {
        let device = try_pin_init!(Device {
            offsets <- BitmapOffsets::new(nr),
            engine: Keeping,
        }? Error);
        KBox::pin_init(
            DevPagemap::new(c"dpmem-kunit", nr, NumaNode::LOCAL, device),
            GFP_KERNEL,
        )
    }

    fn kept(gone: &Arc<Atomic<usize>>) -> Result<Arc<Kept>> {
        Ok(Arc::new(Kept(gone.clone()), GFP_KERNEL)?)
    }

    #[test]
    fn a_folio_drops_its_data_once() -> Result {
        let gone = Arc::new(Atomic::new(0), GFP_KERNEL)?;
        let pagemap = keeping(NrPages::new(4))?;
        for round in 0..3 {
            let mut folio = pagemap.request_folio(Order::ZERO)?;
            // The page has a past, but no data of it.
            assert!(folio.data().is_none());
            folio.set_data(kept(&gone)?);
            assert!(folio.data().is_some());
            assert_eq!(gone.load(Relaxed), round);
            drop(folio);
            assert_eq!(gone.load(Relaxed), round + 1);
        }
        Ok(())
    }

    #[test]
    fn other_data_takes_the_place_of_the_old() -> Result {
        let gone = Arc::new(Atomic::new(0), GFP_KERNEL)?;
        let pagemap = keeping(NrPages::new(4))?;
        let mut folio = pagemap.request_folio(Order::ZERO)?;
        folio.set_data(kept(&gone)?);
        folio.set_data(kept(&gone)?);
        assert_eq!(gone.load(Relaxed), 1);
        drop(folio);
        assert_eq!(gone.load(Relaxed), 2);
        Ok(())
    }

    #[test]
    fn folios_share_what_is_kept() -> Result {
        let gone = Arc::new(Atomic::new(0), GFP_KERNEL)?;
        let pagemap = keeping(NrPages::new(4))?;
        let data = kept(&gone)?;
        let mut one = pagemap.request_folio(Order::ZERO)?;
        let mut two = pagemap.request_folio(Order::ZERO)?;
        one.set_data(data.clone());
        two.set_data(data);
        drop(one);
        assert_eq!(gone.load(Relaxed), 0);
        assert!(two.data().is_some());
        drop(two);
        assert_eq!(gone.load(Relaxed), 1);
        Ok(())
    }

    #[test]
    fn a_large_folio_drops_its_data_once() -> Result {
        let Some(large) = large_order() else {
            return Ok(());
        };
        let gone = Arc::new(Atomic::new(0), GFP_KERNEL)?;
        let pagemap = keeping(large.nr_pages())?;
        let mut folio = pagemap.request_folio(large)?;
        folio.set_data(kept(&gone)?);
        drop(folio);
        assert_eq!(gone.load(Relaxed), 1);
        // Its first page, and one that was in the middle of it.
        let one = pagemap.request_folio(Order::ZERO)?;
        let two = pagemap.request_folio(Order::ZERO)?;
        assert!(one.data().is_none());
        assert!(two.data().is_none());
        Ok(())
    }

    /// An engine whose folios have something that asks for one.
    struct Asking;

    impl CopyEngine for Asking {
        type Fence<'a> = ();
        type Data = Eager;

        fn submit(&self, _batch: &mut Batch<'_, Self>) -> Result {
            Err(EIO)
        }
    }

    /// What asks for a folio when it is taken out of one, which is while that is being freed.
    #[derive(Clone)]
    struct Eager(Arc<Wish>);

    struct Wish {
        pagemap: Arc<DevPagemap<Device<Always, Asking>>>,
        /// The error that came of it.
        answer: Atomic<i32>,
    }

    // SAFETY: All is done as `Arc` does it.
    unsafe impl ForeignOwnable for Eager {
        const FOREIGN_ALIGN: usize = <Arc<Wish> as ForeignOwnable>::FOREIGN_ALIGN;

        type Borrowed<'a> = ArcBorrow<'a, Wish>;
        type BorrowedMut<'a> = ArcBorrow<'a, Wish>;

        fn into_foreign(self) -> *mut c_void {
            self.0.into_foreign()
        }

        unsafe fn from_foreign(ptr: *mut c_void) -> Self {
            // SAFETY: The caller promises that it comes from `into_foreign()`.
            let wish = unsafe { Arc::<Wish>::from_foreign(ptr) };
            let answer = wish.pagemap.request_folio(Order::ZERO);
            let answer = answer.map_or_else(Error::to_errno, |_| 0);
            wish.answer.store(answer, Relaxed);
            Self(wish)
        }

        unsafe fn borrow<'a>(ptr: *mut c_void) -> ArcBorrow<'a, Wish> {
            // SAFETY: As above, and the caller promises the lifetime.
            unsafe { Arc::<Wish>::borrow(ptr) }
        }

        unsafe fn borrow_mut<'a>(ptr: *mut c_void) -> ArcBorrow<'a, Wish> {
            // SAFETY: As above.
            unsafe { Arc::<Wish>::borrow_mut(ptr) }
        }
    }

    impl FolioData for Eager {}

    #[test]
    fn a_page_is_out_until_it_has_been_freed() -> Result {
        let nr = NrPages::new(4);
        let device = try_pin_init!(Device {
            offsets: Always(PageOffset::ZERO),
            engine: Asking,
        }? Error);
        let pagemap = DevPagemap::new(c"dpmem-kunit", nr, NumaNode::LOCAL, device);
        let pagemap = Arc::pin_init(pagemap, GFP_KERNEL)?;
        let wish = Wish {
            pagemap: pagemap.clone(),
            answer: Atomic::new(0),
        };
        let wish = Arc::new(wish, GFP_KERNEL)?;
        let mut folio = pagemap.request_folio(Order::ZERO)?;
        folio.set_data(Eager(wish.clone()));
        drop(folio);
        assert_eq!(wish.answer.load(Relaxed), EBUSY.to_errno());
        assert_eq!(pagemap.nr_out().get(), 0);
        assert!(pagemap.request_folio(Order::ZERO).is_ok());
        Ok(())
    }
}
