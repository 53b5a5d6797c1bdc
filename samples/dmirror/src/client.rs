// SPDX-License-Identifier: GPL-2.0

//! Whose the memory on a device is: the open file that has moved it there. Kept with each folio, so
//! that it is known when the folio comes home, whoever brings it.

use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    }, //
};

use dpmem::NrPages;

/// How many clients there are.
static CLIENTS: Atomic<usize> = Atomic::new(0);

/// What an open file has moved to a device, and what has become of it.
pub(crate) struct Client {
    faults: Atomic<usize>,
    came_home: Atomic<usize>,
}

impl Client {
    /// A client that has moved nothing yet.
    pub(crate) fn new() -> Result<Arc<Self>> {
        CLIENTS.add(1, Relaxed);
        // Dropped if there is no memory for it.
        let client = Self {
            faults: Atomic::new(0),
            came_home: Atomic::new(0),
        };
        Ok(Arc::new(client, GFP_KERNEL)?)
    }

    /// How many there are: those that are open files, and those of which something is still on a
    /// device.
    pub(crate) fn count() -> usize {
        CLIENTS.load(Relaxed)
    }

    /// A CPU has touched memory of the client.
    pub(crate) fn faulted(&self) {
        self.faults.add(1, Relaxed);
    }

    /// How often that was so.
    pub(crate) fn faults(&self) -> usize {
        self.faults.load(Relaxed)
    }

    /// Pages of the client are being copied home.
    pub(crate) fn comes_home(&self, pages: NrPages) {
        self.came_home.add(pages.get(), Relaxed);
    }

    /// How many pages were copied home.
    pub(crate) fn came_home(&self) -> usize {
        self.came_home.load(Relaxed)
    }
}

impl Drop for Client {
    // May be in the middle of freeing a page, and must not sleep.
    fn drop(&mut self) {
        CLIENTS.fetch_sub(1, Relaxed);
    }
}
