// SPDX-License-Identifier: GPL-2.0

//! The steps of a walk, which proptest makes.

use proptest::{
    collection::{vec, SizeRange},
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use crate::{Access, Defect, File, Op, Pages, Step, Who, HUGE, NR, STEPS};

/// Some of the pages, cut off at the end.
fn any_pages(
    first: impl Strategy<Value = usize>,
    nr: impl Strategy<Value = usize>,
) -> impl Strategy<Value = Pages> {
    (first, nr).prop_map(|(first, nr)| Pages {
        first,
        nr: nr.min(NR - first),
    })
}

fn pages() -> impl Strategy<Value = Pages> {
    let first = prop_oneof![3 => 0..NR, 1 => Just(0), 1 => Just(HUGE)];
    let nr = prop_oneof![4 => 1..21_usize, 1 => Just(HUGE), 1 => Just(NR)];
    any_pages(first, nr)
}

/// A few of them.
fn few() -> impl Strategy<Value = Pages> {
    any_pages(0..NR, 1..21_usize)
}

/// Never zero, which is what fresh memory has.
fn value() -> impl Strategy<Value = u8> {
    1..=u8::MAX
}

fn file() -> impl Strategy<Value = File> {
    prop_oneof![
        6 => Just(File::One),
        1 => Just(File::Two),
        1 => Just(File::Other),
    ]
}

fn access() -> impl Strategy<Value = Access> {
    prop_oneof![Just(Access::Read), Just(Access::Write)]
}

/// What can go wrong with a device in a walk: which of its pages are bad depends on who has used
/// them before.
fn defect() -> impl Strategy<Value = Defect> {
    prop_oneof![
        Just(Defect::Large),
        Just(Defect::BreakDown),
        Just(Defect::TimeOut),
    ]
}

/// A huge page, or any.
fn moved() -> impl Strategy<Value = Op> {
    let pages = prop_oneof![Just(Pages { first: 0, nr: HUGE }), pages()];
    (pages, 0..2_usize).prop_map(|(pages, by)| Op::Move(pages, by))
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => (pages(), value()).prop_map(|(pages, value)| Op::Write(pages, value)),
        3 => pages().prop_map(Op::Read),
        2 => (pages(), value()).prop_map(|(pages, value)| Op::DeviceWrite(pages, value)),
        2 => pages().prop_map(Op::DeviceRead),
        6 => pages().prop_map(Op::ToDevice),
        3 => pages().prop_map(Op::ToSystem),
        1 => pages().prop_map(Op::Exclusive),
        3 => (pages(), access()).prop_map(|(pages, access)| Op::Protect(pages, access)),
        1 => moved(),
        2 => pages().prop_map(Op::DontNeed),
        1 => pages().prop_map(Op::Huge),
        1 => Just(Op::Evict),
        2 => Just(Op::Fork),
        1 => (pages(), access()).prop_map(|(pages, access)| Op::Populate(pages, access)),
        1 => few().prop_map(Op::Unmap),
        1 => Just(Op::Release),
        1 => Just(Op::Close),
        2 => Just(Op::Exit),
    ]
}

/// What is the end of something: it comes in few walks, as all accesses are made one by one there.
fn harmful() -> impl Strategy<Value = Op> {
    prop_oneof![
        1 => defect().prop_map(Op::Break),
        2 => (0..NR).prop_map(Op::Poison),
    ]
}

/// The steps that can be taken of `wishes`: there is one child at most, and it does nothing if it
/// is not there.
fn possible(wishes: Vec<(Who, File, Op)>) -> Vec<Step> {
    let mut child = false;
    let mut step = |(who, file, op): (Who, File, Op)| {
        let who = match op {
            Op::Fork if child => return None,
            Op::Exit if !child => return None,
            Op::Fork => Who::Parent,
            Op::Exit => Who::Child,
            _ if child => who,
            _ => Who::Parent,
        };
        child = match op {
            Op::Fork => true,
            Op::Exit => false,
            _ => child,
        };
        let file = match op.asks() {
            true => file,
            false => File::One,
        };
        Some(Step { who, file, op })
    };
    wishes.into_iter().filter_map(&mut step).collect()
}

fn steps_of(
    op: impl Strategy<Value = Op>,
    nr: impl Into<SizeRange>,
) -> impl Strategy<Value = Vec<Step>> {
    let who = prop_oneof![Just(Who::Parent), Just(Who::Child)];
    vec((who, file(), op), nr).prop_map(possible)
}

/// The steps of any walk: so many, or a few less.
pub fn steps(nr: impl Into<SizeRange>) -> impl Strategy<Value = Vec<Step>> {
    let nr = nr.into();
    prop_oneof![
        2 => steps_of(op(), nr.clone()),
        1 => steps_of(prop_oneof![11 => op(), 1 => harmful()], nr),
    ]
}

/// The steps of the walk that `seed` stands for: the same on any machine, and in another workspace
/// that has the same proptest.
///
/// # Errors
///
/// What proptest says if it finds none.
pub(crate) fn walk_of(seed: u64) -> Result<Vec<Step>, String> {
    let mut bytes = [0; 32];
    for (byte, of_seed) in bytes.iter_mut().zip(seed.to_le_bytes()) {
        *byte = of_seed;
    }
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let tree = steps(STEPS).new_tree(&mut runner);
    Ok(tree.map_err(|err| err.to_string())?.current())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walks() -> impl Iterator<Item = Vec<Step>> {
        (0..100).map(|seed| walk_of(seed).unwrap())
    }

    #[test]
    fn the_same_for_the_same_seed() {
        assert_eq!(walk_of(7), walk_of(7));
        assert_ne!(walk_of(7), walk_of(8));
    }

    #[test]
    fn all_of_them_come() {
        let all: String = walks().flatten().map(|step| format!("{step}\n")).collect();
        for words in [
            "parent writes",
            "child writes",
            "parent reads",
            "device write",
            "device read",
            "to the device",
            "to system memory",
            "alone",
            "permits",
            "forbids",
            "moves",
            "unmaps",
            "drops",
            "wants",
            "populates",
            "evicts",
            "give up",
            "closes",
            "fail",
            "breaks",
            "another file",
            "other device",
            "parent forks",
            "child exits",
        ] {
            assert!(all.contains(words), "nobody {words}");
        }
    }

    #[test]
    fn who_is_there() {
        for steps in walks() {
            let mut child = false;
            for step in steps {
                match step.op {
                    Op::Fork => child = true,
                    Op::Exit => child = false,
                    _ => assert!(child || step.who == Who::Parent),
                }
            }
        }
    }

    proptest! {
        #[test]
        fn pages_are_there(pages in prop_oneof![pages(), few()]) {
            prop_assert!(pages.nr > 0 && pages.end() <= NR);
        }
    }
}
