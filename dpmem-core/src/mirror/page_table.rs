// SPDX-License-Identifier: GPL-2.0

//! What a device knows of an address space by itself.

use crate::number::UserRange;

/// The page table of a device, or whatever it has instead: what lets the device reach memory of a
/// process without asking anybody.
///
/// [`Mirror::map`](crate::Mirror::map) is where translations are put into it. What cannot move, such
/// as a lock, is to be in a box of its own.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the page table of a device",
    label = "this cannot be told that a translation is no longer true",
    note = "implement `PageTable` for it: `invalidate()` takes translations away from the device"
)]
pub trait PageTable: Send + Unpin + 'static {
    /// Takes the translations of `range` away from the device: of all that [`Mirror::map`] has put
    /// there, and a page of which is about to be somebody else's. When this returns, the device must
    /// not reach memory by way of them any more, neither by what it has cached, nor by what it has
    /// begun.
    ///
    /// There may be addresses in `range` of which it was never told: it is all of what was mapped as
    /// one.
    ///
    /// # Context
    ///
    /// May sleep. The lock of the mirror is held, and the kernel may be in the middle of reclaiming
    /// memory, with locks of folios and mappings held: do not allocate in a way that waits, touch
    /// no memory of a process, do not use the mirror, and wait for nobody who does one of these. To
    /// wait for the device is fine, and for a lock under which nobody allocates.
    ///
    /// [`Mirror::map`]: crate::Mirror::map
    fn invalidate(&mut self, range: UserRange);
}

/// Of a mirror that is read by software: see [`Mirror::read`](crate::Mirror::read).
impl PageTable for () {
    fn invalidate(&mut self, _range: UserRange) {}
}
