// SPDX-License-Identifier: GPL-2.0

//! `lab symbols`: which drivers of the tree take physical address space for device memory.

mod xe;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{bail, Context as _, Result};

use crate::arch::Arch;
use crate::cache::Cache;
use crate::cli::{Driver, KernelChoice, KernelOptions, Profile, Purpose, SymbolsOptions};
use crate::kernel::{drivers, Builder, Kernel};
use crate::report::{Report, Test};
use crate::suites;
use crate::tools::Tools;

/// What takes it, and gives it back.
const REGION: [&str; 4] = [
    "request_free_mem_region",
    "devm_request_free_mem_region",
    "__devm_release_region",
    "__release_region",
];

/// Builds the drivers of both kernels, prints the table, and loads the modules; false if a driver
/// of ours takes address space, or one of the stock kernel does not, or a module does not load.
pub(crate) fn run(options: &SymbolsOptions) -> Result<bool> {
    options.linux.check()?;
    let cache = Cache::open()?;
    let tools = Tools::get(&cache)?;
    let mut report = Report::new("symbols")?;
    let logs = report.folder().to_path_buf();
    let builder = Builder {
        cache: &cache,
        tools: &tools,
        logs: &logs,
    };
    let kernel = |choice, driver, purpose| KernelOptions {
        linux: options.linux.clone(),
        arch: Arch::X86_64,
        kernel: choice,
        driver: Some(driver),
        profile: Profile::Plain,
        purpose,
        prefix: None,
        config: Vec::new(),
    };
    let mut table = format!("{:<10} {:<56} with the series\n", "driver", "stock");
    let mut tests = Vec::new();
    let mut compare = |stock: &Kernel, ours: &Kernel, driver: &drivers::Driver| -> Result<()> {
        let before = regions(&tools, stock, driver.object)?;
        let mut after = Vec::new();
        for file in driver.module.iter().chain(driver.objects) {
            let symbols = regions(&tools, ours, file)?.into_iter();
            after.extend(symbols.map(|symbol| format!("{symbol} ({file})")));
        }
        let mut lacks = None;
        if let (Some(file), Some(function)) = (driver.module, driver.ours) {
            let symbols = symbols(&tools, ours, file, "--defined-only")?;
            if !symbols.iter().any(|symbol| symbol == function) {
                lacks = Some(format!("{file} has no {function}(): is it in C?"));
            }
        }
        table.push_str(&format!(
            "{:<10} {:<56} {}\n",
            driver.name,
            listed(&before),
            listed(&after)
        ));
        let verdict = match (before.is_empty(), after.is_empty()) {
            (false, true) => lacks.map_or(Ok(()), Err),
            (_, false) => Err(format!("with the series it needs {}", listed(&after))),
            (true, true) => Err(format!(
                "{} of the stock kernel needs none of them: has it moved?",
                driver.object
            )),
        };
        tests.push(Test::new("symbols", driver.name, verdict, 0.0));
        Ok(())
    };
    let pair = |driver, purpose| -> Result<(Kernel, KernelOptions, Kernel)> {
        let stock = builder.build(&kernel(KernelChoice::Stock, Driver::C, purpose))?;
        let options = kernel(KernelChoice::Dpmem, driver, purpose);
        let ours = builder.build(&options)?;
        Ok((stock, options, ours))
    };
    let (stock, _, built) = pair(Driver::C, Purpose::Uvmem)?;
    compare(&stock, &built, &drivers::UVMEM)?;
    let (stock, ours, built) = pair(Driver::Rust, Purpose::Drivers)?;
    for driver in drivers::ALL {
        compare(&stock, &built, driver)?;
    }
    tests.push(xe::test(&tools, &stock, &built)?);
    drop(stock);
    print!("{table}");
    for test in tests {
        report.add(test)?;
    }
    suites::load(&builder, &ours, &built, &modules(), &mut report)?;
    report.finish()
}

/// The modules that are loaded and unloaded, by their names.
fn modules() -> Vec<&'static str> {
    drivers::ALL
        .iter()
        .filter_map(|driver| Path::new(driver.module?).file_stem()?.to_str())
        .collect()
}

fn listed(symbols: &[String]) -> String {
    match symbols {
        [] => "-".to_owned(),
        symbols => symbols.join(", "),
    }
}

/// What a file of the tree needs of those that have to do with address space.
fn regions(tools: &Tools, kernel: &Kernel, file: &str) -> Result<Vec<String>> {
    let mut needed = symbols(tools, kernel, file, "--undefined-only")?;
    needed.retain(|symbol| REGION.contains(&symbol.as_str()));
    Ok(needed)
}

/// The symbols of a file of the tree, of the kind that nm's option `which` says.
fn symbols(tools: &Tools, kernel: &Kernel, file: &str, which: &str) -> Result<Vec<String>> {
    // What is built of `a/../b` is `b`.
    let path: PathBuf = kernel.tree.join(file);
    let path = path
        .canonicalize()
        .with_context(|| format!("{} was not built", path.display()))?;
    let (folder, name) = path
        .parent()
        .zip(path.file_name())
        .with_context(|| format!("{} is no file", path.display()))?;
    let mut job = tools.job();
    let inside = job.bind(folder, "/objects");
    let mut command: Command = job.command("llvm-nm");
    let output = command
        .args([which, "--format=just-symbols"])
        .arg(inside.join(name))
        .output()
        .context("cannot run nm")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("nm does not like {}: {}", path.display(), said.trim());
    }
    let names = String::from_utf8_lossy(&output.stdout);
    Ok(names.lines().map(|name| name.trim().to_owned()).collect())
}
