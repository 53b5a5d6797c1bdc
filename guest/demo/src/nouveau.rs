// SPDX-License-Identifier: GPL-2.0

//! Scenarios for nouveau's device memory, on a card that is not there: `drivers/nouveau-rs/test`.
//! They are about what nouveau's code does, in C or in Rust, and what the layer under it does is
//! elsewhere.

use std::{
    fs::File,
    os::fd::AsRawFd,
    path::Path, //
};

use anyhow::{
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
    failures::{
        for_each_failure,
        without_huge_pages, //
    },
    mapping::{
        page_size,
        Mapping, //
    },
    pagemap::count,
    process::{
        touch,
        Child, //
    },
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
    ("there_and_back", there_and_back),
    ("huge_there_and_back", huge_there_and_back),
    ("a_hole_is_zeroes", a_hole_is_zeroes),
    ("a_huge_hole_is_zeroes", a_huge_hole_is_zeroes),
    ("the_gpu_writes", the_gpu_writes),
    (
        "a_translation_does_not_outlive_its_page",
        a_translation_does_not_outlive_its_page,
    ),
    ("a_tail_of_a_cut_huge_page", a_tail_of_a_cut_huge_page),
    ("a_child_writes", a_child_writes),
    ("memory_outlives_the_file", memory_outlives_the_file),
    ("memory_is_given_back", memory_is_given_back),
    ("every_page_is_used", every_page_is_used),
    ("mapped_as_the_gpu_can", mapped_as_the_gpu_can),
    ("the_channel_is_locked", the_channel_is_locked),
    ("touched_while_somebody_looks", touched_while_somebody_looks),
    ("small_pages_taken_away", small_pages_taken_away),
    ("no_room", no_room),
    ("no_room_for_a_huge_page", no_room_for_a_huge_page),
    ("no_room_for_commands", no_room_for_commands),
    ("no_fence", no_fence),
    ("no_fence_on_the_way_home", no_fence_on_the_way_home),
    ("a_copy_fails", a_copy_fails),
    ("a_copy_home_fails", a_copy_home_fails),
    ("a_copy_takes_its_time", a_copy_takes_its_time),
    ("asleep", asleep),
    ("asleep_while_somebody_looks", asleep_while_somebody_looks),
    ("asleep_during_a_fault", asleep_during_a_fault),
    (
        "asleep_while_nothing_can_be_pushed",
        asleep_while_nothing_can_be_pushed,
    ),
    (
        "asleep_and_no_place_afterwards",
        asleep_and_no_place_afterwards,
    ),
    ("asleep_while_a_copy_fails", asleep_while_a_copy_fails),
    ("taken_away", taken_away),
    (
        "taken_away_while_a_copy_fails",
        taken_away_while_a_copy_fails,
    ),
    ("taken_away_during_a_fault", taken_away_during_a_fault),
    (
        "taken_away_during_a_migration",
        taken_away_during_a_migration,
    ),
    ("nothing_is_kept", nothing_is_kept),
    ("pulled_out", pulled_out),
    ("everybody_at_once", everybody_at_once),
];

/// Those for a kernel whose allocations can fail, with their names.
pub(crate) const FAILING: &[(&str, Scenario)] = &[
    ("no_huge_page_at_home", no_huge_page_at_home),
    ("no_huge_page_when_taken_away", no_huge_page_when_taken_away),
    ("failing_to_migrate", failing_to_migrate),
    ("failing_to_migrate_huge", failing_to_migrate_huge),
    ("failing_to_fault", failing_to_fault),
    ("failing_to_fault_huge", failing_to_fault_huge),
    ("failing_to_fall_asleep", failing_to_fall_asleep),
    ("failing_to_be_taken_away", failing_to_be_taken_away),
];

/// `uapi.h` of the test module.
#[repr(C)]
struct Range {
    addr: u64,
    len: u64,
    buffer: u64,
}

#[repr(C)]
struct Fail {
    what: u32,
    nth: u32,
}

#[repr(C)]
#[derive(Default)]
struct State {
    nr_bos: u64,
    nr_fences: u64,
    nr_jobs: u64,
    nr_failed: u64,
    nr_refused: u64,
    nr_bare: u64,
    nr_pinned: u64,
    nr_lost: u64,
}

mod ioctl {
    #![allow(missing_docs)]
    use super::{
        Fail,
        Range,
        State, //
    };
    use nix::{
        ioctl_none,
        ioctl_read,
        ioctl_write_ptr, //
    };

