// SPDX-License-Identifier: GPL-2.0

//! xe's pagemaps, on cards that are a `Card` here. The same sources run in a kernel, with
//! `drivers/xe-glue/test`.

use bindings::{
    dma_fence_is_signaled, dma_fence_put, dma_fence_set_error,
    sim::{
        fence_of, for_each_failure, for_each_failure_of, registered, run, shrink, signal_fence,
        spawn, Errno, Process, HUGE_PAGE_SIZE, PAGE_SIZE,
    },
    EBUSY, EINVAL, EIO, ENODEV, ENOMEM, ENOSPC, ERANGE,
};
use card::{errno, Card, Fail, Kept, World, SIZE};
use memory::Memory;
use std::{panic::catch_unwind, ptr::null_mut, sync::Arc};

mod card;
mod memory;

const PAGES: usize = 16;

/// A world, and its first card.
fn one_card() -> (World, Arc<Card>) {
    let world = World::new();
    let card = world.card(0);
    (world, card)
}

/// What a virtual machine of xe's keeps of a card.
fn vm(card: &Arc<Card>) -> Kept {
    let pagemap = card.pagemap().or_else(|_| card.pagemap());
    pagemap.unwrap_or_else(|err| panic!("there is no pagemap: {err}"))
}

/// Memory of single pages, and a huge page.
fn both(seed: usize) -> [Memory; 2] {
    [Memory::small(PAGES, seed), Memory::huge(seed)]
}

fn nothing_is_left(card: &Card) {
    let counts = card.counts();
    assert_eq!((counts.bos, counts.awake), (0, 0));
}

#[test]
fn there_and_back() {
    run(|| {
        let (_world, card) = one_card();
        let memory = Memory::small(PAGES, 1);
        memory.migrate(&card);
        let counts = card.counts();
        assert_eq!((counts.bos, counts.awake, counts.jobs), (1, 1, 1));
        // What is there already is left there.
        memory.migrate(&card);
        assert_eq!(card.counts().jobs, 1);
        memory.is(1);
        assert_eq!(memory.on_device(), 0);
        let counts = card.counts();
        assert_eq!((counts.jobs, counts.copied), (2, [PAGES, PAGES]));
        nothing_is_left(&card);
    });
}

#[test]
fn huge_there_and_back() {
    run(|| {
        let (_world, card) = one_card();
        let memory = Memory::huge(2);
        memory.migrate(&card);
        assert!(memory.process.is_huge(memory.addr));
        memory.is(2);
        let counts = card.counts();
        assert_eq!((counts.jobs, counts.copied), (2, [memory.pages; 2]));
        nothing_is_left(&card);
    });
}

#[test]
fn the_card_writes() {
    run(|| {
        let (_world, card) = one_card();
        for memory in both(3) {
            memory.migrate(&card);
            memory.flip(&card);
            assert_eq!(memory.on_device(), memory.pages);
            memory.is_flipped(3);
        }
    });
}

/// No job has more than 8 MiB, and none splits a folio.
#[test]
fn more_than_an_engine_takes() {
    run(|| {
        let (_world, card) = one_card();
        let memory = Memory::small(8 << 9, 4);
        memory.migrate(&card);
        assert_eq!(card.counts().jobs, 2);
        memory.is(4);
        assert_eq!(card.counts().jobs, 4);
        let memory = Memory::huge_pages(8, 5);
        memory.migrate(&card);
        assert_eq!(card.counts().jobs, 6);
        assert_eq!(card.evict(), 0);
        assert_eq!(card.counts().jobs, 8);
        memory.is(5);
    });
}

#[test]
fn a_hole_is_zeroes() {
    run(|| {
        let (_world, card) = one_card();
        // Pages 4 to 7, and the last ones.
        let memory = Memory::small(PAGES, 6);
        memory.forget(4, 4);
        memory.forget(PAGES - 2, 2);
        memory.migrate(&card);
        assert_eq!(card.counts().jobs, 2);
        let is_hole = |page: usize| (4..8).contains(&page) || page >= PAGES - 2;
        memory.check(|page| {
            if is_hole(page) {
                0
            } else {
                memory::pattern(page, 6)
            }
        });
        // Nothing but a hole: what clears it is waited for.
        let memory = Memory::new(PAGES);
        memory.migrate(&card);
        memory.check(|_| 0);
        assert_eq!(card.counts().jobs, 2 + 1 + 1);
    });
}

