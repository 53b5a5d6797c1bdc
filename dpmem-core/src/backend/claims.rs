// SPDX-License-Identifier: GPL-2.0

//! Which pages of a pagemap are out: requested, or in service.
//!
//! An allocator of offsets is safe code of a driver's. What it hands out twice must not become a folio twice. While a
//! folio is in service, its reference count tells; but not while `folio_free()` looks at it, which begins when there is no
//! reference any more. Hence a bit for every page, which is set before the page becomes a folio, and cleared when
//! `folio_free()` is done with that.

use core::ops::Range;

use kernel::{
    bitmap::BitmapVec,
    prelude::*,
    static_lock_class,
    str::CStr, //
};

use crate::{
    lock::SpinLockIrqSave,
    number::NrPages, //
};

/// How many pages have their bits in one piece, which is there from when the first of them is requested. No large folio is
/// in two of them.
const PIECE: usize = 1 << 17;

/// The name of the lock; a static for the reason that is in `offsets/bitmap.rs`.
static LOCK_NAME: &CStr = c"dpmem::claims";

/// Which pages are out.
#[pin_data]
pub(super) struct Claims {
    #[pin]
    bits: SpinLockIrqSave<Bits>,
    /// How many pages there are.
    len: usize,
}

/// A bit for every page.
struct Bits {
    pieces: KVVec<Option<BitmapVec>>,
    /// How many are set.
    nr: usize,
}

impl Bits {
    /// The piece that has the bit of `page`, and where in it that is.
    fn at(&self, page: usize) -> Option<(&BitmapVec, usize)> {
        let piece = self.pieces.get(page / PIECE)?.as_ref()?;
        Some((piece, page % PIECE))
    }

    /// As [`Bits::at`].
    fn at_mut(&mut self, page: usize) -> Option<(&mut BitmapVec, usize)> {
        let piece = self.pieces.get_mut(page / PIECE)?.as_mut()?;
        Some((piece, page % PIECE))
    }

    /// Whether `page` is out.
    fn is_out(&self, page: usize) -> bool {
        // Not `next_bit()`, which looks at all that are idle behind it.
        self.at(page)
            .is_some_and(|(piece, bit)| piece.next_zero_bit(bit) != Some(bit))
    }

    /// The first of the piece that `page` has its bit in, from `page` on, that is out.
    fn next_out(&self, page: usize) -> Option<usize> {
        let (piece, bit) = self.at(page)?;
        let next = piece.next_bit(bit)?;
        // OVERFLOW: It is not before `bit`.
        page.checked_add(next - bit)
    }

    /// The first of the piece that `page` has its bit in, from `page` on, that is idle.
    fn next_idle(&self, page: usize) -> Option<usize> {
        let (piece, bit) = self.at(page)?;
        let next = piece.next_zero_bit(bit)?;
        // OVERFLOW: It is not before `bit`.
        page.checked_add(next - bit)
    }

    /// Says of each of `pages`, which have their bits, whether it is out.
    fn set(&mut self, pages: Range<usize>, out: bool) {
        for page in pages {
            if self.is_out(page) == out {
                continue;
            }
            let Some((piece, bit)) = self.at_mut(page) else {
                continue;
            };
            if out {
                piece.set_bit(bit);
                self.nr = self.nr.saturating_add(1);
            } else {
                piece.clear_bit(bit);
                self.nr = self.nr.saturating_sub(1);
            }
        }
    }
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
            let bits = Bits { pieces, nr: 0 };
            Ok(try_pin_init!(Self {
                bits <- SpinLockIrqSave::new(bits, LOCK_NAME, static_lock_class!()),
                len: nr.get(),
            }))
        })
    }

    /// Claims `pages`. May sleep.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if there are no such pages; [`EBUSY`] if one of them is out already; [`ENOMEM`].
    pub(super) fn claim(&self, pages: Range<usize>) -> Result {
        if pages.is_empty() || pages.end > self.len {
            return Err(EINVAL);
        }
        let mut next = pages.start;
        while next < pages.end {
            self.make_piece(next)?;
            next = next_piece(next).ok_or(EINVAL)?;
        }
        let mut bits = self.bits.lock();
        if pages.clone().any(|page| bits.is_out(page)) {
            return Err(EBUSY);
        }
        bits.set(pages, true);
        Ok(())
    }

    /// Sees to it that `page` has its bit. May sleep.
    fn make_piece(&self, page: usize) -> Result {
        if self.bits.lock().at(page).is_some() {
            return Ok(());
        }
        let piece = BitmapVec::new(PIECE, GFP_KERNEL)?;
        let unwanted = match self.bits.lock().pieces.get_mut(page / PIECE) {
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
        self.bits.lock().set(pages, false);
    }

    /// How many pages are out.
    pub(super) fn nr_out(&self) -> NrPages {
        NrPages::new(self.bits.lock().nr)
    }

    /// What `f` finds in one of the pieces that `pages` have their bits in, from the page on that it is given.
    fn find<R>(&self, pages: Range<usize>, f: impl Fn(&Bits, usize) -> Option<R>) -> Option<R> {
        let mut next = pages.start;
        while next < pages.end.min(self.len) {
            // The lock is held for the search of one piece at a time.
            let found = f(&self.bits.lock(), next);
            if found.is_some() {
                return found;
            }
            next = next_piece(next)?;
        }
        None
    }

    /// The first page at `from` or above that is out.
    pub(super) fn next_out(&self, from: usize) -> Option<usize> {
        self.find(from..self.len, Bits::next_out)
    }

    /// The first run of pages that are out and lie in `pages`. Where another piece begins, it is another run.
    pub(super) fn next_run(&self, pages: Range<usize>) -> Option<Range<usize>> {
        let end = pages.end;
        let (start, idle) = self.find(pages, |bits, page| {
            let start = bits.next_out(page)?;
            Some((start, bits.next_idle(start)))
        })?;
        let end = end.min(idle.or(next_piece(start))?);
        (start < end).then_some(start..end)
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
        claims.claim(PIECE - 1..PIECE + 1)?;
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