    ioctl_write_ptr!(migrate, b'N', 0, Range);
    ioctl_write_ptr!(read, b'N', 1, Range);
    ioctl_write_ptr!(write, b'N', 2, Range);
    ioctl_none!(suspend, b'N', 3);
    ioctl_none!(resume, b'N', 4);
    ioctl_none!(hold, b'N', 5);
    ioctl_none!(release, b'N', 6);
    ioctl_none!(await_job, b'N', 7);
    ioctl_write_ptr!(fail, b'N', 8, Fail);
    ioctl_none!(fini, b'N', 9);
    ioctl_none!(init, b'N', 10);
    ioctl_read!(state, b'N', 11, State);
    ioctl_none!(await_late, b'N', 12);
    ioctl_none!(pull_out, b'N', 13);
    ioctl_write_ptr!(look, b'N', 14, Range);
    ioctl_none!(look_away, b'N', 15);
    ioctl_none!(await_going, b'N', 16);
}

/// What goes wrong once.
#[derive(Clone, Copy)]
enum Failure {
    /// There is no memory for a buffer.
    New,
    /// A buffer finds no place again.
    Pin,
    /// There is no memory for a fence.
    Fence,
    /// The engine fails.
    Job,
    /// There is no room for commands.
    Room,
}

/// Each time.
const ALWAYS: u32 = u32::MAX;

/// An open card, and the address space of this process in it.
struct Card(File);

type Request = unsafe fn(i32) -> nix::Result<i32>;
type RangeRequest = unsafe fn(i32, *const Range) -> nix::Result<i32>;

impl Card {
    fn open(path: &Path) -> Result<Self> {
        let file = File::options().read(true).write(true).open(path);
        Ok(Self(file.with_context(|| {
            format!("cannot open {}", path.display())
        })?))
    }

    fn ask(&self, request: Request) -> Result<()> {
        // SAFETY: The file is open, and the request has no argument.
        unsafe { request(self.0.as_raw_fd()) }?;
        Ok(())
    }

    fn range(&self, request: RangeRequest, range: &Range) -> Result<(), Errno> {
        // SAFETY: The file is open, and the range as the card expects it. What its addresses mean
        // is checked by the kernel, and callers own the memory there.
        unsafe { request(self.0.as_raw_fd(), range) }?;
        Ok(())
    }

    fn try_migrate(&self, memory: &Mapping) -> Result<(), Errno> {
        let range = Range {
            addr: memory.addr() as u64,
            len: (memory.pages() * page_size()) as u64,
            buffer: 0,
        };
        self.range(ioctl::migrate, &range)
    }

    /// Moves `memory` to the card, all of it.
    fn migrate(&self, memory: &Mapping) -> Result<()> {
        self.try_migrate(memory).context("migrate")?;
        expect(memory, on_device(memory.pages()))
    }

    /// What the GPU finds in `memory`.
    fn read(&self, memory: &Mapping) -> Result<Vec<u8>> {
        let mut buffer = vec![0; memory.pages() * page_size()];
        let range = Range {
            addr: memory.addr() as u64,
            len: buffer.len() as u64,
            buffer: buffer.as_mut_ptr().addr() as u64,
        };
        self.range(ioctl::read, &range).context("the GPU reads")?;
        Ok(buffer)
    }

    /// Lets the GPU write pattern `seed`.
    fn write(&self, memory: &Mapping, seed: usize) -> Result<()> {
        let mut buffer = vec![0; memory.pages() * page_size()];
        fill(&mut buffer, seed);
        let range = Range {
            addr: memory.addr() as u64,
            len: buffer.len() as u64,
            buffer: buffer.as_ptr().addr() as u64,
        };
        self.range(ioctl::write, &range).context("the GPU writes")
    }

    /// Lets somebody look at the first page of `memory`, which stays where it is for as long.
    fn look(&self, memory: &Mapping) -> Result<()> {
        let range = Range {
            addr: memory.addr() as u64,
            len: page_size() as u64,
            buffer: 0,
        };
        self.range(ioctl::look, &range).context("look")
    }

    /// Lets something go wrong, the `nth` time from now; 0 is never, and [`ALWAYS`] each time.
    fn fail(&self, failure: Failure, nth: u32) -> Result<()> {
        let fail = Fail {
            what: failure as u32,
            nth,
        };
        // SAFETY: The file is open, and the argument as the card expects it.
        unsafe { ioctl::fail(self.0.as_raw_fd(), &fail) }?;
        Ok(())
    }

    fn state(&self) -> Result<State> {
        let mut state = State::default();
        // SAFETY: As above.
        unsafe { ioctl::state(self.0.as_raw_fd(), &mut state) }?;
        Ok(state)
    }
}

const PAGES: usize = 64;

fn small(seed: usize) -> Result<Mapping> {
    let mut memory = Mapping::private(PAGES)?;
    fill(memory.bytes_mut(), seed);
    Ok(memory)
}

fn huge(seed: usize) -> Result<Mapping> {
    let mut memory = Mapping::huge()?;
    fill(memory.bytes_mut(), seed);
    Ok(memory)
}

