// SPDX-License-Identifier: GPL-2.0

//! Scenarios for `samples/edu`, whose device is QEMU's: it has one page of memory, copies by DMA,
//! and takes a tenth of a second for it.

use std::{
    fs::{
        self,
        File, //
    },
    io::{
        Read as _,
        Write as _, //
    },
    os::fd::AsRawFd,
    path::Path, //
};

use anyhow::{
    bail,
    ensure,
    Context as _,
    Result, //
};
use nix::errno::Errno;

use crate::{
    debugfs::Counters,
    mapping::{
        page_size,
        Mapping, //
    },
    pagemap::Count,
    process::Child,
    scenarios::{
        check,
        expect,
        fill,
        in_ram,
        on_device,
        pattern,
        Scenario, //
    }, //
};

/// All of them, with their names.
pub(crate) const ALL: &[(&str, Scenario)] = &[
    ("edu_there_and_back", edu_there_and_back),
    ("edu_home_on_request", edu_home_on_request),
    ("edu_a_hole_is_zeroes", edu_a_hole_is_zeroes),
    ("edu_no_room", edu_no_room),
    ("edu_a_child_writes", edu_a_child_writes),
    ("edu_exit_with_memory_there", edu_exit_with_memory_there),
    ("edu_bad_requests", edu_bad_requests),
    ("edu_unbound", edu_unbound),
    ("edu_unbound_by_a_dozen", edu_unbound_by_a_dozen),
];

/// Where a driver of PCI is told to let a device go, or to take it.
const DRIVER: &str = "/sys/bus/pci/drivers/edu";

mod ioctl {
    #![allow(missing_docs)]
    use nix::ioctl_write_ptr;

    ioctl_write_ptr!(to_device, b'e', 0, [u64; 2]);
    ioctl_write_ptr!(to_ram, b'e', 1, [u64; 2]);
    ioctl_write_ptr!(unknown, b'e', 9, [u64; 2]);
}

/// An ioctl, which says how many pages have moved.
type Request = unsafe fn(i32, *const [u64; 2]) -> nix::Result<i32>;

/// An open device.
struct Edu(File);

impl Edu {
    fn open(path: &Path) -> Result<Self> {
        let file = File::open(path);
        Ok(Self(file.with_context(|| {
            format!("cannot open {}", path.display())
        })?))
    }

    fn raw(&self, request: Request, range: [u64; 2]) -> Result<usize, Errno> {
        // SAFETY: The file is open, and the range is two numbers, as the device expects it.
        let moved = unsafe { request(self.0.as_raw_fd(), &range) }?;
        usize::try_from(moved).map_err(|_| Errno::EOVERFLOW)
    }

    fn ask(&self, request: Request, memory: &Mapping) -> Result<usize, Errno> {
        self.raw(request, [memory.addr() as u64, memory.pages() as u64])
    }

    /// Moves `memory`, which is one page, to the device.
    fn migrate(&self, memory: &Mapping) -> Result<()> {
        let moved = self.ask(ioctl::to_device, memory)?;
        ensure!(moved == 1, "{moved} pages have moved");
        expect(memory, on_device(1))
    }
}

/// A page with pattern `seed`.
fn page(seed: usize) -> Result<Mapping> {
    let mut memory = Mapping::private(1)?;
    fill(memory.bytes_mut(), seed);
    Ok(memory)
}

fn edu_there_and_back(path: &Path) -> Result<()> {
    let edu = Edu::open(path)?;
    let counters = Counters::only()?;
    let before = counters.read()?;
    for seed in 0..3 {
        let memory = page(seed)?;
        edu.migrate(&memory)?;
        check(memory.bytes(), |page| pattern(page, seed))?;
        expect(&memory, in_ram(1))?;
    }
    let after = counters.read()?;
    let new =
        |name: &str| after.get(name).copied().unwrap_or(0) - before.get(name).copied().unwrap_or(0);
    ensure!(new("faults") == 3, "{after:?} after {before:?}");
    Ok(())
}

fn edu_home_on_request(path: &Path) -> Result<()> {
    let edu = Edu::open(path)?;
    let memory = page(4)?;
    edu.migrate(&memory)?;
    let moved = edu.ask(ioctl::to_ram, &memory)?;
    ensure!(moved == 1, "{moved} pages came home");
    expect(&memory, in_ram(1))?;
    check(memory.bytes(), |page| pattern(page, 4))
}

fn edu_a_hole_is_zeroes(path: &Path) -> Result<()> {
    let edu = Edu::open(path)?;
    // So that something else was there before.
    edu.migrate(&page(5)?)?;
    let memory = Mapping::private(1)?;
    edu.migrate(&memory)?;
    check(memory.bytes(), |_| 0)
}

fn edu_no_room(path: &Path) -> Result<()> {
    let edu = Edu::open(path)?;
    let mut memory = Mapping::private(4)?;
    fill(memory.bytes_mut(), 6);
    let moved = edu.ask(ioctl::to_device, &memory)?;
    ensure!(moved == 1, "{moved} pages have moved");
    expect(
        &memory,
        Count {
            ram: 3,
            device: 1,
            none: 0,
        },
    )?;
    let moved = edu.ask(ioctl::to_device, &page(7)?)?;
    ensure!(
        moved == 0,
        "{moved} pages have moved to where there is none"
    );
    check(memory.bytes(), |page| pattern(page, 6))
}

