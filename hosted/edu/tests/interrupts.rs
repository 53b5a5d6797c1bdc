// SPDX-License-Identifier: GPL-2.0

//! Drivers of the same device that wait for its interrupts, and not until a register says so: with
//! the kernel's `irq`, with a handler that must not sleep, and with one that may.

#![feature(used_with_arg)]
#![cfg(pci)]

use bindings::sim::{for_each_failure_of, run, Edu, Module};
use kernel::{
    device::Core,
    io::Io,
    irq::{
        Flags, Handler, IrqReturn, Registration, ThreadedHandler, ThreadedIrqReturn,
        ThreadedRegistration,
    },
    new_mutex, pci,
    prelude::*,
    sync::{Completion, Mutex},
};

extern "C" {
    fn __edu_irq_init() -> i32;
    fn __edu_irq_exit();
}

kernel::module_pci_driver! {
    type: Told,
    name: "edu_irq",
    authors: ["dpmem"],
    description: "The edu device of QEMU, with interrupts",
    license: "GPL",
}

const STATUS: usize = 0x24;
const RAISE: usize = 0x60;
const ACKNOWLEDGE: usize = 0x64;
const END: usize = 0xa0;

type Bar<'a> = pci::Bar<'a, END>;

/// Who is told, and must not sleep.
#[pin_data]
struct Heard<'a> {
    bar: &'a Bar<'a>,
    #[pin]
    heard: Completion,
}

impl Handler for Heard<'_> {
    fn handle(&self) -> IrqReturn {
        match self.bar.read32(STATUS) {
            0 => IrqReturn::None,
            reasons => {
                self.bar.write32(reasons, ACKNOWLEDGE);
                self.heard.complete_all();
                IrqReturn::Handled
            }
        }
    }
}

/// Who is told, and sleeps.
#[pin_data]
struct Slow<'a> {
    bar: &'a Bar<'a>,
    #[pin]
    reasons: Mutex<u32>,
    #[pin]
    heard: Completion,
}

impl ThreadedHandler for Slow<'_> {
    fn handle(&self) -> ThreadedIrqReturn {
        ThreadedIrqReturn::WakeThread
    }

    fn handle_threaded(&self) -> IrqReturn {
        let reasons = self.bar.read32(STATUS);
        self.bar.write32(reasons, ACKNOWLEDGE);
        *self.reasons.lock() |= reasons;
        self.heard.complete_all();
        IrqReturn::Handled
    }
}

/// It has the device say something, and waits until it has heard that.
struct Told;

impl Told {
    fn once(pdev: &pci::Device<Core<'_>>) -> Result {
        pdev.enable_device_mem()?;
        let registers = pdev.iomap_region_sized::<END>(0, c"edu_irq")?;
        let bar = &registers;
        let vectors = pdev.alloc_irq_vectors(1, 4, pci::IrqTypes::all())?;
        assert_eq!(vectors.len(), 1);
        {
            let heard = try_pin_init!(Heard {
                bar,
                heard <- Completion::new(),
            }? Error);
            let request = vectors.index(0)?.into();
            // SAFETY: It is dropped below.
            let registration =
                unsafe { Registration::new(request, Flags::TRIGGER_NONE, c"edu_irq", heard) };
            let registration = KBox::pin_init(registration, GFP_KERNEL)?;
            bar.write32(1, RAISE);
            registration.handler().heard.wait_for_completion();
            registration.synchronize();
            assert_eq!(bar.read32(STATUS), 0);
        }
        {
            let slow = try_pin_init!(Slow {
                bar,
                reasons <- new_mutex!(0, "edu_irq::reasons"),
                heard <- Completion::new(),
            }? Error);
            let request = vectors.index(0)?.into();
            // SAFETY: As above.
            let registration =
                unsafe { ThreadedRegistration::new(request, Flags::ONESHOT, c"edu_irq", slow) };
            let registration = KBox::pin_init(registration, GFP_KERNEL)?;
            bar.write32(6, RAISE);
            registration.handler().heard.wait_for_completion();
            registration.synchronize();
            assert_eq!(*registration.handler().reasons.lock(), 6);
        }
        Ok(())
    }
}

kernel::pci_device_table!(
    PCI_TABLE,
    <Told as pci::Driver>::IdInfo,
    [(pci::DeviceId::from_class(0xff00, 0xffff00), ())]
);

impl pci::Driver for Told {
    type IdInfo = ();
    type Data<'bound> = Self;

    const ID_TABLE: pci::IdTable<Self::IdInfo> = &PCI_TABLE;

    fn probe<'bound>(
        pdev: &'bound pci::Device<Core<'_>>,
        _info: Option<&'bound Self::IdInfo>,
    ) -> impl PinInit<Self::Data<'bound>, Error> + 'bound {
        Self::once(pdev).map(|()| Self)
    }
}

fn load() -> Option<Module> {
    // SAFETY: These are the two functions that `module!` makes for the driver.
    unsafe { Module::load(__edu_irq_init, __edu_irq_exit) }.ok()
}

#[test]
fn it_is_told() {
    run(|| {
        let edu = Edu::plug();
        let _driver = load().unwrap();
        assert!(edu.is_bound());
        edu.unbind().unwrap();
        edu.bind().unwrap();
    });
}

#[test]
fn it_cannot_be_told() {
    let what = &["pci_alloc_irq_vectors", "request_irq"];
    let failures = for_each_failure_of(what, || {
        let edu = Edu::plug();
        let _driver = load().unwrap();
        // The second time nothing fails.
        assert!(edu.is_bound() || edu.bind().is_ok());
    });
    assert!(failures >= 3, "{failures}");
}
