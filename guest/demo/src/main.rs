// SPDX-License-Identifier: GPL-2.0

//! Processes whose memory goes to a device and back, in the lab's virtual machine.
//!
//! Without options, it tells the story of one of them. With `--ktap` it is a test program: every
//! scenario is a test, and each of them says what it found wrong.

mod device;
mod mapping;
mod pagemap;
mod process;
mod scenarios;
mod story;

use std::{
    path::PathBuf,
    process::ExitCode, //
};

use anyhow::Result;
use clap::Parser;

#[derive(Parser)]
struct Options {
    /// Print the results of all scenarios as KTAP.
    #[arg(long)]
    ktap: bool,
    /// The device; the other one of a pair has the same name but for the last digit.
    device: PathBuf,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let good = if options.ktap {
        all(&options)
    } else {
        story::tell(&options.device).unwrap_or_else(|err| {
            println!("  FAILED: {err:#}");
            false
        })
    };
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs all scenarios; true if each went well.
fn all(options: &Options) -> bool {
    println!("TAP version 13");
    println!("1..{}", scenarios::ALL.len());
    let mut good = true;
    for (i, (name, scenario)) in scenarios::ALL.iter().enumerate() {
        let result: Result<()> = scenario(&options.device);
        if let Err(err) = &result {
            good = false;
            println!("# {name}: {err:#}");
        }
        let word = if result.is_ok() { "ok" } else { "not ok" };
        println!("{word} {} {name}", i + 1);
    }
    good
}
