// SPDX-License-Identifier: GPL-2.0

//! Scenarios for xe's pagemaps, on cards that are not there: `drivers/xe-glue/test`. They are about
//! what xe's part does; the rest is DRM's.

use std::{
    fs::{
        write,
        File, //
    },
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
    sys::mman::MmapAdvise, //
};

use crate::{
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
    ("the_card_writes", the_card_writes),
    ("a_hole_is_zeroes", a_hole_is_zeroes),
    ("it_is_cleared_before", it_is_cleared_before),
    ("a_clear_fails", a_clear_fails),
    ("a_tail_of_a_cut_huge_page", a_tail_of_a_cut_huge_page),
    ("a_child_writes", a_child_writes),
    ("memory_is_given_back", memory_is_given_back),
    ("evicted", evicted),
    ("asleep", asleep),
    ("evicted_while_a_copy_fails", evicted_while_a_copy_fails),
    ("evicted_during_a_fault", evicted_during_a_fault),
    ("from_card_to_card", from_card_to_card),
    ("from_card_to_card_fails", from_card_to_card_fails),
    ("a_small_window", a_small_window),
    ("cards_apart", cards_apart),
    ("no_room", no_room),
    ("in_two_pieces", in_two_pieces),
    ("no_fence", no_fence),
    ("no_fence_on_the_way_home", no_fence_on_the_way_home),
    ("a_copy_fails", a_copy_fails),
    ("a_copy_home_fails", a_copy_home_fails),
    (
        "more_than_the_machine_can_name",
        more_than_the_machine_can_name,
    ),
    ("kept_and_shrunk", kept_and_shrunk),
    ("unbound", unbound),
    ("unbound_while_a_copy_fails", unbound_while_a_copy_fails),
    (
        "unbound_while_copies_fail_again_and_again",
        unbound_while_copies_fail_again_and_again,
    ),
    (
        "unbound_when_nothing_can_be_copied",
        unbound_when_nothing_can_be_copied,
    ),
    ("unbound_without_a_file", unbound_without_a_file),
    ("unbound_while_it_is_shrunk", unbound_while_it_is_shrunk),
    ("unbound_with_a_file_open", unbound_with_a_file_open),
    ("everybody_at_once", everybody_at_once),
];

/// `uapi.h` of the test module.
#[repr(C)]
struct Range {
    addr: u64,
    len: u64,
    card: u32,
    timeslice: u32,
}

#[repr(C)]
struct Set {
    card: u32,
    what: u32,
    value: u64,
}

#[repr(C)]
#[derive(Default)]
struct State {
    nr_bos: u64,
    nr_fences: u64,
    nr_jobs: u64,
    nr_peer_pages: u64,
    nr_failed: u64,
    nr_awake: u64,
    nr_woken: u64,
    one_owner: u64,
}

mod ioctl {
    #![allow(missing_docs)]
    use super::{
        Range,
        Set,
        State, //
    };
    use nix::{
        ioctl_none,
        ioctl_read,
        ioctl_write_int_bad,
        ioctl_write_ptr,
        request_code_none, //
    };

    ioctl_write_ptr!(migrate, b'X', 0, Range);
    ioctl_write_ptr!(flip, b'X', 1, Range);
    ioctl_write_int_bad!(evict, request_code_none!(b'X', 2));
    ioctl_write_int_bad!(unbind, request_code_none!(b'X', 3));
    ioctl_write_int_bad!(bind, request_code_none!(b'X', 4));
    ioctl_write_ptr!(set, b'X', 5, Set);
    ioctl_read!(state, b'X', 6, State);
    ioctl_none!(await_job, b'X', 7);
    ioctl_write_int_bad!(kept, request_code_none!(b'X', 8));
}

/// What is set.
#[derive(Clone, Copy)]
enum What {
    /// There is no memory for a buffer.
    FailBo,
    /// There is no memory for a fence.
    FailFence,
    /// The engine fails.
    FailJob,
    /// What clears a buffer fails.
    FailClear,
    /// The engine stops before its next job.
    Held,
    /// Buffers are in two pieces.
    Fragmented,
    /// The cards do not reach each other.
    Apart,
    /// So much memory a card has.
    Size,
    /// Each job fails, and the card says that it is dead.
    Dead,
    /// So much of a card's memory the other one reaches.
    Window,
    /// So many jobs fail.
    Failing,
    /// The card has no power.
    Asleep,
}

