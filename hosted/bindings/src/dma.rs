// SPDX-License-Identifier: GPL-2.0

//! System memory as devices see it.
//!
//! Real: `dma_map_page()` and ranges of IOVA, if the machine has an IOMMU; what is mapped is to be
//! unmapped, as it was mapped. What a device reads or writes goes through [`dma_read`] and
//! [`dma_write`], which find out what is not mapped for it. A resource, which is another device's
//! memory, has an address of its own, and no content: see [`dma_resource`]. A device that reaches
//! all addresses sees those that CPUs see. One that does not has others, which were not used for
//! long: with a range of IOVA it is the IOMMU's doing, and otherwise that of a bounce buffer.
//!
//! Not simulated: what is in a bounce buffer (what is mapped is what the device reads and writes),
//! and how much it has room for; caches.

use std::{backtrace::Backtrace, collections::BTreeMap};

use ffi::*;
use pin_init::Zeroable;

use crate::{
    alloc::{host_free, host_zeroed, might_alloc},
    consts::*,
    devices::{device, sg_table},
    errno::*,
    machine::{might_sleep, with, Locked},
    mm::PAGE_SIZE,
    pages::{data, head, nr_pages, page, pfn_to_page},
    report::{report, Traced},
};

pub type phys_addr_t = u64;
pub type dma_addr_t = u64;

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

#[cfg(newtype_enums)]
const DMA_BIDIRECTIONAL: dma_data_direction = dma_data_direction::DMA_BIDIRECTIONAL;
#[cfg(newtype_enums)]
const DMA_TO_DEVICE: dma_data_direction = dma_data_direction::DMA_TO_DEVICE;
#[cfg(newtype_enums)]
const DMA_FROM_DEVICE: dma_data_direction = dma_data_direction::DMA_FROM_DEVICE;
#[cfg(not(newtype_enums))]
const DMA_BIDIRECTIONAL: dma_data_direction = dma_data_direction_DMA_BIDIRECTIONAL;
#[cfg(not(newtype_enums))]
const DMA_TO_DEVICE: dma_data_direction = dma_data_direction_DMA_TO_DEVICE;
#[cfg(not(newtype_enums))]
const DMA_FROM_DEVICE: dma_data_direction = dma_data_direction_DMA_FROM_DEVICE;

/// Memory that a device can reach.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Mapping {
    device: usize,
    size: usize,
    direction: dma_data_direction,
    /// Where it is.
    data: usize,
}

/// A range of addresses of a device that memory is linked into.
struct Iova {
    device: usize,
    size: usize,
    /// How far into a page the first link begins.
    pad: usize,
    links: BTreeMap<usize, Mapping>,
    /// Up to where the device sees what is linked.
    synced: usize,
}

/// Something that is no memory of the system, and that a device can reach.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Resource {
    addr: dma_addr_t,
    device: usize,
    size: usize,
    direction: dma_data_direction,
}

/// Memory that a device and CPUs share.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Shared {
    addr: dma_addr_t,
    device: usize,
    size: usize,
    /// Where it is.
    data: usize,
}

/// What devices can reach on a machine.
#[derive(Default)]
pub(crate) struct Dma {
    iommu: bool,
    /// Pages by themselves. Several mappings may have one address.
    mapped: Vec<(u64, Traced<Mapping>)>,
    resources: Vec<Traced<Resource>>,
    ranges: BTreeMap<u64, Traced<Iova>>,
    shared: Vec<Traced<Shared>>,
    /// What follows the last address that a device was given which does not reach all.
    given: u64,
}

/// Up to where such addresses go at most.
const MOST: u64 = (1 << 48) - 1;

