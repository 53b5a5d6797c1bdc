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
    path::Path,
    thread, //
};

use anyhow::{
    bail,
    ensure,
    Context as _,
    Result, //
};
use nix::{
    errno::Errno,
    sys::mman::{
        MmapAdvise,
        ProtFlags, //
    }, //
};

use crate::{
    debugfs::Counters,
    failures::for_each_failure,
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

/// On a machine with so much memory that the device does not reach all of it.
pub(crate) const NOT_REACHING: &[(&str, Scenario)] = &[("edu_copies_nothing", edu_copies_nothing)];

/// Behind an IOMMU, where it does.
pub(crate) const REACHING: &[(&str, Scenario)] = &[
    (
        "edu_copies_memory_where_it_is",
        edu_copies_memory_where_it_is,
    ),
    ("edu_copies_what_comes_home", edu_copies_what_comes_home),
    ("edu_copies_for_a_parent", edu_copies_for_a_parent),
    ("edu_copies_what_it_may", edu_copies_what_it_may),
    (
        "edu_copies_while_memory_changes",
        edu_copies_while_memory_changes,
    ),
    ("edu_copied_and_unbound", edu_copied_and_unbound),
];

/// For a kernel whose allocations can fail.
pub(crate) const FAILING: &[(&str, Scenario)] = &[
    ("edu_failing_to_open", edu_failing_to_open),
    ("edu_failing_to_migrate", edu_failing_to_migrate),
    ("edu_failing_to_come_home", edu_failing_to_come_home),
    ("edu_failing_to_fault", edu_failing_to_fault),
    ("edu_failing_to_bind", edu_failing_to_bind),
];

/// Of these, the one for a device that reaches all memory.
pub(crate) const FAILING_REACHING: &[(&str, Scenario)] =
    &[("edu_failing_to_copy", edu_failing_to_copy)];

/// Where a driver of PCI is told to let a device go, or to take it.
const DRIVER: &str = "/sys/bus/pci/drivers/edu";

mod ioctl {
    #![allow(missing_docs)]
    use nix::ioctl_write_ptr;

    ioctl_write_ptr!(to_device, b'e', 0, [u64; 2]);
    ioctl_write_ptr!(to_ram, b'e', 1, [u64; 2]);
    ioctl_write_ptr!(copy, b'e', 2, [u64; 2]);
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

    /// The device copies the page at one address to that at another.
    fn copy(&self, from: &Mapping, to: &Mapping) -> Result<(), Errno> {
        self.raw(ioctl::copy, [from.addr() as u64, to.addr() as u64])
            .map(drop)
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

fn edu_failing_to_open(path: &Path) -> Result<()> {
    for_each_failure(2, |injector| {
        let _ = injector.run(|| Edu::open(path))?;
        Edu::open(path).map(drop)
    })
}

fn edu_failing_to_migrate(path: &Path) -> Result<()> {
    let edu = Edu::open(path)?;
    for_each_failure(2, |injector| {
        let memory = page(40)?;
        injector.ask(|| edu.ask(ioctl::to_device, &memory).map(drop))?;
        check(memory.bytes(), |page| pattern(page, 40))?;
        edu.migrate(&memory)?;
        check(memory.bytes(), |page| pattern(page, 40))
    })
}

fn edu_failing_to_come_home(path: &Path) -> Result<()> {
    let edu = Edu::open(path)?;
    for_each_failure(2, |injector| {
        let memory = page(41)?;
        edu.migrate(&memory)?;
        injector.ask(|| edu.ask(ioctl::to_ram, &memory).map(drop))?;
        check(memory.bytes(), |page| pattern(page, 41))
    })
}

fn edu_failing_to_fault(path: &Path) -> Result<()> {
    let edu = Edu::open(path)?;
    for_each_failure(2, |injector| {
        let memory = page(42)?;
        edu.migrate(&memory)?;
        injector.touch(&memory)?;
        check(memory.bytes(), |page| pattern(page, 42))
    })
}

/// All that binding the driver has done is undone, and the next attempt works.
fn edu_failing_to_bind(path: &Path) -> Result<()> {
    let name = name()?;
    for_each_failure(10, |injector| {
        unbind(&name)?;
        if injector.run(|| bind(&name))?.is_err() {
            bind(&name)?;
        }
        Edu::open(path)?.migrate(&page(43)?)
    })
}

fn edu_failing_to_copy(path: &Path) -> Result<()> {
    for_each_failure(5, |injector| {
        // A mirror that knows nothing yet.
        let edu = Edu::open(path)?;
        let (from, to) = (page(44)?, page(45)?);
        injector.ask(|| edu.copy(&from, &to))?;
        edu.copy(&from, &to)?;
        check(to.bytes(), |page| pattern(page, 44))?;
        check(from.bytes(), |page| pattern(page, 44))
    })
}

fn edu_copies_nothing(path: &Path) -> Result<()> {
    let edu = Edu::open(path)?;
    let memory = page(20)?;
    let found = edu.copy(&memory, &memory);
    ensure!(found == Err(Errno::EOPNOTSUPP), "it copied: {found:?}");
    check(memory.bytes(), |page| pattern(page, 20))
}

fn edu_copies_memory_where_it_is(path: &Path) -> Result<()> {
    let edu = Edu::open(path)?;
    let (mut from, to) = (page(21)?, page(22)?);
    edu.copy(&from, &to)?;
    check(to.bytes(), |page| pattern(page, 21))?;
    // What it knows already, with something else in it.
    fill(from.bytes_mut(), 23);
    edu.copy(&from, &to)?;
    check(to.bytes(), |page| pattern(page, 23))?;
    // Another page at the same address.
    from.advise(MmapAdvise::MADV_DONTNEED)?;
    edu.copy(&from, &to)?;
    check(to.bytes(), |_| 0)?;
    // What nobody has written to yet, more pages than it keeps, and one to itself.
    fill(from.bytes_mut(), 24);
    for _ in 0..6 {
        let fresh = Mapping::private(1)?;
        edu.copy(&from, &fresh)?;
        edu.copy(&fresh, &fresh)?;
        check(fresh.bytes(), |page| pattern(page, 24))?;
    }
    Ok(())
}

fn edu_copies_what_comes_home(path: &Path) -> Result<()> {
    let edu = Edu::open(path)?;
    let (mut from, to) = (page(25)?, page(26)?);
    edu.copy(&to, &from)?;
    fill(from.bytes_mut(), 27);
    edu.migrate(&from)?;
    edu.copy(&from, &to)?;
    expect(&from, in_ram(1))?;
    check(to.bytes(), |page| pattern(page, 27))?;
    edu.migrate(&to)?;
    edu.copy(&from, &to)?;
    expect(&to, in_ram(1))?;
    // Its only page is somebody's.
    let other = page(28)?;
    edu.migrate(&other)?;
    let found = edu.copy(&from, &to);
    ensure!(found == Err(Errno::EBUSY), "it copied: {found:?}");
    check(other.bytes(), |page| pattern(page, 28))
}

fn edu_copies_for_a_parent(path: &Path) -> Result<()> {
    let edu = Edu::open(path)?;
    let (from, to) = (page(29)?, page(30)?);
    edu.copy(&to, &to)?;
    let (mut ready, mut tell) = os_pipe::pipe()?;
    let child = Child::run(|| {
        // Until the parent has had its copy.
        ready.read_exact(&mut [0])?;
        check(to.bytes(), |page| pattern(page, 30))?;
        // Its own memory is no business of the file's.
        let found = edu.copy(&from, &to);
        ensure!(found == Err(Errno::EPERM), "for a child: {found:?}");
        Ok(())
    })?;
    let copied = edu.copy(&from, &to);
    tell.write_all(&[0])?;
    child.wait().context("the parent's copy is in the child")?;
    copied?;
    check(to.bytes(), |page| pattern(page, 29))
}

fn edu_copies_what_it_may(path: &Path) -> Result<()> {
    let edu = Edu::open(path)?;
    let (from, to) = (page(31)?, page(32)?);
    edu.copy(&from, &to)?;
    to.protect(ProtFlags::PROT_READ)?;
    let found = edu.copy(&from, &to);
    ensure!(
        found == Err(Errno::EPERM),
        "to what is read-only: {found:?}"
    );
    edu.copy(&to, &from)?;
    to.protect(ProtFlags::PROT_NONE)?;
    let found = edu.copy(&to, &from);
    ensure!(
        found == Err(Errno::EFAULT),
        "what nobody may read: {found:?}"
    );
    let (start, gone) = (from.addr() as u64, Mapping::private(1)?.addr() as u64);
    for (pages, errno) in [
        ([gone, start], Errno::EFAULT),
        ([start, gone], Errno::EFAULT),
        ([start + 1, start], Errno::EINVAL),
        ([start, start + 8], Errno::EINVAL),
    ] {
        let found = edu.raw(ioctl::copy, pages);
        ensure!(found == Err(errno), "{pages:x?}: {found:?}, not {errno}");
    }
    check(from.bytes(), |page| pattern(page, 31))
}

/// How often something is copied while it changes.
const COPIES: usize = 10;

fn edu_copies_while_memory_changes(path: &Path) -> Result<()> {
    let edu = Edu::open(path)?;
    let (mut from, to) = (page(33)?, page(34)?);
    let pages = [from.addr() as u64, to.addr() as u64];
    thread::scope(|scope| {
        let copies = scope.spawn(|| {
            let mut copied = 0;
            while copied < COPIES {
                match edu.raw(ioctl::copy, pages) {
                    Ok(_) => copied += 1,
                    // It has gone to the device again.
                    Err(Errno::EBUSY) => {}
                    Err(err) => bail!("after {copied} copies: {err}"),
                }
            }
            Ok(())
        });
        while !copies.is_finished() {
            from.protect(ProtFlags::PROT_READ)?;
            check(from.bytes(), |page| pattern(page, 33))?;
            from.protect(ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)?;
            edu.ask(ioctl::to_device, &from)?;
        }
        copies
            .join()
            .unwrap_or_else(|_| bail!("the other thread panicked"))
    })?;
    check(to.bytes(), |page| pattern(page, 33))?;
    // It is the process's own page still.
    fill(from.bytes_mut(), 35);
    edu.copy(&from, &to)?;
    check(to.bytes(), |page| pattern(page, 35))
}

fn edu_copied_and_unbound(path: &Path) -> Result<()> {
    let name = name()?;
    let edu = Edu::open(path)?;
    let (from, to) = (page(36)?, page(37)?);
    edu.copy(&from, &to)?;
    unbind(&name)?;
    let found = edu.copy(&from, &to);
    ensure!(found == Err(Errno::ENODEV), "without a driver: {found:?}");
    check(to.bytes(), |page| pattern(page, 36))?;
    bind(&name)?;
    let found = edu.copy(&from, &to);
    ensure!(found == Err(Errno::ENODEV), "bound again: {found:?}");
    Edu::open(path)?.copy(&to, &from)?;
    Ok(())
}
