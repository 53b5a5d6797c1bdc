// SPDX-License-Identifier: GPL-2.0

//! What has happened to a pagemap: counted, and shown in debugfs; each event is a tracepoint as
//! well.
//!
//! The directory of a pagemap is `/sys/kernel/debug/dpmem/NAME-NUMBER`. It is there from before the
//! pagemap is registered until after it is unregistered, so that one which waits for its pages can
//! be watched.
//!
//! A counter is an atomic of its pagemap, changed once for a folio or a batch, and with no order
//! towards anything else: each is exact, and two of them need not be of the same moment.

use kernel::{
    debugfs::{
        Dir,
        Scope,
        ScopedDir, //
    },
    prelude::*,
    str::{
        CStr,
        CString, //
    },
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    }, //
};

use crate::{
    migrate::Way,
    module::{
        ModuleSlot,
        Published, //
    },
    number::{
        NrPages,
        Order,
        PageOffset,
        UserAddr, //
    }, //
};

mod trace;

/// The directory of the crate.
static ROOT: ModuleSlot<Dir> = ModuleSlot::new();

/// How many pagemaps there have been. A number is never used again.
static NEXT: Atomic<u64> = Atomic::new(0);

/// The crate's directory in debugfs, which is there as long as this lives: what the crate's own
/// module has.
#[doc(hidden)]
pub struct DebugfsRoot(#[allow(dead_code)] Published<Dir>);

impl DebugfsRoot {
    /// Makes the directory. May sleep.
    ///
    /// # Errors
    ///
    /// [`EBUSY`] if there is one; [`ENOMEM`].
    pub fn new() -> Result<Self> {
        let root = Arc::new(Dir::new(c"dpmem"), GFP_KERNEL)?;
        Ok(Self(ROOT.publish(root)?))
    }
}

/// Why something did not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The driver's allocator had no run of the size that was wanted.
    NoRoom,
    /// The driver's allocator offered pages that are out, or not there: a bug of the driver.
    BadOffset,
    /// The kernel had no memory: for a folio at home, or for what it has to know of one on the
    /// device.
    NoMemory,
    /// The copy engine was busy.
    DeviceBusy,
    /// The copy engine did not finish in time.
    CopyTimedOut,
    /// The copy engine failed, or left pages out.
    CopyFailed,
    /// Somebody was looking at the page, or was faster.
    PageBusy,
    /// Somebody was looking at the page when it had been copied, and so it did not move.
    PageRefused,
}

impl Failure {
    /// All of them, in the order of their discriminants.
    const ALL: [Self; 8] = [
        Self::NoRoom,
        Self::BadOffset,
        Self::NoMemory,
        Self::DeviceBusy,
        Self::CopyTimedOut,
        Self::CopyFailed,
        Self::PageBusy,
        Self::PageRefused,
    ];

    /// What it is called in debugfs, and in the trace.
    const fn name(self) -> &'static CStr {
        match self {
            Self::NoRoom => c"no_room",
            Self::BadOffset => c"bad_offset",
            Self::NoMemory => c"no_memory",
            Self::DeviceBusy => c"device_busy",
            Self::CopyTimedOut => c"copy_timed_out",
            Self::CopyFailed => c"copy_failed",
            Self::PageBusy => c"page_busy",
            Self::PageRefused => c"page_refused",
        }
    }

    /// What the error of a copy engine means.
    pub(crate) fn of_copy(err: Error) -> Self {
        match err {
            EBUSY | EAGAIN => Self::DeviceBusy,
            ETIMEDOUT => Self::CopyTimedOut,
            ENOMEM => Self::NoMemory,
            _ => Self::CopyFailed,
        }
    }
}

/// The numbers.
struct Values {
    /// How large the pagemap is.
    pages: NrPages,
    requested: Atomic<u64>,
    freed: Atomic<u64>,
    migrated_in: Atomic<u64>,
    migrated_out: Atomic<u64>,
    evicted: Atomic<u64>,
    faults: Atomic<u64>,
    splits: Atomic<u64>,
    failures: [Atomic<u64>; Failure::ALL.len()],
}

