// SPDX-License-Identifier: GPL-2.0

//! Walks and scripts of `dpmem-ops` over a simulated kernel with the sample driver: says what is
//! seen after each step, as `dpmem-demo --walk` does on a kernel.
//!
//! `walk [--arm64] SETUP NAME...` plays these with the driver loaded so, of which a number is a walk
//! and all others are scripts, or else those that the tests use; with `--arm64` as the kernel does it
//! there. It ends with 1 if a step did not do what it should.

mod process;

use std::{
    ffi::CString,
    process::ExitCode,
    sync::{Mutex, PoisonError},
};

use bindings::sim::{run, Errno, Module};
use dpmem::DebugfsRoot;
use dpmem_ops::{
    walk, Play, Script, Setup, Step, Walker, Watch, Who, World, DEVICE_MIB, DEVICE_PAGES, SEEDS,
};

use crate::process::Simulated;

extern crate dmirror;

extern "C" {
    fn __dmirror_init() -> i32;
    fn __dmirror_exit();
}

/// A process, and its child, if it has one.
struct Family {
    parent: Walker<Simulated>,
    child: Option<Walker<Simulated>>,
}

impl Family {
    fn new(play: &Play) -> Self {
        Self {
            parent: Simulated::walker(play),
            child: None,
        }
    }

    fn walker(&mut self, who: Who) -> &mut Walker<Simulated> {
        match (who, &mut self.child) {
            (Who::Child, Some(child)) => child,
            _ => &mut self.parent,
        }
    }
}

impl World for Family {
    fn act(&mut self, _number: usize, step: Step) -> String {
        self.walker(step.who).act(step)
    }

    fn state(&mut self, who: Who) -> String {
        self.walker(who).state()
    }

    fn fork(&mut self) {
        self.child = Some(self.parent.fork(self.parent.process.fork()));
    }

    fn exit(&mut self) {
        self.child = None;
    }
}

/// What is to be played.
struct Subject {
    name: String,
    play: Play,
}

impl Subject {
    fn walk(seed: u64) -> Result<Self, String> {
        Ok(Self {
            name: seed.to_string(),
            play: Play::walk(seed)?,
        })
    }

    fn script(script: Script) -> Self {
        Self {
            name: script.name.to_owned(),
            play: script.play(DEVICE_PAGES),
        }
    }

    /// All that the tests use.
    fn all(setup: Setup) -> Result<Vec<Self>, String> {
        let walks = SEEDS.filter(|_| setup == Setup::Usual);
        let scripts = Script::of(setup).map(|script| Ok(Self::script(script)));
        walks.map(Self::walk).chain(scripts).collect()
    }

    /// The one that is called so.
    fn named(name: &str, setup: Setup) -> Result<Self, String> {
        if let Ok(seed) = name.parse() {
            return Self::walk(seed);
        }
        let mut known = Self::all(setup)?.into_iter();
        let named = known.find(|subject| subject.name == name);
        named.ok_or_else(|| format!("there is no script {name}"))
    }

    /// Plays it once, on a machine of its own.
    fn play(&self, watch: Watch<'_>) -> Result<(), String> {
        // The directory in debugfs is a static of the layer's, as those of the driver are.
        static ALONE: Mutex<()> = Mutex::new(());
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        run(|| {
            let _counters = DebugfsRoot::new();
            // SAFETY: These are the two functions that `module!` makes for the driver.
            let driver = unsafe { Module::load(__dmirror_init, __dmirror_exit) };
            let _driver =
                driver.map_err(|Errno(err)| format!("the driver cannot be loaded: {err}"))?;
            let mut family = Family::new(&self.play);
            walk(&self.name, &self.play, &mut family, watch)
        })
    }
}

/// Sets the parameters of the driver, which can be done once.
fn set_parameters(setup: Setup) {
    let memory = ("memory_mib", DEVICE_MIB);
    for (name, value) in setup.parameters().chain([memory]) {
        let value = CString::new(value.to_string()).expect("a number has no zero byte");
        // Another test may have done it.
        let _ = dmirror::set_parameter(name, &value);
    }
}

/// What the arguments ask for.
fn chosen(mut args: impl Iterator<Item = String>) -> Result<(Setup, Vec<Subject>), String> {
    let setup = args.next().ok_or("say how the driver is loaded")?.parse()?;
    let names: Vec<_> = args.collect();
    let subjects = match names.is_empty() {
        true => Subject::all(setup),
        false => names
            .iter()
            .map(|name| Subject::named(name, setup))
            .collect(),
    };
    Ok((setup, subjects?))
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1).peekable();
    if args.next_if_eq("--arm64").is_some() {
        process::copy_like_arm64();
    }
    let (setup, subjects) = match chosen(args) {
        Ok(chosen) => chosen,
        Err(err) => {
            eprintln!("{err}");
            return ExitCode::from(2);
        }
    };
    set_parameters(setup);
    let mut code = ExitCode::SUCCESS;
    for subject in subjects {
        // It is said in the line as well.
        let mut say = |line: &str| println!("walk {line}");
        if let Err(err) = subject.play(Some(&mut say)) {
            eprintln!("{err}");
            code = ExitCode::FAILURE;
        }
    }
    code
}

#[cfg(test)]
mod tests {
    use dpmem_ops::STEPS;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 32,
            max_shrink_iters: 512,
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        /// Other walks each time, and the shortest of those that fail.
        #[test]
        fn what_is_read_is_what_was_written(steps in dpmem_ops::steps(1..=STEPS)) {
            set_parameters(Setup::Usual);
            let name = "any".to_owned();
            let play = Play::of(steps);
            prop_assert_eq!(Subject { name, play }.play(None), Ok(()));
        }
    }

    #[test]
    fn the_same_each_time() {
        set_parameters(Setup::Usual);
        let said = || {
            let mut said = Vec::new();
            let mut say = |line: &str| said.push(line.to_owned());
            let walk = Subject::walk(1).unwrap();
            walk.play(Some(&mut say)).unwrap();
            said
        };
        assert_eq!(said(), said());
    }

    #[test]
    fn scripts_find_what_they_expect() {
        set_parameters(Setup::Usual);
        for script in Script::of(Setup::Usual) {
            assert_eq!(Subject::script(script).play(None), Ok(()));
        }
    }
}