/// DRM counts a huge hole as a page that stays, though it has moved it.
#[test]
fn a_huge_hole_is_zeroes() {
    run(|| {
        let (_world, card) = one_card();
        let memory = Memory::huge_hole();
        assert_eq!(memory.try_migrate(&card), errno(EBUSY));
        assert_eq!(memory.on_device(), memory.pages);
        memory.check(|_| 0);
        nothing_is_left(&card);
    });
}

#[test]
fn a_tail_of_a_cut_huge_page() {
    run(|| {
        let (_world, card) = one_card();
        let memory = Memory::huge(7);
        memory.migrate(&card);
        memory.forget(0, memory.pages / 2);
        memory.check(|page| match page < memory.pages / 2 {
            true => 0,
            false => memory::pattern(page, 7),
        });
        drop(memory);
        nothing_is_left(&card);
    });
}

#[test]
fn a_child_writes() {
    run(|| {
        let (_world, card) = one_card();
        for memory in both(8) {
            memory.migrate(&card);
            let child = memory.fork();
            child.is(8);
            child.fill(9);
            memory.is(8);
            child.is(9);
        }
        nothing_is_left(&card);
    });
}

#[test]
fn a_parent_writes_what_a_child_has_on_the_card() {
    run(|| {
        let (_world, card) = one_card();
        for memory in both(10) {
            memory.migrate(&card);
            let child = memory.fork();
            memory.fill(11);
            drop(memory);
            child.is(10);
        }
        nothing_is_left(&card);
    });
}

#[test]
fn processes_exit() {
    run(|| {
        let (_world, card) = one_card();
        let memories = (0..3).map(Memory::huge).collect::<Vec<_>>();
        for memory in &memories {
            memory.migrate(&card);
        }
        let counts = card.counts();
        assert_eq!((counts.bos, counts.awake), (3, 3));
        drop(memories);
        nothing_is_left(&card);
    });
}

#[test]
fn evicted() {
    run(|| {
        let (_world, card) = one_card();
        for memory in both(12) {
            memory.migrate(&card);
            memory.flip(&card);
            assert_eq!(card.evict(), 0);
            assert_eq!(memory.on_device(), 0);
            nothing_is_left(&card);
            memory.is_flipped(12);
            memory.migrate(&card);
            memory.is_flipped(12);
        }
    });
}

/// DRM tries it again.
#[test]
fn evicted_while_a_copy_fails() {
    run(|| {
        let (_world, card) = one_card();
        for what in [Fail::Start, Fail::Copy] {
            for memory in both(13) {
                memory.migrate(&card);
                let before = card.counts().failed;
                card.fail(what, 1);
                assert_eq!(card.evict(), 0);
                assert_eq!(card.counts().failed, before + 1);
                assert_eq!(memory.on_device(), 0);
                memory.is(13);
            }
        }
        nothing_is_left(&card);
    });
}

#[test]
fn evicted_during_a_fault() {
    run(|| {
        let (_world, card) = one_card();
        let memory = Arc::new(Memory::small(PAGES, 14));
        memory.migrate(&card);
        card.hold();
        let toucher = {
            let memory = memory.clone();
            spawn(move || memory.is(14))
        };
        card.await_job();
        let evicter = {
            let card = card.clone();
            // What is on its way home is busy.
            spawn(move || card.evict())
        };
        card.let_go();
        toucher.join();
        evicter.join();
        memory.is(14);
        nothing_is_left(&card);
    });
}