impl Dma {
    /// What is still mapped: how much, in words, and where the first of it comes from.
    pub(crate) fn in_use(&self) -> Vec<(String, Option<&Backtrace>)> {
        fn first<T>(one: Option<&Traced<T>>) -> Option<&Backtrace> {
            one.and_then(|one| one.by.as_ref())
        }
        let mapped = self.mapped.first().map(|(_, mapping)| mapping);
        let all = [
            (
                self.mapped.len(),
                "pages that are mapped for a device",
                first(mapped),
            ),
            (
                self.resources.len(),
                "resources that are mapped for a device",
                first(self.resources.first()),
            ),
            (
                self.ranges.len(),
                "ranges of addresses of a device",
                first(self.ranges.values().next()),
            ),
            (
                self.shared.len(),
                "pieces of memory that a device shares",
                first(self.shared.first()),
            ),
        ];
        let left = all.into_iter().filter(|(nr, ..)| *nr > 0);
        left.map(|(nr, what, by)| (format!("{nr} {what}"), by))
            .collect()
    }

    /// Whether a device can reach some of the `size` bytes at `data`.
    pub(crate) fn reaches(&self, data: usize, size: usize) -> bool {
        let is_inside = |mapping: &Mapping| {
            data != 0 && mapping.data < data + size && data < mapping.data + mapping.size
        };
        let mut mapped = self.mapped.iter();
        let mut ranges = self.ranges.values();
        mapped.any(|(_, mapping)| is_inside(mapping))
            || ranges.any(|range| range.links.values().any(is_inside))
    }

    /// How much is mapped or allocated for `dev`.
    pub(crate) fn of_device(&self, dev: *mut device) -> usize {
        let dev = dev as usize;
        let mapped = self.mapped.iter().filter(|(_, other)| other.device == dev);
        let ranges = self.ranges.values().filter(|other| other.device == dev);
        let resources = self.resources.iter().filter(|other| other.device == dev);
        let shared = self.shared.iter().filter(|other| other.device == dev);
        mapped.count() + ranges.count() + resources.count() + shared.count()
    }

    /// What follows the last address of those that have some of the `size` bytes at `addr`.
    fn taken_until(&self, addr: u64, size: u64) -> Option<u64> {
        let mapped = self.mapped.iter();
        let mapped = mapped.map(|(start, other)| (*start, other.size));
        let ranges = self.ranges.iter();
        let ranges = ranges.map(|(start, range)| (*start, range.size));
        let shared = self.shared.iter().map(|other| (other.addr, other.size));
        let all = mapped.chain(ranges).chain(shared);
        let all = all.map(|(start, size)| (start, start + size as u64));
        all.filter(|(start, end)| *start < addr + size && addr < *end)
            .map(|(_, end)| end)
            .max()
    }

    /// Addresses for `size` bytes that are not above `mask`, and that nobody had for as long as
    /// possible. None of them is in the lower half, which would do for a device that reaches less
    /// than its driver says.
    fn low_addresses(&mut self, size: usize, mask: u64) -> Option<u64> {
        let size = size.next_multiple_of(PAGE_SIZE) as u64;
        let mask = mask.min(MOST);
        let first = mask / 2 + 1;
        let mut wrapped = false;
        let mut addr = self.given.max(first);
        loop {
            if addr + size - 1 > mask {
                if wrapped {
                    return None;
                }
                wrapped = true;
                addr = first;
            }
            match self.taken_until(addr, size) {
                Some(end) => addr = end.next_multiple_of(PAGE_SIZE as u64),
                None => break,
            }
        }
        // With a hole between two of them.
        self.given = addr + size + PAGE_SIZE as u64;
        Some(addr)
    }
}

/// Gives the machine an IOMMU: what is mapped together has addresses that follow each other.
pub fn iommu() {
    with(|m| m.dma.iommu = true);
}

/// Whether a device may copy in a direction what was mapped for one.
fn allows(mapped: dma_data_direction, direction: dma_data_direction) -> bool {
    mapped == direction || mapped == DMA_BIDIRECTIONAL
}

/// Says that a device reaches all memory, as the bus does that a device of a test's is not on. What
/// has no bus, such as a faux device, can do no DMA.
///
/// # Safety
///
/// There must be such a device.
pub unsafe fn reach_memory(dev: *mut device) {
    with(|_| unsafe {
        (*dev).dma_mask = u64::MAX;
        (*dev).coherent_dma_mask = u64::MAX;
    });
}

