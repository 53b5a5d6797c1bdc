// SPDX-License-Identifier: GPL-2.0

//! Walks of `dpmem-ops`: says what is seen after each step, as `hosted/walk` does on a simulated kernel.

use std::{
    fs,
    io::{
        Read as _,
        Write as _, //
    },
    num::NonZeroUsize,
    path::Path,
    ptr::{
        with_exposed_provenance,
        with_exposed_provenance_mut,
        NonNull, //
    },
};

use anyhow::{
    bail,
    ensure,
    Context as _,
    Result, //
};
use dpmem_ops::{
    steps,
    walk,
    Op,
    Request,
    Walker,
    Who,
    World,
    HUGE,
    NR,
    PAGE_SIZE,
    ROOM,
    SEEDS,
    STEPS, //
};
use nix::{
    errno::Errno,
    sys::mman::{
        madvise,
        mmap_anonymous,
        mprotect,
        mremap,
        munmap,
        MRemapFlags,
        MapFlags,
        MmapAdvise,
        ProtFlags, //
    },
};
use os_pipe::{
    PipeReader,
    PipeWriter, //
};

use crate::{
    device::{
        self,
        Command,
        Device, //
    },
    mapping::page_size,
    process::Child,
};

/// Walks from all numbers that the tests use.
pub(crate) fn all(device: &Path) -> Result<bool> {
    ensure!(page_size() == PAGE_SIZE, "pages are of another size");
    let khugepaged = "/sys/kernel/mm/transparent_hugepage/khugepaged";
    // Nobody else makes huge pages of small ones meanwhile.
    for name in ["max_ptes_none", "max_ptes_shared", "max_ptes_swap"] {
        fs::write(format!("{khugepaged}/{name}"), "0")
            .with_context(|| format!("writing {name}"))?;
    }
    fs::write(format!("{khugepaged}/scan_sleep_millisecs"), "4000000")
        .context("writing scan_sleep_millisecs")?;
    for seed in SEEDS {
        // In a process of its own, whose memory is as if it had just begun.
        Child::run(|| one(device, seed))?.wait()?;
    }
    Ok(true)
}

fn one(device: &Path, seed: u64) -> Result<()> {
    let native = Native { device };
    map()?;
    let mut family = Family {
        parent: Walker::new(native, ROOM, ROOM + (1 << 30)),
        steps: steps(seed, STEPS),
        child: None,
        trouble: None,
    };
    walk(seed, STEPS, &mut family, |line| println!("walk {line}"));
    unmap()?;
    match family.trouble {
        Some(trouble) => Err(trouble),
        None => Ok(()),
    }
}

/// Memory for a walk, at `ROOM`.
fn map() -> Result<()> {
    let map = |first: usize, nr: usize, advice| {
        let size = NonZeroUsize::new(nr * PAGE_SIZE).context("no pages")?;
        let addr = NonZeroUsize::new(ROOM + first * PAGE_SIZE);
        let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_FIXED_NOREPLACE;
        // SAFETY: Nothing is replaced.
        let memory = unsafe { mmap_anonymous(addr, size, prot, flags) }.context("mmap")?;
        // SAFETY: What is there was mapped just now.
        unsafe { madvise(memory, size.get(), advice) }.context("madvise")
    };
    map(0, 2 * HUGE, MmapAdvise::MADV_HUGEPAGE)?;
    map(2 * HUGE, NR - 2 * HUGE, MmapAdvise::MADV_NOHUGEPAGE)
}

/// Takes away all that a walk has.
fn unmap() -> Result<()> {
    let memory = NonNull::new(with_exposed_provenance_mut(ROOM)).context("no memory")?;
    // SAFETY: From there on there is nothing but what a walk has, which is not used any more.
    unsafe { munmap(memory, 2 << 30) }.context("munmap")
}

/// This process.
#[derive(Clone, Copy)]
struct Native<'a> {
    device: &'a Path,
}

/// An error as walks have it.
fn errno(errno: Errno) -> dpmem_ops::Errno {
    dpmem_ops::Errno(errno as i32)
}

fn part(addr: usize) -> std::result::Result<NonNull<std::ffi::c_void>, dpmem_ops::Errno> {
    NonNull::new(with_exposed_provenance_mut(addr)).ok_or_else(|| errno(Errno::EFAULT))
}

type Done<T> = std::result::Result<T, dpmem_ops::Errno>;

