// SPDX-License-Identifier: GPL-2.0

//! What happens to a card's memory while others use it, in any order: with `--features shuttle`, in
//! hundreds of orders.

use bindings::{
    sim::{explore, run, shrink, spawn, PAGE_SIZE},
    EBUSY, ENODEV,
};
use card::{errno, Card, Kept, World};
use memory::Memory;
use std::sync::Arc;

mod card;
mod memory;

/// How many orders are tried.
const TIMES: usize = 200;

const PAGES: usize = 3;

/// A card with an engine that works while others do something else, and memory on it.
fn with_memory() -> (World, Arc<Card>, Arc<Memory>) {
    let world = World::with_memory(8 * PAGE_SIZE);
    let card = world.card(0);
    card.with_thread();
    let memory = Arc::new(Memory::small(PAGES, 1));
    memory.migrate(&card);
    (world, card, memory)
}

/// What a virtual machine of xe's keeps of a card: until after it is unbound, or DRM's cache looks
/// at a pagemap that is gone.
fn vm(card: &Arc<Card>) -> Kept {
    let pagemap = card.pagemap();
    pagemap.unwrap_or_else(|err| panic!("there is no pagemap: {err}"))
}

fn nothing_is_left(card: &Card) {
    let counts = card.counts();
    assert_eq!((counts.bos, counts.awake), (0, 0));
}

#[test]
fn touched_while_it_is_evicted() {
    explore(TIMES, || {
        run(|| {
            let (_world, card, memory) = with_memory();
            let toucher = {
                let memory = memory.clone();
                spawn(move || memory.is(1))
            };
            card.evict();
            toucher.join();
            memory.is(1);
            nothing_is_left(&card);
        });
    });
}

#[test]
fn migrated_while_it_is_unbound() {
    explore(TIMES, || {
        run(|| {
            let (mut world, card, memory) = with_memory();
            let _kept = vm(&card);
            memory.is(1);
            let migrator = {
                let (card, memory) = (card.clone(), memory.clone());
                spawn(move || memory.try_migrate(&card))
            };
            world.unbind(0);
            let told = migrator.join();
            assert!([0, errno(ENODEV), errno(EBUSY)].contains(&told));
            assert_eq!(memory.on_device(), 0);
            memory.is(1);
            nothing_is_left(&card);
        });
    });
}

#[test]
fn touched_while_it_is_unbound() {
    explore(TIMES, || {
        run(|| {
            let (mut world, card, memory) = with_memory();
            let _kept = vm(&card);
            let toucher = {
                let memory = memory.clone();
                spawn(move || memory.is(1))
            };
            world.unbind(0);
            toucher.join();
            memory.is(1);
            nothing_is_left(&card);
        });
    });
}

#[test]
fn the_last_reference_goes_while_memory_is_short() {
    explore(TIMES, || {
        run(|| {
            let world = World::with_memory(8 * PAGE_SIZE);
            let card = world.card(0);
            let kept = vm(&card);
            let dropper = spawn(move || drop(kept));
            let user = {
                let card = card.clone();
                spawn(move || drop(vm(&card)))
            };
            shrink(1);
            dropper.join();
            user.join();
            shrink(1);
            drop(vm(&card));
        });
    });
}

#[test]
fn memory_comes_home_while_it_is_short() {
    explore(TIMES, || {
        run(|| {
            let (_world, card, memory) = with_memory();
            // The last page has the last reference.
            let toucher = {
                let memory = memory.clone();
                spawn(move || memory.is(1))
            };
            shrink(1);
            toucher.join();
            memory.migrate(&card);
            memory.is(1);
        });
    });
}

#[test]
fn the_last_reference_goes_while_it_is_unbound() {
    explore(TIMES, || {
        run(|| {
            let (mut world, card, memory) = with_memory();
            memory.is(1);
            let kept = [vm(&card), vm(&card)];
            let [one, _other] = kept;
            let dropper = spawn(move || drop(one));
            world.unbind(0);
            dropper.join();
            nothing_is_left(&card);
        });
    });
}

#[test]
fn two_cards_want_the_same() {
    explore(TIMES, || {
        run(|| {
            let (world, one, memory) = with_memory();
            let two = world.card(1);
            two.with_thread();
            let other = {
                let (two, memory) = (two.clone(), memory.clone());
                spawn(move || memory.try_migrate(&two))
            };
            let told = [memory.try_migrate(&one), other.join()];
            assert!(told.iter().all(|told| [0, errno(EBUSY)].contains(told)));
            memory.is(1);
            nothing_is_left(&one);
            nothing_is_left(&two);
        });
    });
}
