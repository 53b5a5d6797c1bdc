// SPDX-License-Identifier: GPL-2.0

//! The PCI bus: devices that tests plug in, and their drivers.
//!
//! Real: which driver gets a device, `probe` and `remove`, what is released around them and in
//! which order; BARs, and who has requested them; that a device has to be enabled before its
//! registers are there, and to be a bus master before it reaches memory. What a driver has not
//! given back when it is unbound is reported. Not simulated: configuration space, bridges, power,
//! virtual functions, errors that a bus tells of, `driver_override` and numbers of devices that are
//! added to a driver. Registers are in `mmio.rs`, interrupts in `irq.rs`, and what a device does is
//! for its [`Hardware`] to say.

use std::{collections::BTreeSet, ptr::null_mut, sync::Arc};

use ffi::*;
use pin_init::Zeroable;

use crate::{
    consts::*,
    devices::{
        dev_set_drvdata, device, get_device, get_device_locked, put_device, release_all,
        with_driver_locked,
    },
    dma::{read_by, write_by},
    errno::*,
    irq,
    machine::{might_sleep, with, Locked},
    process::Errno,
    regions::{__request_region, iomem_resource, release_mem_region},
    report::report,
    rest::module,
};

include!(concat!(env!("OUT_DIR"), "/pci_ids.rs"));

/// Six BARs, a ROM, six BARs of virtual functions, and four windows of bridges.
pub const PCI_NUM_RESOURCES: u32 = 17;

/// What stands for any vendor or device.
const PCI_ANY_ID: c_uint = c_uint::MAX;

#[repr(C)]
pub struct pci_dev {
    // The first field: a device is freed by it.
    pub dev: device,
    pub vendor: c_ushort,
    pub device: c_ushort,
    pub subsystem_vendor: c_ushort,
    pub subsystem_device: c_ushort,
    pub class: c_uint,
    pub revision: u8,
    pub cfg_size: c_int,
    /// Which one on its bus.
    devfn: u16,
    driver: *mut pci_driver,
    bars: Vec<Bar>,
    hardware: Arc<dyn Hardware>,
    /// Whether it is plugged in.
    present: bool,
    enabled: bool,
    master: bool,
}

/// Registers of a device, as the bus sees them.
struct Bar {
    start: resource_size_t,
    len: usize,
    requested: bool,
}

#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct pci_device_id {
    pub vendor: c_uint,
    pub device: c_uint,
    pub subvendor: c_uint,
    pub subdevice: c_uint,
    pub class: c_uint,
    pub class_mask: c_uint,
    pub driver_data: c_ulong,
    pub override_only: c_uint,
}

/// What a bus calls that knows of Rust.
#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct device_driver__bindgen_ty_1 {
    pub post_unbind_rust: Option<unsafe extern "C" fn(dev: *mut device)>,
}

#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct device_driver {
    pub name: *const c_char,
    pub p_cb: device_driver__bindgen_ty_1,
}

#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct pci_driver {
    pub name: *const c_char,
    pub id_table: *const pci_device_id,
    pub probe: Option<unsafe extern "C" fn(dev: *mut pci_dev, id: *const pci_device_id) -> c_int>,
    pub remove: Option<unsafe extern "C" fn(dev: *mut pci_dev)>,
    pub driver: device_driver,
}

impl Default for pci_driver {
    fn default() -> Self {
        pin_init::zeroed()
    }
}

// For drivers of other buses, which there are none of.

#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct acpi_device_id {
    pub id: [u8; 16],
    pub driver_data: c_ulong,
}

#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct of_device_id {
    pub compatible: [c_char; 128],
    pub data: *const c_void,
}

/// Which register is read or written, and how much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register {
    pub bar: usize,
    pub offset: usize,
    /// In bytes.
    pub size: usize,
}

/// What is plugged in. It is called while nobody waits for it, and no lock of the machine is held.
pub trait Hardware: Send + Sync {
    /// A CPU reads a register.
    fn read(&self, slot: &Slot, register: Register) -> u64;

    /// A CPU writes to one.
    fn write(self: Arc<Self>, slot: &Slot, register: Register, value: u64);
}

/// What a device says of itself.
#[derive(Clone, Copy, Debug)]
pub struct PciId {
    pub vendor: u16,
    pub device: u16,
    /// Base class, subclass, and interface.
    pub class: u32,
    pub revision: u8,
}