/// Says that a device reaches 32 bits of addresses, which is not where all memory is.
///
/// # Safety
///
/// There must be such a device.
pub unsafe fn reach_32_bits(dev: *mut device) {
    with(|_| unsafe {
        (*dev).dma_mask = u32::MAX.into();
        (*dev).coherent_dma_mask = u32::MAX.into();
    });
}

/// The mask of a device that is about to do DMA, which must have one.
unsafe fn mask_of(dev: *mut device) -> Option<u64> {
    match unsafe { (*dev).dma_mask } {
        0 => {
            report("memory is mapped for a device that has no DMA mask: it is on no bus");
            None
        }
        mask => Some(mask),
    }
}

/// Reports what is no direction.
fn check(direction: dma_data_direction, what: &str) {
    if ![DMA_BIDIRECTIONAL, DMA_TO_DEVICE, DMA_FROM_DEVICE].contains(&direction) {
        report(format!("`{what}()` in no direction"));
    }
}

/// What is behind the `size` bytes at `offset` of `page`, which must be one folio's. A kernel knows
/// physical addresses only, and maps whatever follows; here, what follows is somebody else's.
unsafe fn memory(
    m: &mut Locked<'_>,
    page: *mut page,
    offset: usize,
    size: usize,
    what: &str,
) -> usize {
    let data = unsafe { data(m, page, what) }.expose_provenance() + offset;
    let (head, nr) = unsafe { (head(m, page), nr_pages(m, page)) };
    let before = (page as usize - head as usize) / size_of::<page>();
    if size == 0 || offset + size > (nr - before) * PAGE_SIZE {
        report(format!(
            "`{what}()` of {size} bytes that are not all of one folio"
        ));
    }
    data
}

/// Where the `len` bytes at `addr` begin for `device`, which has mapped them for a transfer in this
/// direction, and how many of them follow there; without a device, for the only one of the machine.
/// In a range of IOVA, one link may follow another.
fn find(
    m: &mut Locked<'_>,
    device: Option<usize>,
    addr: u64,
    len: usize,
    direction: dma_data_direction,
) -> Option<(usize, usize)> {
    let is_its = |other: usize| device.is_none_or(|device| device == other);
    let inside = |start: u64, mapping: &Mapping| {
        let offset = usize::try_from(addr.checked_sub(start)?).ok()?;
        let fits = offset.checked_add(len)? <= mapping.size;
        let fits = fits && allows(mapping.direction, direction) && is_its(mapping.device);
        fits.then_some(mapping.data + offset)
    };
    let mut mapped = m.dma.mapped.iter();
    if let Some(found) = mapped.find_map(|(start, mapping)| inside(*start, mapping)) {
        return Some((found, len));
    }
    // What is shared is so in both directions.
    let mut shared = m.dma.shared.iter();
    let found = shared.find_map(|shared| {
        let offset = usize::try_from(addr.checked_sub(shared.addr)?).ok()?;
        let fits = offset.checked_add(len)? <= shared.size && is_its(shared.device);
        fits.then_some(shared.data + offset)
    });
    if let Some(found) = found {
        return Some((found, len));
    }
    let (start, range) = m.dma.ranges.range(..=addr).next_back()?;
    let at = (addr - start) as usize;
    let (offset, link) = range.links.range(..=at).next_back()?;
    let seen = offset + link.size <= range.synced;
    let its = allows(link.direction, direction) && is_its(link.device);
    let left = (offset + link.size)
        .checked_sub(at)
        .filter(|left| *left > 0)?;
    (seen && its).then_some((link.data + at - offset, left.min(len)))
}

