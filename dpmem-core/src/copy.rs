// SPDX-License-Identifier: GPL-2.0

//! How the bytes move: the driver's copy engine.

use core::{
    marker::PhantomData,
    ops::Deref,
    ptr::NonNull, //
};

use kernel::{
    bindings,
    page::PAGE_SIZE,
    prelude::*, //
};

use crate::{
    backend::Backend,
    flight::Flight,
    migrate::Way,
    number::PageOffset, //
};

/// A page of system memory that nobody frees for as long as this value lives.
///
/// In a migration it is moreover locked, and in no page table: its content is stable. In a
/// [`Mirror`](crate::Mirror) the process may change it at any time, as the CPU and a device may
/// always do to each other.
///
/// # Invariants
///
/// `page` points to a page of system memory that is not freed during `'a`.
pub struct RamPage<'a> {
    page: NonNull<bindings::page>,
    _life: PhantomData<&'a ()>,
}

impl RamPage<'_> {
    /// The page `page`.
    ///
    /// # Safety
    ///
    /// `page` must point to a page of system memory that is not freed during the lifetime that
    /// the caller chooses.
    #[inline]
    pub(crate) unsafe fn from_raw(page: NonNull<bindings::page>) -> Self {
        // INVARIANT: The caller promises it.
        Self {
            page,
            _life: PhantomData,
        }
    }

    /// Reads the page into `to`. Does not sleep.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if `to` is not as long as a page.
    pub fn read(&self, to: &mut [u8]) -> Result {
        if to.len() != PAGE_SIZE {
            return Err(EINVAL);
        }
        // SAFETY: The page is valid by the type invariant, and the length was checked. The
        // function is C's memcpy(), which copes with a process that writes to the page meanwhile.
        unsafe {
            bindings::memcpy_from_page(to.as_mut_ptr().cast(), self.page.as_ptr(), 0, PAGE_SIZE)
        };
        Ok(())
    }
}

/// A [`RamPage`] that may be written to.
///
/// # Invariants
///
/// Whoever the page belongs to may write to it.
pub struct RamPageMut<'a>(RamPage<'a>);

impl<'a> RamPageMut<'a> {
    /// The page `page`.
    ///
    /// # Safety
    ///
    /// As for [`RamPage::from_raw`], and whoever the page belongs to must be allowed to write to
    /// it.
    #[inline]
    pub(crate) unsafe fn from_raw(page: NonNull<bindings::page>) -> Self {
        // INVARIANT: The caller promises it.
        // SAFETY: As above.
        Self(unsafe { RamPage::from_raw(page) })
    }

    /// Writes `from` to the page, all of it. Does not sleep.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if `from` is not as long as a page.
    pub fn write(&self, from: &[u8]) -> Result {
        if from.len() != PAGE_SIZE {
            return Err(EINVAL);
        }
        let page = self.0.page.as_ptr();
        // SAFETY: As in `RamPage::read()`, and the page may be written to, by the type invariant.
        unsafe { bindings::memcpy_to_page(page, 0, from.as_ptr().cast(), PAGE_SIZE) };
        Ok(())
    }
}

impl<'a> Deref for RamPageMut<'a> {
    type Target = RamPage<'a>;

    #[inline]
    fn deref(&self) -> &RamPage<'a> {
        &self.0
    }
}

/// One page to be moved.
pub enum Transfer<'a> {
    /// From system memory to the device.
    ToDevice {
        /// What to copy.
        src: RamPage<'a>,
        /// Where to.
        dst: PageOffset,
    },
    /// The process had no page here yet, so the device's is to be all zeroes.
    Zero {
        /// Which page to clear.
        dst: PageOffset,
    },
    /// From the device to system memory.
    ToRam {
        /// What to copy.
        src: PageOffset,
        /// Where to. All of it must be written.
        dst: RamPageMut<'a>,
    },
}

/// The transfers of one migration, in the order of their addresses or offsets.
pub struct Batch<'a> {
    flight: &'a Flight<'a>,
    backend: &'a Backend,
    way: Way,
    next: usize,
}

impl<'a> Batch<'a> {
    /// All transfers of `flight`, whose destinations are set.
    pub(crate) fn new(flight: &'a Flight<'a>, backend: &'a Backend, way: Way) -> Self {
        Self {
            flight,
            backend,
            way,
            next: 0,
        }
    }

    /// The transfer of entry `i`, if it has one.
    fn transfer(&self, i: usize) -> Option<Transfer<'a>> {
        let dst = self.flight.destination(i).page()?;
        let src = self.flight.source(i).page();
        match self.way {
            Way::ToDevice => {
                // SAFETY: The flight holds a reference to its destination.
                let dst = unsafe { self.backend.offset_of(dst) }?;
                Some(match src {
                    None => Transfer::Zero { dst },
                    Some(src) => Transfer::ToDevice {
                        // SAFETY: The flight holds a reference to its source, which lasts as long
                        // as the flight, and only pages of system memory were selected.
                        src: unsafe { RamPage::from_raw(src) },
                        dst,
                    },
                })
            }
            Way::ToRam => Some(Transfer::ToRam {
                // SAFETY: The flight holds a reference to its source.
                src: unsafe { self.backend.offset_of(src?) }?,
                // SAFETY: The flight holds a reference to its destination, which was allocated as
                // system memory, and which nobody has yet.
                dst: unsafe { RamPageMut::from_raw(dst) },
            }),
        }
    }
}

impl<'a> Iterator for Batch<'a> {
    type Item = Transfer<'a>;

    fn next(&mut self) -> Option<Transfer<'a>> {
        while self.next < self.flight.len() {
            let i = self.next;
            self.next = i.checked_add(1)?;
            if let Some(transfer) = self.transfer(i) {
                return Some(transfer);
            }
        }
        None
    }
}

/// What moves the bytes between system memory and the device.
pub trait CopyEngine: Send + Sync {
    /// What tells that a batch has been copied.
    type Fence: Fence;

    /// Starts the transfers of `batch`, all of them: a batch that was not taken to its end is an
    /// error, and so is not committed.
    ///
    /// # Context
    ///
    /// Process context. May sleep. The mmap lock of a process and the locks of folios are held, so
    /// no memory of a process may be touched, and no lock be taken under which somebody else does
    /// that.
    ///
    /// # Errors
    ///
    /// An error says that not everything could be started, and that nothing is going on any more.
    /// The migration is then undone.
    fn submit(&self, batch: &mut Batch<'_>) -> Result<Self::Fence>;
}

/// Something that happens once: a batch has been copied.
pub trait Fence {
    /// Waits until it has happened. May sleep.
    ///
    /// # Errors
    ///
    /// An error says that the copies are not to be used, and that nothing is going on any more.
    fn wait(self) -> Result;
}

/// The fence of an engine that has copied everything when [`CopyEngine::submit`] returns.
impl Fence for () {
    fn wait(self) -> Result {
        Ok(())
    }
}
