// SPDX-License-Identifier: GPL-2.0

//! A spinlock for what the end of an interrupt may need: a page that CPUs can address can be pinned
//! for I/O, and is freed where that I/O is completed.
//!
//! The kernel's own `SpinLockIrq` is not in 7.2.
//!
//! C header: [`include/linux/spinlock.h`](srctree/include/linux/spinlock.h)

use kernel::{
    bindings,
    prelude::*,
    sync::lock::{
        Backend,
        Lock, //
    }, //
};

/// A spinlock that switches interrupts off while it is held, and back to what they were.
///
/// Two of them are to be given up in the opposite order in which they were taken.
pub(crate) type SpinLockIrqSave<T> = Lock<T, IrqSave>;

/// How a [`SpinLockIrqSave`] is taken: with `spin_lock_irqsave()`.
pub(crate) struct IrqSave;

// SAFETY: A spinlock has one owner.
unsafe impl Backend for IrqSave {
    type State = bindings::spinlock_t;
    /// What interrupts were.
    type GuardState = c_ulong;

    #[inline]
    unsafe fn init(ptr: *mut Self::State, name: *const c_char, key: *mut bindings::lock_class_key) {
        // SAFETY: The caller promises all that is asked for.
        unsafe { bindings::__spin_lock_init(ptr, name, key) }
    }

    #[inline]
    unsafe fn lock(ptr: *mut Self::State) -> c_ulong {
        // SAFETY: The lock was initialised, as the caller promises.
        unsafe { bindings::spin_lock_irqsave(ptr) }
    }

    #[inline]
    unsafe fn try_lock(ptr: *mut Self::State) -> Option<c_ulong> {
        let mut flags = 0;
        // SAFETY: The lock was initialised, as the caller promises.
        unsafe { bindings::spin_trylock_irqsave(ptr, &mut flags) }.then_some(flags)
    }

    #[inline]
    unsafe fn unlock(ptr: *mut Self::State, flags: &c_ulong) {
        // SAFETY: The caller owns the lock, and these are the flags with which it was taken.
        unsafe { bindings::spin_unlock_irqrestore(ptr, *flags) }
    }

    #[inline]
    unsafe fn assert_is_held(ptr: *mut Self::State) {
        // It is asked each time that the lock is taken, and without lockdep nobody answers.
        if cfg!(CONFIG_LOCKDEP) {
            // SAFETY: The lock was initialised, as the caller promises.
            unsafe { bindings::spin_assert_is_held(ptr) }
        }
    }
}
