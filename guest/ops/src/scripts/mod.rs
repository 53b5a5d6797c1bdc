// SPDX-License-Identifier: GPL-2.0

//! Scripts: steps that are written down, with what must come of them.

mod broken;
mod counters;
mod data;
mod huge;
mod pages;
mod peer_windows;
mod peers;
mod poison;
mod windows;

use crate::{Count, Play, Setup};

/// A script.
#[derive(Clone, Copy, Debug)]
pub struct Script {
    /// What it is called; a test has this name.
    pub name: &'static str,
    write: fn(&mut Play),
}

impl Script {
    /// All of them for a driver that is loaded so.
    pub fn of(setup: Setup) -> impl Iterator<Item = Self> {
        let lists: &[&[Self]] = match setup {
            Setup::Usual => &[
                pages::ALL,
                huge::ALL,
                broken::ALL,
                data::ALL,
                counters::ALL,
                poison::ALL,
            ],
            Setup::Peers => &[peers::ALL],
            Setup::Windows => &[windows::ALL],
            Setup::PeerWindows => &[peer_windows::ALL],
        };
        lists.iter().copied().flatten().copied()
    }

    /// The script for a device with room for `room` pages.
    #[must_use]
    pub fn play(&self, room: usize) -> Play {
        let mut play = Play::new(room);
        (self.write)(&mut play);
        play
    }
}

/// A list of scripts, which are called as their functions are.
macro_rules! scripts {
    ($($name:ident,)*) => {
        pub(super) const ALL: &[super::Script] = &[$(super::Script {
            name: stringify!($name),
            write: $name,
        }),*];
    };
}
use scripts;

/// How many of `nr` pages are left if `gone` of them are in system memory.
fn left(nr: usize, gone: usize) -> Count {
    Count::away(nr - gone).and(Count::system(gone))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Op, Who, DEVICE_PAGES};
    use std::collections::BTreeSet;

    fn plays() -> impl Iterator<Item = (&'static str, Play)> {
        let scripts = Setup::ALL.into_iter().flat_map(Script::of);
        scripts.map(|script| (script.name, script.play(DEVICE_PAGES)))
    }

    #[test]
    fn names_are_for_one() {
        let names: Vec<_> = plays().map(|(name, _)| name).collect();
        let different: BTreeSet<_> = names.iter().collect();
        assert_eq!(names.len(), different.len());
    }

    #[test]
    fn who_is_there() {
        for (name, play) in plays() {
            let mut child = false;
            for line in play.lines() {
                let step = line.step();
                match step.op {
                    Op::Fork if child => panic!("{name}: there is a child"),
                    Op::Fork => child = true,
                    Op::Exit => child = false,
                    _ => assert!(child || step.who == Who::Parent, "{name}: {step}"),
                }
            }
        }
    }

    #[test]
    fn each_step_expects_something() {
        for (name, play) in plays() {
            for line in play.lines() {
                assert!(line.check("").is_err(), "{name}: {}", line.step());
            }
        }
    }
}
