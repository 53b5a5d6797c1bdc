// SPDX-License-Identifier: GPL-2.0

//! What the tests of devices have in common.

use kernel::{device, faux};

/// The device of `faux`, which has its driver from the beginning to the end.
#[cfg(dpmem_faux_bound)]
pub(crate) fn bound(faux: &faux::Registration) -> &device::Device<device::Bound> {
    let device: &faux::Device<device::Bound> = faux.as_ref();
    device.as_ref()
}

/// The device of `faux`, which has its driver from the beginning to the end.
#[cfg(not(dpmem_faux_bound))]
pub(crate) fn bound(faux: &faux::Registration) -> &device::Device<device::Bound> {
    let device: &device::Device = faux.as_ref();
    // SAFETY: A faux device is bound when it is created, and unbound when the registration is
    // dropped.
    unsafe { device.as_bound() }
}
