// SPDX-License-Identifier: GPL-2.0

//! A pagemap that is there for as long as its device has its driver, and not longer.

use core::ops::Deref;

use kernel::{
    device::{
        Bound,
        Device, //
    },
    devres::Devres,
    prelude::*,
    static_lock_class,
    str::CStr,
    sync::{
        Arc,
        Completion,
        SpinLock, //
    }, //
};

use crate::{
    ops::DevPagemapOps,
    pagemap::DevPagemap, //
};

/// The name of the lock; a static for the reason that is in `offsets/bitmap.rs`.
static LOCK_NAME: &CStr = c"dpmem::BoundPagemap";

/// A [`DevPagemap`] of a device that has a driver.
///
/// When the driver is unbound from the device, the pages come home, and the memory is unregistered,
/// before what the driver got from the device earlier than this is taken away from it: its
/// registers, its interrupts, and whatever the copy engine needs. What the bus takes away goes
/// earlier: see [`BoundPagemap::close`]. The value may live longer, as things that open files refer
/// to do. It gives the pagemap to nobody then.
///
/// [`Devres`] alone is not enough: the one who uses what is in it must not sleep, and everybody who
/// uses a pagemap does.
///
/// # Context
///
/// Dropping it sleeps, as dropping the pagemap does.
pub struct BoundPagemap<T: DevPagemapOps> {
    slot: Arc<Slot<T>>,
    _unbind: Devres<Unbind<T>>,
}

/// Where the pagemap is.
#[pin_data]
struct Slot<T: DevPagemapOps> {
    #[pin]
    state: SpinLock<State<T>>,
    /// The pagemap is gone from the slot, and so is the last who used it.
    #[pin]
    unused: Completion,
    /// The pagemap is unregistered.
    #[pin]
    closed: Completion,
}

impl<T: DevPagemapOps> Slot<T> {
    /// Takes the pagemap away from its users, brings its pages home, and unregisters it; or waits
    /// for somebody else who is doing so. May sleep.
    fn close(&self) {
        let (pagemap, users) = {
            let mut state = self.state.lock();
            (state.pagemap.take(), state.users)
        };
        let Some(pagemap) = pagemap else {
            return self.closed.wait_for_completion();
        };
        if users > 0 {
            self.unused.wait_for_completion();
        }
        // The last reference.
        drop(pagemap);
        self.closed.complete_all();
    }
}

struct State<T: DevPagemapOps> {
    pagemap: Option<Arc<DevPagemap<T>>>,
    /// How many use it.
    users: usize,
}

impl<T: DevPagemapOps> BoundPagemap<T> {
    /// Registers `pagemap` until the driver is unbound from `device`, or what is returned is
    /// dropped. May sleep, as may dropping it: see [`DevPagemap`].
    ///
    /// What its copy engine gets from the device is to be got before: what is got later goes
    /// earlier, when pages may be on the device still.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`]; those of `pagemap`.
    pub fn new(
        device: &Device<Bound>,
        pagemap: impl PinInit<DevPagemap<T>, Error>,
    ) -> Result<Self> {
        let pagemap = Arc::pin_init(pagemap, GFP_KERNEL)?;
        // SAFETY: If something fails, the pagemap is dropped here, and the device has its driver
        // until we return. Otherwise it is dropped before the driver is unbound: by `Unbind`.
        unsafe { pagemap.set_device(device) };
        let state = State {
            pagemap: Some(pagemap),
            users: 0,
        };
        let slot = Arc::pin_init(
            pin_init!(Slot {
                state <- SpinLock::new(state, LOCK_NAME, static_lock_class!()),
                unused <- Completion::new(),
                closed <- Completion::new(),
            }),
            GFP_KERNEL,
        )?;
        Ok(Self {
            slot: slot.clone(),
            _unbind: Devres::new(device, Unbind(slot))?,
        })
    }

    /// Brings the pages home, and unregisters the memory, as unbinding does. Gives the pagemap to
    /// nobody any more, waits for those who have it, and does nothing the second time.
    ///
    /// To be called first in a driver's `unbind()`: what the bus takes away right after that, its
    /// power for instance, is still there then.
    ///
    /// # Context
    ///
    /// May sleep. Not with a [`PagemapGuard`] at hand, for which it would wait.
    pub fn close(&self) {
        self.slot.close();
    }

    /// The pagemap, or `None` if the driver is being unbound. Unbinding waits for what is returned
    /// to be dropped, so it is to be had for a piece of work of some size, and not for all that a
    /// process may ask for.
    ///
    /// # Context
    ///
    /// Does not sleep. Not in an interrupt, nor with a lock held that interrupts take: the lock of
    /// the slot does not keep them out.
    pub fn access(&self) -> Option<PagemapGuard<'_, T>> {
        let mut state = self.slot.state.lock();
        let pagemap = state.pagemap.clone()?;
        state.users = state.users.checked_add(1)?;
        Some(PagemapGuard {
            pagemap,
            _use: Use(&self.slot),
        })
    }
}

/// A pagemap that is used just now. Its device keeps its driver for as long as this lives.
///
/// # Context
///
/// It is dropped in the contexts in which [`BoundPagemap::access`] may be called.
pub struct PagemapGuard<'a, T: DevPagemapOps> {
    // Dropped before the use ends, so that this is never the last reference.
    pagemap: Arc<DevPagemap<T>>,
    _use: Use<'a, T>,
}

impl<T: DevPagemapOps> Deref for PagemapGuard<'_, T> {
    type Target = DevPagemap<T>;

    fn deref(&self) -> &DevPagemap<T> {
        &self.pagemap
    }
}

/// One of the users of a slot.
struct Use<'a, T: DevPagemapOps>(&'a Slot<T>);

impl<T: DevPagemapOps> Drop for Use<'_, T> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.users = state.users.saturating_sub(1);
        if state.users == 0 && state.pagemap.is_none() {
            self.0.unused.complete_all();
        }
    }
}

/// What the device drops when the driver is unbound.
struct Unbind<T: DevPagemapOps>(Arc<Slot<T>>);

impl<T: DevPagemapOps> Drop for Unbind<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}