#[test]
fn from_card_to_card() {
    run(|| {
        let (world, one) = one_card();
        let two = world.card(1);
        for memory in both(15) {
            memory.migrate(&one);
            let before = one.counts();
            memory.migrate(&two);
            let after = one.counts();
            assert_eq!(after.peer_pages - before.peer_pages, memory.pages);
            // The card that has it copies.
            assert_eq!(after.jobs, before.jobs + 1);
            nothing_is_left(&one);
            memory.flip(&two);
            memory.is_flipped(15);
        }
        let owner = |card: &Arc<Card>| card.pagemap().map(|pagemap| pagemap.owner());
        assert_eq!(owner(&one), owner(&two));
        nothing_is_left(&two);
    });
}

/// Some of it is there already, in memory of the process, on the other card, and nowhere.
#[test]
fn from_everywhere_to_a_card() {
    run(|| {
        let (world, one) = one_card();
        let two = world.card(1);
        let memory = Memory::small(PAGES, 16);
        memory.part(2, 6).migrate(&one);
        memory.forget(10, 2);
        memory.migrate(&two);
        assert_eq!(one.counts().peer_pages, 6);
        let is_hole = |page: usize| (10..12).contains(&page);
        memory.check(|page| {
            if is_hole(page) {
                0
            } else {
                memory::pattern(page, 16)
            }
        });
    });
}

#[test]
fn from_card_to_card_fails() {
    run(|| {
        let (world, one) = one_card();
        let two = world.card(1);
        let ways = [
            (&two, Fail::Bo, ENOMEM),
            (&one, Fail::Start, ENOMEM),
            (&one, Fail::Copy, EIO),
        ];
        for (card, what, err) in ways {
            for memory in both(17) {
                memory.migrate(&one);
                card.fail(what, 1);
                assert_eq!(memory.try_migrate(&two), errno(err));
                nothing_is_left(&two);
                assert_eq!(memory.on_device(), memory.pages);
                memory.is(17);
            }
        }
        nothing_is_left(&one);
    });
}

/// What is mapped for the other card is unmapped, whatever fails, and what cannot be mapped is not
/// used.
#[test]
fn another_cards_memory_cannot_be_mapped() {
    for_each_failure_of(&["dma_map_resource"], || {
        let (world, one) = one_card();
        let two = world.card(1);
        let memory = Memory::small(PAGES, 18);
        memory.migrate(&one);
        let told = memory.try_migrate(&two);
        assert!(told == 0 || told == errno(bindings::EFAULT));
        memory.is(18);
    });
}

#[test]
fn cards_apart() {
    run(|| {
        let (world, one) = one_card();
        let two = world.card(1);
        world.apart(true);
        let memory = Memory::small(PAGES, 19);
        memory.migrate(&one);
        assert_eq!(memory.try_migrate(&two), errno(EBUSY));
        let [first, second] = [&one, &two].map(vm);
        assert_ne!(first.owner(), second.owner());
        memory.is(19);
        memory.migrate(&two);
        memory.is(19);
        assert_eq!(one.counts().peer_pages, 0);
    });
}

#[test]
fn no_room() {
    run(|| {
        let (_world, card) = one_card();
        let memories = (0..9).map(Memory::huge).collect::<Vec<_>>();
        let (last, others) = memories.split_last().unwrap();
        for memory in others {
            memory.migrate(&card);
        }
        assert_eq!(last.try_migrate(&card), errno(ENOSPC));
        for (seed, memory) in memories.iter().enumerate() {
            memory.is(seed);
        }
        card.fail(Fail::Bo, 1);
        assert_eq!(last.try_migrate(&card), errno(ENOMEM));
        last.is(8);
    });
}

#[test]
fn in_two_pieces() {
    run(|| {
        let (_world, card) = one_card();
        card.fragment(true);
        let memory = Memory::small(PAGES, 20);
        memory.migrate(&card);
        assert_eq!(card.counts().jobs, 2);
        memory.flip(&card);
        memory.is_flipped(20);
        assert_eq!(card.counts().jobs, 4);
        // A large folio does not fit into it.
        let large = Memory::huge(20);
        assert_eq!(large.try_migrate(&card), errno(EINVAL));
        large.is(20);
        card.fragment(false);
        large.migrate(&card);
        large.is(20);
        nothing_is_left(&card);
    });
}

