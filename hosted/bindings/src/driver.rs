// SPDX-License-Identifier: GPL-2.0

//! Drivers that are built in.
//!
//! Real: `init` and `exit`, once each; references to the driver's module, which nobody gets any more
//! once it is being unloaded. Not simulated: `struct module`. What is built in has none, so that a
//! null pointer is the module of the one driver that there is. A kernel refuses to unload a driver
//! that is in use; here that is a report, and a driver whose files are open is in use, also with 7.2,
//! whose misc devices do not know their module. What is mapped of a file does not keep it, as it
//! does in a kernel.

use std::sync::{Mutex, MutexGuard, PoisonError};

use ffi::*;

use crate::{machine::with, process::Errno, report::report, rest::module};

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
        with(|m| m.module = Users::default());
        match unsafe { init() } {
            0 => Ok(Self {
                exit,
                _loaded: loaded,
            }),
            err => {
                let left = with(|m| m.module.references);
                if left > 0 {
                    report(format!(
                        "a driver that cannot be loaded has left {left} references to its module"
                    ));
                }
                Err(Errno(err.unsigned_abs()))
            }
        }
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        let users = with(|m| {
            m.module.going = true;
            m.module
        });
        let Users {
            references, files, ..
        } = users;
        if references + files > 0 {
            report(format!(
                "the driver is unloaded while it is in use, by {references} references to its module and \
                 {files} open files"
            ));
        }
        unsafe { (self.exit)() };
    }
}

/// Who uses the driver's module.
#[derive(Clone, Copy, Default)]
pub(crate) struct Users {
    /// How many references there are to it.
    references: usize,
    /// How many files are open.
    files: usize,
    /// It is being unloaded.
    going: bool,
}

/// A file of the driver is opened, by whom that keeps the module; false if the module is going.
pub(crate) fn file_get() -> bool {
    with(|m| {
        let live = !m.module.going;
        m.module.files += usize::from(live);
        live
    })
}

/// It has been closed.
pub(crate) fn file_put() {
    with(|m| m.module.files = m.module.files.saturating_sub(1));
}

pub unsafe extern "C" fn try_module_get(module: *mut module) -> bool {
    assert!(module.is_null(), "there is no such module");
    with(|m| {
        let live = !m.module.going;
        m.module.references += usize::from(live);
        live
    })
}

pub unsafe extern "C" fn module_put(module: *mut module) {
    assert!(module.is_null(), "there is no such module");
    let left = with(|m| {
        let left = m.module.references.checked_sub(1);
        m.module.references = left.unwrap_or(0);
        left
    });
    if left.is_none() {
        report("a reference to the driver's module is given back that nobody has");
    }
}
