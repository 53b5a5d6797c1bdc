// SPDX-License-Identifier: GPL-2.0

//! Devices, and what they own.
//!
//! Real: faux devices, what is released when one goes away and in which order. Not simulated:
//! scatterlists. Devices that are on a bus are in `pci.rs`; what devices can reach is in `dma.rs`.

use ffi::*;
use pin_init::Zeroable;

use crate::{
    alloc::might_alloc,
    consts::*,
    dma::dma_addr_t,
    locks::{acquire, release},
    machine::{might_sleep, with, Locked},
    pages::page,
};

#[repr(C)]
pub struct device {
    pub parent: *mut device,
    /// References, and what is to be released.
    refs: usize,
    resources: Vec<*mut devres_node>,
    drvdata: *mut c_void,
    /// Who gives it a driver, or takes it away.
    owner: usize,
    /// The highest addresses that it can be told: of what is mapped for it, and of what is
    /// allocated for it.
    pub(crate) dma_mask: u64,
    pub(crate) coherent_dma_mask: u64,
    /// Frees what it is a part of.
    free: unsafe fn(*mut device),
}

impl device {
    /// A part of something that begins with it, and that `free` frees.
    pub(crate) fn new(parent: *mut device, dma_mask: u64, free: unsafe fn(*mut device)) -> Self {
        Self {
            parent,
            refs: 1,
            resources: Vec::new(),
            drvdata: std::ptr::null_mut(),
            owner: 0,
            dma_mask,
            coherent_dma_mask: dma_mask,
            free,
        }
    }
}

/// Calls `f` while nobody else gives the device a driver, or takes it away. lockdep does not look
/// at this lock in a kernel, either.
pub(crate) unsafe fn with_driver_locked<R>(dev: *mut device, f: impl FnOnce() -> R) -> R {
    unsafe { acquire(&raw mut (*dev).owner, "lock of a device") };
    let result = f();
    unsafe { release(&raw mut (*dev).owner, "lock of a device") };
    result
}

#[repr(C)]
pub struct faux_device {
    pub dev: device,
}

#[repr(C)]
pub struct faux_device_ops {
    pub probe: Option<unsafe extern "C" fn(*mut faux_device) -> c_int>,
    pub remove: Option<unsafe extern "C" fn(*mut faux_device)>,
}

pub unsafe extern "C" fn faux_device_create(
    _name: *const c_char,
    parent: *mut device,
    _faux_ops: *const faux_device_ops,
) -> *mut faux_device {
    might_sleep("faux_device_create");
    if with(|m| m.fails("faux_device_create")) {
        return std::ptr::null_mut();
    }
    new_faux_device(parent)
}

/// A device with one reference.
pub(crate) fn new_faux_device(parent: *mut device) -> *mut faux_device {
    with(|m| m.faux_devices += 1);
    // No bus has said how much of memory it reaches.
    Box::into_raw(Box::new(faux_device {
        dev: device::new(parent, 0, free_faux_device),
    }))
}

unsafe fn free_faux_device(dev: *mut device) {
    with(|m| m.faux_devices -= 1);
    drop(unsafe { Box::from_raw(dev.cast::<faux_device>()) });
}

pub unsafe extern "C" fn faux_device_destroy(faux_dev: *mut faux_device) {
    might_sleep("faux_device_destroy");
    let dev = unsafe { &raw mut (*faux_dev).dev };
    unsafe { release_all(dev) };
    unsafe { put_device(dev) };
}

/// Releases what a device has, as when its driver goes.
pub(crate) unsafe fn release_all(dev: *mut device) {
    // The last one first.
    while let Some(node) = with(|_| unsafe { (*dev).resources.pop() }) {
        unsafe {
            if let Some(release) = (*node).release {
                release(dev, node);
            }
            if let Some(free) = (*node).free_node {
                free(node);
            }
        }
    }
}

pub unsafe extern "C" fn get_device(dev: *mut device) -> *mut device {
    with(|m| unsafe { get_device_locked(m, dev) });
    dev
}

/// As [`get_device`], with the machine locked.
pub(crate) unsafe fn get_device_locked(_m: &mut Locked<'_>, dev: *mut device) {
    unsafe { (*dev).refs += 1 };
}