/// What is known of the bus of a machine.
#[derive(Default)]
pub(crate) struct Pci {
    /// What is plugged in, and what somebody has a reference to.
    plugged: Vec<*mut pci_dev>,
    known: BTreeSet<usize>,
    drivers: Vec<*mut pci_driver>,
    /// How many bytes of addresses have been given to BARs so far.
    given: u64,
    /// How many devices there have been.
    nr: u16,
}

impl Pci {
    /// What is left on the bus, in words.
    pub(crate) fn in_use(&self) -> Vec<String> {
        let mut left = Vec::new();
        left.extend(self.known.iter().map(|_| "a PCI device".to_owned()));
        left.extend(self.drivers.iter().map(|_| "a PCI driver".to_owned()));
        left
    }
}

/// Where the first BAR is: behind all memory.
const FIRST_BAR: u64 = 0xc0_0000_0000;

/// Where a device is plugged in: what its hardware reaches of the machine. A reference to the
/// device.
pub struct Slot(*mut pci_dev);

// SAFETY: What is behind the pointer is used under the lock of the machine.
unsafe impl Send for Slot {}
// SAFETY: As above.
unsafe impl Sync for Slot {}

impl Clone for Slot {
    fn clone(&self) -> Self {
        unsafe { get_device(self.device()) };
        Self(self.0)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        unsafe { put_device(self.device()) };
    }
}

impl Slot {
    unsafe fn new(m: &mut Locked<'_>, pdev: *mut pci_dev) -> Self {
        unsafe { get_device_locked(m, &raw mut (*pdev).dev) };
        Self(pdev)
    }

    fn device(&self) -> *mut device {
        unsafe { &raw mut (*self.0).dev }
    }

    /// Whether the device is there still.
    pub fn is_present(&self) -> bool {
        with(|m| self.is_present_locked(m))
    }

    /// As [`Slot::is_present`], with the machine locked.
    pub(crate) fn is_present_locked(&self, _m: &mut Locked<'_>) -> bool {
        unsafe { (*self.0).present }
    }

    /// Whether the device may use the bus now.
    fn is_master(&self) -> bool {
        let (present, master) = with(|_| unsafe { ((*self.0).present, (*self.0).master) });
        if present && !master {
            report("a device uses memory that is no bus master");
        }
        present && master
    }

    /// The device reads from memory of the system.
    pub fn dma_read(&self, addr: u64, to: &mut [u8]) {
        match self.is_master() {
            true => read_by(Some(self.device()), addr, to),
            false => to.fill(0xff),
        }
    }

    /// The device writes to memory of the system.
    pub fn dma_write(&self, addr: u64, from: &[u8]) {
        if self.is_master() {
            write_by(Some(self.device()), addr, from);
        }
    }

    /// The device has something to say. Its driver is told in a thread of its own.
    pub fn interrupt(&self, vector: usize) {
        if self.is_present() {
            irq::raise(self.0, vector);
        }
    }
}

/// The hardware of a device, if an access to its registers reaches it.
pub(crate) unsafe fn target(
    m: &mut Locked<'_>,
    pdev: *mut pci_dev,
) -> Option<(Arc<dyn Hardware>, Slot)> {
    if unsafe { !(*pdev).enabled } {
        report("an access to registers of a device that is not enabled");
        return None;
    }
    let (present, hardware) = unsafe { ((*pdev).present, &(*pdev).hardware) };
    present.then(|| (hardware.clone(), unsafe { Slot::new(m, pdev) }))
}

/// A device that is plugged in. Dropping it takes it away, without its driver.
pub struct PciDevice(Slot);

