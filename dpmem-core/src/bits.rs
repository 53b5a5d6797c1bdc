// SPDX-License-Identifier: GPL-2.0

//! A bit for each of many things, looked at and changed in runs: a large folio is hundreds of
//! pages.
//!
//! C header: [`include/linux/bitmap.h`](srctree/include/linux/bitmap.h)

use core::ops::Range;

use kernel::{
    bindings,
    bitmap::BitmapVec,
    prelude::*, //
};

/// How many bits a word has.
// CAST: A word has 64 of them at most.
const BITS: usize = c_ulong::BITS as usize;

/// Bits that [`BitmapVec`] has only one by one. What lies beyond the last is neither set nor clear.
pub(crate) struct Bits(BitmapVec);

impl Bits {
    /// `nr` bits, none of which is set. May sleep.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`], also for more than one allocation can have.
    pub(crate) fn new(nr: usize) -> Result<Self> {
        Ok(Self(BitmapVec::new(nr, GFP_KERNEL)?))
    }

    /// `range`, as far as there are bits for it.
    fn clamp(&self, range: Range<usize>) -> Range<usize> {
        let end = range.end.min(self.0.len());
        range.start.min(end)..end
    }

    /// Whether `bit` is set. Most runs are one bit, for which the search that C has for us would take
    /// much longer.
    #[inline]
    fn is_set(&self, bit: usize) -> bool {
        if bit >= self.0.len() {
            return false;
        }
        // SAFETY: The bitmap has the bit, and so the word that it is in.
        let word = unsafe { self.0.as_ptr().add(bit / BITS) };
        // SAFETY: As above, and whoever changes it has borrowed the bitmap for that.
        unsafe { word.read() >> (bit % BITS) & 1 != 0 }
    }

    /// Changes the word that `bit` is in: `f` is given it, and which of its bits that is. What
    /// [`BitmapVec`] has for that calls C, twice for each page that comes and goes.
    #[inline]
    fn change(&mut self, bit: usize, f: impl FnOnce(c_ulong, c_ulong) -> c_ulong) {
        if bit >= self.0.len() {
            return;
        }
        // SAFETY: The bitmap has the bit, and so the word that it is in.
        let word = unsafe { self.0.as_mut_ptr().add(bit / BITS) };
        // SAFETY: As above, and the bitmap is borrowed for this.
        let old = unsafe { word.read() };
        // SAFETY: As above.
        unsafe { word.write(f(old, 1 << (bit % BITS))) };
    }

    /// The first bit in `range` that is set.
    #[inline]
    pub(crate) fn next_set(&self, range: Range<usize>) -> Option<usize> {
        let Range { start, end } = self.clamp(range);
        if end - start == 1 {
            return self.is_set(start).then_some(start);
        }
        // SAFETY: The bitmap has `end` bits, by `clamp()`.
        let bit = unsafe { bindings::_find_next_bit(self.0.as_ptr(), end, start) };
        (bit < end).then_some(bit)
    }

    /// The first bit in `range` that is not set.
    pub(crate) fn next_clear(&self, range: Range<usize>) -> Option<usize> {
        let Range { start, end } = self.clamp(range);
        if end - start == 1 {
            return (!self.is_set(start)).then_some(start);
        }
        // SAFETY: The bitmap has `end` bits, by `clamp()`.
        let bit = unsafe { bindings::_find_next_zero_bit(self.0.as_ptr(), end, start) };
        (bit < end).then_some(bit)
    }

    /// Sets the bits in `range`.
    pub(crate) fn set(&mut self, range: Range<usize>) {
        let Range { start, end } = self.clamp(range);
        if end - start == 1 {
            return self.change(start, |word, bit| word | bit);
        }
        // CAST: A bitmap has no more bits than an `i32` can count.
        let (first, nr) = (start as u32, (end - start) as i32);
        // SAFETY: The bitmap has these bits, by `clamp()`, and is borrowed for this.
        unsafe { bindings::__bitmap_set(self.0.as_mut_ptr(), first, nr) };
    }

    /// Clears the bits in `range`, and says how many of them were set.
    pub(crate) fn clear(&mut self, range: Range<usize>) -> usize {
        let mut left = self.clamp(range);
        if left.len() == 1 {
            let was_set = self.is_set(left.start);
            self.change(left.start, |word, bit| word & !bit);
            return usize::from(was_set);
        }
        let mut nr_set = 0usize;
        while left.start < left.end {
            let Some(start) = self.next_set(left.clone()) else {
                break;
            };
            let end = self.next_clear(start..left.end).unwrap_or(left.end);
            // CAST: A bitmap has no more bits than an `i32` can count.
            let (first, nr) = (start as u32, (end - start) as i32);
            // SAFETY: The bitmap has these bits, by `clamp()`, and is borrowed for this.
            unsafe { bindings::__bitmap_clear(self.0.as_mut_ptr(), first, nr) };
            // OVERFLOW: Not more than the bitmap has.
            nr_set += end - start;
            left.start = end;
        }
        nr_set
    }
}

#[cfg(CONFIG_RUST_DPMEM_KUNIT_TEST)]
#[kunit_tests(rust_dpmem_bits)]
mod tests {
    use super::*;

    #[test]
    fn runs() -> Result {
        let mut bits = Bits::new(200)?;
        assert!(bits.next_set(0..200).is_none());
        assert!(bits.next_clear(0..200) == Some(0));
        bits.set(60..130);
        assert!(bits.next_set(0..200) == Some(60));
        assert!(bits.next_set(0..60).is_none());
        assert!(bits.next_set(129..200) == Some(129));
        assert!(bits.next_set(130..200).is_none());
        assert!(bits.next_clear(60..200) == Some(130));
        assert!(bits.next_clear(60..130).is_none());
        // In two pieces, and what is clear does not count.
        assert_eq!(bits.clear(70..80), 10);
        assert_eq!(bits.clear(0..100), 30);
        assert!(bits.next_set(0..200) == Some(100));
        assert_eq!(bits.clear(0..200), 30);
        assert!(bits.next_set(0..200).is_none());
        Ok(())
    }

    #[test]
    fn one_by_one() -> Result {
        let mut bits = Bits::new(130)?;
        // At the ends of words, and at the last.
        for bit in [0, 63, 64, 127, 128, 129] {
            assert!(bits.next_set(bit..bit + 1).is_none());
            assert!(bits.next_clear(bit..bit + 1) == Some(bit));
            bits.set(bit..bit + 1);
            assert!(bits.next_set(bit..bit + 1) == Some(bit));
            assert!(bits.next_clear(bit..bit + 1).is_none());
            // It, and no other.
            assert!(bits.next_set(0..130) == Some(bit));
            assert!(bits.next_set(bit + 1..130).is_none());
            assert_eq!(bits.clear(bit..bit + 1), 1);
            assert_eq!(bits.clear(bit..bit + 1), 0);
            assert!(bits.next_set(0..130).is_none());
        }
        assert!(bits.next_set(130..131).is_none());
        assert_eq!(bits.clear(130..131), 0);
        Ok(())
    }

    #[test]
    fn beyond_the_end() -> Result {
        for nr in [0, 3, 64, 65] {
            let mut bits = Bits::new(nr)?;
            bits.set(0..usize::MAX);
            assert!(bits.next_clear(0..usize::MAX).is_none());
            assert!(bits.next_set(nr..usize::MAX).is_none());
            bits.set(nr..nr);
            bits.set(usize::MAX..usize::MAX);
            assert_eq!(bits.clear(0..usize::MAX), nr);
        }
        Ok(())
    }
}
