// SPDX-License-Identifier: GPL-2.0

//! Devices of DRM.
//!
//! Real: references, and that nobody is between `drm_dev_enter()` and `drm_dev_exit()` when
//! `drm_dev_unplug()` is over. A device is made, unplugged and unbound by a test: see
//! [`DrmDevice`]. Not simulated: drivers, files, managed resources, modules. The files beside this
//! one are about memory.

pub(crate) mod fence;
mod map;
mod pagemap;
mod to_device;
mod to_ram;
mod types;
pub(crate) mod util;

pub use self::{
    fence::*, pagemap::*, to_device::drm_pagemap_migrate_to_devmem,
    to_ram::drm_pagemap_evict_to_ram, types::*, util::*,
};

use std::collections::{BTreeMap, BTreeSet};

use ffi::*;

use crate::{
    devices::{device, faux_device_destroy, get_device, new_faux_device, put_device, release_all},
    dma::reach_memory,
    locks::{kref, kref_get, kref_init, kref_put},
    machine::{might_sleep, with, Locked},
    report::{fatal, report},
    task::thread_id,
};

#[repr(C)]
pub struct drm_device {
    pub ref_: kref,
    pub dev: *mut device,
    unplugged: bool,
}

/// What a machine knows of DRM.
#[derive(Default)]
pub(crate) struct Drm {
    devices: BTreeSet<usize>,
    /// Which threads have entered, and which entry each of them was.
    entered: Vec<(usize, usize)>,
    entries: usize,
    /// What drivers have handed to DRM, and must not free meanwhile: what it is, by its address.
    lent: BTreeMap<usize, &'static str>,
    pub(crate) fences: BTreeSet<usize>,
    /// What the pages of devices may have as their data.
    pub(crate) zdds: BTreeSet<usize>,
    pub(crate) caches: BTreeSet<usize>,
    pub(crate) shrinkers: Vec<usize>,
    /// The shrinkers that are at work.
    pub(crate) shrinking: Vec<usize>,
}

impl Drm {
    /// What is left over, in words.
    pub(crate) fn in_use(&self) -> Vec<String> {
        let devices = self.devices.iter().map(|_| "a DRM device".to_owned());
        let fences = self.fences.iter().map(|_| "a fence".to_owned());
        let entered = self.entered.iter();
        let entered = entered.map(|_| "a `drm_dev_enter()` without its exit".to_owned());
        // What is in memory of the kernel's is reported as an allocation as well.
        let lent = self.lent.values().map(|what| (*what).to_owned());
        devices.chain(fences).chain(entered).chain(lent).collect()
    }

    /// Notes that DRM has what is at `addr`. False if it has it already.
    pub(crate) fn lend<T>(&mut self, addr: *mut T, what: &'static str) -> bool {
        self.lent.insert(addr as usize, what).is_none()
    }

    /// Notes that it is the driver's again.
    pub(crate) fn give_back<T>(&mut self, addr: *mut T) {
        self.lent.remove(&(addr as usize));
    }

    /// What DRM has that is in these bytes.
    pub(crate) fn lent(&self, addr: usize, len: usize) -> Option<&'static str> {
        let mut inside = self.lent.range(addr..addr + len);
        inside.next().map(|(_, what)| *what)
    }
}

fn check(m: &mut Locked<'_>, dev: *mut drm_device, what: &str) {
    if !m.drm.devices.contains(&(dev as usize)) {
        fatal(format!("`{what}()` of a DRM device that is gone"));
    }
}

pub unsafe extern "C" fn drm_dev_get(dev: *mut drm_device) {
    with(|m| check(m, dev, "drm_dev_get"));
    unsafe { kref_get(&raw mut (*dev).ref_) };
}

pub unsafe extern "C" fn drm_dev_put(dev: *mut drm_device) {
    if dev.is_null() {
        return;
    }
    with(|m| check(m, dev, "drm_dev_put"));
    if unsafe { kref_put(&raw mut (*dev).ref_) } {
        with(|m| m.drm.devices.remove(&(dev as usize)));
        let drm = unsafe { Box::from_raw(dev) };
        unsafe { put_device(drm.dev) };
    }
}