impl PciDevice {
    /// Plugs a device in that has BARs of these sizes. A driver gets it, if there is one for it.
    pub fn plug(id: PciId, bars: &[usize], hardware: Arc<dyn Hardware>) -> Self {
        let (slot, drivers) = with(|m| {
            let bars = bars.iter().map(|len| {
                let size = len.next_power_of_two() as u64;
                let start = m.pci.given.next_multiple_of(size);
                m.pci.given = start + size;
                Bar {
                    start: FIRST_BAR + start,
                    len: *len,
                    requested: false,
                }
            });
            let bars = bars.collect();
            m.pci.nr += 1;
            // A device reaches 32 bits of addresses until its driver says otherwise.
            let dev = device::new(null_mut(), u32::MAX.into(), free_pci_dev);
            let pdev = Box::into_raw(Box::new(pci_dev {
                dev,
                vendor: id.vendor,
                device: id.device,
                subsystem_vendor: 0,
                subsystem_device: 0,
                class: id.class,
                revision: id.revision,
                cfg_size: 256,
                // One function of each.
                devfn: m.pci.nr << 3,
                driver: null_mut(),
                bars,
                hardware,
                present: true,
                enabled: false,
                master: false,
            }));
            m.pci.plugged.push(pdev);
            m.pci.known.insert(pdev as usize);
            // The reference that it has from the beginning.
            (Slot(pdev), m.pci.drivers.clone())
        });
        for driver in drivers {
            let _ = unsafe { attach(&slot, driver) };
        }
        Self(slot)
    }

    /// Whether a driver has it.
    pub fn is_bound(&self) -> bool {
        with(|_| unsafe { !(*self.0 .0).driver.is_null() })
    }

    /// Gives it to a driver, as `bind` in sysfs does.
    ///
    /// # Errors
    ///
    /// `ENODEV` if there is none for it, `EBUSY` if one has it; those of the driver.
    pub fn bind(&self) -> Result<(), Errno> {
        let mut result = Err(Errno(ENODEV));
        for driver in with(|m| m.pci.drivers.clone()) {
            result = unsafe { attach(&self.0, driver) };
            if result != Err(Errno(ENODEV)) {
                break;
            }
        }
        result
    }

    /// Takes it away from its driver, as `unbind` in sysfs does.
    ///
    /// # Errors
    ///
    /// `ENODEV` if no driver has it.
    pub fn unbind(&self) -> Result<(), Errno> {
        unsafe { detach(&self.0, None) }
    }

    /// Pulls it out, while its driver knows nothing of that.
    pub fn pull_out(&self) {
        with(|m| {
            unsafe { (*self.0 .0).present = false };
            m.changed();
        });
    }
}

impl Drop for PciDevice {
    fn drop(&mut self) {
        // Whatever has gone wrong, the driver may not be able to let go of it.
        if std::thread::panicking() {
            return;
        }
        let _ = self.unbind();
        self.pull_out();
        with(|m| m.pci.plugged.retain(|other| *other != self.0 .0));
    }
}

unsafe fn free_pci_dev(dev: *mut device) {
    let pdev = dev.cast::<pci_dev>();
    with(|m| m.pci.known.remove(&(pdev as usize)));
    drop(unsafe { Box::from_raw(pdev) });
}

/// The entry of a driver's table that a device is found by, or null.
unsafe fn entry_for(pdev: &pci_dev, driver: *mut pci_driver) -> *const pci_device_id {
    let is =
        |wanted: c_uint, found: c_ushort| wanted == PCI_ANY_ID || wanted == c_uint::from(found);
    let mut entry = unsafe { (*driver).id_table };
    while let Some(id) = unsafe { entry.as_ref() } {
        if (id.vendor, id.subvendor, id.class_mask) == (0, 0, 0) {
            break;
        }
        let ours = is(id.vendor, pdev.vendor) && is(id.device, pdev.device);
        let same =
            is(id.subvendor, pdev.subsystem_vendor) && is(id.subdevice, pdev.subsystem_device);
        let class = (id.class ^ pdev.class) & id.class_mask == 0;
        if ours && same && class && id.override_only == 0 {
            return entry;
        }
        entry = entry.wrapping_add(1);
    }
    std::ptr::null()
}

/// Gives a device to a driver.
unsafe fn attach(slot: &Slot, driver: *mut pci_driver) -> Result<(), Errno> {
    let pdev = slot.0;
    unsafe {
        with_driver_locked(slot.device(), || {
            // It may have been unregistered since it was found, and gone. If not, who does so waits
            // for this lock.
            if !with(|m| m.pci.drivers.contains(&driver)) {
                return Err(Errno(ENODEV));
            }
            let id = entry_for(&*pdev, driver);
            if id.is_null() {
                return Err(Errno(ENODEV));
            }
            let before = with(|_| (*pdev).driver);
            if !before.is_null() {
                return Err(Errno(EBUSY));
            }
            with(|_| (*pdev).driver = driver);
            let result = (*driver).probe.map_or(0, |probe| probe(pdev, id));
            if result >= 0 {
                return Ok(());
            }
            clean_up(slot, driver);
            Err(Errno(result.unsigned_abs()))
        })
    }
}

