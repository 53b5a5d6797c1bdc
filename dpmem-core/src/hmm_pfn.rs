// SPDX-License-Identifier: GPL-2.0

//! The entries of the array that `hmm_range_fault()` fills in.
//!
//! C header: [`include/linux/hmm.h`](srctree/include/linux/hmm.h)

use core::ptr::NonNull;

use kernel::{
    bindings,
    page::PAGE_SHIFT,
    prelude::*, //
};

use crate::number::{
    NrPages,
    Order,
    UserAddr, //
};

/// What the kernel is to do for each page before it tells of it: `hmm_range::default_flags`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HmmRequest {
    /// Nothing.
    Snapshot,
    /// What a process that reads would have it do.
    Fault,
    /// What a process that writes would have it do.
    FaultWrite,
}

impl HmmRequest {
    /// The value that C knows.
    #[inline]
    pub(crate) const fn into_raw(self) -> c_ulong {
        const FAULT: c_ulong = bindings::hmm_pfn_flags_HMM_PFN_REQ_FAULT;
        const WRITE: c_ulong = bindings::hmm_pfn_flags_HMM_PFN_REQ_WRITE;
        match self {
            Self::Snapshot => 0,
            Self::Fault => FAULT,
            Self::FaultWrite => FAULT | WRITE,
        }
    }
}

/// An entry of `hmm_range::hmm_pfns`.
///
/// It carries flags, the order of what is mapped, and the number of a page. The number never leaves
/// this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct HmmPfn(c_ulong);

impl HmmPfn {
    /// What an entry is before the kernel has filled it in: no page.
    pub(crate) const NONE: Self = Self(0);

    /// All but the number.
    const FLAGS: c_ulong = bindings::hmm_pfn_flags_HMM_PFN_FLAGS;

    /// The array as C knows it.
    #[inline]
    pub(crate) fn as_raw_mut(entries: &mut [Self]) -> *mut c_ulong {
        // CAST: An entry is a transparent wrapper, and each of its values is an entry.
        entries.as_mut_ptr().cast()
    }

    /// Whether the entry names a page.
    #[inline]
    pub(crate) const fn is_valid(self) -> bool {
        self.0 & bindings::hmm_pfn_flags_HMM_PFN_VALID != 0
    }

    /// Whether who touches the page gets an error.
    #[inline]
    pub(crate) const fn is_error(self) -> bool {
        self.0 & bindings::hmm_pfn_flags_HMM_PFN_ERROR != 0
    }

    /// Whether the process may write to the page.
    #[inline]
    pub(crate) const fn is_writable(self) -> bool {
        self.0 & bindings::hmm_pfn_flags_HMM_PFN_WRITE != 0
    }

    /// The size of what is mapped as one where the page is.
    #[inline]
    pub(crate) fn order(self) -> Order {
        // SAFETY: Arithmetic on a number.
        let order = unsafe { bindings::hmm_pfn_to_map_order(self.0) };
        // The kernel maps nothing that large.
        Order::new(order).unwrap_or(Order::ZERO)
    }

    /// How many pages there are from this one on, which has the number `page_nr` in the address
    /// space, of what is mapped as one here.
    #[inline]
    pub(crate) fn left_of_block(self, page_nr: usize) -> Option<usize> {
        let block = self.order().nr_pages().get();
        block.checked_sub(page_nr.checked_rem(block)?)
    }

    /// Whether `next` names the page behind this one, and is the same besides.
    #[inline]
    pub(crate) fn is_followed_by(self, next: Self) -> bool {
        // The number of the last page there can be has no successor: a carry is a flag.
        let number = (self.0 & !Self::FLAGS).checked_add(1);
        let same = self.0 & Self::FLAGS == next.0 & Self::FLAGS;
        same && self.is_valid() && number == Some(next.0 & !Self::FLAGS)
    }

    /// The page that the entry names, or `None` if it names none.
    ///
    /// # Safety
    ///
    /// The entry must have been filled in by `hmm_range_fault()`, and nothing may have been
    /// invalidated since.
    #[inline]
    pub(crate) unsafe fn page(self) -> Option<NonNull<bindings::page>> {
        if !self.is_valid() {
            return None;
        }
        // SAFETY: The entry is valid, and the page is there, as the caller promises.
        NonNull::new(unsafe { bindings::hmm_pfn_to_page(self.0) })
    }
}

/// Where runs end that could go on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Nowhere.
    Nowhere,
    /// Where what the kernel maps as one ends, as what is mapped for a device has to be one folio's.
    AsMapped,
}

