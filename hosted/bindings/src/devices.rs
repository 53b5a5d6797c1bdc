// SPDX-License-Identifier: GPL-2.0

//! Devices, what they own, and their view of system memory.
//!
//! Real: faux devices, what is released when one goes away and in which order, `dma_map_page()`: what is mapped is to be
//! unmapped, as it was mapped. Not simulated: buses and drivers, an IOMMU (so that there are no ranges of IOVA), coherent
//! allocations, scatterlists, memory-mapped registers, debugfs.

use ffi::*;
use pin_init::Zeroable;

use crate::{
    consts::*,
    files::{file, file_operations},
    machine::{might_sleep, with},
    pages::{data, page},
    report::report,
    rest::{inode, seq_file},
};

pub type phys_addr_t = u64;
pub type dma_addr_t = u64;

#[repr(C)]
pub struct device {
    pub parent: *mut device,
    /// References, and what is to be released.
    refs: usize,
    resources: Vec<*mut devres_node>,
    drvdata: *mut c_void,
}

impl device {
    fn new(parent: *mut device) -> Self {
        Self {
            parent,
            refs: 1,
            resources: Vec::new(),
            drvdata: std::ptr::null_mut(),
        }
    }
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
    Box::into_raw(Box::new(faux_device {
        dev: device::new(parent),
    }))
}

pub unsafe extern "C" fn faux_device_destroy(faux_dev: *mut faux_device) {
    might_sleep("faux_device_destroy");
    let dev = unsafe { &raw mut (*faux_dev).dev };
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
    unsafe { put_device(dev) };
}

pub unsafe extern "C" fn get_device(dev: *mut device) -> *mut device {
    with(|_| unsafe { (*dev).refs += 1 });
    dev
}