impl dpmem_ops::Process for Native<'_> {
    fn write(&mut self, addr: usize, bytes: &[u8]) -> Done<()> {
        let to = with_exposed_provenance_mut::<u8>(addr);
        // SAFETY: The walk has this memory, can write to it, and has no reference to it.
        unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(())
    }

    fn read(&mut self, addr: usize, bytes: &mut [u8]) -> Done<()> {
        let from = with_exposed_provenance::<u8>(addr);
        // SAFETY: As above.
        unsafe { from.copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }

    fn device(
        &mut self,
        request: Request,
        addr: usize,
        nr: usize,
        bytes: &mut [u8],
    ) -> Done<usize> {
        let device = Device::open(self.device).map_err(|_| errno(Errno::ENODEV))?;
        let request = match request {
            Request::Read => device::Request::Read,
            Request::Write => device::Request::Write,
            Request::ToDevice => device::Request::MigrateToDevice,
            Request::ToSystem => device::Request::MigrateToRam,
            Request::Snapshot => device::Request::Snapshot,
            Request::Exclusive => device::Request::Exclusive,
            Request::Evict => device::Request::Evict,
        };
        let mut command = Command {
            addr: addr as u64,
            ptr: bytes.as_mut_ptr().addr() as u64,
            npages: nr as u64,
            ..Command::default()
        };
        device.raw(request, &mut command).map_err(errno)?;
        Ok(usize::try_from(command.cpages).unwrap_or(usize::MAX))
    }

    fn protect(&mut self, addr: usize, nr: usize, write: bool) -> Done<()> {
        let prot = match write {
            true => ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
            false => ProtFlags::PROT_READ,
        };
        // SAFETY: The walk has this memory, and no reference to it.
        unsafe { mprotect(part(addr)?, nr * PAGE_SIZE, prot) }.map_err(errno)
    }

    fn remap(&mut self, addr: usize, nr: usize, to: usize) -> Done<()> {
        let flags = MRemapFlags::MREMAP_MAYMOVE | MRemapFlags::MREMAP_FIXED;
        let size = nr * PAGE_SIZE;
        // SAFETY: As above, and there is nothing where it goes to.
        unsafe { mremap(part(addr)?, size, size, flags, Some(part(to)?)) }
            .map(|_| ())
            .map_err(errno)
    }

    fn drop_pages(&mut self, addr: usize, nr: usize) -> Done<()> {
        // SAFETY: As above.
        unsafe { madvise(part(addr)?, nr * PAGE_SIZE, MmapAdvise::MADV_DONTNEED) }.map_err(errno)
    }

    fn want_huge(&mut self, addr: usize, nr: usize) -> Done<()> {
        // SAFETY: As above.
        unsafe { madvise(part(addr)?, nr * PAGE_SIZE, MmapAdvise::MADV_HUGEPAGE) }.map_err(errno)
    }
}

/// Instead of a step: the child is to say what it sees.
const STATE: u32 = u32::MAX;

/// The child, which does what it is told.
struct Running {
    child: Child,
    orders: PipeWriter,
    answers: PipeReader,
}

impl Running {
    /// Has the child take a step, or say what it sees.
    fn order(&mut self, order: u32) -> Result<String> {
        self.orders.write_all(&order.to_ne_bytes())?;
        let mut len = [0; size_of::<u32>()];
        self.answers.read_exact(&mut len)?;
        let mut answer = vec![0; u32::from_ne_bytes(len) as usize];
        self.answers.read_exact(&mut answer)?;
        Ok(String::from_utf8(answer)?)
    }
}

/// This process, and its child, if it has one.
struct Family<'a> {
    parent: Walker<Native<'a>>,
    steps: Vec<dpmem_ops::Step>,
    child: Option<Running>,
    trouble: Option<anyhow::Error>,
}

impl Family<'_> {
    fn order(&mut self, order: u32) -> String {
        let said = match &mut self.child {
            Some(child) => child.order(order),
            None => Err(anyhow::anyhow!("there is no child")),
        };
        self.note(said.context("the child"))
    }

    fn note(&mut self, said: Result<String>) -> String {
        said.unwrap_or_else(|err| {
            let said = format!("{err:#}");
            self.trouble.get_or_insert(err);
            said
        })
    }

    fn fork(&mut self) -> Result<()> {
        let (mut to, orders) = os_pipe::pipe()?;
        let (answers, mut from) = os_pipe::pipe()?;
        let mut ends = Some((orders, answers));
        let mut walker = self.parent.clone();
        let steps = self.steps.clone();
        let child = Child::run(|| {
            ends.take();
            let mut order = [0; size_of::<u32>()];
            // Until the parent closes its end.
            while to.read_exact(&mut order).is_ok() {
                let order = u32::from_ne_bytes(order);
                let said = match steps.get(order as usize) {
                    Some(step) => walker.act(step.op),
                    None if order == STATE => walker.state(),
                    None => bail!("there is no step {order}"),
                };
                from.write_all(&u32::try_from(said.len())?.to_ne_bytes())?;
                from.write_all(said.as_bytes())?;
            }
            Ok(())
        })?;
        let (orders, answers) = ends.take().context("the ends are gone")?;
        self.child = Some(Running {
            child,
            orders,
            answers,
        });
        Ok(())
    }
}

impl World for Family<'_> {
    fn act(&mut self, who: Who, number: usize, op: Op) -> String {
        match who {
            Who::Parent => self.parent.act(op),
            Who::Child => self.order(number as u32),
        }
    }

    fn state(&mut self, who: Who) -> String {
        match who {
            Who::Parent => self.parent.state(),
            Who::Child => self.order(STATE),
        }
    }

    fn fork(&mut self) {
        let forked = Family::fork(self).map(|()| String::new());
        self.note(forked);
    }

    fn exit(&mut self) {
        let Some(Running { child, orders, .. }) = self.child.take() else {
            return;
        };
        drop(orders);
        let ended = child.wait().map(|()| String::new());
        self.note(ended);
    }
}