/// What was started before is waited for, also when the rest is not.
#[test]
fn the_second_piece_fails() {
    run(|| {
        let (_world, card) = one_card();
        card.fragment(true);
        for (what, err) in [(Fail::Start, ENOMEM), (Fail::Copy, EIO)] {
            for nth in [1, 2] {
                let memory = Memory::small(PAGES, 21);
                card.fail(what, nth);
                assert_eq!(memory.try_migrate(&card), errno(err));
                assert_eq!(memory.on_device(), 0);
                nothing_is_left(&card);
                memory.migrate(&card);
                memory.flip(&card);
                card.fail(what, nth);
                assert_eq!(memory.touch(), Err(Errno(EIO)));
                memory.is_flipped(21);
            }
        }
    });
}

#[test]
fn no_fence() {
    run(|| {
        let (_world, card) = one_card();
        for memory in both(22) {
            card.fail(Fail::Start, 1);
            assert_eq!(memory.try_migrate(&card), errno(ENOMEM));
            nothing_is_left(&card);
            memory.is(22);
            memory.migrate(&card);
            memory.is(22);
        }
    });
}

#[test]
fn no_fence_on_the_way_home() {
    run(|| {
        let (_world, card) = one_card();
        for memory in both(23) {
            memory.migrate(&card);
            memory.flip(&card);
            card.fail(Fail::Start, 1);
            assert_eq!(memory.touch(), Err(Errno(EIO)));
            memory.is_flipped(23);
        }
        nothing_is_left(&card);
    });
}

#[test]
fn a_copy_fails() {
    run(|| {
        let (_world, card) = one_card();
        for memory in both(24) {
            card.fail(Fail::Copy, 1);
            let before = card.counts().copied;
            assert_eq!(memory.try_migrate(&card), errno(EIO));
            nothing_is_left(&card);
            // It has taken its time all the same.
            assert_eq!(card.counts().copied, [before[0] + memory.pages, 0]);
            memory.is(24);
        }
    });
}

#[test]
fn a_copy_home_fails() {
    run(|| {
        let (_world, card) = one_card();
        for memory in both(25) {
            memory.migrate(&card);
            memory.flip(&card);
            card.fail(Fail::Copy, 1);
            assert_eq!(memory.touch(), Err(Errno(EIO)));
            assert_eq!(memory.on_device(), memory.pages);
            memory.is_flipped(25);
        }
    });
}

#[test]
fn a_pagemap_that_cannot_be() {
    run(|| {
        let (_world, card) = one_card();
        let memory = Memory::small(PAGES, 26);
        // None, less than a page, and more than a machine can name.
        for size in [0, PAGE_SIZE - 1, 1 << 62, usize::MAX] {
            card.say_size(size);
            for _ in 0..2 {
                let told = memory.try_migrate(&card);
                let ways = [EINVAL, ERANGE, ENOMEM].map(errno);
                assert!(ways.contains(&told), "{size:#x}: {told}");
            }
        }
        card.say_size(SIZE);
        memory.migrate(&card);
        memory.is(26);
    });
}

#[test]
fn a_buffer_without_a_place_for_each_page() {
    run(|| {
        let (_world, card) = one_card();
        for memory in both(36) {
            card.fail(Fail::Place, 1);
            assert_eq!(memory.try_migrate(&card), errno(EINVAL));
            nothing_is_left(&card);
            memory.is(36);
        }
    });
}

/// What comes before is waited for, though there is nothing to be copied.
#[test]
fn nothing_is_copied() {
    run(|| {
        let (_world, card) = one_card();
        assert_eq!(card.copy_nothing(null_mut()), 0);
        for (error, told) in [(0, 0), (errno(EIO), errno(EIO))] {
            // SAFETY: It is called by who waits, and has a reference.
            let fence = fence_of(move |fence| unsafe {
                if error != 0 {
                    dma_fence_set_error(fence, error);
                }
                signal_fence(fence);
            });
            assert_eq!(card.copy_nothing(fence), told);
            // SAFETY: The reference is ours.
            unsafe {
                assert!(dma_fence_is_signaled(fence));
                dma_fence_put(fence);
            }
        }
    });
}