/// The runs among the entries `pfns` of a range that begins at `start`: the index of the first and
/// how many there are, of entries that have a page, and that differ in nothing but their numbers,
/// which follow each other.
pub(crate) fn runs(
    pfns: &[HmmPfn],
    start: UserAddr,
    cut: Cut,
) -> impl Iterator<Item = (usize, NrPages)> + '_ {
    let page_nr = start.get() >> PAGE_SHIFT;
    let mut next = 0usize;
    core::iter::from_fn(move || {
        let skip = pfns.get(next..)?.iter().position(|pfn| pfn.is_valid())?;
        let first = next.checked_add(skip)?;
        let rest = pfns.get(first..)?;
        let most = match cut {
            Cut::Nowhere => rest.len(),
            Cut::AsMapped => rest.first()?.left_of_block(page_nr.checked_add(first)?)?,
        };
        let follows = rest.iter().zip(rest.get(1..)?);
        let follows = follows.take(most.checked_sub(1)?);
        let more = follows.take_while(|(a, b)| a.is_followed_by(**b));
        let nr = more.count().checked_add(1)?;
        next = first.checked_add(nr)?;
        Some((first, NrPages::new(nr)))
    })
}

#[cfg(CONFIG_RUST_DPMEM_KUNIT_TEST)]
#[kunit_tests(rust_dpmem_hmm_pfn)]
mod tests {
    use super::*;

    const VALID: c_ulong = bindings::hmm_pfn_flags_HMM_PFN_VALID;
    const WRITE: c_ulong = bindings::hmm_pfn_flags_HMM_PFN_WRITE;

    #[test]
    fn a_run_is_of_pages_that_are_the_same() {
        let entry = HmmPfn;
        let (page, writable) = (entry(VALID | 7), entry(VALID | WRITE | 8));
        assert!(page.is_followed_by(entry(VALID | 8)));
        assert!(!page.is_followed_by(page));
        assert!(!page.is_followed_by(entry(VALID | 6)));
        assert!(!page.is_followed_by(writable));
        assert!(writable.is_followed_by(entry(VALID | WRITE | 9)));
        assert!(!entry(7).is_followed_by(entry(8)));
        assert!(!page.is_followed_by(entry(8)));
        // What is one more than the last number has other flags.
        let last = VALID | !HmmPfn::FLAGS;
        assert!(!entry(last).is_followed_by(entry(last.wrapping_add(1))));
        assert!(!entry(last).is_followed_by(entry(VALID)));
    }

    #[test]
    fn entries_keep_their_flags() {
        assert!(!HmmPfn::NONE.is_valid() && !HmmPfn::NONE.is_error());
        let error = HmmPfn(bindings::hmm_pfn_flags_HMM_PFN_ERROR);
        assert!(error.is_error() && !error.is_valid() && !error.is_writable());
        let writable = HmmPfn(VALID | WRITE | 7);
        assert!(writable.is_valid() && writable.is_writable() && !writable.is_error());
        assert!(writable.order() == Order::ZERO);
        assert!(HmmRequest::Snapshot.into_raw() == 0);
        assert!(HmmRequest::FaultWrite.into_raw() & !HmmRequest::Fault.into_raw() == WRITE);
    }

    /// An entry that is mapped as one of so many pages.
    fn mapped(number: c_ulong, order: c_ulong) -> HmmPfn {
        let shift = bindings::hmm_pfn_flags_HMM_PFN_ORDER_SHIFT;
        HmmPfn(VALID | WRITE | order << shift | number)
    }

    fn sizes(pfns: &[HmmPfn], start: usize, cut: Cut) -> Result<KVec<(usize, usize)>> {
        let mut sizes = KVec::new();
        let start = UserAddr::new(start << PAGE_SHIFT)?;
        for (first, nr) in runs(pfns, start, cut) {
            sizes.push((first, nr.get()), GFP_KERNEL)?;
        }
        Ok(sizes)
    }

    #[test]
    fn runs_end_where_what_is_mapped_as_one_does() -> Result {
        // A block of four pages, from its second on, a hole, and three pages by themselves.
        let pfns = [
            mapped(9, 2),
            mapped(10, 2),
            mapped(11, 2),
            HmmPfn::NONE,
            mapped(21, 0),
            mapped(22, 0),
            mapped(24, 0),
        ];
        let whole = sizes(&pfns, 5, Cut::Nowhere)?;
        assert!(*whole == [(0, 3), (4, 2), (6, 1)]);
        let mapped_ones = sizes(&pfns, 5, Cut::AsMapped)?;
        assert!(*mapped_ones == [(0, 3), (4, 1), (5, 1), (6, 1)]);

        // Two blocks that follow each other in memory.
        let pfns: [_; 6] = core::array::from_fn(|i| mapped(10 + i as c_ulong, 2));
        assert!(*sizes(&pfns, 2, Cut::Nowhere)? == [(0, 6)]);
        assert!(*sizes(&pfns, 2, Cut::AsMapped)? == [(0, 2), (2, 4)]);
        Ok(())
    }
}
