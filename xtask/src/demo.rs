// SPDX-License-Identifier: GPL-2.0

//! `cargo xtask demo`: on a simulated kernel, or on a real one in a virtual machine.

use std::env::current_dir;

use anyhow::{bail, Context as _, Result};

use crate::arch::Arch;
use crate::cli::{
    DemoOptions, Driver, KernelChoice, KernelOptions, LinuxChoice, MachineOptions, Profile, Purpose,
};
use crate::hosted;
use crate::ktap::Status;
use crate::lab;
use crate::progress;
use crate::repo;
use crate::report::Report;
use crate::suites;
use crate::version::Series;

/// A processor that can address 64 GiB, RAM included.
const CPU: &str = "max,phys-bits=36";

/// The kernel that the demo runs on.
pub(crate) fn kernel() -> KernelOptions {
    KernelOptions {
        linux: LinuxChoice::Package(Series::V7_3),
        arch: Arch::X86_64,
        kernel: KernelChoice::Dpmem,
        driver: Some(Driver::Rust),
        profile: Profile::Plain,
        purpose: Purpose::Lab,
        prefix: None,
        config: Vec::new(),
    }
}

/// Shows it; false if it did not go well.
pub(crate) fn run(options: &DemoOptions) -> Result<bool> {
    if options.vm {
        return run_vm(options);
    }
    if !options.machine.is_usual() {
        bail!("--cpu, --append, --mem and --device are about a virtual machine: say --vm as well");
    }
    let svg = match &options.svg {
        Some(file) => current_dir()?.join(file),
        None => repo::target().join("demo/timeline.svg"),
    };
    let mut command = hosted::cargo(&hosted::DEFAULT, KernelChoice::Dpmem)?;
    command.args(["run", "--locked", "--quiet", "--package", "demo", "--"]);
    let status = command.arg(svg).status().context("cannot run cargo")?;
    Ok(status.success())
}

/// Builds what the demo needs, boots, and shows it; false if it did not go well.
fn run_vm(options: &DemoOptions) -> Result<bool> {
    let mut report = Report::quiet("demo")?;
    let machine = MachineOptions {
        cpu: Some(
            options
                .machine
                .cpu
                .clone()
                .unwrap_or_else(|| CPU.to_owned()),
        ),
        ..options.machine.clone()
    };
    println!("A device with 64 GiB of memory that the CPU cannot reach, on a machine with 36 physical address bits.\n");
    println!("With the series:");
    lab::with_kernel(
        &kernel(),
        &machine,
        "",
        None,
        &mut report,
        suites::demo::run,
    )
    .map_err(|error| report.ended_by(error))?;
    println!("\nThe same driver on the same machine, with the kernel as it is:");
    let stock = KernelOptions {
        kernel: KernelChoice::Stock,
        ..kernel()
    };
    lab::with_kernel(
        &stock,
        &machine,
        "",
        None,
        &mut report,
        suites::demo::refused,
    )
    .map_err(|error| report.ended_by(error))?;
    let mut good = true;
    for test in report
        .tests()
        .iter()
        .filter(|test| test.status != Status::Pass)
    {
        good = false;
        progress::error(&format!(
            "{}: {}",
            test.name,
            test.reason.as_deref().unwrap_or("failed")
        ));
    }
    let (title, folder) = (report.kernels(), report.shown_folder());
    report.finish()?;
    let word = if good {
        "the demo went well"
    } else {
        "the demo failed"
    };
    println!("\n{word}: a Rust driver in Linux {title}, in QEMU; logs: {folder}");
    Ok(good)
}