/// What the card does not have is not memory of the pagemap.
#[test]
fn a_buffer_beyond_the_pagemap() {
    run(|| {
        let (_world, card) = one_card();
        card.say_size(PAGES / 2 * PAGE_SIZE);
        let memory = Memory::small(PAGES, 27);
        assert_eq!(memory.try_migrate(&card), errno(EINVAL));
        memory.is(27);
        let memory = Memory::small(PAGES / 2, 27);
        memory.migrate(&card);
        memory.is(27);
    });
}

#[test]
fn kept_and_shrunk() {
    run(|| {
        let (_world, card) = one_card();
        let pagemap = vm(&card);
        let memory = Memory::small(PAGES, 28);
        memory.migrate(&card);
        // In use, by somebody or for memory, it is not shrunk.
        assert_eq!(shrink(8), 0);
        let id = pagemap.id();
        drop(pagemap);
        assert_eq!(shrink(8), 0);
        memory.is(28);
        // It is kept, and found.
        assert_eq!(vm(&card).id(), id);
        assert_eq!(shrink(8), 1);
        assert_eq!(shrink(8), 0);
        memory.migrate(&card);
        memory.is(28);
    });
}

#[test]
fn unbound() {
    run(|| {
        let (mut world, card) = one_card();
        let kept = vm(&card);
        let memories = both(29);
        for memory in &memories {
            memory.migrate(&card);
        }
        world.unbind(0);
        for memory in &memories {
            assert_eq!(memory.on_device(), 0);
            assert_eq!(memory.try_migrate(&card), errno(ENODEV));
            memory.is(29);
            // The other one is still there.
            memory.migrate(&world.card(1));
            memory.is(29);
        }
        drop((card, kept));
        world.bind(0);
        for memory in &memories {
            memory.migrate(&world.card(0));
            memory.is(29);
        }
    });
}

#[test]
fn unbound_while_copies_fail() {
    run(|| {
        let (mut world, card) = one_card();
        let _kept = vm(&card);
        let memory = Memory::small(PAGES, 30);
        memory.migrate(&card);
        card.fail(Fail::Copy, 1);
        world.unbind(0);
        assert_eq!(memory.on_device(), 0);
        memory.is(30);
    });
}

/// Copies fail more often than DRM tries them at a time. That the card is being unbound does not
/// make it a dead one.
#[test]
fn unbound_while_copies_fail_again_and_again() {
    run(|| {
        for memory in both(34) {
            let (mut world, card) = one_card();
            let _kept = vm(&card);
            memory.migrate(&card);
            card.fail_copies(7);
            world.unbind(0);
            assert_eq!(memory.on_device(), 0);
            memory.is(34);
        }
    });
}

/// What cannot be started, for want of memory, is no dead card either.
#[test]
fn unbound_while_copies_are_not_started() {
    run(|| {
        let (mut world, card) = one_card();
        let _kept = vm(&card);
        let memory = Memory::small(PAGES, 35);
        memory.migrate(&card);
        card.fail_starts(7);
        world.unbind(0);
        assert_eq!(memory.on_device(), 0);
        memory.is(35);
    });
}

#[test]
fn unbound_when_it_is_dead() {
    run(|| {
        for memory in both(36) {
            let (mut world, card) = one_card();
            let _kept = vm(&card);
            memory.migrate(&card);
            card.die();
            // While it is there to ask, it does not say that anything was zero.
            assert!(memory.touch().is_err());
            assert_ne!(card.evict(), 0);
            assert_eq!(memory.on_device(), memory.pages);
            world.unbind(0);
            assert_eq!(memory.on_device(), 0);
            memory.check(|_| 0);
        }
    });
}

/// Pagemaps that are kept are without memory, and say so.
#[test]
fn unbound_with_references() {
    run(|| {
        let (mut world, card) = one_card();
        let memory = Memory::small(PAGES, 31);
        let mut kept = Vec::new();
        for _ in 0..3 {
            let [one, two] = [0, 1].map(|index| world.card(index));
            kept.push(vm(&one));
            kept.push(vm(&two));
            memory.migrate(&one);
            memory.migrate(&two);
            assert_eq!(registered(), 2);
            world.unbind(0);
            world.unbind(1);
            assert_eq!((memory.on_device(), registered()), (0, 0));
            for pagemap in &kept {
                let told = pagemap.migrate(&memory.process, memory.addr, PAGES * PAGE_SIZE);
                assert_eq!(told, errno(ENODEV));
            }
            memory.is(31);
            drop((one, two));
            world.bind(0);
            world.bind(1);
        }
        assert!(card.pagemap().is_err());
    });
}