/// Checks that the process has pattern `seed`, and that the GPU then finds it as well.
fn is(card: &Card, memory: &Mapping, seed: usize) -> Result<()> {
    check(memory.bytes(), |page| pattern(page, seed)).context("the process")?;
    check(&card.read(memory)?, |page| pattern(page, seed)).context("the GPU")
}

fn there_and_back(path: &Path) -> Result<()> {
    let card = Card::open(path)?;
    let memory = small(1)?;
    let before = card.state()?.nr_jobs;
    card.migrate(&memory)?;
    check(&card.read(&memory)?, |page| pattern(page, 1)).context("the GPU")?;
    expect(&memory, on_device(PAGES))?;
    is(&card, &memory, 1)?;
    expect(&memory, in_ram(PAGES))?;
    let jobs = card.state()?.nr_jobs - before;
    ensure!(jobs >= 2 * PAGES as u64, "the engine had {jobs} jobs");
    Ok(())
}

fn huge_there_and_back(path: &Path) -> Result<()> {
    let card = Card::open(path)?;
    let memory = huge(2)?;
    let before = card.state()?.nr_jobs;
    card.migrate(&memory)?;
    let jobs = card.state()?.nr_jobs - before;
    ensure!(jobs == 1, "a huge page was copied in {jobs} jobs");
    check(&card.read(&memory)?, |page| pattern(page, 2)).context("the GPU")?;
    is(&card, &memory, 2)
}

/// So that something else was there before.
fn soil(card: &Card) -> Result<()> {
    card.migrate(&huge(99)?)?;
    card.migrate(&small(99)?)
}

fn a_hole_is_zeroes(path: &Path) -> Result<()> {
    let card = Card::open(path)?;
    soil(&card)?;
    let memory = Mapping::private(PAGES)?;
    card.migrate(&memory)?;
    check(&card.read(&memory)?, |_| 0).context("the GPU")?;
    check(memory.bytes(), |_| 0)
}

fn a_huge_hole_is_zeroes(path: &Path) -> Result<()> {
    let card = Card::open(path)?;
    soil(&card)?;
    let memory = Mapping::huge()?;
    card.migrate(&memory)?;
    check(&card.read(&memory)?, |_| 0).context("the GPU")?;
    check(memory.bytes(), |_| 0)
}

fn the_gpu_writes(path: &Path) -> Result<()> {
    let card = Card::open(path)?;
    for memory in [small(3)?, huge(3)?] {
        card.migrate(&memory)?;
        card.write(&memory, 4)?;
        expect(&memory, on_device(memory.pages()))?;
        is(&card, &memory, 4)?;
        // In system memory, where it is now.
        card.write(&memory, 5)?;
        is(&card, &memory, 5)?;
    }
    Ok(())
}

fn a_translation_does_not_outlive_its_page(path: &Path) -> Result<()> {
    let card = Card::open(path)?;
    for memory in [small(6)?, huge(6)?] {
        // The GPU knows where it is in system memory, and then it is not there any more.
        card.write(&memory, 7)?;
        card.migrate(&memory)?;
        card.write(&memory, 8)?;
        check(memory.bytes(), |page| pattern(page, 8)).context("after the way there")?;
        // The same for the way home.
        card.migrate(&memory)?;
        card.write(&memory, 9)?;
        check(memory.bytes(), |page| pattern(page, 9))?;
        card.write(&memory, 10)?;
        check(memory.bytes(), |page| pattern(page, 10)).context("after the way home")?;
    }
    Ok(())
}

fn a_tail_of_a_cut_huge_page(path: &Path) -> Result<()> {
    let card = Card::open(path)?;
    let memory = huge(11)?;
    card.migrate(&memory)?;
    let pages = memory.pages();
    // The page table is cut, and the folio still whole.
    memory.advise_pages(0..pages / 2, MmapAdvise::MADV_DONTNEED)?;
    let size = page_size();
    let tail = memory
        .bytes()
        .get((pages - 3) * size..(pages - 2) * size)
        .context("no such page")?;
    let expected = pattern(pages - 3, 11);
    ensure!(
        tail.iter().all(|byte| *byte == expected),
        "a page in the middle has {:?}, not {expected:#x}",
        tail.first()
    );
    check(memory.bytes(), |page| match page < pages / 2 {
        true => 0,
        false => pattern(page, 11),
    })
}

fn a_child_writes(path: &Path) -> Result<()> {
    let card = Card::open(path)?;
    for mut memory in [small(12)?, huge(12)?] {
        card.migrate(&memory)?;
        let child = Child::run(|| {
            check(memory.bytes(), |page| pattern(page, 12))?;
            fill(memory.bytes_mut(), 13);
            check(memory.bytes(), |page| pattern(page, 13))
        })?;
        child.wait()?;
        is(&card, &memory, 12)?;
    }
    Ok(())
}

