// SPDX-License-Identifier: GPL-2.0

//! The structures of drm_pagemap, as bindgen writes them.
//!
//! Real: the fields that Rust reaches, and what is packed into bits. Not simulated: how large the
//! structures of others are that lie in them (locks, completions), and what C alone looks at.

use ffi::*;
use pin_init::Zeroable;

use super::{drm_device, fence::dma_fence, util::drm_pagemap_cache};
use crate::{
    buddy::list_head,
    device_private::dev_pagemap,
    devices::device,
    dma::{dma_addr_t, dma_data_direction},
    locks::{completion, kref, mutex},
    mm::mm_struct,
    pages::page,
};

/// Bits that fields of C are packed into.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Zeroable)]
pub struct __BindgenBitfieldUnit<Storage> {
    storage: Storage,
}

impl<const N: usize> __BindgenBitfieldUnit<[u8; N]> {
    pub const fn new(storage: [u8; N]) -> Self {
        Self { storage }
    }

    fn bits(&self) -> u64 {
        let mut all = [0; 8];
        all.iter_mut()
            .zip(self.storage)
            .for_each(|(to, from)| *to = from);
        u64::from_le_bytes(all)
    }

    const fn mask(width: u8) -> u64 {
        u64::MAX >> (64 - width)
    }

    pub fn get(&self, offset: usize, width: u8) -> u64 {
        self.bits() >> offset & Self::mask(width)
    }

    pub fn set(&mut self, offset: usize, width: u8, value: u64) {
        let mask = Self::mask(width);
        let bits = self.bits() & !(mask << offset) | (value & mask) << offset;
        self.storage
            .iter_mut()
            .zip(bits.to_le_bytes())
            .for_each(|(to, from)| *to = from);
    }
}

/// Declares what reads and writes fields that are packed.
macro_rules! bitfields {
    ($name:ident: $bytes:literal bytes, $($field:ident $set:ident: $ty:ty = $offset:literal, $width:literal;)*) => {
        impl $name {
            $(
                pub fn $field(&self) -> $ty {
                    self._bitfield_1.get($offset, $width) as $ty
                }

                pub fn $set(&mut self, val: $ty) {
                    self._bitfield_1.set($offset, $width, val as u64);
                }
            )*

            pub fn new_bitfield_1($($field: $ty),*) -> __BindgenBitfieldUnit<[u8; $bytes]> {
                let mut unit = __BindgenBitfieldUnit::new([0; $bytes]);
                $(unit.set($offset, $width, $field as u64);)*
                unit
            }
        }
    };
}

pub type drm_interconnect_protocol = c_uint;
pub const drm_interconnect_protocol_DRM_INTERCONNECT_SYSTEM: drm_interconnect_protocol = 0;
pub const drm_interconnect_protocol_DRM_INTERCONNECT_DRIVER: drm_interconnect_protocol = 1;

#[repr(C)]
#[derive(Clone, Copy, Debug, Zeroable)]
pub struct drm_pagemap_addr {
    pub addr: dma_addr_t,
    pub _bitfield_align_1: [u64; 0],
    pub _bitfield_1: __BindgenBitfieldUnit<[u8; 8]>,
}

bitfields! { drm_pagemap_addr: 8 bytes,
    proto set_proto: u64 = 0, 54;
    order set_order: u64 = 54, 8;
    dir set_dir: u64 = 62, 2;
}

const _: () = assert!(size_of::<drm_pagemap_addr>() == 16);

#[repr(C)]
#[derive(Clone, Copy, Debug, Zeroable)]
pub struct drm_pagemap_migrate_details {
    pub timeslice_ms: c_ulong,
    pub _bitfield_align_1: [u8; 0],
    pub _bitfield_1: __BindgenBitfieldUnit<[u8; 1]>,
    pub __bindgen_padding_0: [u8; 7],
}

