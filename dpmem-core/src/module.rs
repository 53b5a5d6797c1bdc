// SPDX-License-Identifier: GPL-2.0

//! What ties data to the module that it belongs to.
//!
//! C header: [`include/linux/module.h`](srctree/include/linux/module.h)

use core::ptr::null_mut;

use kernel::{
    bindings,
    prelude::*,
    sync::{
        atomic::{
            ordering::{
                Acquire,
                Release, //
            },
            Atomic, //
        },
        rcu,
        Arc,
        ArcBorrow, //
    }, //
};

/// A reference to a module: it cannot be unloaded for as long as this lives.
///
/// The file operations of a misc device of 7.2 have no owner, so that an open file does not keep
/// its module. This does, up to the last instructions of `release`, which run after it is dropped;
/// only an owner in the file operations, as 7.3 has it, covers those.
///
/// # Invariants
///
/// One reference to the module is this value's.
pub(crate) struct ModuleRef(&'static ThisModule);

impl ModuleRef {
    /// Takes a reference to `module`; [`ENODEV`] if it is being unloaded.
    pub(crate) fn new(module: &'static ThisModule) -> Result<Self> {
        // SAFETY: A `ThisModule` is a module, or null for what is built in, which is fine as well.
        if unsafe { bindings::try_module_get(module.as_ptr()) } {
            // INVARIANT: Just taken.
            Ok(Self(module))
        } else {
            Err(ENODEV)
        }
    }
}

impl Drop for ModuleRef {
    fn drop(&mut self) {
        // SAFETY: The reference is ours, by the type invariant.
        unsafe { bindings::module_put(self.0.as_ptr()) };
    }
}

/// A static place where a module leaves an [`Arc`] for its file operations to find.
///
/// `open` of a misc device is given nothing of its driver's. What the driver keeps for the device
/// is published here before the device is registered, and found by [`ModuleSlot::get`].
///
/// # Invariants
///
/// The pointer is null, or was made by [`Arc::into_raw`] and holds that reference.
pub struct ModuleSlot<T: Send + Sync + 'static>(Atomic<*mut T>);

impl<T: Send + Sync + 'static> ModuleSlot<T> {
    /// An empty place.
    pub const fn new() -> Self {
        // INVARIANT: The pointer is null.
        Self(Atomic::new(null_mut()))
    }

    /// Leaves `value` here, until what is returned is dropped.
    ///
    /// # Context
    ///
    /// One in which `value` may be dropped, as it is if there is something already.
    ///
    /// # Errors
    ///
    /// [`EBUSY`] if there is something already.
    pub fn publish(&'static self, value: Arc<T>) -> Result<Published<T>> {
        let ptr = Arc::into_raw(value).cast_mut();
        // INVARIANT: The slot takes over the reference.
        match self.0.cmpxchg(null_mut(), ptr, Release) {
            Ok(_) => Ok(Published(self)),
            Err(_) => {
                // SAFETY: The pointer comes from `into_raw()`, and was not published.
                drop(unsafe { Arc::from_raw(ptr) });
                Err(EBUSY)
            }
        }
    }

    /// What was published, if anything. Does not sleep.
    pub fn get(&self) -> Option<Arc<T>> {
        let _rcu = rcu::read_lock();
        let ptr = self.0.load(Acquire);
        if ptr.is_null() {
            return None;
        }
        // SAFETY: The pointer comes from `into_raw()`, by the type invariant. Its reference is put
        // after a grace period, and we are in a read section.
        let value = unsafe { ArcBorrow::from_raw(ptr) };
        Some(value.into())
    }
}

impl<T: Send + Sync + 'static> Default for ModuleSlot<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Something that lies in a [`ModuleSlot`], and is taken out when this is dropped. May sleep then.
#[must_use = "the value is taken back when this is dropped: keep it as long as the device is registered"]
pub struct Published<T: Send + Sync + 'static>(&'static ModuleSlot<T>);

impl<T: Send + Sync + 'static> Drop for Published<T> {
    fn drop(&mut self) {
        let ptr = self.0 .0.xchg(null_mut(), Acquire);
        if !ptr.is_null() {
            // SAFETY: Dropping may sleep, as the type says, so this is process context.
            unsafe { bindings::synchronize_rcu() };
            // SAFETY: The pointer comes from `into_raw()`, by the type invariant of the slot,
            // which has given its reference up. Nobody who found it there is still reading.
            drop(unsafe { Arc::from_raw(ptr) });
        }
    }
}