fn memory_outlives_the_file(path: &Path) -> Result<()> {
    let card = Card::open(path)?;
    let memory = small(14)?;
    card.migrate(&memory)?;
    drop(card);
    check(memory.bytes(), |page| pattern(page, 14))?;
    // And for somebody who never had one.
    let card = Card::open(path)?;
    card.migrate(&memory)?;
    drop(card);
    let child = Child::run(|| check(memory.bytes(), |page| pattern(page, 14)))?;
    child.wait()
}

/// What nobody has a page in any more is given back, but for one buffer.
fn memory_is_given_back(path: &Path) -> Result<()> {
    /// How often the card is asked, at most: buffers go when whoever frees them has its turn.
    const ATTEMPTS: usize = 2000;

    let card = Card::open(path)?;
    let pages = {
        let memories: Vec<Mapping> = (0..4).map(huge).collect::<Result<_>>()?;
        for memory in &memories {
            card.migrate(memory)?;
        }
        let pages: usize = memories.iter().map(Mapping::pages).sum();
        let pinned = card.state()?.nr_pinned;
        ensure!(pinned >= pages as u64, "{pinned} pages are pinned");
        pages
    };
    let one = (pages / 4) as u64;
    for _ in 1..ATTEMPTS {
        if card.state()?.nr_pinned <= one {
            break;
        }
        std::thread::yield_now();
    }
    let state = card.state()?;
    ensure!(
        state.nr_pinned <= one,
        "{} pages are pinned for nobody",
        state.nr_pinned
    );
    ensure!(state.nr_fences == 0, "{} fences are left", state.nr_fences);
    Ok(())
}

/// All of what is pinned can have pages of processes.
fn every_page_is_used(path: &Path) -> Result<()> {
    /// What C pins at a time, in bytes.
    const SIZE: usize = 256 << 20;

    let card = Card::open(path)?;
    empty(&card)?;
    // Nothing but holes: that much memory is needed once, for what the card has.
    let pages = SIZE / page_size();
    let memory = Mapping::private(pages)?;
    card.migrate(&memory)?;
    let pinned = card.state()?.nr_pinned;
    ensure!(
        pinned == pages as u64,
        "{pinned} pages are pinned, of which {pages} are used"
    );
    Ok(())
}

/// What is mapped beforehand, if anything is, has a size that the GPU has.
fn mapped_as_the_gpu_can(path: &Path) -> Result<()> {
    let card = Card::open(path)?;
    let before = card.state()?.nr_refused;
    for memory in [small(33)?, huge(33)?] {
        card.migrate(&memory)?;
        is(&card, &memory, 33)?;
    }
    let refused = card.state()?.nr_refused - before;
    ensure!(refused == 0, "{refused} mappings are refused");
    Ok(())
}

/// TTM may be pushing something as well.
fn the_channel_is_locked(path: &Path) -> Result<()> {
    let card = Card::open(path)?;
    let before = card.state()?.nr_bare;
    let memory = small(34)?;
    card.migrate(&memory)?;
    is(&card, &memory, 34)?;
    card.migrate(&memory)?;
    empty(&card)?;
    let bare = card.state()?.nr_bare - before;
    ensure!(bare == 0, "{bare} times nobody had locked the channel");
    Ok(())
}

/// How much memory the kernel has for itself that it cannot give back, in KiB.
fn unreclaimable() -> Result<u64> {
    let info = std::fs::read_to_string("/proc/meminfo")?;
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("SUnreclaim:"));
    let size = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(size.context("no SUnreclaim")?.trim().parse()?)
}

/// A fault that finds nothing to move keeps nothing.
fn touched_while_somebody_looks(path: &Path) -> Result<()> {
    /// How many such faults there are, at least.
    const FAULTS: u64 = 2000;
    /// What others may have taken meanwhile, in KiB. One fault has two arrays of 4 KiB, if any.
    const LIMIT: u64 = 4 << 10;

    let card = Card::open(path)?;
    let memory = huge(35)?;
    card.migrate(&memory)?;
    card.look(&memory)?;
    let before = unreclaimable()?;
    let toucher = Child::run(|| check(memory.bytes(), |page| pattern(page, 35)))?;
    let faults = || -> Result<()> {
        let first = toucher.faults()?;
        while toucher.faults()? < first + FAULTS {
            std::thread::yield_now();
        }
        Ok(())
    };
    let faulted = faults();
    let kept = unreclaimable();
    // Whatever has happened, or it would fault for ever.
    card.ask(ioctl::look_away)?;
    toucher.wait()?;
    faulted?;
    let kept = kept?.saturating_sub(before);
    // A kernel with all checks looks for leaks itself, and frees nothing at once.
    let checked = Path::new("/sys/kernel/debug/kmemleak").exists();
    ensure!(checked || kept < LIMIT, "{FAULTS} faults keep {kept} KiB");
    is(&card, &memory, 35)
}

