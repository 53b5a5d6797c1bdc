// SPDX-License-Identifier: GPL-2.0

//! Physical addresses, and who has requested them.
//!
//! Real: the tree, what is refused, that what is requested is given back. Not simulated:
//! `/proc/iomem`, the addresses of I/O ports, waiting for muxed ones.

use ffi::*;

use crate::{
    consts::*,
    device_private::{addresses_free, free_addresses},
    errno::*,
    machine::{might_sleep, with, Locked},
    process::{err_ptr, Errno},
    report::report,
};

pub const IORESOURCE_IO: u32 = 0x100;
pub const IORESOURCE_MEM: u32 = 0x200;
pub const IORESOURCE_MUXED: u32 = 0x40_0000;
pub const IORESOURCE_MEM_NONPOSTED: u32 = 0x1000_0000;
const IORESOURCE_BUSY: c_ulong = 0x8000_0000;

#[repr(C)]
pub struct resource {
    pub start: resource_size_t,
    pub end: resource_size_t,
    pub name: *const c_char,
    pub flags: c_ulong,
    parent: *mut resource,
}

impl resource {
    fn overlaps(&self, start: resource_size_t, end: resource_size_t) -> bool {
        self.start <= end && start <= self.end
    }
}

/// The root of all memory. It never changes: what was requested is kept by the machine.
pub static mut iomem_resource: resource = resource {
    start: 0,
    end: resource_size_t::MAX,
    name: std::ptr::null(),
    flags: IORESOURCE_MEM as c_ulong,
    parent: std::ptr::null_mut(),
};

/// Where system memory ends.
const RAM_SIZE: resource_size_t = 4 << 30;

/// What was requested on a machine. Its system memory is so from the beginning.
pub(crate) struct Resources(Vec<*mut resource>);

impl Default for Resources {
    fn default() -> Self {
        Self(vec![Box::into_raw(Box::new(resource {
            start: 0,
            end: RAM_SIZE - 1,
            name: c"System RAM".as_ptr().cast(),
            flags: IORESOURCE_MEM as c_ulong | IORESOURCE_BUSY,
            parent: &raw mut iomem_resource,
        }))])
    }
}

impl Resources {
    /// How many were requested.
    pub(crate) fn in_use(&self) -> usize {
        self.0.len() - 1
    }

    /// The child of `parent` that has some of these addresses.
    unsafe fn conflict(
        &self,
        parent: *mut resource,
        start: resource_size_t,
        end: resource_size_t,
    ) -> Option<*mut resource> {
        let mut children = self.0.iter().copied();
        children.find(|res| unsafe { (**res).parent == parent && (**res).overlaps(start, end) })
    }
}

impl Drop for Resources {
    fn drop(&mut self) {
        for res in self.0.drain(..) {
            drop(unsafe { Box::from_raw(res) });
        }
    }
}

unsafe fn request(
    m: &mut Locked<'_>,
    mut parent: *mut resource,
    new: resource,
) -> Option<*mut resource> {
    let (start, end) = (new.start, new.end);
    loop {
        let bounds = unsafe { &*parent };
        if start < bounds.start || end > bounds.end {
            return None;
        }
        match unsafe { m.resources.conflict(parent, start, end) } {
            None => break,
            // What nobody uses may be used in part.
            Some(other) if unsafe { (*other).flags } & IORESOURCE_BUSY == 0 => parent = other,
            Some(_) => return None,
        }
    }
    let new = Box::into_raw(Box::new(resource { parent, ..new }));
    m.resources.0.push(new);
    Some(new)
}

pub unsafe extern "C" fn __request_region(
    parent: *mut resource,
    start: resource_size_t,
    n: resource_size_t,
    name: *const c_char,
    flags: c_int,
) -> *mut resource {
    let end = match n.checked_sub(1).and_then(|n| start.checked_add(n)) {
        Some(end) => end,
        None => return std::ptr::null_mut(),
    };
    let flags = (unsafe { (*parent).flags }) | flags as c_ulong | IORESOURCE_BUSY;
    let new = resource {
        start,
        end,
        name,
        flags,
        parent,
    };
    with(|m| {
        if m.fails("request_region") {
            return None;
        }
        unsafe { request(m, parent, new) }
    })
    .unwrap_or(std::ptr::null_mut())
}

/// Physical addresses for private memory, as far from everything as possible.
pub unsafe extern "C" fn request_free_mem_region(
    base: *mut resource,
    size: c_ulong,
    name: *const c_char,
) -> *mut resource {
    might_sleep("request_free_mem_region");
    let found = with(|m| {
        if m.fails("request_free_mem_region") {
            return Err(Errno(ENOMEM));
        }
        let start = free_addresses(m, size)?;
        let new = resource {
            start,
            end: start + size as resource_size_t - 1,
            name,
            flags: unsafe { (*base).flags } | IORESOURCE_BUSY,
            parent: base,
        };
        unsafe { request(m, base, new) }.ok_or(Errno(ERANGE))
    });
    found.unwrap_or_else(|Errno(err)| err_ptr(err))
}

pub unsafe extern "C" fn __release_region(
    _parent: *mut resource,
    start: resource_size_t,
    n: resource_size_t,
) {
    unsafe { release_mem_region(start, n) };
}

pub unsafe extern "C" fn release_mem_region(start: resource_size_t, n: resource_size_t) {
    with(|m| {
        addresses_free(m, start);
        let found = m.resources.0.iter().position(|res| {
            let res = unsafe { &**res };
            res.start == start
                && res.end - res.start == n.wrapping_sub(1)
                && res.flags & IORESOURCE_BUSY != 0
        });
        match found {
            Some(i) => drop(unsafe { Box::from_raw(m.resources.0.swap_remove(i)) }),
            None => report("physical addresses are given back that nobody has requested"),
        }
    });
}

pub unsafe extern "C" fn resource_size(res: *const resource) -> resource_size_t {
    let res = unsafe { &*res };
    res.end - res.start + 1
}

not_simulated! {
    fn release_region(resource_size_t, resource_size_t);
}