bitfields! { drm_pagemap_migrate_details: 1 bytes,
    can_migrate_same_pagemap set_can_migrate_same_pagemap: u32 = 0, 1;
}

#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct drm_pagemap_ops {
    pub device_map: Option<
        unsafe extern "C" fn(
            dpagemap: *mut drm_pagemap,
            dev: *mut device,
            page: *mut page,
            order: c_uint,
            dir: dma_data_direction,
        ) -> drm_pagemap_addr,
    >,
    pub device_unmap: Option<
        unsafe extern "C" fn(
            dpagemap: *mut drm_pagemap,
            dev: *mut device,
            addr: *const drm_pagemap_addr,
        ),
    >,
    pub populate_mm: Option<
        unsafe extern "C" fn(
            dpagemap: *mut drm_pagemap,
            start: c_ulong,
            end: c_ulong,
            mm: *mut mm_struct,
            timeslice_ms: c_ulong,
        ) -> c_int,
    >,
    pub destroy:
        Option<unsafe extern "C" fn(dpagemap: *mut drm_pagemap, is_atomic_or_reclaim: bool)>,
}

#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct drm_pagemap {
    pub ops: *const drm_pagemap_ops,
    pub ref_: kref,
    pub drm: *mut drm_device,
    pub pagemap: *mut dev_pagemap,
    pub dev_hold: *mut drm_pagemap_dev_hold,
    pub cache: *mut drm_pagemap_cache,
    pub shrink_link: list_head,
}

/// What keeps the device of a pagemap.
#[repr(C)]
pub struct drm_pagemap_dev_hold {
    pub(super) drm: *mut drm_device,
}

#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct drm_pagemap_devmem_ops {
    pub devmem_release: Option<unsafe extern "C" fn(devmem_allocation: *mut drm_pagemap_devmem)>,
    #[cfg(dpmem_offset)]
    pub populate_devmem_offsets: Option<
        unsafe extern "C" fn(
            devmem_allocation: *mut drm_pagemap_devmem,
            npages: c_ulong,
            offsets: *mut c_ulong,
        ) -> c_int,
    >,
    #[cfg(not(dpmem_offset))]
    pub populate_devmem_pfn: Option<
        unsafe extern "C" fn(
            devmem_allocation: *mut drm_pagemap_devmem,
            npages: c_ulong,
            pfn: *mut c_ulong,
        ) -> c_int,
    >,
    pub copy_to_devmem: Option<
        unsafe extern "C" fn(
            pages: *mut *mut page,
            pagemap_addr: *mut drm_pagemap_addr,
            npages: c_ulong,
            pre_migrate_fence: *mut dma_fence,
        ) -> c_int,
    >,
    pub copy_to_ram: Option<
        unsafe extern "C" fn(
            pages: *mut *mut page,
            pagemap_addr: *mut drm_pagemap_addr,
            npages: c_ulong,
            pre_migrate_fence: *mut dma_fence,
        ) -> c_int,
    >,
}

#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct drm_pagemap_devmem {
    pub dev: *mut device,
    pub mm: *mut mm_struct,
    pub detached: completion,
    pub ops: *const drm_pagemap_devmem_ops,
    pub dpagemap: *mut drm_pagemap,
    pub size: usize,
    pub timeslice_expiration: u64,
    pub pre_migrate_fence: *mut dma_fence,
}

#[repr(C)]
pub struct drm_pagemap_owner {
    pub(super) kref: kref,
}

#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct drm_pagemap_peer {
    pub list: *mut drm_pagemap_owner_list,
    pub link: list_head,
    pub owner: *mut drm_pagemap_owner,
    pub private: *mut c_void,
}

/// `DRM_PAGEMAP_OWNER_LIST_DEFINE()` makes one in C. In Rust it is `__mutex_init()` and
/// `INIT_LIST_HEAD()`.
#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct drm_pagemap_owner_list {
    pub lock: mutex,
    pub peers: list_head,
}