impl Values {
    const fn new(pages: NrPages) -> Self {
        Self {
            pages,
            requested: Atomic::new(0),
            freed: Atomic::new(0),
            migrated_in: Atomic::new(0),
            migrated_out: Atomic::new(0),
            evicted: Atomic::new(0),
            faults: Atomic::new(0),
            splits: Atomic::new(0),
            failures: [const { Atomic::new(0) }; Failure::ALL.len()],
        }
    }

    /// How many pages are in service. What happens between the two loads is seen by the second only.
    fn in_service(&self) -> u64 {
        let freed = self.freed.load(Relaxed);
        self.requested.load(Relaxed).saturating_sub(freed)
    }

    /// Makes the files.
    fn show<'data>(&'data self, dir: &ScopedDir<'data, '_>) {
        dir.read_callback_file(c"pages", self, &|values: &Self, f| {
            writeln!(f, "{}", values.pages.get())
        });
        dir.read_callback_file(c"in_service", self, &|values: &Self, f| {
            writeln!(f, "{}", values.in_service())
        });
        dir.read_only_file(c"requested", &self.requested);
        dir.read_only_file(c"freed", &self.freed);
        dir.read_only_file(c"migrated_in", &self.migrated_in);
        dir.read_only_file(c"migrated_out", &self.migrated_out);
        dir.read_only_file(c"evicted", &self.evicted);
        dir.read_only_file(c"faults", &self.faults);
        dir.read_only_file(c"splits", &self.splits);
        let failures = dir.dir(c"failures");
        for (cause, count) in Failure::ALL.iter().zip(&self.failures) {
            failures.read_only_file(cause.name(), count);
        }
    }
}

/// The counters of one pagemap.
///
/// The methods do not sleep, and may be called with any lock held. They are not inlined: see
/// `counters/trace.rs`.
pub(crate) struct Counters {
    number: u64,
    values: Pin<KBox<Scope<Values>>>,
}

impl Counters {
    /// Counters for a pagemap of `pages` pages, whose name for people is `name`. May sleep.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`]. That debugfs does not work is none.
    pub(crate) fn new(name: &'static CStr, pages: NrPages) -> Result<Self> {
        let number = NEXT.fetch_add(1, Relaxed);
        let name = CString::try_from_fmt(fmt!("{}-{}", name, number))?;
        let values = Values::new(pages);
        // A pagemap that is there before the crate's own module is at the top. Not in a `Dir` that
        // is made here: where there is no memory for one, its files are made at the top by
        // themselves, and stay when what they show is gone.
        let values = match ROOT.get() {
            Some(root) => KBox::pin_init(root.scope(values, &name, Values::show), GFP_KERNEL)?,
            None => KBox::pin_init(Scope::dir(values, &name, Values::show), GFP_KERNEL)?,
        };
        Ok(Self { number, values })
    }

    /// A folio was taken out of the allocator.
    #[inline(never)]
    pub(crate) fn requested(&self, offset: PageOffset, order: Order) {
        count(&self.values.requested, order.nr_pages());
        trace::request(self.number, offset, order);
    }

    /// A folio went back to the allocator.
    #[inline(never)]
    pub(crate) fn freed(&self, offset: PageOffset, order: Order) {
        count(&self.values.freed, order.nr_pages());
        trace::free(self.number, offset, order);
    }

    /// Of `copied` pages, `moved` have moved.
    #[inline(never)]
    pub(crate) fn migrated(&self, way: Way, copied: NrPages, moved: NrPages) {
        if copied == NrPages::ZERO {
            return;
        }
        let to_device = way == Way::ToDevice;
        let counter = match way {
            Way::ToDevice => &self.values.migrated_in,
            Way::ToRam => &self.values.migrated_out,
        };
        count(counter, moved);
        trace::migrate(self.number, to_device, copied, moved);
    }

    /// Of `nr` pages, the first of which is at `offset`, `moved` came home because the driver
    /// wanted it.
    #[inline(never)]
    pub(crate) fn evicted(&self, offset: PageOffset, nr: NrPages, moved: NrPages) {
        count(&self.values.evicted, moved);
        trace::evict(self.number, offset, nr, moved);
    }