pub unsafe extern "C" fn drm_dev_enter(dev: *mut drm_device, idx: *mut c_int) -> bool {
    with(|m| {
        check(m, dev, "drm_dev_enter");
        if unsafe { (*dev).unplugged } {
            return false;
        }
        let entry = (thread_id(), m.drm.entries);
        m.drm.entries += 1;
        m.drm.entered.push(entry);
        unsafe { *idx = 0 };
        true
    })
}

/// `drm_dev_is_unplugged()`, which C has as an inline function.
unsafe fn is_unplugged(dev: *mut drm_device) -> bool {
    with(|m| {
        check(m, dev, "drm_dev_is_unplugged");
        unsafe { (*dev).unplugged }
    })
}

pub unsafe extern "C" fn drm_dev_exit(_idx: c_int) {
    with(|m| {
        let me = thread_id();
        match m.drm.entered.iter().rposition(|(who, _)| *who == me) {
            Some(at) => {
                m.drm.entered.remove(at);
            }
            None => report("`drm_dev_exit()` by a thread that has not entered"),
        }
        m.changed();
    });
}

pub unsafe extern "C" fn drm_dev_unplug(dev: *mut drm_device) {
    might_sleep("drm_dev_unplug");
    let me = thread_id();
    with(|m| {
        check(m, dev, "drm_dev_unplug");
        if m.drm.entered.iter().any(|(who, _)| *who == me) {
            fatal("deadlock: a thread that has entered a DRM device unplugs one");
        }
        unsafe { (*dev).unplugged = true };
        let now = m.drm.entries;
        while m.drm.entered.iter().any(|(_, entry)| *entry < now) {
            m.wait("those that have entered a DRM device");
        }
    });
}

/// A device of DRM, for a test. Dropping it unbinds it.
pub struct DrmDevice {
    drm: *mut drm_device,
    /// The device is the test's, which destroys it.
    foreign: bool,
}

// SAFETY: What is behind the pointer is used under locks.
unsafe impl Send for DrmDevice {}
// SAFETY: As above.
unsafe impl Sync for DrmDevice {}

impl Default for DrmDevice {
    fn default() -> Self {
        Self::new()
    }
}

impl DrmDevice {
    /// One with a device of its own, which is bound.
    pub fn new() -> Self {
        let dev = unsafe { &raw mut (*new_faux_device(std::ptr::null_mut())).dev };
        unsafe { reach_memory(dev) };
        Self {
            drm: new_drm(dev),
            foreign: false,
        }
    }

    /// One of `dev`, which somebody else has made, and destroys.
    ///
    /// # Safety
    ///
    /// There must be such a device.
    pub unsafe fn of(dev: *mut device) -> Self {
        Self {
            drm: new_drm(dev),
            foreign: true,
        }
    }

    /// For the driver.
    pub fn as_ptr(&self) -> *mut drm_device {
        self.drm
    }

    /// The device that it is bound to.
    pub fn device(&self) -> *mut device {
        unsafe { (*self.drm).dev }
    }

    /// It is gone: `drm_dev_enter()` fails from now on.
    pub fn unplug(&self) {
        unsafe { drm_dev_unplug(self.drm) };
    }

    /// The driver goes: the device is unplugged, and what it has is released, the last first. A
    /// device that somebody else has made is only unplugged.
    pub fn unbind(&self) {
        self.unplug();
        if !self.foreign {
            might_sleep("device_release_driver");
            unsafe { release_all(self.device()) };
        }
    }
}

impl Drop for DrmDevice {
    fn drop(&mut self) {
        self.unbind();
        let dev = self.device();
        unsafe { drm_dev_put(self.drm) };
        if !self.foreign {
            unsafe { faux_device_destroy(dev.cast()) };
        }
    }
}

/// A DRM device with one reference.
fn new_drm(dev: *mut device) -> *mut drm_device {
    let drm = Box::into_raw(Box::new(drm_device {
        ref_: kref::default(),
        dev: unsafe { get_device(dev) },
        unplugged: false,
    }));
    unsafe { kref_init(&raw mut (*drm).ref_) };
    with(|m| m.drm.devices.insert(drm as usize));
    drm
}