/// Where the `len` bytes at `addr` are for a transfer: pieces that follow each other for the device,
/// of which one at least is there.
fn pieces(
    device: Option<*mut device>,
    addr: u64,
    len: usize,
    direction: dma_data_direction,
    mut f: impl FnMut(usize, std::ops::Range<usize>),
) -> bool {
    let device = device.map(|device| device as usize);
    with(|m| {
        let mut done = 0;
        while done < len {
            let rest = (addr + done as u64, len - done);
            let Some((data, nr)) = find(m, device, rest.0, rest.1, direction) else {
                return false;
            };
            f(data, done..done + nr);
            done += nr;
        }
        true
    })
}

/// A device reads from memory of the system: this one, or the only one.
pub(crate) fn read_by(device: Option<*mut device>, addr: u64, to: &mut [u8]) {
    let len = to.len();
    let whole = pieces(device, addr, len, DMA_TO_DEVICE, |from, part| unsafe {
        let from = std::ptr::with_exposed_provenance::<u8>(from);
        let to = &mut to[part];
        to.as_mut_ptr().copy_from_nonoverlapping(from, to.len());
    });
    if !whole {
        report("a device reads what is not mapped for it to read");
    }
}

/// A device writes to memory of the system: this one, or the only one.
pub(crate) fn write_by(device: Option<*mut device>, addr: u64, from: &[u8]) {
    let len = from.len();
    let whole = pieces(device, addr, len, DMA_FROM_DEVICE, |to, part| unsafe {
        let to = std::ptr::with_exposed_provenance_mut::<u8>(to);
        let from = &from[part];
        to.copy_from_nonoverlapping(from.as_ptr(), from.len());
    });
    if !whole {
        report("a device writes what is not mapped for it to write");
    }
}

/// The device reads from memory of the system.
pub fn dma_read(addr: u64, to: &mut [u8]) {
    read_by(None, addr, to);
}

/// The device writes to memory of the system.
pub fn dma_write(addr: u64, from: &[u8]) {
    write_by(None, addr, from);
}

/// Whether the mask of a device, which has one, lets it reach all memory: there are addresses of
/// its own for all of it if there is an IOMMU.
pub unsafe extern "C" fn dma_addressing_limited(dev: *mut device) -> bool {
    with(|m| !m.dma.iommu && unsafe { mask_of(dev) } != Some(u64::MAX))
}

pub unsafe extern "C" fn page_to_phys(page: *const page) -> phys_addr_t {
    (unsafe { crate::pages::page_to_pfn(page) } as u64) << PAGE_SHIFT
}

pub unsafe extern "C" fn dma_map_page_attrs(
    dev: *mut device,
    page: *mut page,
    offset: usize,
    size: usize,
    direction: dma_data_direction,
    attrs: c_ulong,
) -> dma_addr_t {
    check(direction, "dma_map_page");
    if unsafe { crate::pages::is_zone_device_page(page) } {
        report("`dma_map_page()` of a device's memory");
    }
    with(|m| {
        if m.fails("dma_map_page") {
            return dma_addr_t::MAX;
        }
        let data = unsafe { memory(m, page, offset, size, "dma_map_page") };
        let bounces = !m.dma.iommu && unsafe { (*dev).dma_mask } != u64::MAX;
        if bounces && attrs & DMA_ATTR_REQUIRE_COHERENT as c_ulong != 0 {
            return dma_addr_t::MAX;
        }
        let addr = match unsafe { mask_of(dev) } {
            // A device without an IOMMU sees the addresses that CPUs see, whatever these are.
            Some(u64::MAX) => Some(data as u64),
            Some(mask) => m.dma.low_addresses(size, mask),
            None => None,
        };
        let Some(addr) = addr else {
            return dma_addr_t::MAX;
        };
        let mapping = Mapping {
            device: dev as usize,
            size,
            direction,
            data,
        };
        m.dma.mapped.push((addr, Traced::new(mapping)));
        addr
    })
}

pub unsafe extern "C" fn dma_unmap_page_attrs(
    dev: *mut device,
    addr: dma_addr_t,
    size: usize,
    direction: dma_data_direction,
    _attrs: c_ulong,
) {
    with(|m| {
        let found = m.dma.mapped.iter().position(|(start, other)| {
            let same = other.device == dev as usize && other.size == size;
            *start == addr && same && other.direction == direction
        });
        match found {
            Some(i) => {
                m.dma.mapped.swap_remove(i);
            }
            None => report(
                "what is unmapped was not mapped for this device, with this size and direction",
            ),
        }
    });
}

