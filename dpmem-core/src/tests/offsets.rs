// SPDX-License-Identifier: GPL-2.0

//! The allocators of offsets.

#[cfg(CONFIG_GPU_BUDDY = "y")]
use kernel::{
    gpu::buddy::{
        GpuBuddy,
        GpuBuddyAllocFlags,
        GpuBuddyAllocMode,
        GpuBuddyParams, //
    },
    page::PAGE_SIZE,
    ptr::Alignment, //
};
use kernel::{
    new_spinlock,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Completion,
        SpinLock, //
    },
    workqueue, //
};

#[cfg(CONFIG_GPU_BUDDY = "y")]
use crate::BuddyOffsets;
use crate::{
    folio::large_order,
    Batch,
    BitmapOffsets,
    ChunkOffsets,
    ChunkSource,
    CopyEngine,
    DevPagemap,
    DevPagemapOps,
    NrPages,
    NumaNode,
    OffsetAllocator,
    Order,
    PageOffset, //
};

/// The order of the larger runs of the tests, and of most chunks.
const LARGE: u32 = 4;

fn bitmap(nr: usize) -> Result<Pin<KBox<BitmapOffsets>>> {
    KBox::pin_init(BitmapOffsets::new(NrPages::new(nr)), GFP_KERNEL)
}

/// What the tests know of the chunks of a [`Source`].
#[pin_data]
struct Log {
    /// How many there are.
    pinned: Atomic<usize>,
    /// How many there ever were.
    ever: Atomic<usize>,
    /// There is but one left.
    #[pin]
    one_left: Completion,
    /// A chunk is on its way back.
    #[pin]
    leaving: Completion,
    /// It may go.
    #[pin]
    may_leave: Completion,
}

/// A source of a few chunks.
struct Source {
    log: Arc<Log>,
    /// How many there can be at a time.
    limit: usize,
    /// Whether chunks wait for `may_leave`, and the source is the one who says so, when it has
    /// nothing left.
    wait: bool,
    /// Where chunks go, if not to the first place that is vacant.
    place: Option<usize>,
}

/// A chunk of it.
struct Pinned {
    log: Arc<Log>,
    wait: bool,
    start: PageOffset,
}

impl Source {
    fn new(limit: usize) -> Result<Self> {
        let log = Arc::pin_init(
            pin_init!(Log {
                pinned: Atomic::new(0),
                ever: Atomic::new(0),
                one_left <- Completion::new(),
                leaving <- Completion::new(),
                may_leave <- Completion::new(),
            }),
            GFP_KERNEL,
        )?;
        Ok(Self {
            log,
            limit,
            wait: false,
            place: None,
        })
    }
}

impl ChunkSource for Source {
    type Chunk = Pinned;

    fn pin(&self, vacant: PageOffset) -> Result<(PageOffset, Pinned)> {
        if self.log.pinned.load(Relaxed) >= self.limit {
            self.log.may_leave.complete_all();
            return Err(ENOSPC);
        }
        self.log.pinned.add(1, Relaxed);
        self.log.ever.add(1, Relaxed);
        let start = self.place.map_or(vacant, PageOffset::new);
        let chunk = Pinned {
            log: self.log.clone(),
            wait: self.wait,
            start,
        };
        Ok((start, chunk))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.log.leaving.complete_all();
        if self.wait {
            self.log.may_leave.wait_for_completion();
        }
        if self.log.pinned.fetch_sub(1, Relaxed) == 2 {
            self.log.one_left.complete_all();
        }
    }
}

/// A device whose engine wants to know what is behind a page.
struct Chunked(ChunkOffsets<Source>);

impl DevPagemapOps for Chunked {
    type Offsets = ChunkOffsets<Source>;
    type Engine = Self;
    type Data = ();

    fn offsets(&self) -> &ChunkOffsets<Source> {
        &self.0
    }

    fn engine(&self) -> &Self {
        self
    }
}

impl CopyEngine for Chunked {
    type Fence<'a> = ();
    type Data = ();

    fn submit<'a>(&'a self, batch: &mut Batch<'a, Self>) -> Result {
        match batch.count() {
            0 => Ok(()),
            _ => Err(EIO),
        }
    }
}

/// An allocator of `nr` chunks that has `nr` places for them.
fn chunks(nr: usize) -> Result<(ChunkOffsets<Source>, Arc<Log>)> {
    let source = Source::new(nr)?;
    let log = source.log.clone();
    Ok((chunks_of(nr, source)?, log))
}

fn chunks_of(nr: usize, source: Source) -> Result<ChunkOffsets<Source>> {
    ChunkOffsets::new(NrPages::new(nr << LARGE), Order::new(LARGE)?, source)
}