/// Each page has a transfer of its own, which is unmapped once.
fn small_pages_taken_away(path: &Path) -> Result<()> {
    let card = Card::open(path)?;
    let memory = small(36)?;
    card.migrate(&memory)?;
    empty(&card)?;
    expect(&memory, in_ram(memory.pages()))?;
    is(&card, &memory, 36)
}

fn no_room(path: &Path) -> Result<()> {
    let card = Card::open(path)?;
    empty(&card)?;
    let memory = small(15)?;
    let failed = card.state()?.nr_failed;
    card.fail(Failure::New, ALWAYS)?;
    let told = card.try_migrate(&memory);
    card.fail(Failure::New, 0)?;
    told.context("migrate")?;
    ensure!(card.state()?.nr_failed > failed, "there was room");
    expect(&memory, in_ram(PAGES))?;
    is(&card, &memory, 15)?;
    card.migrate(&memory)?;
    is(&card, &memory, 15)
}

/// Lets the card have nothing that is pinned.
fn empty(card: &Card) -> Result<()> {
    card.ask(ioctl::fini)?;
    card.ask(ioctl::init)
}

/// What has no place as a whole may have one in pieces.
fn no_room_for_a_huge_page(path: &Path) -> Result<()> {
    let card = Card::open(path)?;
    empty(&card)?;
    let memory = huge(16)?;
    let failed = card.state()?.nr_failed;
    card.fail(Failure::New, 1)?;
    card.try_migrate(&memory).context("migrate")?;
    ensure!(card.state()?.nr_failed > failed, "there was room");
    expect(&memory, on_device(memory.pages()))?;
    is(&card, &memory, 16)
}

fn no_room_for_commands(path: &Path) -> Result<()> {
    let card = Card::open(path)?;
    for memory in [small(17)?, huge(17)?] {
        let failed = card.state()?.nr_failed;
        card.fail(Failure::Room, 1)?;
        // Whether it is an error is not the point.
        let _ = card.try_migrate(&memory);
        card.fail(Failure::Room, 0)?;
        ensure!(card.state()?.nr_failed > failed, "there was room");
        is(&card, &memory, 17)?;
        card.migrate(&memory)?;
        is(&card, &memory, 17)?;
    }
    Ok(())
}

fn no_fence(path: &Path) -> Result<()> {
    let card = Card::open(path)?;
    for memory in [small(18)?, huge(18)?] {
        card.fail(Failure::Fence, 1)?;
        let _ = card.try_migrate(&memory);
        is(&card, &memory, 18)?;
        card.migrate(&memory)?;
        is(&card, &memory, 18)?;
    }
    Ok(())
}

fn no_fence_on_the_way_home(path: &Path) -> Result<()> {
    let card = Card::open(path)?;
    for memory in [small(19)?, huge(19)?] {
        card.migrate(&memory)?;
        card.fail(Failure::Fence, 1)?;
        let _ = touch(&memory);
        card.fail(Failure::Fence, 0)?;
        is(&card, &memory, 19)?;
    }
    Ok(())
}

fn a_copy_fails(path: &Path) -> Result<()> {
    let card = Card::open(path)?;
    // A huge page is tried again in small ones.
    for (memory, tell) in [(small(20)?, Err(Errno::EIO)), (huge(20)?, Ok(()))] {
        card.fail(Failure::Job, 1)?;
        let told = card.try_migrate(&memory);
        is(&card, &memory, 20)?;
        ensure!(told == tell, "the process is told {told:?}");
        card.migrate(&memory)?;
        is(&card, &memory, 20)?;
    }
    Ok(())
}

fn a_copy_home_fails(path: &Path) -> Result<()> {
    let card = Card::open(path)?;
    for memory in [small(21)?, huge(21)?] {
        card.migrate(&memory)?;
        card.fail(Failure::Job, 1)?;
        let told = touch(&memory);
        card.fail(Failure::Job, 0)?;
        is(&card, &memory, 21)?;
        // Elsewhere the kernel tries a second time to copy from the process, and then it goes well.
        let twice = cfg!(not(target_arch = "x86_64"));
        ensure!(told.is_err() || twice, "the process is told nothing");
    }
    Ok(())
}

fn a_copy_takes_its_time(path: &Path) -> Result<()> {
    let card = Card::open(path)?;
    let memory = small(22)?;
    card.migrate(&memory)?;
    card.ask(ioctl::hold)?;
    let child = Child::run(|| check(memory.bytes(), |page| pattern(page, 22)))?;
    card.ask(ioctl::await_job)?;
    card.ask(ioctl::await_late)?;
    card.ask(ioctl::release)?;
    child.wait()?;
    is(&card, &memory, 22)
}

