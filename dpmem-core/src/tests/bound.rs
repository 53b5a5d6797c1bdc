// SPDX-License-Identifier: GPL-2.0

//! A pagemap and the device that it belongs to.

#[cfg(not(dpmem_faux_bound))]
use kernel::device::Device as AnyDevice;
use kernel::{
    device,
    devres::Devres,
    faux,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Completion, //
    },
    time::{
        delay::fsleep,
        Delta, //
    },
    workqueue, //
};

use super::{
    Device,
    Idle, //
};
use crate::{
    BitmapOffsets,
    BoundPagemap,
    DevPagemap,
    NrPages,
    NumaNode,
    OffsetAllocator,
    Order,
    PageOffset, //
};

const NR: NrPages = NrPages::new(1024);

/// What has gone, in which order: 0 for what has not, and counted from 1.
struct Log {
    gone: Atomic<usize>,
    memory: Atomic<usize>,
    registers: Atomic<usize>,
}

/// Notes when it is dropped.
struct Noted {
    log: Arc<Log>,
    when: fn(&Log) -> &Atomic<usize>,
}

impl Drop for Noted {
    fn drop(&mut self) {
        let order = self.log.gone.fetch_add(1, Relaxed) + 1;
        (self.when)(&self.log).store(order, Relaxed);
    }
}

/// An allocator that notes when it is dropped.
#[pin_data]
struct Watched {
    #[pin]
    offsets: BitmapOffsets,
    _noted: Noted,
}

impl OffsetAllocator for Watched {
    fn allocate(&self, order: Order) -> Option<PageOffset> {
        self.offsets.allocate(order)
    }

    fn free(&self, offset: PageOffset, order: Order) {
        self.offsets.free(offset, order);
    }
}

/// The device of `faux`, which has its driver from the beginning to the end.
#[cfg(dpmem_faux_bound)]
fn device(faux: &faux::Registration) -> &device::Device<device::Bound> {
    let device: &faux::Device<device::Bound> = faux.as_ref();
    device.as_ref()
}

/// The device of `faux`, which has its driver from the beginning to the end.
#[cfg(not(dpmem_faux_bound))]
fn device(faux: &faux::Registration) -> &device::Device<device::Bound> {
    let device: &AnyDevice = faux.as_ref();
    // SAFETY: A faux device is bound when it is created, and unbound when the registration is
    // dropped.
    unsafe { device.as_bound() }
}

fn log() -> Result<Arc<Log>> {
    let log = Log {
        gone: Atomic::new(0),
        memory: Atomic::new(0),
        registers: Atomic::new(0),
    };
    Ok(Arc::new(log, GFP_KERNEL)?)
}

fn pagemap(faux: &faux::Registration, log: &Arc<Log>) -> Result<BoundPagemap<Device<Watched>>> {
    let noted = Noted {
        log: log.clone(),
        when: |log| &log.memory,
    };
    let ops = try_pin_init!(Device {
        offsets <- try_pin_init!(Watched {
            offsets <- BitmapOffsets::new(NR),
            _noted: noted,
        }? Error),
        engine: Idle,
    }? Error);
    let node = NumaNode::of(device(faux));
    BoundPagemap::new(device(faux), DevPagemap::new(c"dpmem-kunit", NR, node, ops))
}

#[kunit_tests(rust_dpmem_bound)]
mod cases {
    use super::*;

    #[test]
    fn it_goes_with_the_device_and_before_its_registers() -> Result {
        let log = log()?;
        let faux = faux::Registration::new(c"dpmem-kunit", None)?;
        let registers = Noted {
            log: log.clone(),
            when: |log| &log.registers,
        };
        let registers = Devres::new(device(&faux), registers)?;
        let bound = pagemap(&faux, &log)?;
        {
            let pagemap = bound.access().ok_or(ENODEV)?;
            let its_device = pagemap.device().ok_or(ENODEV)?;
            assert!(core::ptr::eq(&*its_device, &**device(&faux)));
            let folio = pagemap.request_folio(Order::ZERO)?;
            assert_eq!(pagemap.nr_out().get(), 1);
            drop(folio);
        }
        drop(faux);
        assert_eq!(log.memory.load(Relaxed), 1);
        assert_eq!(log.registers.load(Relaxed), 2);
        assert!(bound.access().is_none());
        drop((bound, registers));
        assert_eq!(log.gone.load(Relaxed), 2);
        Ok(())
    }

    #[test]
    fn it_may_go_before_the_device() -> Result {
        let log = log()?;
        let faux = faux::Registration::new(c"dpmem-kunit", None)?;
        drop(pagemap(&faux, &log)?);
        assert_eq!(log.memory.load(Relaxed), 1);
        // And come again.
        let bound = pagemap(&faux, &log)?;
        assert!(bound.access().is_some());
        drop(faux);
        assert_eq!(log.memory.load(Relaxed), 2);
        Ok(())
    }

    #[test]
    fn unbinding_waits_for_who_uses_it() -> Result {
        #[pin_data]
        struct User {
            bound: BoundPagemap<Device<Watched>>,
            log: Arc<Log>,
            #[pin]
            begun: Completion,
            /// 1 if all was well until the use ended, 2 if not.
            outcome: Atomic<usize>,
        }

        let log = log()?;
        let faux = faux::Registration::new(c"dpmem-kunit", None)?;
        let bound = pagemap(&faux, &log)?;
        let seen = log.clone();
        let user = Arc::pin_init(
            pin_init!(User {
                bound,
                log: seen,
                begun <- Completion::new(),
                outcome: Atomic::new(0),
            }),
            GFP_KERNEL,
        )?;
        let other = user.clone();
        workqueue::system_long().try_spawn(GFP_KERNEL, move || {
            let pagemap = other.bound.access();
            let folio = pagemap
                .as_ref()
                .and_then(|pagemap| pagemap.request_folio(Order::ZERO).ok());
            other.begun.complete_all();
            // Until the device is being unbound: nothing else tells.
            while other.bound.access().is_some() {
                fsleep(Delta::from_millis(1));
            }
            // It still works.
            let again = pagemap
                .as_ref()
                .map(|pagemap| pagemap.request_folio(Order::ZERO).is_ok());
            let well =
                folio.is_some() && again == Some(true) && other.log.memory.load(Relaxed) == 0;
            drop(folio);
            other.outcome.store(if well { 1 } else { 2 }, Relaxed);
            drop(pagemap);
        })?;
        user.begun.wait_for_completion();
        drop(faux);
        assert_eq!(user.outcome.load(Relaxed), 1);
        assert_eq!(log.memory.load(Relaxed), 1);
        assert!(user.bound.access().is_none());
        Ok(())
    }
}