    /// A CPU touched the page at `offset`, and `answer` is what the kernel is told, a `vm_fault_t`.
    #[inline(never)]
    pub(crate) fn fault(&self, address: UserAddr, offset: PageOffset, answer: c_uint) {
        count(&self.values.faults, NrPages::new(1));
        trace::fault(self.number, address, offset, answer);
    }

    /// So many large folios were split.
    #[inline(never)]
    pub(crate) fn split(&self, folios: usize) {
        // CAST: `usize` is not wider.
        self.values.splits.add(folios as u64, Relaxed);
        trace::split(self.number, folios);
    }

    /// Something did not work.
    pub(crate) fn failed(&self, cause: Failure) {
        self.failed_often(cause, 1);
    }

    /// Something did not work `nr` times, if at all.
    #[inline(never)]
    pub(crate) fn failed_often(&self, cause: Failure, nr: usize) {
        if nr == 0 {
            return;
        }
        // CAST: A discriminant, and a `usize` that is not wider.
        if let Some(counter) = self.values.failures.get(cause as usize) {
            counter.add(nr as u64, Relaxed);
        }
        trace::failure(self.number, cause.name(), nr);
    }
}

/// Adds `nr` to `counter`.
fn count(counter: &Atomic<u64>, nr: NrPages) {
    // CAST: `usize` is not wider.
    counter.add(nr.get() as u64, Relaxed);
}

#[cfg(CONFIG_RUST_DPMEM_KUNIT_TEST)]
#[kunit_tests(rust_dpmem_counters)]
mod tests {
    use super::*;
    use crate::tests::{
        always,
        pagemap, //
    };

    #[test]
    fn every_failure_has_a_counter_and_a_name() {
        for (i, cause) in Failure::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, i);
            let same = |other: &Failure| other.name() == cause.name();
            assert_eq!(Failure::ALL.iter().filter(|other| same(other)).count(), 1);
        }
    }

    #[test]
    fn errors_of_an_engine_are_told_apart() {
        assert_eq!(Failure::of_copy(EBUSY), Failure::DeviceBusy);
        assert_eq!(Failure::of_copy(ETIMEDOUT), Failure::CopyTimedOut);
        assert_eq!(Failure::of_copy(ENOMEM), Failure::NoMemory);
        assert_eq!(Failure::of_copy(EIO), Failure::CopyFailed);
    }

    /// How often `cause` was counted.
    fn failures(counters: &Counters, cause: Failure) -> Option<u64> {
        let counter = counters.values.failures.get(cause as usize)?;
        Some(counter.load(Relaxed))
    }

    #[test]
    fn folios_are_counted_in_pages() -> Result {
        let pagemap = pagemap(NrPages::new(1))?;
        let counters = pagemap.counters();
        let folio = pagemap.request_folio(Order::ZERO)?;
        assert_eq!(counters.values.requested.load(Relaxed), 1);
        assert_eq!(counters.values.in_service(), 1);
        assert!(pagemap.request_folio(Order::ZERO).is_err());
        assert_eq!(failures(counters, Failure::NoRoom), Some(1));
        drop(folio);
        assert_eq!(counters.values.freed.load(Relaxed), 1);
        assert_eq!(counters.values.in_service(), 0);
        assert_eq!(counters.values.pages.get(), 1);
        Ok(())
    }

    #[test]
    fn a_bad_allocator_is_found_out() -> Result {
        let pagemap = always(NrPages::new(8), 3)?;
        let counters = pagemap.counters();
        let _folio = pagemap.request_folio(Order::ZERO)?;
        assert!(pagemap.request_folio(Order::ZERO).is_err());
        assert_eq!(failures(counters, Failure::BadOffset), Some(1));
        assert_eq!(counters.values.requested.load(Relaxed), 1);
        Ok(())
    }

    #[test]
    fn pagemaps_of_one_name_have_numbers() -> Result {
        let one = pagemap(NrPages::new(1))?;
        let two = pagemap(NrPages::new(1))?;
        assert!(one.counters().number < two.counters().number);
        Ok(())
    }
}