fn asleep(path: &Path) -> Result<()> {
    let card = Card::open(path)?;
    for memory in [small(23)?, huge(23)?] {
        card.migrate(&memory)?;
        card.ask(ioctl::suspend)?;
        card.ask(ioctl::resume)?;
        is(&card, &memory, 23)?;
        card.migrate(&memory)?;
        card.write(&memory, 24)?;
        card.ask(ioctl::suspend)?;
        let touched = Child::run(|| check(memory.bytes(), |page| pattern(page, 24)))?;
        card.ask(ioctl::resume)?;
        touched.wait()?;
        is(&card, &memory, 24)?;
    }
    Ok(())
}

/// A page that cannot come home is somewhere else afterwards, and the GPU finds it there.
fn asleep_while_somebody_looks(path: &Path) -> Result<()> {
    let card = Card::open(path)?;
    for memory in [small(37)?, huge(37)?] {
        card.migrate(&memory)?;
        card.write(&memory, 38)?;
        card.look(&memory)?;
        card.ask(ioctl::suspend)?;
        card.ask(ioctl::resume)?;
        let left = count(&memory)?;
        let found = card.read(&memory);
        card.ask(ioctl::look_away)?;
        ensure!(left.device > 0, "nothing has stayed on the card");
        check(&found?, |page| pattern(page, 38)).context("the GPU")?;
        is(&card, &memory, 38)?;
    }
    Ok(())
}

/// The first pages cannot come home, so that the others are not tried. They are somewhere else
/// afterwards, and the GPU finds them there.
fn asleep_while_nothing_can_be_pushed(path: &Path) -> Result<()> {
    let card = Card::open(path)?;
    let memories = [huge(39)?, huge(39)?, huge(39)?];
    for memory in &memories {
        card.migrate(memory)?;
        card.write(memory, 40)?;
    }
    card.fail(Failure::Room, ALWAYS)?;
    card.ask(ioctl::suspend)?;
    card.fail(Failure::Room, 0)?;
    card.ask(ioctl::resume)?;
    for memory in &memories {
        expect(memory, on_device(memory.pages()))?;
        check(&card.read(memory)?, |page| pattern(page, 40)).context("the GPU")?;
        is(&card, memory, 40)?;
    }
    Ok(())
}

/// A page that was left to TTM has no place when the card is awake again, and then it has one.
fn asleep_and_no_place_afterwards(path: &Path) -> Result<()> {
    let card = Card::open(path)?;
    for memory in [small(25)?, huge(25)?] {
        card.migrate(&memory)?;
        card.write(&memory, 45)?;
        card.look(&memory)?;
        let failed = card.state()?.nr_failed;
        card.fail(Failure::Pin, ALWAYS)?;
        card.ask(ioctl::suspend)?;
        card.ask(ioctl::resume)?;
        card.ask(ioctl::look_away)?;
        let left = count(&memory)?;
        let told = touch(&memory);
        card.fail(Failure::Pin, 0)?;
        ensure!(left.device > 0, "nothing has stayed on the card");
        ensure!(card.state()?.nr_failed > failed, "there was a place");
        ensure!(told.is_err(), "the process is told nothing");
        expect(&memory, left)?;
        is(&card, &memory, 45)?;
        card.migrate(&memory)?;
        is(&card, &memory, 45)?;
    }
    Ok(())
}

/// The card waits for the copy, or it would be one from a place that others have.
fn asleep_during_a_fault(path: &Path) -> Result<()> {
    let card = Card::open(path)?;
    let memory = small(43)?;
    card.migrate(&memory)?;
    card.ask(ioctl::hold)?;
    let toucher = Child::run(|| check(memory.bytes(), |page| pattern(page, 43)))?;
    card.ask(ioctl::await_job)?;
    let sleeper = Child::run(|| card.ask(ioctl::suspend))?;
    card.ask(ioctl::await_going)?;
    // The copy is waited for so long that there was time enough to fall asleep.
    card.ask(ioctl::await_late)?;
    card.ask(ioctl::release)?;
    sleeper.wait()?;
    card.ask(ioctl::resume)?;
    toucher.wait()?;
    is(&card, &memory, 43)
}

fn asleep_while_a_copy_fails(path: &Path) -> Result<()> {
    let card = Card::open(path)?;
    for memory in [small(26)?, huge(26)?] {
        card.migrate(&memory)?;
        let failed = card.state()?.nr_failed;
        card.fail(Failure::Job, 1)?;
        card.ask(ioctl::suspend)?;
        card.fail(Failure::Job, 0)?;
        card.ask(ioctl::resume)?;
        let copied = count(&memory)?.device < memory.pages();
        ensure!(
            !copied || card.state()?.nr_failed > failed,
            "no copy failed"
        );
        is(&card, &memory, 26)?;
    }
    Ok(())
}