/// Takes a device away from its driver: this one, or whoever has it.
unsafe fn detach(slot: &Slot, driver: Option<*mut pci_driver>) -> Result<(), Errno> {
    might_sleep("device_release_driver");
    let pdev = slot.0;
    unsafe {
        with_driver_locked(slot.device(), || {
            let found = with(|_| (*pdev).driver);
            if found.is_null() || driver.is_some_and(|driver| driver != found) {
                return Err(Errno(ENODEV));
            }
            if let Some(remove) = (*found).remove {
                remove(pdev);
            }
            clean_up(slot, found);
            Ok(())
        })
    }
}

/// Releases what a driver has for a device that it does not have any more.
unsafe fn clean_up(slot: &Slot, driver: *mut pci_driver) {
    let pdev = slot.0;
    unsafe {
        if let Some(post_unbind) = (*driver).driver.p_cb.post_unbind_rust {
            post_unbind(slot.device());
        }
        release_all(slot.device());
        dev_set_drvdata(slot.device(), null_mut());
    }
    with(|m| {
        let device = slot.device();
        let bars = unsafe { &(*pdev).bars };
        let requested = bars.iter().filter(|bar| bar.requested).count();
        for (nr, what) in [
            (requested, "requested BARs"),
            (m.mmio.in_use(Some(pdev)), "mapped BARs"),
            (m.irqs.in_use(Some(pdev)), "interrupts"),
            (m.dma.of_device(device), "pieces of memory for DMA"),
        ] {
            if nr > 0 {
                report(format!(
                    "a driver is unbound, and leaves {nr} {what} behind"
                ));
            }
        }
        unsafe { (*pdev).driver = null_mut() };
    });
}

pub unsafe extern "C" fn __pci_register_driver(
    drv: *mut pci_driver,
    _owner: *mut module,
    _mod_name: *const c_char,
) -> c_int {
    might_sleep("pci_register_driver");
    let devices = with(|m| {
        if m.fails("pci_register_driver") {
            return None;
        }
        m.pci.drivers.push(drv);
        Some(unsafe { slots(m) })
    });
    let Some(devices) = devices else {
        return -(ENOMEM as c_int);
    };
    for slot in devices {
        // That it does not want one of them is no reason to go.
        let _ = unsafe { attach(&slot, drv) };
    }
    0
}

pub unsafe extern "C" fn pci_unregister_driver(dev: *mut pci_driver) {
    might_sleep("pci_unregister_driver");
    let devices = with(|m| {
        let before = m.pci.drivers.len();
        m.pci.drivers.retain(|other| *other != dev);
        if m.pci.drivers.len() + 1 != before {
            report("a PCI driver is unregistered that is not there");
        }
        unsafe { slots(m) }
    });
    for slot in devices {
        let _ = unsafe { detach(&slot, Some(dev)) };
    }
}

/// All that is plugged in.
unsafe fn slots(m: &mut Locked<'_>) -> Vec<Slot> {
    let plugged = m.pci.plugged.clone();
    let slots = plugged.into_iter();
    slots.map(|pdev| unsafe { Slot::new(m, pdev) }).collect()
}

pub unsafe extern "C" fn pci_dev_get(dev: *mut pci_dev) -> *mut pci_dev {
    unsafe { get_device(&raw mut (*dev).dev) };
    dev
}

pub unsafe extern "C" fn pci_dev_put(dev: *mut pci_dev) {
    unsafe { put_device(&raw mut (*dev).dev) };
}

pub unsafe extern "C" fn pci_dev_id(dev: *mut pci_dev) -> u16 {
    unsafe { (*dev).devfn }
}

pub unsafe extern "C" fn dev_is_pci(dev: *const device) -> bool {
    with(|m| m.pci.known.contains(&(dev as usize)))
}

/// Reports that something is done for a device that no driver has.
unsafe fn must_be_bound(pdev: *mut pci_dev, what: &str) {
    if unsafe { (*pdev).driver.is_null() } {
        report(format!("`{what}()` for a device that no driver has"));
    }
}

