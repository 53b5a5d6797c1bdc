// SPDX-License-Identifier: GPL-2.0

//! Device memory that a driver gets piece by piece.

mod table;

use kernel::{
    bindings,
    prelude::*,
    static_lock_class,
    str::CStr,
    sync::{
        atomic::{
            ordering::{
                Acquire,
                Release, //
            },
            Atomic, //
        },
        Arc,
        Mutex, //
    },
    workqueue::{
        self,
        impl_has_work,
        Work,
        WorkItem, //
    }, //
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
use table::{
    Chunk,
    Table, //
};

/// How many idle chunks stay. One is what it takes that somebody whose memory comes and goes does
/// not make the driver pin and unpin a chunk each time.
const KEPT: usize = 1;

/// The names of the locks; statics for the reason that is in `offsets/bitmap.rs`.
static TABLE_NAME: &CStr = c"dpmem::ChunkOffsets";
static GROWING_NAME: &CStr = c"dpmem::ChunkOffsets::growing";
static RETURNING_NAME: &CStr = c"dpmem::ChunkOffsets::returning";
static REAPER_NAME: &CStr = c"dpmem::ChunkOffsets::reaper";

/// How a driver gets at its device memory, a chunk at a time.
pub trait ChunkSource: Send + Sync + 'static {
    /// What keeps a chunk usable: a pinned buffer object, say. Dropping it gives the memory back.
    ///
    /// It is dropped in process context, and that may sleep, but must not wait for who brings pages
    /// of the same pagemap home or requests any.
    type Chunk: Send + Sync + 'static;

    /// Gets one more chunk, and tells which pages of the pagemap it is. That is where the chunk
    /// begins, at a multiple of its size, where there is none yet; `vacant` is such a place, for a
    /// source to which one is as good as another.
    ///
    /// # Context
    ///
    /// That of [`OffsetAllocator::allocate`]. Not called for two chunks at the same time.
    ///
    /// # Errors
    ///
    /// What the driver likes: there is no memory for the request then.
    fn pin(&self, vacant: PageOffset) -> Result<(PageOffset, Self::Chunk)>;
}

/// An allocator for a driver that gets its memory in chunks, from a [`ChunkSource`].
///
/// A chunk is pinned when there is no room in those that are there. It is unpinned when all of its
/// pages are idle, but for one such chunk, which stays: by a work item, because pages come back in
/// contexts that cannot sleep. [`ChunkOffsets::shrink`] unpins that one too, and dropping the
/// allocator unpins all, and waits for the work item: it may sleep. Idle memory is thus given back
/// to the rest of the driver without being asked for. What the driver would have to do to ask,
/// which is to wait for somebody else's memory, is what it cannot do in most places where it runs
/// out of it.
///
/// No request fails because of memory that is on its way back: it waits for that.
pub struct ChunkOffsets<S: ChunkSource>(Arc<Chunks<S>>);

/// What a [`ChunkOffsets`] and its work item share.
#[pin_data]
struct Chunks<S: ChunkSource> {
    // Dropped before the source.
    #[pin]
    table: SpinLockIrqSave<Table<S::Chunk>>,
    /// Held by the one who is getting a chunk.
    #[pin]
    growing: Mutex<()>,
    /// Held by the one who is giving a chunk back; behind `growing`.
    #[pin]
    returning: Mutex<()>,
    /// How many chunks were given back.
    returned: Atomic<usize>,
    #[pin]
    reaper: Work<Self>,
    order: Order,
    #[pin]
    source: S,
}

impl_has_work! {
    impl{S: ChunkSource} HasWork<Self> for Chunks<S> { self.reaper }
}

impl<S: ChunkSource> WorkItem for Chunks<S> {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.give_back(KEPT);
    }
}