pub unsafe extern "C" fn put_device(dev: *mut device) {
    let last = with(|_| unsafe {
        (*dev).refs -= 1;
        (*dev).refs == 0
    });
    if last {
        drop(unsafe { Box::from_raw(dev.cast::<faux_device>()) });
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

// 7.3 asks bindgen for types of their own, 7.2 does not.
#[cfg(newtype_enums)]
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct dma_data_direction(pub c_uint);

#[cfg(newtype_enums)]
impl dma_data_direction {
    pub const DMA_BIDIRECTIONAL: Self = Self(0);
    pub const DMA_TO_DEVICE: Self = Self(1);
    pub const DMA_FROM_DEVICE: Self = Self(2);
    pub const DMA_NONE: Self = Self(3);
}

#[cfg(not(newtype_enums))]
pub type dma_data_direction = c_uint;
#[cfg(not(newtype_enums))]
pub const dma_data_direction_DMA_BIDIRECTIONAL: dma_data_direction = 0;
#[cfg(not(newtype_enums))]
pub const dma_data_direction_DMA_TO_DEVICE: dma_data_direction = 1;
#[cfg(not(newtype_enums))]
pub const dma_data_direction_DMA_FROM_DEVICE: dma_data_direction = 2;
#[cfg(not(newtype_enums))]
pub const dma_data_direction_DMA_NONE: dma_data_direction = 3;

#[repr(C)]
#[derive(Clone, Copy, Default, Zeroable)]
pub struct dma_iova_state {
    pub addr: dma_addr_t,
    pub __size: u64,
}

/// A page that a device can reach: which device, how many bytes, in which direction.
pub(crate) type Mapping = (usize, usize, dma_data_direction);

pub unsafe extern "C" fn page_to_phys(page: *const page) -> phys_addr_t {
    (unsafe { crate::pages::page_to_pfn(page) } as u64) << PAGE_SHIFT
}

pub unsafe extern "C" fn dma_map_page_attrs(
    dev: *mut device,
    page: *mut page,
    offset: usize,
    size: usize,
    dir: dma_data_direction,
    _attrs: c_ulong,
) -> dma_addr_t {
    with(|m| {
        if m.fails("dma_map_page") {
            return dma_addr_t::MAX;
        }
        // The address of the content, so that a device that is a test can look there.
        let address = unsafe { data(m, page, "dma_map_page") }.expose_provenance() + offset;
        m.mappings.push((address, (dev as usize, size, dir)));
        address as dma_addr_t
    })
}

pub unsafe extern "C" fn dma_unmap_page_attrs(
    dev: *mut device,
    addr: dma_addr_t,
    size: usize,
    dir: dma_data_direction,
    _attrs: c_ulong,
) {
    with(|m| {
        let mapping = (addr as usize, (dev as usize, size, dir));
        match m.mappings.iter().position(|other| *other == mapping) {
            Some(i) => {
                m.mappings.swap_remove(i);
            }
            None => report(
                "what is unmapped was not mapped for this device, with this size and direction",
            ),
        }
    });
}

pub unsafe extern "C" fn dma_mapping_error(_dev: *mut device, dma_addr: dma_addr_t) -> c_int {
    match dma_addr {
        dma_addr_t::MAX => -(crate::errno::ENOMEM as c_int),
        _ => 0,
    }
}

// There is no IOMMU.

pub unsafe extern "C" fn dma_iova_try_alloc(
    _dev: *mut device,
    _state: *mut dma_iova_state,
    _phys: phys_addr_t,
    _size: usize,
) -> bool {
    false
}

pub unsafe extern "C" fn dma_use_iova(state: *mut dma_iova_state) -> bool {
    unsafe { (*state).__size != 0 }
}

pub unsafe extern "C" fn dma_iova_size(state: *mut dma_iova_state) -> usize {
    unsafe { (*state).__size as usize }
}

not_simulated! {
    fn dma_iova_link(
        *mut device, *mut dma_iova_state, phys_addr_t, usize, usize, dma_data_direction, c_ulong,
    ) -> c_int;
    fn dma_iova_sync(*mut device, *mut dma_iova_state, usize, usize) -> c_int;
    fn dma_iova_destroy(*mut device, *mut dma_iova_state, usize, dma_data_direction, c_ulong);
    fn dma_iova_free(*mut device, *mut dma_iova_state);
    fn dma_alloc_attrs(*mut device, usize, *mut dma_addr_t, gfp_t, c_ulong) -> *mut c_void;
    fn dma_free_attrs(*mut device, usize, *mut c_void, dma_addr_t, c_ulong);
    fn dma_set_mask(*mut device, u64) -> c_int;
    fn dma_set_coherent_mask(*mut device, u64) -> c_int;
    fn dma_set_mask_and_coherent(*mut device, u64) -> c_int;
    fn dma_set_max_seg_size(*mut device, c_uint);
    fn dma_max_mapping_size(*mut device) -> usize;
    fn dma_map_sgtable(*mut device, *mut sg_table, dma_data_direction, c_ulong) -> c_int;
    fn dma_unmap_sgtable(*mut device, *mut sg_table, dma_data_direction, c_ulong);
}

pub const DMA_ATTR_WEAK_ORDERING: u32 = 1 << 1;
pub const DMA_ATTR_WRITE_COMBINE: u32 = 1 << 2;
pub const DMA_ATTR_NO_KERNEL_MAPPING: u32 = 1 << 4;
pub const DMA_ATTR_SKIP_CPU_SYNC: u32 = 1 << 5;
pub const DMA_ATTR_FORCE_CONTIGUOUS: u32 = 1 << 6;
pub const DMA_ATTR_ALLOC_SINGLE_PAGES: u32 = 1 << 7;
pub const DMA_ATTR_NO_WARN: u32 = 1 << 8;
pub const DMA_ATTR_PRIVILEGED: u32 = 1 << 9;
pub const DMA_ATTR_MMIO: u32 = 1 << 10;

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

not_simulated! {
    fn ioremap(phys_addr_t, usize) -> *mut c_void;
    fn ioremap_np(phys_addr_t, usize) -> *mut c_void;
    fn iounmap(*mut c_void);
    fn memcpy(*mut c_void, *const c_void, usize) -> *mut c_void;
    fn memcpy_fromio(*mut c_void, *const c_void, usize);
    fn memcpy_toio(*mut c_void, *const c_void, usize);
    fn readb(*const c_void) -> u8;
    fn readw(*const c_void) -> u16;
    fn readl(*const c_void) -> u32;
    fn readq(*const c_void) -> u64;
    fn readb_relaxed(*const c_void) -> u8;
    fn readw_relaxed(*const c_void) -> u16;
    fn readl_relaxed(*const c_void) -> u32;
    fn readq_relaxed(*const c_void) -> u64;
    fn writeb(u8, *mut c_void);
    fn writew(u16, *mut c_void);
    fn writel(u32, *mut c_void);
    fn writeq(u64, *mut c_void);
    fn writeb_relaxed(u8, *mut c_void);
    fn writew_relaxed(u16, *mut c_void);
    fn writel_relaxed(u32, *mut c_void);
    fn writeq_relaxed(u64, *mut c_void);
}

#[repr(C)]
pub struct dentry {
    _not_send: *mut c_void,
}

not_simulated! {
    fn debugfs_create_dir(*const c_char, *mut dentry) -> *mut dentry;
    fn debugfs_create_file_full(
        *const c_char, u16, *mut dentry, *mut c_void, *const c_void, *const file_operations,
    ) -> *mut dentry;
    fn debugfs_remove(*mut dentry);
    fn default_llseek(*mut file, loff_t, c_int) -> loff_t;
    fn noop_llseek(*mut file, loff_t, c_int) -> loff_t;
    fn seq_lseek(*mut file, loff_t, c_int) -> loff_t;
    fn seq_read(*mut file, *mut c_char, usize, *mut loff_t) -> isize;
    fn simple_open(*mut inode, *mut file) -> c_int;
    fn single_open(
        *mut file, Option<unsafe extern "C" fn(*mut seq_file, *mut c_void) -> c_int>, *mut c_void,
    ) -> c_int;
    fn single_release(*mut inode, *mut file) -> c_int;
}