#[cfg(CONFIG_GPU_BUDDY = "y")]
fn buddy(nr: usize, base_offset: u64) -> Result<Arc<GpuBuddy>> {
    let buddy = GpuBuddy::new(GpuBuddyParams {
        base_offset,
        size: (nr * PAGE_SIZE) as u64,
        chunk_size: Alignment::new::<PAGE_SIZE>(),
    })?;
    Ok(Arc::new(buddy, GFP_KERNEL)?)
}

/// Takes and gives back runs of two sizes, some of them in pieces, and compares with what there
/// must be. What is given back is so with a spinlock held, as it may be.
fn compare(offsets: &impl OffsetAllocator, nr: usize) -> Result {
    const STEPS: usize = 5000;
    let large = Order::new(LARGE)?;
    let lock: Pin<KBox<SpinLock<()>>> = KBox::pin_init(new_spinlock!(()), GFP_KERNEL)?;
    let mut taken: KVVec<bool> = KVVec::from_elem(false, nr, GFP_KERNEL)?;
    let mut out: KVVec<(PageOffset, Order)> = KVVec::with_capacity(nr, GFP_KERNEL)?;
    let is_idle = |taken: &[bool], run: core::ops::Range<usize>| {
        taken.get(run).is_some_and(|run| !run.contains(&true))
    };
    let mut random = 1u64;
    let mut filling = true;

    for _ in 0..STEPS {
        random = random
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        let dice = (random >> 33) as usize;
        // Fills up, and empties again, so that both ends are reached.
        if out.is_empty() || dice % 8 < if filling { 7 } else { 1 } {
            let order = if dice % 3 == 0 { large } else { Order::ZERO };
            let size = order.nr_pages().get();
            let Some(offset) = offsets.allocate(order) else {
                let missed = (0..nr)
                    .step_by(size)
                    .find(|start| is_idle(&taken, *start..*start + size));
                assert!(missed.is_none());
                filling = false;
                continue;
            };
            let run = offset.get()..offset.get() + size;
            assert!(offset.is_aligned(order));
            assert!(is_idle(&taken, run.clone()));
            for page in taken.get_mut(run).ok_or(EINVAL)? {
                *page = true;
            }
            out.push_within_capacity((offset, order))?;
        } else {
            let index = dice / 8 % out.len();
            let (offset, order) = out.remove(index).map_err(|_| EINVAL)?;
            // What was large may have been split: half of it comes back now, in pieces.
            let half = order.nr_pages().get() / 2;
            let now = if order == large && dice % 2 == 0 {
                for page in offset.get() + half..offset.get() + 2 * half {
                    out.push((PageOffset::new(page), Order::ZERO), GFP_KERNEL)?;
                }
                0..half
            } else if order == large {
                let _guard = lock.lock();
                offsets.free(offset, order);
                for page in taken
                    .get_mut(offset.get()..offset.get() + 2 * half)
                    .ok_or(EINVAL)?
                {
                    *page = false;
                }
                0..0
            } else {
                0..1
            };
            for page in now.map(|page| offset.get() + page) {
                let _guard = lock.lock();
                offsets.free(PageOffset::new(page), Order::ZERO);
                *taken.get_mut(page).ok_or(EINVAL)? = false;
            }
            filling |= out.is_empty();
        }
    }
    for (offset, order) in out {
        let _guard = lock.lock();
        offsets.free(offset, order);
    }
    // All of it can be had again.
    for _ in 0..nr >> LARGE {
        assert!(offsets.allocate(large).is_some());
    }
    assert!(offsets.allocate(Order::ZERO).is_none());
    for start in (0..nr).step_by(1 << LARGE) {
        offsets.free(PageOffset::new(start), large);
    }
    Ok(())
}

#[kunit_tests(rust_dpmem_offsets)]
mod cases {
    use super::*;

    #[test]
    fn every_page_once() -> Result {
        let offsets = bitmap(3)?;
        for expected in 0..3 {
            assert!(offsets.allocate(Order::ZERO) == Some(PageOffset::new(expected)));
        }
        assert!(offsets.allocate(Order::ZERO).is_none());
        offsets.free(PageOffset::new(1), Order::ZERO);
        assert!(offsets.allocate(Order::ZERO) == Some(PageOffset::new(1)));
        Ok(())
    }