impl<S: ChunkSource> Chunks<S> {
    fn new<E>(nr: NrPages, order: Order, source: impl PinInit<S, E>) -> impl PinInit<Self, Error>
    where
        Error: From<E>,
    {
        pin_init::pin_init_scope(move || {
            let table = Table::new(nr.get() >> order.get(), order)?;
            Ok(try_pin_init!(Self {
                table <- SpinLockIrqSave::new(table, TABLE_NAME, static_lock_class!()),
                growing <- Mutex::new((), GROWING_NAME, static_lock_class!()),
                returning <- Mutex::new((), RETURNING_NAME, static_lock_class!()),
                returned: Atomic::new(0),
                reaper <- Work::new(REAPER_NAME, static_lock_class!()),
                order,
                source <- source,
            }? Error))
        })
    }

    /// Takes a run of pages out of the chunks that are there.
    fn take(&self, order: Order) -> Option<PageOffset> {
        // A run that is a whole chunk is not in one of which pages are taken.
        let mut next = (order < self.order).then_some(0);
        while let Some(from) = next {
            // The lock is held for the search of one chunk at a time.
            match self.table.lock().take_partial(from, order) {
                Ok(offset) => return Some(offset),
                Err(rest) => next = rest,
            }
        }
        self.table.lock().take_idle(order)
    }

    /// Gets one more chunk, and takes a run of pages out of it.
    fn grow(&self, order: Order) -> Option<PageOffset> {
        let vacant = self.table.lock().vacant()?;
        let mut taken = Taken::new(self.order.nr_pages().get()).ok()?;
        let first = taken.take(order)?;

        let (start, chunk) = self.pin(vacant).ok()?;
        let chunk = Chunk::new(taken, Arc::new(chunk, GFP_KERNEL).ok()?);
        let inserted = self.table.lock().insert(start, chunk);
        if inserted.is_err() {
            pr_err!(
                "the driver offers a chunk at {:?}, which is no place for one\n",
                start
            );
            return None;
        }
        start.checked_add(NrPages::new(first))
    }

    /// Asks the source for a chunk. What is being given back while this goes on is not missed.
    fn pin(&self, vacant: PageOffset) -> Result<(PageOffset, S::Chunk)> {
        loop {
            let returned = self.returned.load(Acquire);
            let pinned = self.source.pin(vacant);
            if pinned.is_ok() {
                return pinned;
            }
            // Whoever is giving something back has done so when this lock can be taken.
            let _returning = self.returning.lock();
            if self.returned.load(Acquire) == returned {
                return pinned;
            }
        }
    }

    /// Gives back idle chunks until there are no more than `keep` of them.
    fn give_back(&self, keep: usize) {
        loop {
            let _returning = self.returning.lock();
            let chunk = self.table.lock().remove_idle(keep);
            if chunk.is_none() {
                break;
            }
            // Not under the lock of the table.
            drop(chunk);
            self.returned.fetch_add(1, Release);
        }
    }
}

impl<S: ChunkSource> ChunkOffsets<S> {
    /// An allocator for the `nr` pages of a pagemap, in chunks of `1 << order` pages from `source`.
    /// It hands out no run that is larger than a chunk, nor pages that do not fill one at the end.
    /// May sleep.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if there is not one chunk; [`ENOMEM`]; what `source` fails with.
    pub fn new<E>(nr: NrPages, order: Order, source: impl PinInit<S, E>) -> Result<Self>
    where
        Error: From<E>,
    {
        if nr < order.nr_pages() {
            return Err(EINVAL);
        }
        Ok(Self(Arc::pin_init::<Error>(
            Chunks::new(nr, order, source),
            GFP_KERNEL,
        )?))
    }

    /// The driver's source of chunks.
    pub fn source(&self) -> &S {
        &self.0.source
    }

    /// How many pages the chunks have that are there, idle or not. Does not sleep.
    pub fn nr_pinned(&self) -> NrPages {
        let nr = self.0.table.lock().nr_present();
        NrPages::new(nr.saturating_mul(self.0.order.nr_pages().get()))
    }

