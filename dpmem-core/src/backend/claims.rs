// SPDX-License-Identifier: GPL-2.0

//! Which pages of a pagemap are out: requested, or in service.
//!
//! An allocator of offsets is safe code of a driver's. What it hands out twice must not become a
//! folio twice. While a folio is in service, its reference count tells; but not while
//! `folio_free()` looks at it, which begins when there is no reference any more. Hence a bit for
//! every page, which is set before the page becomes a folio, and cleared when `folio_free()` is
//! done with that.

use core::ops::Range;

use kernel::{
    prelude::*,
    static_lock_class,
    str::CStr, //
};

use crate::{
    bits::Bits,
    lock::SpinLockIrqSave,
    number::NrPages, //
};

/// How many pages have their bits in one piece, which is there from when the first of them is
/// requested. No large folio is in two of them.
const PIECE: usize = 1 << 17;

/// The name of the lock; a static for the reason that is in `offsets/bitmap.rs`.
static LOCK_NAME: &CStr = c"dpmem::claims";

/// Which pages are out.
#[pin_data]
pub(super) struct Claims {
    #[pin]
    pieces: SpinLockIrqSave<Pieces>,
    /// How many pages there are.
    len: usize,
}

/// A bit for every page.
struct Pieces {
    pieces: KVVec<Option<Bits>>,
    /// How many are set.
    nr: usize,
}

impl Pieces {
    /// The piece that has the bit of `page`.
    fn of(&self, page: usize) -> Option<&Bits> {
        self.pieces.get(page / PIECE)?.as_ref()
    }

    /// As [`Pieces::of`].
    fn of_mut(&mut self, page: usize) -> Option<&mut Bits> {
        self.pieces.get_mut(page / PIECE)?.as_mut()
    }

    /// The first of `pages`, which have their bits in one piece, that is out.
    fn next_out(&self, pages: Range<usize>) -> Option<usize> {
        let next = self.of(pages.start)?.next_set(bits_of(&pages))?;
        page_of(&pages, next)
    }

    /// The first of `pages`, which have their bits in one piece, that is idle.
    fn next_idle(&self, pages: Range<usize>) -> Option<usize> {
        let next = self.of(pages.start)?.next_clear(bits_of(&pages))?;
        page_of(&pages, next)
    }

    /// Says that `pages` are out, which have their bits in one piece; false if one of them is out
    /// already.
    fn claim(&mut self, pages: Range<usize>) -> bool {
        let Some(bits) = self.of_mut(pages.start) else {
            return false;
        };
        if bits.next_set(bits_of(&pages)).is_some() {
            return false;
        }
        bits.set(bits_of(&pages));
        self.nr = self.nr.saturating_add(pages.len());
        true
    }

    /// Says that `pages`, which have their bits in one piece, are idle.
    fn unclaim(&mut self, pages: Range<usize>) {
        if let Some(bits) = self.of_mut(pages.start) {
            let nr = bits.clear(bits_of(&pages));
            self.nr = self.nr.saturating_sub(nr);
        }
    }
}

/// Where the bits of `pages` are in the piece that they begin in.
fn bits_of(pages: &Range<usize>) -> Range<usize> {
    let start = pages.start % PIECE;
    start..start.saturating_add(pages.len())
}

/// Which page has bit `bit` of the piece that `pages` begin in.
fn page_of(pages: &Range<usize>, bit: usize) -> Option<usize> {
    (pages.start - pages.start % PIECE).checked_add(bit)
}

/// Those of `pages` that have their bits in one piece, from the first on, for each piece.
fn by_piece(pages: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let mut start = pages.start;
    core::iter::from_fn(move || {
        let end = next_piece(start)?.min(pages.end);
        let part = start..end;
        start = end;
        (!part.is_empty()).then_some(part)
    })
}

/// Whether `pages` have their bits in one piece.
fn in_one_piece(pages: &Range<usize>) -> bool {
    pages.start / PIECE == pages.end.saturating_sub(1) / PIECE
}

/// Where the piece behind the one with `page` begins.
fn next_piece(page: usize) -> Option<usize> {
    (page / PIECE).checked_add(1)?.checked_mul(PIECE)
}

impl Claims {
    /// There are not as many pages.
    pub(super) const LIMIT: NrPages = NrPages::new(1 << 34);

