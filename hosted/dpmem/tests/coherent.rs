// SPDX-License-Identifier: GPL-2.0

//! Devices of one group whose memory CPUs can reach.

use bindings::sim::{coherent_memory, run, Mapped, Process, PAGE_SIZE};
use dpmem::{
    Access, Batch, BitmapOffsets, CopyEngine, DevPagemap, DevPagemapOps, HmmBuffer, Location,
    MigrateBuffer, MigrateVma, Mirror, NrPages, NumaNode, PageOffset, PeerGroup, PhysRange,
    Transfer, UserAddr, UserRange, Visited,
};
use kernel::{prelude::*, str::CString, sync::Arc};
use std::vec::Vec;

/// How many pages a device has.
const SIZE: usize = 512;

/// How many of them are used.
const NR: usize = 4;

// SAFETY: What is built in has no module.
static THIS_MODULE: ThisModule = unsafe { ThisModule::from_ptr(core::ptr::null_mut()) };

/// Lets a CPU copy.
struct Cpu;

impl CopyEngine for Cpu {
    type Fence<'a> = ();
    type Data = ();

    fn submit<'a>(&'a self, batch: &mut Batch<'a, Self>) -> Result {
        for transfer in batch {
            let (src, dst) = match transfer {
                Transfer::ToDevice { src, mut dst } => {
                    let dst = dst.mapped_mut().ok_or(EINVAL)?;
                    for (src, dst) in src.pages().zip(dst.pages()) {
                        dst.copy_from(&src);
                    }
                    continue;
                }
                Transfer::ToRam { src, dst } => (src.mapped().ok_or(EINVAL)?, dst),
                Transfer::Zero { .. } | Transfer::FromPeer { .. } => return Err(EINVAL),
            };
            for (src, dst) in src.pages().zip(dst.pages()) {
                dst.copy_from(&src);
            }
        }
        Ok(())
    }
}

#[derive(DevPagemapOps)]
#[pin_data]
struct Vram {
    #[offsets]
    #[pin]
    offsets: BitmapOffsets,
    #[engine]
    engine: Cpu,
}

type Pagemap = DevPagemap<Vram>;

/// A device of `group`.
fn device(group: &Arc<PeerGroup<Vram>>) -> Result<Arc<Pagemap>> {
    let size = NrPages::new(SIZE);
    let range = PhysRange::new(coherent_memory(SIZE), size)?;
    let region = range.request(CString::try_from(c"coherent")?)?;
    let vram = try_pin_init!(Vram {
        offsets <- BitmapOffsets::new(size),
        engine: Cpu,
    }? Error);
    let node = NumaNode::LOCAL;
    Arc::pin_init(
        DevPagemap::coherent_in(group.clone(), c"coherent", region, node, vram),
        GFP_KERNEL,
    )
}

/// Moves memory of the running process.
fn migrate(pagemap: &Pagemap, range: UserRange, there: bool) -> Result<usize> {
    let mut buffer = MigrateBuffer::new(range.nr_pages())?;
    let current = current!();
    let mmap = current.mm().ok_or(EINVAL)?.mmap_read_lock();
    let pages = match there {
        true => MigrateVma::to_device(pagemap, &mmap, range, &mut buffer)?,
        false => MigrateVma::to_ram(pagemap, &mmap, range, &mut buffer)?,
    };
    Ok(pages.migrate()?.get())
}

/// Which of the pages of `range` a device finds in its memory, as far as it knows of them.
fn in_its_memory(mirror: &Mirror, range: UserRange, device: &Pagemap) -> (Visited, Vec<bool>) {
    let mut seen = Vec::new();
    let visited = mirror.read(range, Some(device), |_, location| {
        let (page, its) = match location {
            Location::Ram(page) => (page, false),
            Location::Coherent(_, page) => (page, true),
            Location::Device(..) => return Err(EIO),
        };
        let mut bytes = [0; PAGE_SIZE];
        page.read(&mut bytes)?;
        assert!(bytes == [7; PAGE_SIZE]);
        seen.push(its);
        Ok(())
    });
    (visited.unwrap(), seen)
}

fn peers() -> Result {
    let group = PeerGroup::new()?;
    let (one, other) = (device(&group)?, device(&group)?);
    let process = Process::new();
    let memory = process.mmap(NR * PAGE_SIZE);
    process.write(memory, &[7; NR * PAGE_SIZE]).unwrap();
    let range = UserRange::new(UserAddr::new(memory)?, NrPages::new(NR))?;
    let there = || {
        let pages = (0..NR).map(|page| process.mapped(memory + page * PAGE_SIZE));
        pages
            .filter(|mapped| matches!(mapped, Mapped::Coherent(..)))
            .count()
    };
    process.run(|| {
        assert_eq!(migrate(&one, range, true)?, NR);
        assert_eq!(there(), NR);
        // Everybody can reach them, and they are one's.
        assert_eq!(migrate(&other, range, true)?, 0);
        assert_eq!(migrate(&other, range, false)?, 0);
        assert_eq!(other.evict(PageOffset::ZERO, other.nr_pages())?.get(), 0);
        assert_eq!(there(), NR);

        let current = current!();
        let mm = current.mm().ok_or(EINVAL)?;
        let mirror = KBox::pin_init(Mirror::new(mm, &THIS_MODULE), GFP_KERNEL)?;
        let mut buffer = HmmBuffer::new(range.nr_pages())?;
        mirror.fault(range, Access::Read, Some(&*one), &mut buffer)?;
        assert!(in_its_memory(&mirror, range, &one) == (Visited::All, vec![true; NR]));
        // An offset would be one of its own memory.
        let nothing = Visited::Missing(range.start());
        assert!(in_its_memory(&mirror, range, &other) == (nothing, vec![]));
        mirror.fault(range, Access::Read, Some(&*other), &mut buffer)?;
        assert!(in_its_memory(&mirror, range, &other) == (Visited::All, vec![false; NR]));
        drop(mirror);

        assert_eq!(migrate(&one, range, false)?, NR);
        assert_eq!(there(), 0);
        Ok(())
    })
}

#[test]
fn peers_whose_memory_everybody_can_reach() {
    run(|| peers().unwrap());
}