fn taken_away(path: &Path) -> Result<()> {
    let card = Card::open(path)?;
    let memories = [small(27)?, huge(27)?];
    for memory in &memories {
        card.migrate(memory)?;
    }
    card.ask(ioctl::fini)?;
    let state = card.state()?;
    ensure!(state.nr_bos == 0, "{} buffers are left", state.nr_bos);
    for memory in &memories {
        expect(memory, in_ram(memory.pages()))?;
        is(&card, memory, 27)?;
        ensure!(
            card.try_migrate(memory) == Err(Errno::ENODEV),
            "memory migrates to a card that is gone"
        );
    }
    card.ask(ioctl::init)?;
    for memory in &memories {
        card.migrate(memory)?;
        is(&card, memory, 27)?;
    }
    Ok(())
}

fn taken_away_while_a_copy_fails(path: &Path) -> Result<()> {
    let card = Card::open(path)?;
    for memory in [small(28)?, huge(28)?] {
        card.migrate(&memory)?;
        let failed = card.state()?.nr_failed;
        card.fail(Failure::Job, 1)?;
        card.ask(ioctl::fini)?;
        card.fail(Failure::Job, 0)?;
        ensure!(card.state()?.nr_failed > failed, "no copy failed");
        card.ask(ioctl::init)?;
        is(&card, &memory, 28)?;
    }
    Ok(())
}

fn taken_away_during_a_fault(path: &Path) -> Result<()> {
    let card = Card::open(path)?;
    let memory = small(29)?;
    card.migrate(&memory)?;
    card.ask(ioctl::hold)?;
    let toucher = Child::run(|| check(memory.bytes(), |page| pattern(page, 29)))?;
    card.ask(ioctl::await_job)?;
    // Begins while the fault has a page locked, and ends after it.
    let taker = Child::run(|| card.ask(ioctl::fini))?;
    card.ask(ioctl::release)?;
    toucher.wait()?;
    taker.wait()?;
    card.ask(ioctl::init)?;
    is(&card, &memory, 29)
}

fn taken_away_during_a_migration(path: &Path) -> Result<()> {
    let card = Card::open(path)?;
    card.ask(ioctl::hold)?;
    let mover = Child::run(|| {
        let card = Card::open(path)?;
        let memory = small(44)?;
        // The card may have gone before the last page was there.
        let _ = card.try_migrate(&memory);
        check(memory.bytes(), |page| pattern(page, 44))
    })?;
    card.ask(ioctl::await_job)?;
    let taker = Child::run(|| card.ask(ioctl::fini))?;
    card.ask(ioctl::await_going)?;
    // The copy is waited for so long that there was time enough to begin.
    card.ask(ioctl::await_late)?;
    card.ask(ioctl::release)?;
    mover.wait()?;
    taker.wait()?;
    let state = card.state()?;
    ensure!(state.nr_bos == 0, "{} buffers are left", state.nr_bos);
    card.ask(ioctl::init)?;
    let memory = small(44)?;
    card.migrate(&memory)?;
    is(&card, &memory, 44)
}

/// What the driver has for the card goes with it.
fn nothing_is_kept(path: &Path) -> Result<()> {
    let card = Card::open(path)?;
    let memory = small(46)?;
    card.migrate(&memory)?;
    let before = card.state()?.nr_lost;
    empty(&card)?;
    let state = card.state()?;
    ensure!(
        state.nr_bos == 0 && state.nr_fences == 0,
        "{} buffers and {} fences are left",
        state.nr_bos,
        state.nr_fences
    );
    let lost = state.nr_lost - before;
    ensure!(lost == 0, "what the driver had for the card is still there");
    is(&card, &memory, 46)
}

/// What was copied since there were `before` jobs was not copied as a whole.
fn in_pieces(card: &Card, before: u64) -> Result<()> {
    let jobs = card.state()?.nr_jobs - before;
    ensure!(
        jobs > 1,
        "there was a huge page: it was copied in {jobs} jobs"
    );
    Ok(())
}

/// A huge page comes home in pieces if there is none for it.
fn no_huge_page_at_home(path: &Path) -> Result<()> {
    let card = Card::open(path)?;
    let memory = huge(47)?;
    card.migrate(&memory)?;
    let before = card.state()?.nr_jobs;
    without_huge_pages(|| check(memory.bytes(), |page| pattern(page, 47)))??;
    in_pieces(&card, before)?;
    expect(&memory, in_ram(memory.pages()))?;
    is(&card, &memory, 47)
}

fn no_huge_page_when_taken_away(path: &Path) -> Result<()> {
    let card = Card::open(path)?;
    let memory = huge(48)?;
    card.migrate(&memory)?;
    let before = card.state()?.nr_jobs;
    without_huge_pages(|| card.ask(ioctl::fini))??;
    in_pieces(&card, before)?;
    expect(&memory, in_ram(memory.pages()))?;
    card.ask(ioctl::init)?;
    is(&card, &memory, 48)
}

