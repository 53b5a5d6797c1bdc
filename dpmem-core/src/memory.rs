// SPDX-License-Identifier: GPL-2.0

//! Whether a device has memory that processes can use.

use kernel::{
    bindings,
    prelude::*, //
};

/// The registered memory of a device, `P`, or that this machine has no place for it.
///
/// Whether there is a place depends on the machine, on its firmware and, on a kernel without an
/// index space for device memory, on chance. It is no reason for a driver not to work: the device
/// uses the memory of processes where it is.
///
/// # Examples
///
/// ```ignore
/// let memory = DeviceMemory::of(BoundPagemap::new(device, pagemap))?;
/// if memory.registered().is_none() {
///     dev_info!(device, "processes get no memory on the device\n");
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub enum DeviceMemory<P> {
    /// It is registered.
    Registered(P),
    /// It cannot be, and this is why.
    Unavailable(Error),
}

impl<P> DeviceMemory<P> {
    /// What has become of a registration.
    ///
    /// # Errors
    ///
    /// What does not come from the machine: all errors but [`ERANGE`] and `EOPNOTSUPP`. What a
    /// driver supplies for its pagemap must not fail with these two.
    pub fn of(registration: Result<P>) -> Result<Self> {
        // CAST: An error number is small.
        const EOPNOTSUPP: i32 = -(bindings::EOPNOTSUPP as i32);
        match registration {
            Ok(registered) => Ok(Self::Registered(registered)),
            Err(err) if err == ERANGE || err.to_errno() == EOPNOTSUPP => Ok(Self::Unavailable(err)),
            Err(err) => Err(err),
        }
    }

    /// The memory, if it is registered.
    #[inline]
    pub fn registered(&self) -> Option<&P> {
        match self {
            Self::Registered(registered) => Some(registered),
            Self::Unavailable(_) => None,
        }
    }

    /// The memory; for somebody who can do nothing without it.
    ///
    /// # Errors
    ///
    /// The reason why there is none.
    #[inline]
    pub fn into_result(self) -> Result<P> {
        match self {
            Self::Registered(registered) => Ok(registered),
            Self::Unavailable(err) => Err(err),
        }
    }
}