    /// Gives all idle chunks back: for a driver that needs memory for something else.
    ///
    /// # Context
    ///
    /// May sleep. Not in [`ChunkSource::pin`]'s chunks' `drop`.
    pub fn shrink(&self) {
        self.0.give_back(0);
    }

    /// Calls `f` with the chunk that `offset` lies in, and how far into it that is; `None` if there
    /// is no chunk. What it says of a page that is not out is true only for as long as `f` runs.
    ///
    /// An engine that has to ask this is the value that has the allocator as well: it implements
    /// both `CopyEngine` and
    /// [`DevPagemapOps`](crate::DevPagemapOps), whose `Engine` is `Self`.
    ///
    /// # Context
    ///
    /// Any. `f` runs with interrupts off, under a spinlock that [`OffsetAllocator::free`] needs: it
    /// must not sleep, use the allocator, or give up a reference to a page.
    pub fn with_chunk<R>(
        &self,
        offset: PageOffset,
        f: impl FnOnce(&S::Chunk, NrPages) -> R,
    ) -> Option<R> {
        let table = self.0.table.lock();
        let (chunk, page) = table.at(offset)?;
        Some(f(chunk, page))
    }

    /// Calls `f` with each chunk, and where it begins; stops when it fails. No chunk comes or goes
    /// meanwhile. For a driver that has to move what is behind its chunks, when it suspends, say.
    ///
    /// # Context
    ///
    /// May sleep, as may `f`. Requests of device memory wait for it, with the mmap lock of a
    /// process and the locks of folios held: so it must touch no memory of a process, take no lock
    /// that is held around a request, neither request device memory nor bring it home, nor call
    /// [`ChunkOffsets::shrink`].
    ///
    /// # Errors
    ///
    /// What `f` fails with.
    pub fn for_each_chunk(&self, mut f: impl FnMut(PageOffset, &S::Chunk) -> Result) -> Result {
        let _growing = self.0.growing.lock();
        let _returning = self.0.returning.lock();
        let mut next = Some(0);
        while let Some(from) = next {
            let found = self.0.table.lock().next(from);
            let Some((index, start, chunk)) = found else {
                break;
            };
            f(start, &chunk)?;
            next = index.checked_add(1);
        }
        Ok(())
    }
}

impl<S: ChunkSource> OffsetAllocator for ChunkOffsets<S> {
    fn allocate(&self, order: Order) -> Option<PageOffset> {
        let chunks = &self.0;
        if order > chunks.order {
            return None;
        }
        if let Some(offset) = chunks.take(order) {
            return Some(offset);
        }
        let _growing = chunks.growing.lock();
        // Somebody may have been faster, or given pages back.
        chunks
            .take(order)
            .or_else(|| chunks.grow(order))
            .or_else(|| chunks.take(order))
    }

    fn free(&self, offset: PageOffset, order: Order) {
        let idle = {
            let mut table = self.0.table.lock();
            table.give(offset, order);
            table.nr_idle()
        };
        if idle > KEPT {
            // If the item is queued already, it will see to this as well.
            let _ = workqueue::system_long().enqueue(self.0.clone());
        }
    }
}

impl<S: ChunkSource> Drop for ChunkOffsets<S> {
    fn drop(&mut self) {
        // The driver's module may be unloaded when this returns, and the work item runs its code.
        //
        // SAFETY: The work item is a field of a value that lives.
        let work = unsafe { Work::raw_get(&raw const self.0.reaper) };
        // SAFETY: The work item is initialised, and only `self` could queue it again. Dropping may
        // sleep.
        if unsafe { bindings::cancel_work_sync(work) } {
            // SAFETY: The item was queued, with a reference to the `Arc` that came from
            // `Arc::into_raw()`. It will not run, so the reference is ours.
            drop(unsafe { Arc::from_raw(Arc::as_ptr(&self.0)) });
        }
    }
}
