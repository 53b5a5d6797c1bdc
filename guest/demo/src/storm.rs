// SPDX-License-Identifier: GPL-2.0

//! Everything at once: processes do to their memory whatever comes to their mind, while the device
//! is registered, used and released again and again. What each page must contain is written down
//! beside.

use std::{
    fs,
    io::{
        Read as _,
        Write as _, //
    },
    ops::Range,
    path::Path, //
};

use anyhow::{
    bail,
    ensure,
    Context as _,
    Result, //
};
use nix::{
    errno::Errno,
    sys::{
        mman::{
            MmapAdvise,
            ProtFlags, //
        },
        signal::Signal,
        wait::WaitStatus,
    },
};

use crate::{
    device::{
        Device,
        Request, //
    },
    mapping::{
        page_size,
        Mapping, //
    },
    process::Child,
    scenarios::{
        check,
        Scenario, //
    }, //
};

/// The storm. A stock kernel migrates pages that KSM has merged, and KSM reads them still: there it
/// stays switched off.
pub(crate) const fn all(stock: bool) -> &'static [(&'static str, Scenario)] {
    if stock {
        &[("storm_without_ksm", storm)]
    } else {
        &[("storm", storm_with_ksm)]
    }
}

/// How many things each process does.
const ROUNDS: usize = 250;

/// How often a device is asked again that has lost its patience.
const PATIENCE: usize = 60;

/// Numbers that look random and are the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    /// Some of `pages` pages.
    fn part(&mut self, pages: usize) -> Range<usize> {
        let start = self.below(pages);
        start..start + 1 + self.below(pages - start)
    }
}

/// A process's memory, and what must be in it.
struct Sea<'d> {
    device: &'d Device,
    memory: Mapping,
    expected: Vec<u8>,
    buffer: Vec<u8>,
    random: Random,
}

impl<'d> Sea<'d> {
    fn new(device: &'d Device, memory: Mapping, seed: u64) -> Self {
        Self {
            device,
            expected: vec![0; memory.pages()],
            buffer: vec![0; memory.pages() * page_size()],
            memory,
            random: Random(seed),
        }
    }

    /// Everything is as it must be.
    fn verify(&self) -> Result<()> {
        check(self.memory.bytes(), |page| {
            self.expected.get(page).copied().unwrap_or(0)
        })
    }

    /// Writes to some pages, as a CPU does.
    fn write(&mut self) {
        let part = self.random.part(self.memory.pages());
        let value = 1 + self.random.below(250) as u8;
        let bytes = part.start * page_size()..part.end * page_size();
        if let Some(bytes) = self.memory.bytes_mut().get_mut(bytes) {
            bytes.fill(value);
        }
        self.expect(part, value);
    }

    fn expect(&mut self, part: Range<usize>, value: u8) {
        if let Some(expected) = self.expected.get_mut(part) {
            expected.fill(value);
        }
    }

    /// Asks the device. That it cannot, because it is being released, is no failure.
    fn ask(&mut self, request: Request) -> bool {
        let pages = self.memory.pages();
        for _ in 0..PATIENCE {
            let asked = self
                .device
                .ask(request, &self.memory, pages, &mut self.buffer);
            match asked {
                // A busy machine may take longer than a device is patient, and what it began is to
                // be done as a whole.
                Err(Errno::EBUSY) => {}
                asked => return asked.is_ok(),
            }
        }
        false
    }

    /// One thing of many.
    fn step(&mut self) -> Result<()> {
        match self.random.below(13) {
            0 | 1 => self.write(),
            2 | 3 => {
                self.ask(Request::MigrateToDevice);
            }
            4 => {
                self.ask(Request::MigrateToRam);
            }
            5 => {
                let part = self.random.part(self.memory.pages());
                self.memory
                    .advise_pages(part.clone(), MmapAdvise::MADV_DONTNEED)?;
                self.expect(part, 0);
            }
            6 => {
                let part = self.random.part(self.memory.pages());
                self.memory.protect_pages(part, ProtFlags::PROT_READ)?;
                self.verify().context("protected")?;
                self.memory
                    .protect(ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)?;
            }
            7 => self.memory.remap()?,
            8 => {
                let child = Child::run(|| {
                    self.verify().context("in a child")?;
                    self.write();
                    self.verify().context("written by a child")
                })?;
                self.write();
                child.wait()?;
            }
            9 => {
                if self.ask(Request::Read) {
                    check(&self.buffer, |page| {
                        self.expected.get(page).copied().unwrap_or(0)
                    })
                    .context("read by the device")?;
                }
            }
            10 => {
                let value = 1 + self.random.below(250) as u8;
                self.buffer.fill(value);
                if !self.ask(Request::Write) {
                    bail!("the device cannot write");
                }
                self.expect(0..self.memory.pages(), value);
            }
            11 => {
                self.memory.renew()?;
                self.expect(0..self.memory.pages(), 0);
            }
            _ => {
                let advice = match self.random.below(2) {
                    0 => MmapAdvise::MADV_MERGEABLE,
                    _ => MmapAdvise::MADV_UNMERGEABLE,
                };
                self.memory.advise(advice)?;
            }
        }
        self.verify()
    }
}

fn storm_with_ksm(path: &Path) -> Result<()> {
    let ksm = |value: &str| {
        fs::write("/sys/kernel/mm/ksm/run", value).context("cannot write to KSM's switch")
    };
    ksm("1")?;
    storm(path)?;
    ksm("2")?;
    ksm("0")
}

/// The storm, without KSM.
pub(crate) fn storm(path: &Path) -> Result<()> {
    let device = Device::open(path)?;
    let (mut done, end) = os_pipe::pipe()?;
    let mut end = Some(end);
    let mut children = Vec::new();
    for seed in 1..=4 {
        children.push(Child::run(|| {
            let device = Device::open(path)?;
            let memory = match seed % 2 {
                0 => Mapping::huge()?,
                _ => Mapping::private(300)?,
            };
            let mut sea = Sea::new(&device, memory, seed);
            for round in 0..ROUNDS {
                sea.step()
                    .with_context(|| format!("process {seed}, round {round}"))?;
            }
            Ok(())
        })?);
    }
    // The other end is closed when all are done.
    end.take();
    // A byte, once something was evicted.
    let (mut evicted, tell) = os_pipe::pipe()?;
    let mut tell = Some(tell);
    let releases = Child::run(|| {
        let mut told = tell.take();
        loop {
            let evicted = device.evict()?;
            match told.take() {
                // Nothing is released before: what it brings home, nobody can evict.
                Some(tell) if evicted == 0 => told = Some(tell),
                Some(mut tell) => tell.write_all(&[1])?,
                None => device.release()?,
            }
        }
    })?;
    tell.take();
    done.read_to_end(&mut Vec::new())?;
    releases.kill()?;
    let status = releases.status()?;
    ensure!(
        matches!(status, WaitStatus::Signaled(_, Signal::SIGKILL, _)),
        "who evicts ended with {status:?}"
    );
    let mut bytes = Vec::new();
    evicted.read_to_end(&mut bytes)?;
    ensure!(!bytes.is_empty(), "nothing was evicted");
    children.into_iter().try_for_each(Child::wait)
}