pub unsafe extern "C" fn pci_enable_device_mem(dev: *mut pci_dev) -> c_int {
    might_sleep("pci_enable_device_mem");
    with(|m| {
        if m.fails("pci_enable_device_mem") {
            return -(EINVAL as c_int);
        }
        unsafe { must_be_bound(dev, "pci_enable_device_mem") };
        unsafe { (*dev).enabled = true };
        0
    })
}

pub unsafe extern "C" fn pci_set_master(dev: *mut pci_dev) {
    with(|_| {
        unsafe { must_be_bound(dev, "pci_set_master") };
        unsafe { (*dev).master = true };
    });
}

/// A BAR of a device, if it has that.
unsafe fn bar<'a>(dev: *mut pci_dev, bar: c_int) -> Option<&'a mut Bar> {
    let bars = unsafe { &mut (*dev).bars };
    bars.get_mut(usize::try_from(bar).ok()?)
}

pub unsafe extern "C" fn pci_resource_start(dev: *mut pci_dev, nr: c_int) -> resource_size_t {
    with(|_| unsafe { bar(dev, nr) }.map_or(0, |bar| bar.start))
}

pub unsafe extern "C" fn pci_resource_len(dev: *mut pci_dev, nr: c_int) -> resource_size_t {
    with(|_| unsafe { bar(dev, nr) }.map_or(0, |bar| bar.len as resource_size_t))
}

pub unsafe extern "C" fn pci_request_region(
    dev: *mut pci_dev,
    nr: c_int,
    name: *const c_char,
) -> c_int {
    let found = with(|_| {
        unsafe { must_be_bound(dev, "pci_request_region") };
        unsafe { bar(dev, nr) }.map(|bar| (bar.start, bar.len as resource_size_t))
    });
    let Some((start, len)) = found else {
        return 0;
    };
    let resource = unsafe { __request_region(&raw mut iomem_resource, start, len, name, 0) };
    if resource.is_null() {
        return -(EBUSY as c_int);
    }
    with(|_| unsafe { bar(dev, nr) }.map(|bar| bar.requested = true));
    0
}

pub unsafe extern "C" fn pci_release_region(dev: *mut pci_dev, nr: c_int) {
    let found = with(|_| {
        let bar = unsafe { bar(dev, nr) }?;
        let requested = std::mem::take(&mut bar.requested);
        requested.then_some((bar.start, bar.len as resource_size_t))
    });
    match found {
        Some((start, len)) => unsafe { release_mem_region(start, len) },
        None => report("a BAR is released that was not requested"),
    }
}

pub unsafe extern "C" fn pci_iomap(dev: *mut pci_dev, nr: c_int, maxlen: c_ulong) -> *mut c_void {
    might_sleep("pci_iomap");
    let addr = with(|m| {
        if m.fails("pci_iomap") {
            return None;
        }
        unsafe { must_be_bound(dev, "pci_iomap") };
        let len = unsafe { bar(dev, nr) }?.len;
        let len = match maxlen {
            0 => len,
            most => len.min(most),
        };
        Some(m.mmio.map(dev, usize::try_from(nr).ok()?, len))
    });
    addr.map_or(null_mut(), std::ptr::without_provenance_mut)
}

pub unsafe extern "C" fn pci_iounmap(dev: *mut pci_dev, addr: *mut c_void) {
    might_sleep("pci_iounmap");
    if !with(|m| m.mmio.unmap(dev, addr as usize)) {
        report("a BAR is unmapped that was not mapped so");
    }
}

not_simulated! {
    fn device_get_match_data(*const device) -> *const c_void;
    fn pci_read_config_byte(*mut pci_dev, c_int, *mut u8) -> c_int;
    fn pci_read_config_dword(*mut pci_dev, c_int, *mut u32) -> c_int;
    fn pci_read_config_word(*mut pci_dev, c_int, *mut u16) -> c_int;
    fn pci_sriov_get_totalvfs(*mut pci_dev) -> c_int;
    fn pci_write_config_byte(*mut pci_dev, c_int, u8) -> c_int;
    fn pci_write_config_dword(*mut pci_dev, c_int, u32) -> c_int;
    fn pci_write_config_word(*mut pci_dev, c_int, u16) -> c_int;
}