/// Each allocation of a migration fails in turn.
fn failing_on_the_way_there(path: &Path, make: fn(usize) -> Result<Mapping>) -> Result<()> {
    let card = Card::open(path)?;
    for_each_failure(2, |injector| {
        empty(&card)?;
        let memory = make(49)?;
        injector.ask(|| card.try_migrate(&memory))?;
        is(&card, &memory, 49)?;
        card.migrate(&memory)?;
        is(&card, &memory, 49)
    })
}

fn failing_to_migrate(path: &Path) -> Result<()> {
    failing_on_the_way_there(path, few)
}

fn failing_to_migrate_huge(path: &Path) -> Result<()> {
    failing_on_the_way_there(path, huge)
}

/// So that there are not too many allocations.
fn few(seed: usize) -> Result<Mapping> {
    let mut memory = Mapping::private(2)?;
    fill(memory.bytes_mut(), seed);
    Ok(memory)
}

/// Each allocation of a fault fails in turn.
fn failing_on_the_way_home(path: &Path, make: fn(usize) -> Result<Mapping>) -> Result<()> {
    let card = Card::open(path)?;
    for_each_failure(2, |injector| {
        let memory = make(50)?;
        card.migrate(&memory)?;
        injector.touch(&memory)?;
        is(&card, &memory, 50)
    })
}

fn failing_to_fault(path: &Path) -> Result<()> {
    failing_on_the_way_home(path, few)
}

fn failing_to_fault_huge(path: &Path) -> Result<()> {
    failing_on_the_way_home(path, huge)
}

fn failing_to_fall_asleep(path: &Path) -> Result<()> {
    let card = Card::open(path)?;
    for_each_failure(2, |injector| {
        let memories = [few(51)?, huge(51)?];
        for memory in &memories {
            card.migrate(memory)?;
        }
        injector.run(|| card.ask(ioctl::suspend))??;
        card.ask(ioctl::resume)?;
        memories.iter().try_for_each(|memory| is(&card, memory, 51))
    })
}

fn failing_to_be_taken_away(path: &Path) -> Result<()> {
    let card = Card::open(path)?;
    for_each_failure(2, |injector| {
        let memories = [few(52)?, huge(52)?];
        for memory in &memories {
            card.migrate(memory)?;
        }
        injector.run(|| card.ask(ioctl::fini))??;
        for memory in &memories {
            expect(memory, in_ram(memory.pages()))?;
        }
        card.ask(ioctl::init)?;
        memories.iter().try_for_each(|memory| is(&card, memory, 52))
    })
}

fn pulled_out(path: &Path) -> Result<()> {
    let card = Card::open(path)?;
    let memories = [small(30)?, huge(30)?];
    for memory in &memories {
        card.migrate(memory)?;
    }
    card.ask(ioctl::pull_out)?;
    // While it is there to ask, it does not say that anything was zero.
    ensure!(touch(&memories[0]).is_err(), "the process is told nothing");
    card.ask(ioctl::fini)?;
    let state = card.state()?;
    ensure!(
        state.nr_bos == 0 && state.nr_fences == 0,
        "{} buffers and {} fences are left",
        state.nr_bos,
        state.nr_fences
    );
    for memory in &memories {
        check(memory.bytes(), |_| 0)?;
    }
    card.ask(ioctl::init)?;
    let memory = small(31)?;
    card.migrate(&memory)?;
    is(&card, &memory, 31)
}

/// How many processes are the crowd.
const CROWD: usize = 12;

/// What each of the crowd does, so often.
const ROUNDS: usize = 12;

fn one_of_the_crowd(path: &Path, who: usize) -> Result<()> {
    let card = Card::open(path)?;
    let mut memory = if who % 2 == 0 {
        huge(who)?
    } else {
        small(who)?
    };
    for round in 0..ROUNDS {
        let seed = who * ROUNDS + round;
        fill(memory.bytes_mut(), seed);
        // It may be asleep, or gone, just now.
        let _ = card.try_migrate(&memory);
        match (who + round) % 4 {
            0 => card.write(&memory, seed)?,
            1 => memory.protect(ProtFlags::PROT_READ)?,
            2 => {
                let child = Child::run(|| check(memory.bytes(), |page| pattern(page, seed)))?;
                child.wait()?;
            }
            _ => {
                let _ = count(&memory)?;
            }
        }
        is(&card, &memory, seed)?;
        memory.protect(ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)?;
        if round % 3 == 2 {
            memory.advise(MmapAdvise::MADV_DONTNEED)?;
            check(memory.bytes(), |_| 0)?;
        }
    }
    Ok(())
}

fn everybody_at_once(path: &Path) -> Result<()> {
    let card = Card::open(path)?;
    let crowd: Vec<Child> = (0..CROWD)
        .map(|who| Child::run(|| one_of_the_crowd(path, who)))
        .collect::<Result<_>>()?;
    for _ in 0..ROUNDS {
        card.ask(ioctl::suspend)?;
        card.ask(ioctl::resume)?;
        empty(&card)?;
    }
    crowd.into_iter().try_for_each(Child::wait)
}
