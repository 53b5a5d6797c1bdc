// SPDX-License-Identifier: GPL-2.0

//! QEMU's PCI device `edu`: a page of memory, and an engine that copies to it and from it.
//!
//! Real: what `docs/specs/edu.rst` of QEMU says of the registers of the engine and of interrupts. A
//! copy is made by a thread of the machine, in pieces, at some time after it was started, and not
//! after a tenth of a second; a test can have it wait. What QEMU ignores, or cuts to fit, is
//! reported. Not simulated: factorials.

use std::sync::Arc;

use crate::{
    host::{Mutex, MutexGuard},
    machine::{spawn_kernel_thread, with},
    mm::PAGE_SIZE,
    pci::{Hardware, PciDevice, PciId, Register, Slot},
    process::Errno,
    report::report,
};

/// What the device says of itself.
const ID: PciId = PciId {
    vendor: 0x1234,
    device: 0x11e8,
    // None of the classes that there are.
    class: 0x00_ff00,
    revision: 0x10,
};

/// How large its registers are.
const BAR: usize = 1 << 20;

/// What it is, and in which version.
const IDENTIFICATION: u64 = 0x0100_00ed;

mod register {
    pub(super) const IDENTIFICATION: usize = 0x00;
    pub(super) const LIVENESS: usize = 0x04;
    pub(super) const INTERRUPT_STATUS: usize = 0x24;
    pub(super) const INTERRUPT_RAISE: usize = 0x60;
    pub(super) const INTERRUPT_ACKNOWLEDGE: usize = 0x64;
    /// From here on they have 64 bits.
    pub(super) const DMA_SOURCE: usize = 0x80;
    pub(super) const DMA_DESTINATION: usize = 0x88;
    pub(super) const DMA_COUNT: usize = 0x90;
    pub(super) const DMA_COMMAND: usize = 0x98;
}

/// A copy is to be made, or is being made.
const RUN: u64 = 1 << 0;
/// It goes to the memory of the system.
const TO_BUS: u64 = 1 << 1;
/// Its end is worth an interrupt, for this reason.
const INTERRUPT: u64 = 1 << 2;
const DONE: u32 = 0x100;

/// Where its memory is, for its engine.
const MEMORY: u64 = 0x4_0000;

/// How much is copied at once.
const PIECE: usize = PAGE_SIZE / 4;

/// What was in the memory before anything was copied to it.
const JUNK: u8 = 0xed;

/// A copy.
#[derive(Clone, Copy, Default)]
struct Transfer {
    source: u64,
    destination: u64,
    count: u64,
    command: u64,
}

struct State {
    memory: Vec<u8>,
    liveness: u32,
    /// Why there was an interrupt that nobody has acknowledged.
    reasons: u32,
    copy: Transfer,
    /// Which addresses it reaches.
    mask: u64,
    /// Whether a test has it wait, and how many copies it has made.
    held: bool,
    copies: usize,
}

/// The device itself.
struct Card {
    /// Taken with the machine locked or not, and never held while that is locked.
    state: Mutex<State>,
}

impl Card {
    fn state(&self) -> MutexGuard<'_, State> {
        let state = self.state.lock();
        state.unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Waits until the device is as `is` says. `what` is for people.
    fn wait_until(&self, what: &str, is: impl Fn(&State) -> bool) {
        with(|m| {
            while !is(&self.state()) {
                m.wait(what);
            }
        });
    }

    /// Changes the device, which somebody may wait for.
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        with(|m| m.changed());
    }

    /// Begins with a copy, if that makes sense.
    fn start(self: Arc<Self>, slot: &Slot, command: u64) {
        let (copy, mask) = {
            let mut state = self.state();
            state.copy.command = command;
            (state.copy, state.mask)
        };
        let (here, there) = match command & TO_BUS {
            0 => (copy.destination, copy.source),
            _ => (copy.source, copy.destination),
        };
        let at = here.checked_sub(MEMORY);
        let end = at.and_then(|at| at.checked_add(copy.count));
        let end = end.filter(|end| *end <= PAGE_SIZE as u64);
        let reached = there.checked_add(copy.count);
        let reached = reached.is_some_and(|end| end <= mask.saturating_add(1));
        let (Some(at), Some(end), true) = (at, end, reached) else {
            report("edu: a copy that is not in its memory, or that it does not reach");
            return self.change(|state| state.copy.command = 0);
        };
        // Somebody may wait for it to be at work.
        self.change(|_| {});
        let slot = slot.clone();
        let range = at as usize..end as usize;
        spawn_kernel_thread(move || self.copy(&slot, range, there, command));
    }

    /// Copies, as the engine does while CPUs do something else.
    fn copy(&self, slot: &Slot, mut range: std::ops::Range<usize>, mut there: u64, command: u64) {
        with(|m| {
            // It may be pulled out while it waits.
            while self.state().held && slot.is_present_locked(m) {
                m.wait("edu, which a test holds");
            }
        });
        while !range.is_empty() && slot.is_present() {
            let piece = range.start..range.end.min(range.start + PIECE);
            let len = piece.len();
            let mut bytes = vec![0; len];
            if command & TO_BUS == 0 {
                slot.dma_read(there, &mut bytes);
                self.state().memory[piece].copy_from_slice(&bytes);
            } else {
                bytes.copy_from_slice(&self.state().memory[piece]);
                slot.dma_write(there, &bytes);
            }
            range.start += len;
            there += len as u64;
        }
        self.change(|state| {
            state.copy.command &= !RUN;
            state.copies += usize::from(range.is_empty());
        });
        if command & INTERRUPT != 0 {
            self.interrupt(slot, DONE);
        }
    }

    fn interrupt(&self, slot: &Slot, reasons: u32) {
        self.change(|state| state.reasons |= reasons);
        slot.interrupt(0);
    }
}