    #[test]
    fn runs_are_aligned_and_fit() -> Result {
        let offsets = bitmap(11)?;
        let four = Order::new(2)?;
        assert!(offsets.allocate(Order::ZERO) == Some(PageOffset::ZERO));
        assert!(offsets.allocate(four) == Some(PageOffset::new(4)));
        // 8 to 10 is too short, 1 to 3 is not aligned.
        assert!(offsets.allocate(four).is_none());
        offsets.free(PageOffset::ZERO, Order::ZERO);
        assert!(offsets.allocate(four) == Some(PageOffset::ZERO));
        assert!(offsets.allocate(Order::MAX).is_none());
        Ok(())
    }

    #[test]
    fn what_is_low_is_found_again() -> Result {
        let offsets = bitmap(16)?;
        let four = Order::new(2)?;
        for expected in 0..5 {
            assert!(offsets.allocate(Order::ZERO) == Some(PageOffset::new(expected)));
        }
        assert!(offsets.allocate(four) == Some(PageOffset::new(8)));
        // The large run left idle pages below it.
        assert!(offsets.allocate(Order::ZERO) == Some(PageOffset::new(5)));
        offsets.free(PageOffset::new(2), Order::ZERO);
        assert!(offsets.allocate(four) == Some(PageOffset::new(12)));
        assert!(offsets.allocate(Order::ZERO) == Some(PageOffset::new(2)));
        assert!(offsets.allocate(Order::ZERO) == Some(PageOffset::new(6)));
        Ok(())
    }

    #[test]
    fn a_run_may_come_back_in_pieces() -> Result {
        let offsets = bitmap(4)?;
        let four = Order::new(2)?;
        assert!(offsets.allocate(four) == Some(PageOffset::ZERO));
        for page in 0..4 {
            assert!(offsets.allocate(four).is_none());
            offsets.free(PageOffset::new(page), Order::ZERO);
        }
        assert!(offsets.allocate(four) == Some(PageOffset::ZERO));
        Ok(())
    }

    #[test]
    fn a_bitmap_does_what_it_must() -> Result {
        compare(&*bitmap(64 << LARGE)?, 64 << LARGE)
    }

    #[test]
    fn chunks_do_what_they_must() -> Result {
        let (offsets, log) = chunks(64)?;
        compare(&offsets, 64 << LARGE)?;
        drop(offsets);
        assert_eq!(log.pinned.load(Relaxed), 0);
        Ok(())
    }

    #[test]
    fn large_chunks_do_what_they_must() -> Result {
        let source = Source::new(8)?;
        let log = source.log.clone();
        let nr = 64 << LARGE;
        let order = Order::new(LARGE + 3)?;
        let offsets = ChunkOffsets::<Source>::new(NrPages::new(nr), order, source)?;
        compare(&offsets, nr)?;
        drop(offsets);
        assert_eq!(log.pinned.load(Relaxed), 0);
        Ok(())
    }

    #[cfg(CONFIG_GPU_BUDDY = "y")]
    #[test]
    fn a_buddy_allocator_does_what_it_must() -> Result {
        let nr = 64 << LARGE;
        // Not at the beginning of the address space, and its size no power of two.
        let nr_odd = nr + (5 << LARGE);
        let buddy = buddy(nr_odd, 1 << 40)?;
        let offsets = BuddyOffsets::new(buddy.clone(), Order::new(LARGE)?)?;
        compare(&offsets, nr_odd)?;
        drop(offsets);
        assert_eq!(buddy.avail(), buddy.size());
        Ok(())
    }

    #[cfg(CONFIG_GPU_BUDDY = "y")]
    #[test]
    fn a_buddy_allocator_is_shared() -> Result {
        let large = Order::new(LARGE)?;
        let buddy = buddy(2 << LARGE, 0)?;
        let block = (PAGE_SIZE << LARGE) as u64;
        let other = KBox::pin_init(
            buddy.alloc_blocks(
                GpuBuddyAllocMode::Simple,
                block,
                Alignment::new::<{ PAGE_SIZE << LARGE }>(),
                GpuBuddyAllocFlags::default(),
            ),
            GFP_KERNEL,
        )?;
        let theirs = other.iter().next().ok_or(ENOMEM)?.offset();
        let offsets = BuddyOffsets::new(buddy.clone(), large)?;
        let ours = offsets.allocate(large).ok_or(ENOMEM)?;
        assert!(ours.to_bytes() != Some(theirs as usize));
        assert!(offsets.allocate(Order::ZERO).is_none());
        drop(other);
        let more = offsets.allocate(large).ok_or(ENOMEM)?;
        assert!(more.to_bytes() == Some(theirs as usize));
        offsets.free(ours, large);
        offsets.free(more, large);
        offsets.shrink();
        assert_eq!(buddy.avail(), buddy.size());
        // A block is larger than what the allocator has, or smaller than what it can do.
        assert!(BuddyOffsets::new(buddy.clone(), Order::new(LARGE + 2)?).is_err());
        Ok(())
    }