/// What the engine stops before.
const COPIES: u64 = 1;
const CLEARS: u64 = 2;

/// The cards.
struct Cards(File);

/// The one that mostly is used.
const FIRST: u32 = 0;
/// Its peer.
const SECOND: u32 = 1;

impl Cards {
    fn open(path: &Path) -> Result<Self> {
        let file = File::options().read(true).write(true).open(path);
        Ok(Self(file.with_context(|| {
            format!("cannot open {}", path.display())
        })?))
    }

    fn range(card: u32, memory: &Mapping) -> Range {
        Range {
            addr: memory.addr() as u64,
            len: (memory.pages() * page_size()) as u64,
            card,
            timeslice: 0,
        }
    }

    fn try_migrate(&self, card: u32, memory: &Mapping) -> Result<(), Errno> {
        // SAFETY: The file is open, and the argument as the cards expect it.
        unsafe { ioctl::migrate(self.0.as_raw_fd(), &Self::range(card, memory)) }?;
        Ok(())
    }

    /// Moves `memory` to the card, all of it.
    fn migrate(&self, card: u32, memory: &Mapping) -> Result<()> {
        self.try_migrate(card, memory).context("migrate")?;
        expect(memory, on_device(memory.pages()))
    }

    /// Lets the card flip the bits of what it has of `memory`.
    fn flip(&self, card: u32, memory: &Mapping) -> Result<()> {
        // SAFETY: As above.
        unsafe { ioctl::flip(self.0.as_raw_fd(), &Self::range(card, memory)) }?;
        Ok(())
    }

    fn ask(
        &self,
        request: unsafe fn(i32, i32) -> nix::Result<i32>,
        card: u32,
    ) -> Result<(), Errno> {
        // SAFETY: The file is open, and the argument is a number.
        unsafe { request(self.0.as_raw_fd(), card as i32) }?;
        Ok(())
    }

    fn evict(&self, card: u32) -> Result<()> {
        self.ask(ioctl::evict, card).context("evict")
    }

    fn unbind(&self, card: u32) -> Result<()> {
        self.ask(ioctl::unbind, card).context("unbind")
    }

    fn bind(&self, card: u32) -> Result<()> {
        self.ask(ioctl::bind, card).context("bind")
    }

    fn set_on(&self, card: u32, what: What, value: u64) -> Result<()> {
        let set = Set {
            card,
            what: what as u32,
            value,
        };
        // SAFETY: The file is open, and the argument as the cards expect it.
        unsafe { ioctl::set(self.0.as_raw_fd(), &set) }?;
        Ok(())
    }

    fn set(&self, what: What, value: u64) -> Result<()> {
        self.set_on(FIRST, what, value)
    }

    /// Waits until the engine is held before a job.
    fn await_job(&self) -> Result<()> {
        // SAFETY: The file is open, and there is no argument.
        unsafe { ioctl::await_job(self.0.as_raw_fd()) }?;
        Ok(())
    }

    fn state(&self) -> Result<State> {
        let mut state = State::default();
        // SAFETY: The file is open, and the argument as the cards expect it.
        unsafe { ioctl::state(self.0.as_raw_fd(), &mut state) }?;
        Ok(state)
    }

    /// Whether the memory of the card is registered.
    fn is_kept(&self, card: u32) -> Result<bool> {
        // SAFETY: The file is open, and the argument is a number.
        let kept = unsafe { ioctl::kept(self.0.as_raw_fd(), card as i32) };
        Ok(kept.context("kept")? != 0)
    }