pub unsafe extern "C" fn dma_mapping_error(_dev: *mut device, dma_addr: dma_addr_t) -> c_int {
    match dma_addr {
        dma_addr_t::MAX => -(ENOMEM as c_int),
        _ => 0,
    }
}

/// Where devices see what is no memory of the system: elsewhere than CPUs do.
const FIRST_RESOURCE: u64 = 1 << 57;

/// Which physical address a device reaches that uses `len` bytes at `addr`, which it has mapped
/// with [`dma_map_resource`] for this direction.
pub fn dma_resource(addr: u64, len: usize, direction: dma_data_direction) -> Option<phys_addr_t> {
    let found = with(|m| {
        m.dma.resources.iter().any(|resource| {
            let offset = addr.checked_sub(resource.addr);
            let end = offset.and_then(|offset| offset.checked_add(len as u64));
            end.is_some_and(|end| end <= resource.size as u64)
                && allows(resource.direction, direction)
        })
    });
    if !found {
        report("a device uses a resource that is not mapped for it, or for another direction");
    }
    found.then(|| addr - FIRST_RESOURCE)
}

pub unsafe extern "C" fn dma_map_resource(
    dev: *mut device,
    phys_addr: phys_addr_t,
    size: usize,
    direction: dma_data_direction,
    _attrs: c_ulong,
) -> dma_addr_t {
    check(direction, "dma_map_resource");
    with(|m| {
        if m.fails("dma_map_resource") || unsafe { mask_of(dev) }.is_none() {
            return dma_addr_t::MAX;
        }
        if phys_addr >= 1 << 52 {
            report("a resource is mapped where no physical addresses are");
        }
        let addr = FIRST_RESOURCE + phys_addr;
        m.dma.resources.push(Traced::new(Resource {
            addr,
            device: dev as usize,
            size,
            direction,
        }));
        addr
    })
}

pub unsafe extern "C" fn dma_unmap_resource(
    dev: *mut device,
    addr: dma_addr_t,
    size: usize,
    direction: dma_data_direction,
    _attrs: c_ulong,
) {
    with(|m| {
        let mapped = Resource {
            addr,
            device: dev as usize,
            size,
            direction,
        };
        let resources = &mut m.dma.resources;
        match resources.iter().position(|other| **other == mapped) {
            Some(i) => {
                resources.swap_remove(i);
            }
            None => report(
                "a resource is unmapped that was not mapped for this device, with this size and direction",
            ),
        }
    });
}

/// Where the addresses of devices begin, if there is an IOMMU: where nothing else is.
const FIRST_IOVA: u64 = 1 << 56;

pub unsafe extern "C" fn dma_iova_try_alloc(
    dev: *mut device,
    state: *mut dma_iova_state,
    phys: phys_addr_t,
    size: usize,
) -> bool {
    if size == 0 {
        report("a range of no addresses");
    }
    let pad = phys as usize % PAGE_SIZE;
    // What is there counts for nothing, also where there is no range to be had.
    unsafe { *state = dma_iova_state::default() };
    with(|m| {
        if size == 0 || !m.dma.iommu || m.fails("dma_iova_try_alloc") {
            return false;
        }
        let addr = match unsafe { (*dev).dma_mask } {
            u64::MAX => {
                let last = m.dma.ranges.iter().next_back();
                // With a hole between two of them.
                let after = last.map(|(start, range)| start + 2 * range.size as u64);
                Some(after.unwrap_or(0).max(FIRST_IOVA))
            }
            mask => m.dma.low_addresses(pad + size, mask),
        };
        let Some(addr) = addr.map(|addr| addr + pad as u64) else {
            return false;
        };
        let range = Iova {
            device: dev as usize,
            size,
            pad,
            links: BTreeMap::new(),
            synced: 0,
        };
        m.dma.ranges.insert(addr, Traced::new(range));
        unsafe { (*state).addr = addr };
        unsafe { (*state).__size = size as u64 };
        true
    })
}