    #[test]
    fn chunks_come_when_they_are_needed() -> Result {
        let (offsets, log) = chunks(3)?;
        let large = Order::new(LARGE)?;
        assert_eq!(log.ever.load(Relaxed), 0);
        let page = offsets.allocate(Order::ZERO).ok_or(ENOMEM)?;
        for _ in 1..1 << LARGE {
            assert!(offsets.allocate(Order::ZERO).is_some());
        }
        assert_eq!(log.ever.load(Relaxed), 1);
        let run = offsets.allocate(large).ok_or(ENOMEM)?;
        assert_eq!(log.ever.load(Relaxed), 2);
        assert_eq!(offsets.nr_pinned().get(), 2 << LARGE);
        // A page that comes back is used before there is another chunk.
        offsets.free(page, Order::ZERO);
        assert!(offsets.allocate(Order::ZERO) == Some(page));
        assert_eq!(log.ever.load(Relaxed), 2);
        // The last chunk of the three, and then there are none.
        assert!(offsets.allocate(large).is_some());
        assert!(offsets.allocate(large).is_none());
        assert!(offsets.allocate(Order::new(LARGE + 1)?).is_none());
        assert_eq!(log.ever.load(Relaxed), 3);
        offsets.free(run, large);
        assert!(offsets.allocate(large) == Some(run));
        assert_eq!(log.ever.load(Relaxed), 3);
        Ok(())
    }

    #[test]
    fn idle_chunks_go_back_but_for_one() -> Result {
        let (offsets, log) = chunks(3)?;
        let large = Order::new(LARGE)?;
        let mut runs = KVVec::new();
        for _ in 0..3 {
            runs.push(offsets.allocate(large).ok_or(ENOMEM)?, GFP_KERNEL)?;
        }
        for run in runs {
            offsets.free(run, large);
        }
        log.one_left.wait_for_completion();
        assert_eq!(log.pinned.load(Relaxed), 1);
        offsets.shrink();
        assert_eq!(log.pinned.load(Relaxed), 0);
        assert_eq!(offsets.nr_pinned().get(), 0);
        // What is used stays.
        let page = offsets.allocate(Order::ZERO).ok_or(ENOMEM)?;
        offsets.shrink();
        assert_eq!(log.pinned.load(Relaxed), 1);
        offsets.free(page, Order::ZERO);
        Ok(())
    }

    #[test]
    fn what_is_on_its_way_back_is_waited_for() -> Result {
        let mut source = Source::new(2)?;
        source.wait = true;
        let log = source.log.clone();
        let offsets = chunks_of(2, source)?;
        let large = Order::new(LARGE)?;
        let first = offsets.allocate(large).ok_or(ENOMEM)?;
        let second = offsets.allocate(large).ok_or(ENOMEM)?;
        offsets.free(first, large);
        offsets.free(second, large);
        // One stays. The other does not go before the source has been asked, and had to say no.
        log.leaving.wait_for_completion();
        assert!(offsets.allocate(large).is_some());
        assert!(offsets.allocate(large).is_some());
        assert_eq!(log.ever.load(Relaxed), 3);
        Ok(())
    }

    #[test]
    fn a_chunk_must_have_a_place() -> Result {
        // In between; beyond the end; and a place that is taken.
        for place in [1, 2 << LARGE, usize::MAX] {
            let mut source = Source::new(2)?;
            source.place = Some(place);
            let log = source.log.clone();
            let offsets = chunks_of(2, source)?;
            assert!(offsets.allocate(Order::ZERO).is_none());
            assert_eq!(log.pinned.load(Relaxed), 0);
        }
        let mut source = Source::new(2)?;
        source.place = Some(0);
        let log = source.log.clone();
        let offsets = chunks_of(2, source)?;
        let large = Order::new(LARGE)?;
        assert!(offsets.allocate(large) == Some(PageOffset::ZERO));
        assert!(offsets.allocate(large).is_none());
        assert_eq!(log.pinned.load(Relaxed), 1);
        Ok(())
    }