pub unsafe extern "C" fn put_device(dev: *mut device) {
    let last = with(|_| unsafe {
        (*dev).refs -= 1;
        (*dev).refs == 0
    });
    if last {
        unsafe { ((*dev).free)(dev) };
    }
}

/// The node that a device is near to; here nothing says so.
pub unsafe extern "C" fn dev_to_node(_dev: *mut device) -> c_int {
    NUMA_NO_NODE
}

pub unsafe extern "C" fn dev_get_drvdata(dev: *const device) -> *mut c_void {
    unsafe { (*dev).drvdata }
}

pub unsafe extern "C" fn dev_set_drvdata(dev: *mut device, drvdata: *mut c_void) {
    unsafe { (*dev).drvdata = drvdata };
}

pub type dr_node_release_t = Option<unsafe extern "C" fn(dev: *mut device, node: *mut devres_node)>;
pub type dr_node_free_t = Option<unsafe extern "C" fn(node: *mut devres_node)>;

#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct devres_node {
    pub release: dr_node_release_t,
    pub free_node: dr_node_free_t,
    _not_send: *mut c_void,
}

pub unsafe extern "C" fn devres_node_init(
    node: *mut devres_node,
    release: dr_node_release_t,
    free_node: dr_node_free_t,
) {
    let mut new: devres_node = pin_init::zeroed();
    new.release = release;
    new.free_node = free_node;
    unsafe { node.write(new) };
}

pub unsafe extern "C" fn devres_set_node_dbginfo(
    _node: *mut devres_node,
    _name: *const c_char,
    _size: usize,
) {
}

pub unsafe extern "C" fn devres_node_add(dev: *mut device, node: *mut devres_node) {
    with(|_| unsafe { (*dev).resources.push(node) });
}

pub unsafe extern "C" fn devres_node_remove(dev: *mut device, node: *mut devres_node) -> bool {
    with(|_| unsafe {
        let before = (*dev).resources.len();
        (*dev).resources.retain(|other| *other != node);
        (*dev).resources.len() != before
    })
}

/// A resource that is a function to be called.
#[repr(C)]
struct Action {
    node: devres_node,
    action: Option<unsafe extern "C" fn(*mut c_void)>,
    data: *mut c_void,
}

unsafe extern "C" fn release_action(_dev: *mut device, node: *mut devres_node) {
    let action = node.cast::<Action>();
    if let Some(call) = unsafe { (*action).action } {
        unsafe { call((*action).data) };
    }
}

unsafe extern "C" fn free_action(node: *mut devres_node) {
    drop(unsafe { Box::from_raw(node.cast::<Action>()) });
}

pub unsafe extern "C" fn devm_add_action_or_reset(
    dev: *mut device,
    action: Option<unsafe extern "C" fn(*mut c_void)>,
    data: *mut c_void,
) -> c_int {
    might_alloc("devm_add_action_or_reset");
    if with(|m| m.fails("devm_add_action")) {
        if let Some(call) = action {
            unsafe { call(data) };
        }
        return -(crate::errno::ENOMEM as c_int);
    }
    let mut node: devres_node = pin_init::zeroed();
    node.release = Some(release_action);
    node.free_node = Some(free_action);
    let action = Box::into_raw(Box::new(Action { node, action, data }));
    unsafe { devres_node_add(dev, action.cast()) };
    0
}

#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct scatterlist {
    _not_send: *mut c_void,
}

#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct sg_table {
    pub sgl: *mut scatterlist,
    pub nents: c_uint,
    pub orig_nents: c_uint,
}

not_simulated! {
    fn sg_next(*mut scatterlist) -> *mut scatterlist;
    fn sg_dma_address(*mut scatterlist) -> dma_addr_t;
    fn sg_dma_len(*mut scatterlist) -> c_uint;
    fn sg_free_table(*mut sg_table);
    fn sg_alloc_table_from_pages_segment(
        *mut sg_table, *mut *mut page, c_uint, c_uint, c_ulong, c_uint, gfp_t,
    ) -> c_int;
}
