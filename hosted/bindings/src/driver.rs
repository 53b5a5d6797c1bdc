// SPDX-License-Identifier: GPL-2.0

//! Drivers that are built in.
//!
//! Real: `init` and `exit`, once each. Not simulated: `struct module`, and unloading a driver that
//! is in use; what is built in is never unloaded.

use std::sync::{Mutex, MutexGuard, PoisonError};

use ffi::*;

use crate::process::Errno;

/// The statics of a driver are those of the whole test program, so only one machine has it at a
/// time.
static LOADED: Mutex<()> = Mutex::new(());

/// A driver that is loaded. Dropping it unloads it.
pub struct Module {
    exit: unsafe extern "C" fn(),
    _loaded: MutexGuard<'static, ()>,
}

impl Module {
    /// Loads a driver, of which `init` and `exit` are what `module!` has made. Waits for other
    /// tests that use one.
    ///
    /// # Errors
    ///
    /// Those of the driver.
    ///
    /// # Safety
    ///
    /// They must belong together.
    pub unsafe fn load(
        init: unsafe extern "C" fn() -> c_int,
        exit: unsafe extern "C" fn(),
    ) -> Result<Self, Errno> {
        let loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        match unsafe { init() } {
            0 => Ok(Self {
                exit,
                _loaded: loaded,
            }),
            err => Err(Errno(err.unsigned_abs())),
        }
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        unsafe { (self.exit)() };
    }
}
