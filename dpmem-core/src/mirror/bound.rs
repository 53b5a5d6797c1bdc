// SPDX-License-Identifier: GPL-2.0

//! The mirrors of a device: what it reaches is taken away from it before it loses its driver.

use core::ops::Deref;

use kernel::{
    device::{
        Bound,
        Device, //
    },
    devres::Devres,
    mm::MmWithUser,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNode, //
    },
    static_lock_class,
    str::CStr,
    sync::{
        aref::ARef,
        Arc,
        Mutex, //
    }, //
};

use super::{
    bus::{
        self,
        Bus, //
    },
    page_table::PageTable,
    Locked,
    Mirror,
    LOCK_NAME, //
};

/// The name of the lock; a static for the reason that is in `offsets/bitmap.rs`.
static MIRRORS_LOCK_NAME: &CStr = c"dpmem::BoundMirrors";

/// What the mirrors of a device share with it.
type LockedMirror<P> = Arc<Mutex<Locked<P>>>;

/// The mirrors of a device that has a driver, and page tables `P` of its own.
///
/// When the driver is unbound from the device, all translations are taken away from it, and system
/// memory is unmapped, before what the driver got from the device earlier than this goes, such as
/// its registers. What the bus takes away goes earlier: see [`BoundMirrors::close`]. Open files may
/// keep their mirrors longer. Nothing can be mapped in them then.
pub struct BoundMirrors<P: PageTable> {
    mirrors: Arc<Mirrors<P>>,
    _unbind: Devres<Unbind<P>>,
}

impl<P: PageTable> BoundMirrors<P> {
    /// Room for mirrors until the driver is unbound from `device`, or what is returned is dropped.
    ///
    /// To be made after what [`PageTable::invalidate`] needs was got from the device: what is got
    /// later goes earlier.
    ///
    /// # Context
    ///
    /// May sleep, as may dropping it.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if the device cannot use memory while CPUs do: it is not coherent with them,
    /// or does not reach all memory without bounce buffers. [`ENOMEM`].
    pub fn new(device: &Device<Bound>) -> Result<Self> {
        bus::check(device)?;
        let unbound: &Device = device;
        let mirrors = Arc::pin_init(
            try_pin_init!(Mirrors {
                device: ARef::from(unbound),
                open <- Mutex::new(Some(RBTree::new()), MIRRORS_LOCK_NAME, static_lock_class!()),
            }? Error),
            GFP_KERNEL,
        )?;
        Ok(Self {
            mirrors: mirrors.clone(),
            _unbind: Devres::new(device, Unbind(mirrors))?,
        })
    }

    /// Mirrors all of `mm` for the device, for a driver in `module`. The mirror is empty at first,
    /// and so must `page_table` be.
    ///
    /// # Context
    ///
    /// May sleep. Takes the mmap lock for writing.
    ///
    /// # Errors
    ///
    /// Those of [`Mirror::new`]; [`ENODEV`] if the driver has been unbound.
    pub fn mirror<'a>(
        &'a self,
        mm: &'a MmWithUser,
        module: &'static ThisModule,
        page_table: P,
    ) -> impl PinInit<Mirror<P>, Error> + use<'a, P> {
        Mirror::with(mm, module, || Mirrors::admit(&self.mirrors, page_table))
    }

    /// Takes all translations away from the device, and unmaps memory, as unbinding does. Does
    /// nothing the second time.
    ///
    /// To be called in a driver's `unbind()`: what the bus takes away right after that, its power
    /// for instance, is still there then.
    ///
    /// # Context
    ///
    /// May sleep. Takes the locks of all mirrors.
    pub fn close(&self) {
        self.mirrors.close();
    }
}

/// The mirrors, by where they are.
#[pin_data]
struct Mirrors<P: PageTable> {
    device: ARef<Device>,
    /// `None` once the driver is unbound.
    #[pin]
    open: Mutex<Option<RBTree<usize, LockedMirror<P>>>>,
}

impl<P: PageTable> Mirrors<P> {
    /// One more mirror.
    fn admit(this: &Arc<Self>, page_table: P) -> Result<Shared<P>> {
        let locked = locked(page_table, Bus::Unbound)?;
        let node = RBTreeNode::new(key(&locked), locked.clone(), GFP_KERNEL)?;
        let mut open = this.open.lock();
        let Some(mirrors) = &mut *open else {
            return Err(ENODEV);
        };
        mirrors.insert(node);
        // SAFETY: The driver is not unbound before `close()` has had the lock that is held here. It
        // finds the mirror, and makes this something else.
        locked.lock().bus = unsafe { Bus::bound(this.device.clone()) };
        drop(open);
        Ok(Shared {
            locked,
            mirrors: Some(this.clone()),
        })
    }

    fn close(&self) {
        let mut open = self.open.lock();
        if let Some(mirrors) = &*open {
            for locked in mirrors.values() {
                locked.lock().close();
            }
        }
        *open = None;
    }
}

/// What a mirror is found by.
fn key<P: PageTable>(locked: &LockedMirror<P>) -> usize {
    core::ptr::from_ref::<Mutex<_>>(locked).addr()
}

/// The empty table of a mirror.
fn locked<P: PageTable>(page_table: P, bus: Bus) -> Result<LockedMirror<P>> {
    let locked = Locked::new(page_table, bus);
    Arc::pin_init(
        Mutex::new(locked, LOCK_NAME, static_lock_class!()),
        GFP_KERNEL,
    )
}

/// The table of a mirror, which its device finds as well, if it has one.
pub(super) struct Shared<P: PageTable> {
    locked: LockedMirror<P>,
    mirrors: Option<Arc<Mirrors<P>>>,
}

impl Shared<()> {
    /// One that no device finds.
    pub(super) fn alone() -> Result<Self> {
        Ok(Self {
            locked: locked((), Bus::None)?,
            mirrors: None,
        })
    }
}

impl<P: PageTable> Deref for Shared<P> {
    type Target = Mutex<Locked<P>>;

    fn deref(&self) -> &Mutex<Locked<P>> {
        &self.locked
    }
}

impl<P: PageTable> Drop for Shared<P> {
    fn drop(&mut self) {
        if let Some(mirrors) = &self.mirrors {
            if let Some(mirrors) = &mut *mirrors.open.lock() {
                // Not the last reference.
                mirrors.remove(&key(&self.locked));
            }
        }
    }
}

/// What the device drops when the driver is unbound.
struct Unbind<P: PageTable>(Arc<Mirrors<P>>);

impl<P: PageTable> Drop for Unbind<P> {
    fn drop(&mut self) {
        self.0.close();
    }
}