fn edu_a_child_writes(path: &Path) -> Result<()> {
    let edu = Edu::open(path)?;
    let mut memory = page(8)?;
    edu.migrate(&memory)?;
    Child::run(|| {
        check(memory.bytes(), |page| pattern(page, 8))?;
        fill(memory.bytes_mut(), 9);
        check(memory.bytes(), |page| pattern(page, 9))
    })?
    .wait()?;
    check(memory.bytes(), |page| pattern(page, 8)).context("the child's writes are in the parent")
}

fn edu_exit_with_memory_there(path: &Path) -> Result<()> {
    Child::run(|| {
        let memory = page(10)?;
        Edu::open(path)?.migrate(&memory)?;
        // Not unmapped, but by the kernel.
        std::mem::forget(memory);
        Ok(())
    })?
    .wait()?;
    // The page is free again.
    Edu::open(path)?.migrate(&page(11)?)
}

fn edu_bad_requests(path: &Path) -> Result<()> {
    let edu = Edu::open(path)?;
    let memory = page(12)?;
    let start = memory.addr() as u64;
    let hole = Mapping::private(1)?.addr() as u64;
    for (range, errno) in [
        ([start, 0], Errno::EINVAL),
        ([start + 1, 1], Errno::EINVAL),
        ([start, u64::MAX / page_size() as u64], Errno::EINVAL),
        ([hole, 1], Errno::EINVAL),
    ] {
        for request in [ioctl::to_device as Request, ioctl::to_ram] {
            let found = edu.raw(request, range);
            ensure!(found == Err(errno), "{range:x?}: {found:?}, not {errno}");
        }
    }
    let found = edu.ask(ioctl::unknown, &memory);
    ensure!(found == Err(Errno::ENOTTY), "an unknown request: {found:?}");
    check(memory.bytes(), |page| pattern(page, 12))
}

/// The name of the device, as sysfs has it.
fn name() -> Result<String> {
    for entry in fs::read_dir(DRIVER).with_context(|| format!("cannot read {DRIVER}"))? {
        let name = entry?.file_name();
        if let Some(name) = name.to_str().filter(|name| name.contains(':')) {
            return Ok(name.to_owned());
        }
    }
    bail!("the driver has no device");
}

fn unbind(name: &str) -> Result<()> {
    fs::write(format!("{DRIVER}/unbind"), name).context("unbinding")
}

fn bind(name: &str) -> Result<()> {
    fs::write(format!("{DRIVER}/bind"), name).context("binding")
}

fn edu_unbound(path: &Path) -> Result<()> {
    let name = name()?;
    let edu = Edu::open(path)?;
    let memory = page(13)?;
    edu.migrate(&memory)?;
    unbind(&name)?;
    // The page is at home already, and not because somebody touches it.
    expect(&memory, in_ram(1))?;
    let found = edu.ask(ioctl::to_device, &memory);
    ensure!(found == Err(Errno::ENODEV), "without a driver: {found:?}");
    ensure!(Edu::open(path).is_err(), "the device can still be opened");
    check(memory.bytes(), |page| pattern(page, 13))?;
    bind(&name)?;
    // What is open belongs to the device that there was.
    let found = edu.ask(ioctl::to_device, &memory);
    ensure!(found == Err(Errno::ENODEV), "bound again: {found:?}");
    Edu::open(path)?.migrate(&memory)?;
    check(memory.bytes(), |page| pattern(page, 13))
}

/// How many processes use the device while its driver is taken away.
const USERS: usize = 12;

fn edu_unbound_by_a_dozen(path: &Path) -> Result<()> {
    let name = name()?;
    let (mut ready, tell) = os_pipe::pipe()?;
    let users = (0..USERS).map(|user| {
        let tell = tell.try_clone()?;
        Child::run(|| use_until_gone(path, user, tell))
    });
    let users = users.collect::<Result<Vec<_>>>()?;
    drop(tell);
    // Each has asked for something.
    ready
        .read_exact(&mut [0; USERS])
        .context("a process ended early")?;
    unbind(&name)?;
    users.into_iter().try_for_each(Child::wait)?;
    bind(&name)?;
    edu_there_and_back(path)
}

/// Moves memory and touches it until the device is gone.
fn use_until_gone(path: &Path, user: usize, mut tell: os_pipe::PipeWriter) -> Result<()> {
    let edu = Edu::open(path)?;
    let mut memory = Mapping::private(2)?;
    let mut moved = Ok(0);
    for round in 0.. {
        fill(memory.bytes_mut(), user + round);
        moved = edu.ask(ioctl::to_device, &memory);
        if round == 0 {
            tell.write_all(&[0])?;
        }
        check(memory.bytes(), |page| pattern(page, user + round))?;
        if moved.is_err() {
            break;
        }
    }
    ensure!(moved == Err(Errno::ENODEV), "it ended with {moved:?}");
    Ok(())
}