    #[test]
    fn chunks_can_be_looked_at() -> Result {
        let (offsets, _) = chunks(3)?;
        let large = Order::new(LARGE)?;
        let size = large.nr_pages();
        for _ in 0..2 {
            assert!(offsets.allocate(large).is_some());
        }
        let second = PageOffset::ZERO.checked_add(size).ok_or(EINVAL)?;
        let page = second.checked_add(NrPages::new(5)).ok_or(EINVAL)?;
        let seen = offsets.with_chunk(page, |chunk, rest| (chunk.start, rest));
        assert!(seen == Some((second, NrPages::new(5))));
        let third = second.checked_add(size).ok_or(EINVAL)?;
        assert!(offsets.with_chunk(third, |_, _| ()).is_none());
        assert!(offsets
            .with_chunk(PageOffset::new(usize::MAX), |_, _| ())
            .is_none());

        let mut starts = KVVec::new();
        offsets.for_each_chunk(|start, chunk| {
            assert!(chunk.start == start);
            Ok(starts.push(start, GFP_KERNEL)?)
        })?;
        assert!(starts.get(..) == Some(&[PageOffset::ZERO, second][..]));
        assert!(offsets.for_each_chunk(|_, _| Err(EIO)) == Err(EIO));
        Ok(())
    }

    #[test]
    fn a_pagemap_may_be_made_of_chunks() -> Result {
        let order = large_order().unwrap_or(Order::new(LARGE)?);
        let nr = NrPages::new(2 * order.nr_pages().get());
        let source = Source::new(2)?;
        let log = source.log.clone();
        let ops = Chunked(ChunkOffsets::new(nr, order, source)?);
        let pagemap = DevPagemap::new(c"dpmem-kunit", nr, NumaNode::LOCAL, ops);
        let pagemap = KBox::pin_init(pagemap, GFP_KERNEL)?;
        assert_eq!(log.ever.load(Relaxed), 0);
        let page = pagemap.request_folio(Order::ZERO)?;
        assert_eq!(log.ever.load(Relaxed), 1);
        if let Some(large) = large_order() {
            let folio = pagemap.request_folio(large)?;
            assert_eq!(log.ever.load(Relaxed), 2);
            let start = folio.offset().ok_or(EINVAL)?;
            let behind = pagemap
                .ops()
                .engine()
                .0
                .with_chunk(start, |chunk, _| chunk.start);
            assert!(behind == Some(start));
            assert!(pagemap.request_folio(large).err() == Some(ENOMEM));
        }
        // The large one is idle, and stays; then there is another idle one, and one of the two
        // goes.
        assert_eq!(log.pinned.load(Relaxed), log.ever.load(Relaxed));
        drop(page);
        if large_order().is_some() {
            log.one_left.wait_for_completion();
        }
        drop(pagemap);
        assert_eq!(log.pinned.load(Relaxed), 0);
        Ok(())
    }

    #[test]
    fn many_take_and_give_at_once() -> Result {
        #[pin_data]
        struct Crowd {
            offsets: ChunkOffsets<Source>,
            // Which pages somebody has.
            #[pin]
            taken: SpinLock<KVVec<bool>>,
            running: Atomic<usize>,
            #[pin]
            done: Completion,
        }
        const WORKERS: usize = 4;
        const ROUNDS: usize = 500;
        const CHUNKS: usize = 3;

        let (offsets, log) = chunks(CHUNKS)?;
        let taken = KVVec::from_elem(false, CHUNKS << LARGE, GFP_KERNEL)?;
        let crowd = Arc::pin_init(
            try_pin_init!(Crowd {
                offsets,
                taken <- new_spinlock!(taken),
                running: Atomic::new(WORKERS),
                done <- Completion::new(),
            }? Error),
            GFP_KERNEL,
        )?;
        let twice = Arc::new(Atomic::new(0usize), GFP_KERNEL)?;
        let large = Order::new(LARGE)?;
        for worker in 0..WORKERS {
            let (crowd, twice) = (crowd.clone(), twice.clone());
            workqueue::system_long().try_spawn(GFP_KERNEL, move || {
                for round in 0..ROUNDS {
                    let order = if (round + worker) % 3 == 0 {
                        large
                    } else {
                        Order::ZERO
                    };
                    let Some(offset) = crowd.offsets.allocate(order) else {
                        continue;
                    };
                    let run = offset.get()..offset.get() + order.nr_pages().get();
                    for (is, expected) in [(true, false), (false, true)] {
                        let mut taken = crowd.taken.lock();
                        match taken.get_mut(run.clone()) {
                            Some(run) if !run.contains(&!expected) => run.fill(is),
                            _ => twice.add(1, Relaxed),
                        }
                    }
                    crowd.offsets.free(offset, order);
                }
                if crowd.running.fetch_sub(1, Relaxed) == 1 {
                    crowd.done.complete_all();
                }
            })?;
        }
        crowd.done.wait_for_completion();
        assert_eq!(twice.load(Relaxed), 0);
        crowd.offsets.shrink();
        assert_eq!(log.pinned.load(Relaxed), 0);
        Ok(())
    }
}
