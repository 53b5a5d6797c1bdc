// SPDX-License-Identifier: GPL-2.0

//! One device, and its memory while that is registered.

use kernel::{
    new_mutex,
    prelude::*,
    str::CString,
    sync::{
        Arc,
        Mutex, //
    }, //
};

use dpmem::{
    DevPagemap,
    DeviceMemory,
    NrPages,
    NumaNode,
    PageOffset,
    PeerGroup,
    PhysRange, //
};

use crate::{
    memory::{
        Memory,
        Policy, //
    }, //
};

/// The device is evicted so many pages at a time.
const EVICTED_AT_ONCE: NrPages = NrPages::new(64);

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
    policy: Policy,
    // Registered when it is first needed, if there is a place for it.
    #[pin]
    memory: Mutex<Option<DeviceMemory<Arc<Pagemap>>>>,
}

impl Device {
    /// A device of the driver in `module`, with memory of the kind `kind`, which is used as `policy`
    /// says.
    pub(crate) fn new(
        module: &'static ThisModule,
        kind: Kind,
        policy: Policy,
    ) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            module,
            kind,
            policy,
            memory <- new_mutex!(None, "dmirror::memory"),
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
        self.memory.lock().as_ref()?.registered().cloned()
    }

    /// The memory of the device, which is registered if it is not yet. May sleep.
    ///
    /// # Errors
    ///
    /// Those of [`DevPagemap::new`], but for those that say that the machine has no place for it.
    pub(crate) fn memory(&self) -> Result<DeviceMemory<Arc<Pagemap>>> {
        let mut slot = self.memory.lock();
        if let Some(memory) = &*slot {
            return Ok(memory.clone());
        }
        let mib = self.kind.nr_pages().to_bytes().ok_or(EINVAL)? >> 20;
        let memory = DeviceMemory::of(self.register())
            .inspect_err(|err| pr_err!("{} MiB of device memory: {:?}\n", mib, err))?;
        match &memory {
            DeviceMemory::Registered(_) => pr_info!("{} MiB of device memory\n", mib),
            DeviceMemory::Unavailable(err) => {
                pr_notice!("no place for {} MiB of device memory: {:?}\n", mib, err)
            }
        }
        *slot = Some(memory.clone());
        Ok(memory)
    }

    /// Registers the memory. No node is nearer to an imaginary device than another.
    fn register(&self) -> Result<Arc<Pagemap>> {
        let size = self.kind.nr_pages();
        let node = NumaNode::LOCAL;
        let memory = Memory::new(size, self.policy);
        match &self.kind {
            Kind::Private(_, None) => {
                Arc::pin_init(DevPagemap::new(c"dmirror", size, node, memory), GFP_KERNEL)
            }
            Kind::Private(_, Some(group)) => Arc::pin_init(
                DevPagemap::new_in(group.clone(), c"dmirror", size, node, memory),
                GFP_KERNEL,
            ),
            Kind::Coherent(range) => {
                let region = range.request(CString::try_from(c"dmirror")?)?;
                Arc::pin_init(
                    DevPagemap::coherent(c"dmirror", region, node, memory),
                    GFP_KERNEL,
                )
            }
        }
    }

    /// Brings pages home, as many as will go, and gives their number: what a driver does before its
    /// device sleeps. It does so block by block, the last first. May sleep.
    ///
    /// # Errors
    ///
    /// Those of [`DevPagemap::evict_list`].
    pub(crate) fn evict(&self) -> Result<NrPages> {
        let Some(pagemap) = self.pagemap() else {
            return Ok(NrPages::ZERO);
        };
        let end = pagemap.nr_pages().get();
        let blocks = (0..end).step_by(EVICTED_AT_ONCE.get()).rev().map(|start| {
            let nr = NrPages::new(end.saturating_sub(start));
            (PageOffset::new(start), nr.min(EVICTED_AT_ONCE))
        });
        pagemap.evict_list(blocks)
    }

    /// Brings all pages home, and gives up the memory; it is registered anew when it is needed
    /// again. May sleep. If another request is using the memory just now, that one does it in the
    /// end.
    pub(crate) fn release(&self) {
        let memory = self.memory.lock().take();
        // Not under the lock: this waits for processes.
        drop(memory);
    }
}
