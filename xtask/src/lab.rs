// SPDX-License-Identifier: GPL-2.0

//! `cargo xtask lab`.

use anyhow::{bail, Result};

use crate::cache::Cache;
use crate::check::{checkpatch, machines};
use crate::cli::{
    CleanOptions, Driver, InstallOptions, KernelChoice, KernelOptions, LabCommand, LabTestOptions,
    MachineOptions, Profile, Purpose, SeriesOptions, SetupOptions, ShellOptions, SuiteChoice,
};
use crate::count;
use crate::guest::{programs, Initramfs};
use crate::install::{self, Installer};
use crate::kernel::Builder;
use crate::progress;
use crate::repo;
use crate::report::{Logs, Report, Test};
use crate::root::namespace;
use crate::source::Source;
use crate::suites::{self, driver, Filter};
use crate::symbols;
use crate::tools::Tools;
use crate::version;
use crate::vm::{self, Machine};

/// Runs a command of the lab; false if a test failed.
pub(crate) fn run(command: LabCommand) -> Result<bool> {
    match command {
        LabCommand::Setup(options) => setup(&options).map(|()| true),
        LabCommand::Build(options) => build(&options).map(|()| true),
        LabCommand::Test(options) => test(&options),
        LabCommand::Series(options) => series(&options),
        LabCommand::Checkpatch(options) => checkpatch::run(&options),
        LabCommand::Machines(options) => machines::run(&options),
        LabCommand::Count(options) => count::run(&options).map(|()| true),
        LabCommand::Symbols(options) => symbols::run(&options),
        LabCommand::Shell(options) => shell(&options).map(|()| true),
        LabCommand::Install(options) => install(&options).map(|()| true),
        LabCommand::Clean(options) => clean(&options).map(|()| true),
    }
}

fn setup(options: &SetupOptions) -> Result<()> {
    options.linux.check()?;
    let cache = Cache::open()?;
    let tools = Tools::get(&cache)?;
    let source = Source::get(&cache, &tools, &options.linux)?;
    progress::say(format!(
        "ready: Linux {} in {}",
        source.id,
        source.dir.display()
    ));
    Ok(())
}

fn build(options: &KernelOptions) -> Result<()> {
    options.linux.check()?;
    let cache = Cache::open()?;
    let logs = Logs::new("build")?;
    let tools = Tools::get(&cache)?;
    let builder = Builder {
        cache: &cache,
        tools: &tools,
        logs: logs.folder(),
    };
    let kernel = builder.build(options)?;
    progress::say(format!("{}: {}", kernel.release, kernel.image().display()));
    Ok(())
}

fn test(options: &LabTestOptions) -> Result<bool> {
    options.check()?;
    let mut report = Report::new("test")?;
    let outcome = test_into(options, "", &mut report);
    match outcome {
        Ok(()) => report.finish(),
        Err(error) if report.tests().is_empty() => Err(report.ended_by(error)),
        Err(error) => {
            report.could_not("lab", &error)?;
            report.finish()
        }
    }
}

/// Builds, boots and tests, with the results in `report`.
pub(crate) fn test_into(options: &LabTestOptions, label: &str, report: &mut Report) -> Result<()> {
    let kernel = KernelOptions {
        purpose: match options.suite {
            SuiteChoice::Mm => Purpose::Mm,
            _ => Purpose::Lab,
        },
        driver: Some(options.driver()),
        ..options.kernel.clone()
    };
    with_kernel(
        &kernel,
        &options.machine,
        label,
        options.filter.as_deref(),
        report,
        |context, report| suites::run(options.suite, context, report),
    )
}