/// DRM's cache looks at a pagemap whose last reference goes between unplugging and unbinding, and
/// which is freed by then. A virtual machine has a reference until later.
#[test]
fn unbound_without_references() {
    let told = catch_unwind(|| {
        run(|| {
            let (mut world, card) = one_card();
            let memory = Memory::small(PAGES, 31);
            memory.migrate(&card);
            world.unbind(0);
        });
    });
    let told = told.err().and_then(|told| told.downcast::<String>().ok());
    assert!(told.is_some_and(|told| told.contains("a cache has a pagemap that was destroyed")));
}

#[test]
fn unbound_while_it_is_idle() {
    run(|| {
        let (mut world, card) = one_card();
        let memory = Memory::small(PAGES, 32);
        memory.migrate(&card);
        memory.is(32);
        world.unbind(0);
        drop(card);
        world.bind(0);
        world.unbind(0);
    });
}

#[test]
fn each_step_fails() {
    let failures = for_each_failure(|| {
        let mut world = World::with_memory(32 * PAGE_SIZE);
        let [one, two] = [0, 1].map(|index| world.card(index));
        let memory = Memory::small(5, 33);
        memory.forget(3, 1);
        let check = || {
            memory.check(|page| match page {
                3 => 0,
                _ => memory::pattern(page, 33),
            })
        };
        memory.try_migrate(&one);
        one.evict();
        memory.try_migrate(&one);
        memory.try_migrate(&two);
        let _ = memory.touch();
        check();
        let kept = [vm(&one), vm(&two)];
        memory.try_migrate(&one);
        memory.try_migrate(&two);
        world.unbind(1);
        check();
        memory.try_migrate(&one);
        world.unbind(0);
        check();
        drop(kept);
        nothing_is_left(&one);
        nothing_is_left(&two);
    });
    assert!(failures > 50, "only {failures} failures");
}

/// What is shrunk is destroyed by another thread.
#[test]
fn each_step_of_shrinking_fails() {
    let failures = for_each_failure(|| {
        let mut world = World::with_memory(8 * PAGE_SIZE);
        let card = world.card(0);
        let memory = Memory::small(2, 37);
        memory.try_migrate(&card);
        let _ = memory.touch();
        shrink(1);
        memory.try_migrate(&card);
        let kept = vm(&card);
        shrink(1);
        world.unbind(0);
        memory.is(37);
        drop(kept);
        nothing_is_left(&card);
    });
    assert!(failures > 20, "only {failures} failures");
}

/// Without a child: a kernel without the series splits a huge page for one process alone.
#[test]
fn each_step_with_a_huge_page_fails() {
    let failures = for_each_failure(|| {
        let mut world = World::with_memory(2 * HUGE_PAGE_SIZE);
        let card = world.card(0);
        let _kept = vm(&card);
        let memory = Memory::huge(34);
        memory.try_migrate(&card);
        let _ = memory.touch();
        memory.is(34);
        memory.try_migrate(&card);
        card.evict();
        memory.try_migrate(&card);
        world.unbind(0);
        memory.is(34);
        nothing_is_left(&card);
    });
    assert!(failures > 20, "only {failures} failures");
}

/// What is asked of a process that is no more.
#[test]
fn evicted_when_the_process_has_gone() {
    run(|| {
        let (_world, card) = one_card();
        let memory = Memory::small(PAGES, 35);
        memory.migrate(&card);
        let process: Process = memory.process.fork();
        drop(memory);
        // The child has it, and the parent's address space is gone.
        card.evict();
        drop(process);
        assert_eq!(card.evict(), 0);
        nothing_is_left(&card);
    });
}