/// Reports an access to a register that means nothing, or that is not simulated.
fn wrong(what: &str, register: Register) {
    report(format!("edu: {what} {register:x?}"));
}

/// Whether there is such a register.
fn is_whole(register: Register) -> bool {
    let wide = register.offset >= register::DMA_SOURCE;
    register.bar == 0 && (register.size == 4 || wide && register.size == 8)
}

impl Hardware for Card {
    fn read(&self, _slot: &Slot, register: Register) -> u64 {
        if !is_whole(register) {
            wrong("somebody reads", register);
            return u64::MAX;
        }
        let state = self.state();
        match register.offset {
            register::IDENTIFICATION => IDENTIFICATION,
            register::LIVENESS => state.liveness.into(),
            register::INTERRUPT_STATUS => state.reasons.into(),
            register::DMA_SOURCE => state.copy.source,
            register::DMA_DESTINATION => state.copy.destination,
            register::DMA_COUNT => state.copy.count,
            register::DMA_COMMAND => state.copy.command,
            _ => {
                drop(state);
                wrong("somebody reads", register);
                u64::MAX
            }
        }
    }

    fn write(self: Arc<Self>, slot: &Slot, register: Register, value: u64) {
        if !is_whole(register) {
            return wrong("somebody writes to", register);
        }
        let busy = self.state().copy.command & RUN != 0;
        if register.offset >= register::DMA_SOURCE && busy {
            return wrong("while it copies, somebody writes to", register);
        }
        match register.offset {
            register::LIVENESS => self.state().liveness = !(value as u32),
            register::INTERRUPT_RAISE => self.interrupt(slot, value as u32),
            register::INTERRUPT_ACKNOWLEDGE => self.state().reasons &= !(value as u32),
            register::DMA_SOURCE => self.state().copy.source = value,
            register::DMA_DESTINATION => self.state().copy.destination = value,
            register::DMA_COUNT => self.state().copy.count = value,
            register::DMA_COMMAND if value & RUN != 0 => self.start(slot, value),
            _ => wrong("somebody writes to", register),
        }
    }
}

/// A device that is plugged in. Dropping it takes it away, without its driver.
pub struct Edu {
    device: PciDevice,
    card: Arc<Card>,
}

impl Default for Edu {
    fn default() -> Self {
        Self::plug()
    }
}

impl Edu {
    /// Plugs one in that reaches 32 bits of addresses. Its driver gets it, if it is loaded.
    pub fn plug() -> Self {
        Self::with_mask(u32::MAX.into())
    }

    /// One that reaches these addresses: `dma_mask` of QEMU's.
    pub fn with_mask(mask: u64) -> Self {
        let card = Arc::new(Card {
            state: Mutex::new(State {
                memory: vec![JUNK; PAGE_SIZE],
                liveness: 0,
                reasons: 0,
                copy: Transfer::default(),
                mask,
                held: false,
                copies: 0,
            }),
        });
        let device = PciDevice::plug(ID, &[BAR], card.clone());
        Self { device, card }
    }

    /// Whether it has its driver.
    pub fn is_bound(&self) -> bool {
        self.device.is_bound()
    }

    /// Gives it to its driver. Errors are those of [`PciDevice::bind`].
    pub fn bind(&self) -> Result<(), Errno> {
        self.device.bind()
    }

    /// Takes it away from its driver. Errors are those of [`PciDevice::unbind`].
    pub fn unbind(&self) -> Result<(), Errno> {
        self.device.unbind()
    }

    /// Pulls it out, with what is in its memory.
    pub fn pull_out(&self) {
        self.device.pull_out();
    }

    /// Has it begin with no copy until what is returned is dropped.
    pub fn hold(&self) -> Held<'_> {
        self.card.state().held = true;
        Held(&self.card)
    }

    /// Waits until it has a copy to make.
    pub fn wait_until_busy(&self) {
        let busy = |state: &State| state.copy.command & RUN != 0;
        self.card.wait_until("edu to copy something", busy);
    }

    /// How many copies it has made.
    pub fn copies(&self) -> usize {
        self.card.state().copies
    }

    /// What is in its memory.
    pub fn memory(&self) -> Vec<u8> {
        self.card.state().memory.clone()
    }
}

/// A device that has to wait.
pub struct Held<'a>(&'a Card);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.change(|state| state.held = false);
    }
}