/// Builds a kernel, and does something with it.
pub(crate) fn with_kernel(
    options: &KernelOptions,
    machine: &MachineOptions,
    label: &str,
    filter: Option<&str>,
    report: &mut Report,
    work: impl FnOnce(&suites::Context<'_>, &mut Report) -> Result<()>,
) -> Result<()> {
    // What is wrong with the options is said before anything is made that takes minutes.
    let filter = Filter::new(filter)?;
    options.linux.check()?;
    let cache = Cache::open()?;
    let tools = Tools::get(&cache)?;
    let logs = report.folder().to_path_buf();
    let builder = Builder {
        cache: &cache,
        tools: &tools,
        logs: &logs,
    };
    let kernel = builder.build(options)?;
    let context = suites::Context {
        builder: &builder,
        options,
        kernel: &kernel,
        driver: options.driver(),
        machine,
        filter: &filter,
        label,
        thorough: true,
    };
    work(&context, report)
}

/// Upstream's tests of device-private memory, but for the one that measures, whose name alone
/// begins so: it takes as long as all others, and on a busy host more than its own harness gives it.
const OF_PRIVATE: &str = "*private.[!b]*";

/// Builds and boots every prefix of the series, with upstream's tests of device-private memory.
fn series(options: &SeriesOptions) -> Result<bool> {
    options.linux.check()?;
    let cache = Cache::open()?;
    let tools = Tools::get(&cache)?;
    let source = Source::get(&cache, &tools, &options.linux)?;
    let names = Installer::load(&repo::top(), source.series)?.series_names();
    for (option, patches) in [("from", Some(options.from)), ("to", options.to)] {
        if let Some(patches) = patches.filter(|patches| !(1..=names.len()).contains(patches)) {
            bail!(
                "the series for {} has {} patches: --{option} {patches} is none of them",
                source.series,
                names.len(),
            );
        }
    }
    let last = options.to.unwrap_or(names.len());
    if last < options.from {
        bail!("--to {last} comes before --from {}", options.from);
    }
    let mut report = Report::new("series")?;
    for (i, name) in names.iter().enumerate().take(last).skip(options.from - 1) {
        progress::say(format!("patch {} of {}: {name}", i + 1, names.len()));
        let kernel = KernelOptions {
            linux: options.linux.clone(),
            arch: options.arch,
            kernel: KernelChoice::Dpmem,
            driver: Some(Driver::C),
            profile: Profile::Plain,
            purpose: Purpose::Lab,
            prefix: Some(i + 1),
            config: Vec::new(),
        };
        let label = format!("{:04}", i + 1);
        let outcome = with_kernel(
            &kernel,
            &MachineOptions::default(),
            &label,
            Some(OF_PRIVATE),
            &mut report,
            |context, report| suites::run(SuiteChoice::Hmm, context, report),
        );
        if let Err(error) = outcome {
            report.add(Test::new(&label, name, Err(format!("{error:#}")), 0.0))?;
            // The next ones begin with it.
            break;
        }
    }
    report.finish()
}

fn shell(options: &ShellOptions) -> Result<()> {
    options.kernel.linux.check()?;
    let cache = Cache::open()?;
    let logs = Logs::new("shell")?;
    let tools = Tools::get(&cache)?;
    let builder = Builder {
        cache: &cache,
        tools: &tools,
        logs: logs.folder(),
    };
    let kernel = builder.build(&options.kernel)?;
    let mut initramfs = Initramfs::new(&tools, kernel.arch)?;
    for module in ["test_hmm", "dpmem-core", "dmirror", "edu"] {
        if let Ok(path) = kernel.module(module) {
            initramfs.module(path);
        }
    }
    initramfs.test(kernel.selftest("hmm-tests")?);
    initramfs.test(programs::build(
        &cache,
        &tools,
        kernel.arch,
        programs::DEMO,
        logs.folder(),
    )?);
    let initrd = logs.folder().join("initramfs.cpio");
    initramfs.write(&initrd)?;
    let mut machine = Machine::new(
        kernel.arch,
        kernel.profile,
        kernel.image(),
        initrd,
        &options.machine,
    )
    .interactive();
    machine.device(&driver::edu_device());
    progress::say(format!(
        "test_hmm's memory that the CPU can address: insmod /modules/test_hmm.ko {}",
        machine.coherent_memory().join(" ")
    ));
    progress::say("the machine is ended with Ctrl-A x");
    vm::interact(&cache, &tools, &machine)
}

fn install(options: &InstallOptions) -> Result<()> {
    let series = version::Series::of_tree(&options.kernel)?;
    let installer = Installer::load(&repo::top(), series)?;
    if options.remove {
        installer.remove(&options.kernel)?;
        progress::say(format!("removed from {}", options.kernel.display()));
    } else {
        installer.install(&options.kernel, install::Series::Apply)?;
        progress::say(format!("installed into {}", options.kernel.display()));
    }
    Ok(())
}

fn clean(options: &CleanOptions) -> Result<()> {
    let cache = Cache::open()?;
    let folders: &[&str] = if options.all {
        &["trees", "src", "roots", "ccache", programs::FOLDER, "logs"]
    } else {
        &["trees", programs::FOLDER]
    };
    if options.old {
        return clean_old(&cache);
    }
    for folder in folders {
        remove_in(&cache, folder, |_| true)?;
    }
    Ok(())
}

/// Removes what is in a folder of the cache, one artefact after another, each under its lock.
fn remove_in(cache: &Cache, folder: &str, which: impl Fn(&str) -> bool) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(cache.path(folder)) else {
        return Ok(());
    };
    for entry in entries.filter_map(std::result::Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if which(&name) {
            let artefact = name.trim_end_matches(".part");
            let lock = match folder {
                "trees" => format!("tree-{artefact}"),
                // Cargo's, for all.
                programs::FOLDER => folder.to_owned(),
                _ => format!("{folder}/{artefact}"),
            };
            let _lock = cache.lock(&lock)?;
            progress::say(format!("removing {folder}/{name}"));
            namespace::remove_tree(&entry.path())?;
        }
    }
    Ok(())
}

fn clean_old(cache: &Cache) -> Result<()> {
    let current = crate::root::Root::name(crate::arch::Arch::host()?);
    remove_in(cache, "roots", |name| format!("roots/{name}") != current)?;
    for folder in ["trees", "src"] {
        remove_in(cache, folder, |name| name.ends_with(".part"))?;
    }
    Ok(())
}