pub unsafe extern "C" fn dma_use_iova(state: *mut dma_iova_state) -> bool {
    unsafe { (*state).__size != 0 }
}

pub unsafe extern "C" fn dma_iova_size(state: *mut dma_iova_state) -> usize {
    unsafe { (*state).__size as usize }
}

/// The range of `state`, which must be of `dev`.
unsafe fn range<'a>(
    m: &'a mut Locked<'_>,
    dev: *mut device,
    state: *mut dma_iova_state,
    what: &str,
) -> Option<&'a mut Traced<Iova>> {
    let range = m.dma.ranges.get_mut(unsafe { &(*state).addr });
    let range = range.filter(|range| range.device == dev as usize);
    if range.is_none() {
        report(format!(
            "`{what}()` for a range that the device does not have"
        ));
    }
    range
}

pub unsafe extern "C" fn dma_iova_link(
    dev: *mut device,
    state: *mut dma_iova_state,
    phys: phys_addr_t,
    offset: usize,
    size: usize,
    direction: dma_data_direction,
    _attrs: c_ulong,
) -> c_int {
    check(direction, "dma_iova_link");
    let inside = phys as usize % PAGE_SIZE;
    if inside > 0 && offset > 0 {
        report("memory that begins inside a page is linked behind other memory");
        return -(EIO as c_int);
    }
    if size == 0 {
        report("no memory is linked");
        return -(EINVAL as c_int);
    }
    with(|m| {
        if m.fails("dma_iova_link") {
            return -(ENOMEM as c_int);
        }
        let page = unsafe { pfn_to_page((phys >> PAGE_SHIFT) as usize) };
        let data = unsafe { memory(m, page, inside, size, "dma_iova_link") };
        let Some(range) = (unsafe { range(m, dev, state, "dma_iova_link") }) else {
            return -(EINVAL as c_int);
        };
        let mapping = Mapping {
            device: dev as usize,
            size,
            direction,
            data,
        };
        // What follows the first link begins a page of the device's, and so does the first, but for
        // how far into its own page the range was made to begin.
        let begins = match offset {
            0 => inside == range.pad,
            _ => (range.pad + offset) % PAGE_SIZE == 0,
        };
        if !begins {
            report("memory is linked where it does not lie in its page as in that of the device");
            return -(EINVAL as c_int);
        }
        let before = range.links.range(..offset + size).next_back();
        let is_free = before.is_none_or(|(other, link)| other + link.size <= offset);
        if !is_free || offset + size > range.size {
            report("memory is linked beyond a range, or where something is linked");
            return -(EINVAL as c_int);
        }
        range.links.insert(offset, mapping);
        0
    })
}

pub unsafe extern "C" fn dma_iova_sync(
    dev: *mut device,
    state: *mut dma_iova_state,
    offset: usize,
    size: usize,
) -> c_int {
    with(|m| {
        if m.fails("dma_iova_sync") {
            return -(ENOMEM as c_int);
        }
        if let Some(range) = unsafe { range(m, dev, state, "dma_iova_sync") } {
            range.synced = range.synced.max(offset + size);
        }
        0
    })
}

pub unsafe extern "C" fn dma_iova_destroy(
    dev: *mut device,
    state: *mut dma_iova_state,
    mapped_len: usize,
    direction: dma_data_direction,
    _attrs: c_ulong,
) {
    with(|m| {
        if let Some(range) = unsafe { range(m, dev, state, "dma_iova_destroy") } {
            // One behind the other, from the beginning.
            let follows = |end: usize, (start, link): (&usize, &Mapping)| {
                (*start == end).then_some(end + link.size)
            };
            let linked = range.links.iter().try_fold(0, follows);
            let same = range.links.values().all(|link| link.direction == direction);
            if linked != Some(mapped_len) || !same {
                report("what is unlinked was not linked so");
            }
        }
        m.dma.ranges.remove(unsafe { &(*state).addr });
    });
}

