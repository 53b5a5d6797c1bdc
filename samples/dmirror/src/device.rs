// SPDX-License-Identifier: GPL-2.0

//! One device, and its memory while that is registered.

use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    }, //
};

use dpmem::{
    DevPagemap,
    NrPages,
    PeerGroup,
    PhysRange, //
};

use crate::{
    memory::Memory,
    offsets::Allocator, //
};

/// The registered memory of a device.
pub(crate) type Pagemap = DevPagemap<Memory>;

/// What memory a device has.
pub(crate) enum Kind {
    /// So many pages that no CPU can address, but the other devices of the group, if there is one.
    Private(NrPages, Option<Arc<PeerGroup<Memory>>>),
    /// Pages that CPUs can address as well.
    Coherent(PhysRange),
}

impl Kind {
    fn nr_pages(&self) -> NrPages {
        match self {
            Self::Private(nr, _) => *nr,
            Self::Coherent(range) => range.nr_pages(),
        }
    }
}

/// One device.
#[pin_data]
pub(crate) struct Device {
    module: &'static ThisModule,
    kind: Kind,
    allocator: Allocator,
    // Registered when it is first needed.
    #[pin]
    pagemap: Mutex<Option<Arc<Pagemap>>>,
}

impl Device {
    /// A device of the driver in `module`, with memory of the kind `kind` that `allocator` hands out.
    pub(crate) fn new(
        module: &'static ThisModule,
        kind: Kind,
        allocator: Allocator,
    ) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            module,
            kind,
            allocator,
            pagemap <- new_mutex!(None, "dmirror::pagemap"),
        })
    }

    /// The module that the driver is.
    pub(crate) fn module(&self) -> &'static ThisModule {
        self.module
    }

    /// Whether CPUs can address the memory of the device.
    pub(crate) fn is_coherent(&self) -> bool {
        matches!(self.kind, Kind::Coherent(_))
    }

    /// The memory of the device, if it is registered.
    pub(crate) fn pagemap(&self) -> Option<Arc<Pagemap>> {
        self.pagemap.lock().clone()
    }

    /// The memory of the device, which is registered if it is not yet. May sleep.
    ///
    /// # Errors
    ///
    /// Those of [`DevPagemap::new`].
    pub(crate) fn pagemap_or_register(&self) -> Result<Arc<Pagemap>> {
        let mut slot = self.pagemap.lock();
        if let Some(pagemap) = &*slot {
            return Ok(pagemap.clone());
        }
        let size = self.kind.nr_pages();
        let mib = size.to_bytes().ok_or(EINVAL)? >> 20;
        let memory = Memory::new(size, self.allocator);
        let pagemap = match &self.kind {
            Kind::Private(_, None) => {
                Arc::pin_init(DevPagemap::new(c"dmirror", size, memory), GFP_KERNEL)
            }
            Kind::Private(_, Some(group)) => Arc::pin_init(
                DevPagemap::new_in(group.clone(), c"dmirror", size, memory),
                GFP_KERNEL,
            ),
            Kind::Coherent(range) => {
                Arc::pin_init(DevPagemap::coherent(*range, memory), GFP_KERNEL)
            }
        };
        let pagemap =
            pagemap.inspect_err(|err| pr_err!("{} MiB of device memory: {:?}\n", mib, err))?;
        pr_info!("{} MiB of device memory\n", mib);
        *slot = Some(pagemap.clone());
        Ok(pagemap)
    }

    /// Brings all pages home, and gives up the memory; it is registered anew when it is needed
    /// again. May sleep. If another request is using the memory just now, that one does it in the
    /// end.
    pub(crate) fn release(&self) {
        let pagemap = self.pagemap.lock().take();
        // Not under the lock: this waits for processes.
        drop(pagemap);
    }
}
