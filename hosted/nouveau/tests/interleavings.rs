// SPDX-License-Identifier: GPL-2.0

//! What happens to a card while it is used, in any order: with `--features shuttle`, in hundreds of
//! orders.

use bindings::sim::{explore, run, spawn, Process, PAGE_SIZE};
use card::Card;
use std::sync::Arc;

#[expect(dead_code, reason = "another test needs the rest")]
mod card;

/// How many orders are tried.
const TIMES: usize = 300;

const LEN: usize = 2 * PAGE_SIZE;

/// A card, and a process with `LEN` bytes of 7 on it.
fn with_memory() -> (Arc<Card>, Arc<Process>, usize) {
    let card = Arc::<Card>::from(Card::new());
    card.init();
    let process = Arc::new(Process::new());
    let memory = process.mmap(LEN);
    process.write(memory, &[7; LEN]).unwrap();
    assert_eq!(card.migrate(&process, memory, LEN), 0);
    (card, process, memory)
}

fn check(process: &Process, memory: usize) {
    let mut bytes = [0; LEN];
    process.read(memory, &mut bytes).unwrap();
    assert!(bytes == [7; LEN]);
}

#[test]
fn touched_while_it_falls_asleep() {
    explore(TIMES, || {
        run(|| {
            let (card, process, memory) = with_memory();
            let other = process.clone();
            let toucher = spawn(move || check(&other, memory));
            card.suspend();
            card.resume();
            toucher.join();
            check(&process, memory);
            card.fini();
        });
    });
}

#[test]
fn migrated_while_it_falls_asleep() {
    explore(TIMES, || {
        run(|| {
            let (card, process, memory) = with_memory();
            check(&process, memory);
            let (other, its) = (card.clone(), process.clone());
            card.forget();
            card.delay(20);
            let migrator = spawn(move || other.migrate(&its, memory, LEN));
            card.await_job();
            card.suspend();
            card.resume();
            migrator.join();
            check(&process, memory);
            card.fini();
        });
    });
}

#[test]
fn migrated_while_it_is_taken_away() {
    explore(TIMES, || {
        run(|| {
            let (card, process, memory) = with_memory();
            check(&process, memory);
            let (other, its) = (card.clone(), process.clone());
            let migrator = spawn(move || other.migrate(&its, memory, LEN));
            card.fini();
            migrator.join();
            check(&process, memory);
            assert_eq!(card.buffers(), 0);
        });
    });
}