    /// Claims for `nr` pages, less than [`Claims::LIMIT`], of which none is out. May sleep.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] for more, or none; [`ENOMEM`].
    pub(super) fn new(nr: NrPages) -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(move || {
            if nr == NrPages::ZERO || nr >= Self::LIMIT {
                return Err(EINVAL);
            }
            let len = nr.get().div_ceil(PIECE);
            let mut pieces = KVVec::with_capacity(len, GFP_KERNEL)?;
            for _ in 0..len {
                pieces.push_within_capacity(None)?;
            }
            let pieces = Pieces { pieces, nr: 0 };
            Ok(try_pin_init!(Self {
                pieces <- SpinLockIrqSave::new(pieces, LOCK_NAME, static_lock_class!()),
                len: nr.get(),
            }))
        })
    }

    /// Claims `pages`, which are to be a folio. May sleep.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if there are no such pages, or if no folio can be where they are; [`EBUSY`] if one
    /// of them is out already; [`ENOMEM`].
    pub(super) fn claim(&self, pages: Range<usize>) -> Result {
        if pages.is_empty() || pages.end > self.len || !in_one_piece(&pages) {
            return Err(EINVAL);
        }
        let mut pieces = loop {
            let pieces = self.pieces.lock();
            if pieces.of(pages.start).is_some() {
                break pieces;
            }
            drop(pieces);
            self.make_piece(pages.start)?;
        };
        match pieces.claim(pages) {
            true => Ok(()),
            false => Err(EBUSY),
        }
    }

    /// Sees to it that `page` has its bit. May sleep.
    fn make_piece(&self, page: usize) -> Result {
        let piece = Bits::new(PIECE)?;
        let unwanted = match self.pieces.lock().pieces.get_mut(page / PIECE) {
            Some(slot @ None) => slot.replace(piece),
            // Somebody was faster.
            _ => Some(piece),
        };
        // Not under the lock.
        drop(unwanted);
        Ok(())
    }

    /// Takes back what [`Claims::claim`] gave, or a part of that. Does not sleep.
    pub(super) fn unclaim(&self, pages: Range<usize>) {
        self.pieces.lock().unclaim(pages);
    }

    /// How many pages are out.
    pub(super) fn nr_out(&self) -> NrPages {
        NrPages::new(self.pieces.lock().nr)
    }

    /// The first page at `from` or above that is out.
    pub(super) fn next_out(&self, from: usize) -> Option<usize> {
        // The lock is held for the search of one piece at a time.
        by_piece(from..self.len).find_map(|part| self.pieces.lock().next_out(part))
    }

    /// The first run of pages that are out and lie in `pages`. Where another piece begins, it is
    /// another run.
    pub(super) fn next_run(&self, pages: Range<usize>) -> Option<Range<usize>> {
        by_piece(pages.start..pages.end.min(self.len)).find_map(|part| {
            let pieces = self.pieces.lock();
            let start = pieces.next_out(part.clone())?;
            Some(start..pieces.next_idle(start..part.end).unwrap_or(part.end))
        })
    }
}

#[cfg(CONFIG_RUST_DPMEM_KUNIT_TEST)]
#[kunit_tests(rust_dpmem_claims)]
mod tests {
    use super::*;

    fn claims(nr: usize) -> Result<Pin<KBox<Claims>>> {
        KBox::pin_init(Claims::new(NrPages::new(nr)), GFP_KERNEL)
    }

    #[test]
    fn what_is_out_is_not_claimed() -> Result {
        let claims = claims(100)?;
        claims.claim(10..20)?;
        assert!(claims.claim(19..21) == Err(EBUSY));
        assert!(claims.claim(0..100) == Err(EBUSY));
        assert!(claims.claim(99..101) == Err(EINVAL));
        assert!(claims.claim(5..5) == Err(EINVAL));
        assert_eq!(claims.nr_out().get(), 10);
        claims.claim(20..21)?;
        // In pieces, as after a split, and twice, as by a driver with a bug.
        claims.unclaim(12..14);
        claims.unclaim(12..14);
        assert_eq!(claims.nr_out().get(), 9);
        assert!(claims.next_out(12) == Some(14));
        assert!(claims.next_run(0..100) == Some(10..12));
        assert!(claims.next_run(12..16) == Some(14..16));
        assert!(claims.next_run(16..100) == Some(16..21));
        assert!(claims.next_run(21..100).is_none());
        assert!(claims.next_out(21).is_none());
        claims.claim(12..14)
    }

    #[test]
    fn it_may_be_as_large_as_it_is_said() -> Result {
        let nr = Claims::LIMIT.get();
        assert!(claims(nr).err() == Some(EINVAL));
        assert!(claims(0).err() == Some(EINVAL));
        let claims = claims(nr - 1)?;
        assert!(claims.next_out(0).is_none());
        claims.claim(nr - 2..nr - 1)?;
        // No folio lies there.
        assert!(claims.claim(PIECE - 1..PIECE + 1) == Err(EINVAL));
        claims.claim(PIECE - 1..PIECE)?;
        claims.claim(PIECE..PIECE + 1)?;
        assert!(claims.next_out(0) == Some(PIECE - 1));
        assert!(claims.next_run(0..nr) == Some(PIECE - 1..PIECE));
        assert!(claims.next_run(PIECE..nr) == Some(PIECE..PIECE + 1));
        assert!(claims.next_out(PIECE + 1) == Some(nr - 2));
        assert!(claims.next_out(nr - 1).is_none());
        assert!(claims.claim(nr - 2..nr) == Err(EINVAL));
        assert_eq!(claims.nr_out().get(), 3);
        claims.unclaim(nr - 2..nr - 1);
        assert!(claims.next_out(PIECE + 1).is_none());
        Ok(())
    }
}
