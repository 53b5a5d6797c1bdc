// SPDX-License-Identifier: GPL-2.0

//! Every command of dpmem: `cargo xtask demo`, `test`, `hosted` and `lab`.
//!
//! A command comes in through [`cli`], and goes to one of [`demo`], [`check`], [`hosted`] and
//! [`lab`]. What they share:
//!
//! - [`cache`], [`repo`], [`progress`], [`process`]: files outside and inside of the checkout, what
//!   the user sees while it takes long, and how another program is run;
//! - [`tools`] and [`root`]: a Debian root with the compilers and QEMU in it, and running commands
//!   there;
//! - [`source`], [`install`], [`kernel`]: from a package to a kernel with our parts in it;
//! - [`guest`], [`vm`]: booting it; [`ktap`], [`console`], [`report`]: understanding what it said;
//! - [`suites`]: which tests there are.

mod arch;
mod bench;
mod cache;
mod check;
mod cli;
mod console;
mod count;
mod demo;
mod disk;
mod guest;
mod hosted;
mod install;
mod kernel;
mod ktap;
mod lab;
mod process;
mod progress;
mod repo;
mod report;
mod root;
mod source;
mod suites;
mod symbols;
mod tools;
mod version;
mod vm;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let options = cli::Options::parse();
    let outcome = process::stop_on_signals().and_then(|()| match options.command {
        cli::Command::Demo(options) => demo::run(&options),
        cli::Command::Test(options) => check::run(&options),
        cli::Command::Hosted(options) => hosted::run(&options),
        cli::Command::Lab(command) => lab::run(command),
        cli::Command::Bench(command) => bench::run(&command),
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            progress::error(&disk::explain(&error));
            ExitCode::from(2)
        }
    }
}