pub unsafe extern "C" fn dma_iova_free(dev: *mut device, state: *mut dma_iova_state) {
    with(|m| {
        if let Some(range) = unsafe { range(m, dev, state, "dma_iova_free") } {
            if !range.links.is_empty() {
                report("a range of addresses is freed that memory is linked into");
            }
        }
        m.dma.ranges.remove(unsafe { &(*state).addr });
    });
}

/// Fewer addresses than a device may say that it reaches: those of which there is always memory.
const LEAST_MASK: u64 = (1 << 24) - 1;

/// Has `set` note which addresses a device reaches.
unsafe fn set_mask(what: &'static str, old: u64, mask: u64, set: impl FnOnce()) -> c_int {
    might_sleep(what);
    with(|m| {
        // What is on no bus has none to be set.
        if m.fails(what) || old == 0 || mask < LEAST_MASK {
            return -(EIO as c_int);
        }
        set();
        0
    })
}

pub unsafe extern "C" fn dma_set_mask(dev: *mut device, mask: u64) -> c_int {
    unsafe {
        set_mask("dma_set_mask", (*dev).dma_mask, mask, || {
            (*dev).dma_mask = mask
        })
    }
}

pub unsafe extern "C" fn dma_set_coherent_mask(dev: *mut device, mask: u64) -> c_int {
    unsafe {
        // It lies in the device itself.
        set_mask("dma_set_coherent_mask", u64::MAX, mask, || {
            (*dev).coherent_dma_mask = mask
        })
    }
}

pub unsafe extern "C" fn dma_set_mask_and_coherent(dev: *mut device, mask: u64) -> c_int {
    unsafe {
        set_mask("dma_set_mask_and_coherent", (*dev).dma_mask, mask, || {
            (*dev).dma_mask = mask;
            (*dev).coherent_dma_mask = mask;
        })
    }
}

/// Zeroed, as all such memory is today.
pub unsafe extern "C" fn dma_alloc_attrs(
    dev: *mut device,
    size: usize,
    dma_handle: *mut dma_addr_t,
    flag: gfp_t,
    _attrs: c_ulong,
) -> *mut c_void {
    if flag & ___GFP_DIRECT_RECLAIM != 0 {
        might_alloc("dma_alloc_coherent");
    }
    with(|m| {
        if m.fails("dma_alloc_coherent") {
            return std::ptr::null_mut();
        }
        let mask = unsafe { (*dev).coherent_dma_mask };
        if mask == 0 {
            report("memory is allocated for a device that has no DMA mask: it is on no bus");
            return std::ptr::null_mut();
        }
        let Some(addr) = m.dma.low_addresses(size, mask) else {
            return std::ptr::null_mut();
        };
        let memory = host_zeroed(size, PAGE_SIZE);
        m.dma.shared.push(Traced::new(Shared {
            addr,
            device: dev as usize,
            size,
            data: memory.expose_provenance(),
        }));
        unsafe { *dma_handle = addr };
        memory.cast()
    })
}

pub unsafe extern "C" fn dma_free_attrs(
    dev: *mut device,
    size: usize,
    cpu_addr: *mut c_void,
    dma_handle: dma_addr_t,
    _attrs: c_ulong,
) {
    might_sleep("dma_free_coherent");
    let allocated = Shared {
        addr: dma_handle,
        device: dev as usize,
        size,
        data: cpu_addr as usize,
    };
    let found = with(|m| {
        let shared = &mut m.dma.shared;
        let found = shared.iter().position(|other| **other == allocated);
        found.map(|i| shared.swap_remove(i))
    });
    match found {
        Some(_) => unsafe { host_free(cpu_addr.cast(), size, PAGE_SIZE) },
        None => report("memory that a device shares is freed, and was not allocated so"),
    }
}

not_simulated! {
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
pub const DMA_ATTR_REQUIRE_COHERENT: u32 = 1 << 12;