    /// Nobody has anything of the cards.
    fn unused(&self) -> Result<()> {
        let state = self.state()?;
        ensure!(
            state.nr_bos == 0 && state.nr_fences == 0 && state.nr_awake == 0,
            "{} buffers and {} fences are left, and {} keep a card awake",
            state.nr_bos,
            state.nr_fences,
            state.nr_awake
        );
        Ok(())
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

/// Checks that the process has pattern `seed`.
fn is(memory: &Mapping, seed: usize) -> Result<()> {
    check(memory.bytes(), |page| pattern(page, seed))
}

/// Checks that it has it, with each bit flipped.
fn is_flipped(memory: &Mapping, seed: usize) -> Result<()> {
    check(memory.bytes(), |page| !pattern(page, seed))
}

fn there_and_back(path: &Path) -> Result<()> {
    let cards = Cards::open(path)?;
    {
        let memory = small(1)?;
        let before = cards.state()?.nr_jobs;
        cards.migrate(FIRST, &memory)?;
        // One that is there already is left there.
        cards.migrate(FIRST, &memory)?;
        is(&memory, 1)?;
        expect(&memory, in_ram(PAGES))?;
        let jobs = cards.state()?.nr_jobs - before;
        ensure!(jobs >= 2, "the engine had {jobs} jobs");
    }
    cards.unused()
}

fn huge_there_and_back(path: &Path) -> Result<()> {
    let cards = Cards::open(path)?;
    {
        let memory = huge(2)?;
        let before = cards.state()?.nr_jobs;
        cards.migrate(FIRST, &memory)?;
        is(&memory, 2)?;
        let jobs = cards.state()?.nr_jobs - before;
        ensure!(jobs == 2, "there and back took {jobs} jobs");
    }
    cards.unused()
}

fn the_card_writes(path: &Path) -> Result<()> {
    let cards = Cards::open(path)?;
    for memory in [small(3)?, huge(3)?] {
        cards.migrate(FIRST, &memory)?;
        cards.flip(FIRST, &memory)?;
        expect(&memory, on_device(memory.pages()))?;
        is_flipped(&memory, 3)?;
    }
    Ok(())
}

/// So that something else was there before.
fn soil(cards: &Cards) -> Result<()> {
    cards.migrate(FIRST, &huge(99)?)?;
    cards.migrate(FIRST, &small(99)?)
}

fn a_hole_is_zeroes(path: &Path) -> Result<()> {
    let cards = Cards::open(path)?;
    soil(&cards)?;
    let memory = Mapping::private(PAGES)?;
    cards.migrate(FIRST, &memory)?;
    check(memory.bytes(), |_| 0)?;
    soil(&cards)?;
    let memory = Mapping::huge()?;
    // DRM counts a large hole as one page, and says afterwards that the others have not moved.
    match cards.try_migrate(FIRST, &memory) {
        Ok(()) | Err(Errno::EBUSY) => {}
        Err(err) => return Err(err).context("migrate"),
    }
    expect(&memory, on_device(memory.pages()))?;
    check(memory.bytes(), |_| 0)
}

fn it_is_cleared_before(path: &Path) -> Result<()> {
    let cards = Cards::open(path)?;
    let memory = small(4)?;
    // A copy that does not wait for it is cleared afterwards.
    cards.set(What::Held, CLEARS)?;
    let mover = Child::run(|| {
        let own = small(5)?;
        cards.migrate(FIRST, &own)?;
        is(&own, 5)
    })?;
    cards.await_job()?;
    cards.set(What::Held, 0)?;
    mover.wait()?;
    cards.migrate(FIRST, &memory)?;
    is(&memory, 4)
}

fn a_clear_fails(path: &Path) -> Result<()> {
    let cards = Cards::open(path)?;
    // With something to be copied, and without.
    for (memory, seed) in [(small(25)?, Some(25)), (Mapping::private(PAGES)?, None)] {
        soil(&cards)?;
        cards.set(What::FailClear, 1)?;
        let told = cards.try_migrate(FIRST, &memory);
        cards.set(What::FailClear, 0)?;
        ensure!(told == Err(Errno::EIO), "the process is told {told:?}");
        check(memory.bytes(), |page| {
            seed.map_or(0, |seed| pattern(page, seed))
        })?;
    }
    cards.unused()
}

fn a_tail_of_a_cut_huge_page(path: &Path) -> Result<()> {
    let cards = Cards::open(path)?;
    {
        let memory = huge(6)?;
        cards.migrate(FIRST, &memory)?;
        let pages = memory.pages();
        memory.advise_pages(0..pages / 2, MmapAdvise::MADV_DONTNEED)?;
        check(memory.bytes(), |page| match page < pages / 2 {
            true => 0,
            false => pattern(page, 6),
        })?;
    }
    cards.unused()
}

fn a_child_writes(path: &Path) -> Result<()> {
    let cards = Cards::open(path)?;
    for mut memory in [small(7)?, huge(7)?] {
        cards.migrate(FIRST, &memory)?;
        let child = Child::run(|| {
            is(&memory, 7)?;
            fill(memory.bytes_mut(), 8);
            is(&memory, 8)
        })?;
        child.wait()?;
        is(&memory, 7)?;
    }
    cards.unused()
}

fn memory_is_given_back(path: &Path) -> Result<()> {
    let cards = Cards::open(path)?;
    {
        let memories: Vec<Mapping> = (0..4).map(huge).collect::<Result<_>>()?;
        for memory in &memories {
            cards.migrate(FIRST, memory)?;
        }
        let state = cards.state()?;
        ensure!(
            state.nr_bos == 4 && state.nr_awake == 4,
            "{} buffers, and {} keep the card awake",
            state.nr_bos,
            state.nr_awake
        );
    }
    cards.unused()
}

fn evicted(path: &Path) -> Result<()> {
    let cards = Cards::open(path)?;
    for memory in [small(9)?, huge(9)?] {
        cards.migrate(FIRST, &memory)?;
        cards.flip(FIRST, &memory)?;
        cards.evict(FIRST)?;
        expect(&memory, in_ram(memory.pages()))?;
        cards.unused()?;
        is_flipped(&memory, 9)?;
        cards.migrate(FIRST, &memory)?;
        is_flipped(&memory, 9)?;
    }
    Ok(())
}

/// xe evicts before it sleeps, and brings nothing back when it wakes up. What is on a card keeps it
/// awake, and who wants to have something there wakes it up.
fn asleep(path: &Path) -> Result<()> {
    let cards = Cards::open(path)?;
    for memory in [small(33)?, huge(33)?] {
        cards.migrate(FIRST, &memory)?;
        cards.flip(FIRST, &memory)?;
        let refused = cards.set(What::Asleep, 1);
        ensure!(refused.is_err(), "a card sleeps that has something");
        cards.evict(FIRST)?;
        cards.unused()?;
        let woken = cards.state()?.nr_woken;
        cards.set(What::Asleep, 1)?;
        expect(&memory, in_ram(memory.pages()))?;
        is_flipped(&memory, 33)?;
        ensure!(cards.state()?.nr_woken == woken, "a CPU wakes it up");
        cards.migrate(FIRST, &memory)?;
        ensure!(cards.state()?.nr_woken > woken, "it was awake");
        is_flipped(&memory, 33)?;
    }
    Ok(())
}

fn evicted_while_a_copy_fails(path: &Path) -> Result<()> {
    let cards = Cards::open(path)?;
    for memory in [small(10)?, huge(10)?] {
        cards.migrate(FIRST, &memory)?;
        let failed = cards.state()?.nr_failed;
        cards.set(What::FailJob, 1)?;
        // DRM tries it again.
        cards.evict(FIRST)?;
        cards.set(What::FailJob, 0)?;
        ensure!(cards.state()?.nr_failed > failed, "nothing has failed");
        is(&memory, 10)?;
    }
    cards.unused()
}

fn evicted_during_a_fault(path: &Path) -> Result<()> {
    let cards = Cards::open(path)?;
    let memory = small(11)?;
    cards.migrate(FIRST, &memory)?;
    cards.set(What::Held, COPIES)?;
    let toucher = Child::run(|| is(&memory, 11))?;
    cards.await_job()?;
    let evicter = Child::run(|| {
        // What is on its way home is busy.
        let _ = cards.evict(FIRST);
        Ok(())
    })?;
    cards.set(What::Held, 0)?;
    toucher.wait()?;
    evicter.wait()?;
    is(&memory, 11)?;
    cards.unused()
}

fn from_card_to_card(path: &Path) -> Result<()> {
    let cards = Cards::open(path)?;
    for memory in [small(12)?, huge(12)?] {
        cards.migrate(FIRST, &memory)?;
        let before = cards.state()?.nr_peer_pages;
        cards.migrate(SECOND, &memory)?;
        let state = cards.state()?;
        ensure!(state.one_owner == 1, "the cards do not know each other");
        let pages = state.nr_peer_pages - before;
        ensure!(
            pages == memory.pages() as u64,
            "{pages} pages went from card to card"
        );
        cards.flip(SECOND, &memory)?;
        is_flipped(&memory, 12)?;
    }
    cards.unused()
}

fn from_card_to_card_fails(path: &Path) -> Result<()> {
    let cards = Cards::open(path)?;
    for what in [What::FailBo, What::FailFence, What::FailJob] {
        for memory in [small(13)?, huge(13)?] {
            cards.migrate(FIRST, &memory)?;
            cards.set(what, 1)?;
            let told = cards.try_migrate(SECOND, &memory);
            cards.set(what, 0)?;
            ensure!(told.is_err(), "the process is told nothing");
            is(&memory, 13)?;
        }
    }
    cards.unused()
}

fn a_small_window(path: &Path) -> Result<()> {
    let cards = Cards::open(path)?;
    for memory in [small(26)?, huge(26)?] {
        // Behind that much.
        cards.set(What::Window, page_size() as u64)?;
        cards.migrate(FIRST, &memory)?;
        let told = cards.try_migrate(SECOND, &memory);
        cards.set(What::Window, 0)?;
        ensure!(told.is_err(), "the process is told nothing");
        is(&memory, 26)?;
    }
    cards.unused()
}

fn cards_apart(path: &Path) -> Result<()> {
    // Pagemaps that are kept have the owner that they have.
    drop_caches()?;
    let cards = Cards::open(path)?;
    cards.set(What::Apart, 1)?;
    let memory = small(14)?;
    cards.migrate(FIRST, &memory)?;
    let before = cards.state()?.nr_peer_pages;
    let told = cards.try_migrate(SECOND, &memory);
    cards.set(What::Apart, 0)?;
    ensure!(told == Err(Errno::EBUSY), "the process is told {told:?}");
    ensure!(cards.state()?.one_owner == 0, "the cards know each other");
    is(&memory, 14)?;
    cards.migrate(SECOND, &memory)?;
    is(&memory, 14)?;
    ensure!(
        cards.state()?.nr_peer_pages == before,
        "a page went from card to card"
    );
    drop(cards);
    drop_caches()
}

fn no_room(path: &Path) -> Result<()> {
    let cards = Cards::open(path)?;
    let mut memories = Vec::new();
    // A card has 32 MiB.
    let told = loop {
        let memory = huge(memories.len())?;
        let told = cards.try_migrate(FIRST, &memory);
        memories.push(memory);
        if told.is_err() || memories.len() > 17 {
            break told;
        }
    };
    ensure!(told == Err(Errno::ENOSPC), "the process is told {told:?}");
    for (seed, memory) in memories.iter().enumerate() {
        is(memory, seed)?;
    }
    let memory = small(15)?;
    cards.set(What::FailBo, 1)?;
    let told = cards.try_migrate(FIRST, &memory);
    cards.set(What::FailBo, 0)?;
    ensure!(told == Err(Errno::ENOMEM), "the process is told {told:?}");
    is(&memory, 15)
}

fn in_two_pieces(path: &Path) -> Result<()> {
    let cards = Cards::open(path)?;
    cards.set(What::Fragmented, 1)?;
    let memory = small(16)?;
    let moved = cards.migrate(FIRST, &memory);
    let large = huge(16)?;
    let told = cards.try_migrate(FIRST, &large);
    cards.set(What::Fragmented, 0)?;
    moved?;
    cards.flip(FIRST, &memory)?;
    is_flipped(&memory, 16)?;
    // A large folio does not fit into it.
    ensure!(told.is_err(), "a huge page is in two pieces");
    is(&large, 16)?;
    cards.migrate(FIRST, &large)?;
    is(&large, 16)?;
    cards.unused()
}

fn no_fence(path: &Path) -> Result<()> {
    let cards = Cards::open(path)?;
    for memory in [small(17)?, huge(17)?] {
        cards.set(What::FailFence, 1)?;
        let told = cards.try_migrate(FIRST, &memory);
        cards.set(What::FailFence, 0)?;
        ensure!(told == Err(Errno::ENOMEM), "the process is told {told:?}");
        is(&memory, 17)?;
        cards.migrate(FIRST, &memory)?;
        is(&memory, 17)?;
    }
    cards.unused()
}

fn no_fence_on_the_way_home(path: &Path) -> Result<()> {
    let cards = Cards::open(path)?;
    for memory in [small(18)?, huge(18)?] {
        cards.migrate(FIRST, &memory)?;
        cards.set(What::FailFence, 1)?;
        let _ = touch(&memory);
        cards.set(What::FailFence, 0)?;
        is(&memory, 18)?;
    }
    cards.unused()
}

fn a_copy_fails(path: &Path) -> Result<()> {
    let cards = Cards::open(path)?;
    for memory in [small(19)?, huge(19)?] {
        cards.set(What::FailJob, 1)?;
        let told = cards.try_migrate(FIRST, &memory);
        cards.set(What::FailJob, 0)?;
        is(&memory, 19)?;
        ensure!(told == Err(Errno::EIO), "the process is told {told:?}");
        cards.migrate(FIRST, &memory)?;
        is(&memory, 19)?;
    }
    cards.unused()
}

fn a_copy_home_fails(path: &Path) -> Result<()> {
    let cards = Cards::open(path)?;
    for memory in [small(20)?, huge(20)?] {
        cards.migrate(FIRST, &memory)?;
        cards.flip(FIRST, &memory)?;
        cards.set(What::FailJob, 1)?;
        let told = touch(&memory);
        cards.set(What::FailJob, 0)?;
        is_flipped(&memory, 20)?;
        // Elsewhere the kernel tries a second time to copy from the process, and then it goes well.
        let twice = cfg!(not(target_arch = "x86_64"));
        ensure!(told.is_err() || twice, "the process is told nothing");
    }
    cards.unused()
}

fn more_than_the_machine_can_name(path: &Path) -> Result<()> {
    drop_caches()?;
    let cards = Cards::open(path)?;
    let memory = small(21)?;
    cards.set(What::Size, 1 << 62)?;
    for _ in 0..2 {
        let told = cards.try_migrate(FIRST, &memory);
        ensure!(
            matches!(told, Err(Errno::ERANGE | Errno::EINVAL | Errno::ENOMEM)),
            "the process is told {told:?}"
        );
    }
    cards.set(What::Size, 0)?;
    is(&memory, 21)?;
    cards.migrate(FIRST, &memory)?;
    is(&memory, 21)
}

/// Has the kernel shrink whatever it can.
fn drop_caches() -> Result<()> {
    write("/proc/sys/vm/drop_caches", "2").context("cannot shrink caches")
}

fn kept_and_shrunk(path: &Path) -> Result<()> {
    for seed in 0..6 {
        let cards = Cards::open(path)?;
        let memory = small(seed)?;
        cards.migrate(FIRST, &memory)?;
        // In use, it is not shrunk.
        drop_caches()?;
        expect(&memory, on_device(PAGES))?;
        is(&memory, seed)?;
        drop(cards);
        let cards = Cards::open(path)?;
        // Once all that is on its way to be freed is.
        cards.unused()?;
        ensure!(cards.is_kept(FIRST)?, "it was not kept");
        if seed % 2 == 1 {
            drop_caches()?;
            ensure!(!cards.is_kept(FIRST)?, "it was not shrunk");
        }
    }
    Ok(())
}

fn unbound(path: &Path) -> Result<()> {
    let cards = Cards::open(path)?;
    let memories = [small(22)?, huge(22)?];
    for memory in &memories {
        cards.migrate(FIRST, memory)?;
    }
    cards.unbind(FIRST)?;
    for memory in &memories {
        expect(memory, in_ram(memory.pages()))?;
        let told = cards.try_migrate(FIRST, memory);
        ensure!(told == Err(Errno::ENODEV), "the process is told {told:?}");
        is(memory, 22)?;
        // The other one is still there.
        cards.migrate(SECOND, memory)?;
        is(memory, 22)?;
    }
    cards.bind(FIRST)?;
    for memory in &memories {
        cards.migrate(FIRST, memory)?;
        is(memory, 22)?;
    }
    cards.unused()
}

fn unbound_while_a_copy_fails(path: &Path) -> Result<()> {
    let cards = Cards::open(path)?;
    for memory in [small(23)?, huge(23)?] {
        cards.migrate(FIRST, &memory)?;
        cards.set(What::FailJob, 1)?;
        cards.unbind(FIRST)?;
        cards.set(What::FailJob, 0)?;
        cards.bind(FIRST)?;
        is(&memory, 23)?;
    }
    cards.unused()
}

fn unbound_while_copies_fail_again_and_again(path: &Path) -> Result<()> {
    /// More often than DRM tries it at a time.
    const OFTEN: u64 = 7;
    let cards = Cards::open(path)?;
    for memory in [small(29)?, huge(29)?] {
        cards.migrate(FIRST, &memory)?;
        let failed = cards.state()?.nr_failed;
        cards.set(What::Failing, OFTEN)?;
        cards.unbind(FIRST)?;
        cards.bind(FIRST)?;
        ensure!(
            cards.state()?.nr_failed == failed + OFTEN,
            "too little has failed"
        );
        is(&memory, 29)?;
    }
    cards.unused()
}

fn unbound_when_nothing_can_be_copied(path: &Path) -> Result<()> {
    let cards = Cards::open(path)?;
    for memory in [small(27)?, huge(27)?] {
        cards.migrate(FIRST, &memory)?;
        cards.set(What::Dead, 1)?;
        // While it is there to ask, it does not say that anything was zero.
        let told = touch(&memory);
        let unbound = cards.unbind(FIRST);
        cards.set(What::Dead, 0)?;
        ensure!(told.is_err(), "the process is told nothing");
        unbound?;
        check(memory.bytes(), |_| 0)?;
        cards.bind(FIRST)?;
    }
    cards.unused()
}

fn unbound_without_a_file(path: &Path) -> Result<()> {
    for memory in [small(28)?, huge(28)?] {
        let cards = Cards::open(path)?;
        cards.migrate(FIRST, &memory)?;
        drop(cards);
        // The last reference to the pagemap goes with the last page, while the card is being
        // unbound.
        let cards = Cards::open(path)?;
        cards.unbind(FIRST)?;
        cards.bind(FIRST)?;
        is(&memory, 28)?;
        cards.migrate(FIRST, &memory)?;
        is(&memory, 28)?;
        cards.unused()?;
    }
    Ok(())
}

fn unbound_while_it_is_shrunk(path: &Path) -> Result<()> {
    let cards = Cards::open(path)?;
    let shrinker = Child::run(|| (0..2 * ROUNDS).try_for_each(|_| drop_caches()))?;
    for seed in 0..ROUNDS {
        let memory = small(seed)?;
        {
            let other = Cards::open(path)?;
            other.migrate(FIRST, &memory)?;
            is(&memory, seed)?;
        }
        // The pagemap is idle, or was shrunk, or is about to be.
        cards.unbind(FIRST)?;
        cards.bind(FIRST)?;
    }
    shrinker.wait()?;
    cards.unused()
}

fn unbound_with_a_file_open(path: &Path) -> Result<()> {
    let cards = Cards::open(path)?;
    let other = Cards::open(path)?;
    let memory = small(24)?;
    cards.migrate(FIRST, &memory)?;
    other.migrate(SECOND, &memory)?;
    // Each has references to pagemaps whose devices are gone, and back, and gone.
    for _ in 0..3 {
        cards.unbind(FIRST)?;
        cards.unbind(SECOND)?;
        cards.bind(FIRST)?;
        cards.bind(SECOND)?;
        is(&memory, 24)?;
        other.migrate(FIRST, &memory)?;
    }
    drop(other);
    is(&memory, 24)?;
    cards.unused()
}

/// How many processes are the crowd.
const CROWD: usize = 12;

/// What each of the crowd does, so often.
const ROUNDS: usize = 12;

fn one_of_the_crowd(path: &Path, who: usize) -> Result<()> {
    let cards = Cards::open(path)?;
    let mut memory = if who % 2 == 0 {
        huge(who)?
    } else {
        small(who)?
    };
    for round in 0..ROUNDS {
        let seed = who * ROUNDS + round;
        fill(memory.bytes_mut(), seed);
        // It may be evicted, or unbound, just now.
        let _ = cards.try_migrate((who + round) as u32 % 2, &memory);
        match (who + round) % 4 {
            0 => {
                let _ = cards.try_migrate(round as u32 % 2, &memory);
            }
            1 => {
                let child = Child::run(|| is(&memory, seed))?;
                child.wait()?;
            }
            _ => {
                let _ = count(&memory)?;
            }
        }
        is(&memory, seed)?;
        if round % 3 == 2 {
            memory.advise(MmapAdvise::MADV_DONTNEED)?;
            check(memory.bytes(), |_| 0)?;
        }
    }
    Ok(())
}

fn everybody_at_once(path: &Path) -> Result<()> {
    let cards = Cards::open(path)?;
    let crowd: Vec<Child> = (0..CROWD)
        .map(|who| Child::run(|| one_of_the_crowd(path, who)))
        .collect::<Result<_>>()?;
    for round in 0..ROUNDS {
        let _ = cards.evict(round as u32 % 2);
        drop_caches()?;
        cards.unbind(SECOND)?;
        cards.bind(SECOND)?;
    }
    crowd.into_iter().try_for_each(Child::wait)?;
    cards.unused()
}
