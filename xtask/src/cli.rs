// SPDX-License-Identifier: GPL-2.0

//! The command line.

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Deserialize;

use crate::arch::Arch;

/// Every command of dpmem.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    disable_version_flag = true
)]
pub(crate) struct Options {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show processes using a device with memory, on a simulated kernel in seconds, or on a real
    /// one.
    Demo(DemoOptions),
    /// Run every test.
    Test(TestOptions),
    /// Run the tests of the layer and the sample over a simulated kernel, in seconds.
    Hosted(HostedOptions),
    /// Kernels and virtual machines.
    #[command(subcommand)]
    Lab(LabCommand),
    /// Measure what things cost, with the series and without.
    #[command(subcommand)]
    Bench(BenchCommand),
}

/// The benchmarks.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// The time and the memory that it takes to register device memory, against its size.
    Register(RegisterOptions),
    /// What the series costs a machine that has no device memory, in instructions.
    Core(CoreOptions),
    /// Upstream's benchmark of migrations, with upstream's driver and with ours, in turn.
    Migrate(MigrateOptions),
}

/// Options of `lab series`.
#[derive(Debug, Args)]
pub(crate) struct SeriesOptions {
    /// 7.3 or 7.2.
    #[arg(long, default_value = "7.3", value_name = "7.3|7.2")]
    pub(crate) linux: LinuxChoice,
    /// The machine's architecture.
    #[arg(long, default_value = "x86_64")]
    pub(crate) arch: Arch,
    /// Begin with so many patches.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) from: usize,
    /// End with so many patches; with all of them, if not given.
    #[arg(long, value_name = "N")]
    pub(crate) to: Option<usize>,
}

/// Options of `lab checkpatch`.
#[derive(Debug, Args)]
pub(crate) struct CheckpatchOptions {
    /// 7.3, 7.2, or the folder of a 7.2 or 7.3 kernel tree, whose checkpatch it is then.
    #[arg(long, default_value = "7.3", value_name = "7.3|7.2|DIR")]
    pub(crate) linux: LinuxChoice,
}

/// Options of `lab machines`.
#[derive(Debug, Args)]
pub(crate) struct MachinesOptions {
    /// 7.3 or 7.2.
    #[arg(long, default_value = "7.3", value_name = "7.3|7.2", value_parser = version)]
    pub(crate) linux: crate::version::Series,
    /// Only machines whose name contains this, or matches it if it has `*`, `?` or `[` in it; with
    /// `!` before it, all others. May be given several times, for more of them.
    #[arg(long, value_name = "NAME")]
    pub(crate) filter: Vec<String>,
}

/// Options of `lab count`.
#[derive(Debug, Args)]
pub(crate) struct CountOptions {
    /// 7.3 or 7.2.
    #[arg(long, default_value = "7.3", value_name = "7.3|7.2", value_parser = version)]
    pub(crate) linux: crate::version::Series,
}

/// Options of `lab symbols`.
#[derive(Debug, Args)]
pub(crate) struct SymbolsOptions {
    /// 7.3 or 7.2.
    #[arg(long, default_value = "7.3", value_name = "7.3|7.2")]
    pub(crate) linux: LinuxChoice,
}

/// Options of `bench`.
#[derive(Debug, Args)]
pub(crate) struct BenchOptions {
    /// 7.3, 7.2, or the folder of a 7.2 or 7.3 kernel tree (copied, never changed).
    #[arg(long, default_value = "7.3", value_name = "7.3|7.2|DIR")]
    pub(crate) linux: LinuxChoice,
    /// The machine's architecture.
    #[arg(long, default_value = "x86_64")]
    pub(crate) arch: Arch,
    /// A symbol of the kernels' configuration that is to be different: kernels of their own. May be
    /// given several times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = config_symbol)]
    pub(crate) config: Vec<String>,
    #[command(flatten)]
    pub(crate) machine: MachineOptions,
}

/// Options of `bench register`.
#[derive(Debug, Args)]
pub(crate) struct RegisterOptions {
    #[command(flatten)]
    pub(crate) kernel: BenchOptions,
    /// Plain, or with all of the kernel's checks: then only the kernel with the series is measured,
    /// which the limits are for.
    #[arg(long, default_value = "plain")]
    pub(crate) profile: Profile,
}

/// Options of `bench core`.
#[derive(Debug, Args)]
pub(crate) struct CoreOptions {
    #[command(flatten)]
    pub(crate) kernel: BenchOptions,
    /// How often each kernel is booted.
    #[arg(long, default_value = "5", value_name = "N")]
    pub(crate) boots: NonZeroU32,
}

/// Options of `bench migrate`.
#[derive(Debug, Args)]
pub(crate) struct MigrateOptions {
    #[command(flatten)]
    pub(crate) kernel: BenchOptions,
    /// How often each driver is measured.
    #[arg(long, default_value = "5", value_name = "N")]
    pub(crate) runs: NonZeroU32,
    /// Count the instructions of a machine with one processor: these do not depend on what else the
    /// host does.
    #[arg(long)]
    pub(crate) instructions: bool,
}

/// Options of `demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoOptions {
    /// Run on a real kernel, in a virtual machine. What is said about that machine needs this.
    #[arg(long)]
    pub(crate) vm: bool,
    /// Where to write the picture of the simulated kernel's memory [default:
    /// target/demo/timeline.svg].
    #[arg(long, value_name = "FILE", conflicts_with = "vm")]
    pub(crate) svg: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) machine: MachineOptions,
}

/// Options of `hosted`.
#[derive(Debug, Args)]
pub(crate) struct HostedOptions {
    /// Whose Rust files to use: 7.3, 7.2, or the folder of a kernel tree.
    #[arg(long, default_value = "7.3", value_name = "7.3|7.2|DIR")]
    pub(crate) linux: LinuxChoice,
    /// What kernel to simulate: one with the series, or as upstream made it.
    #[arg(long, value_enum, default_value_t = KernelChoice::Dpmem)]
    pub(crate) kernel: KernelChoice,
    /// Tell which lines of the layer the tests reach, over both kernels.
    #[arg(long, conflicts_with_all = ["kernel", "arguments"])]
    pub(crate) coverage: bool,
    /// Run the tests under AddressSanitizer, which finds accesses to memory that was freed, or is
    /// nobody's.
    #[arg(long, conflicts_with = "coverage")]
    pub(crate) sanitize: bool,
    /// What else to say to `cargo test`.
    #[arg(last = true)]
    pub(crate) arguments: Vec<String>,
}

/// Options of `test`.
#[derive(Debug, Args)]
pub(crate) struct TestOptions {
    /// Also what does not fit into an hour: 7.2, arm64, the debug profile, machines of other kinds,
    /// checkpatch, the sanitizer, threads in many orders, upstream's mm tests.
    #[arg(long)]
    pub(crate) full: bool,
}

/// The commands of the lab.
#[derive(Debug, Subcommand)]
pub(crate) enum LabCommand {
    /// Make the Debian root with the tools, and fetch the kernel source.
    Setup(SetupOptions),
    /// Build a kernel, and its test programs.
    Build(KernelOptions),
    /// Boot a kernel and run test suites in it.
    Test(LabTestOptions),
    /// Build and boot every prefix of the series.
    Series(SeriesOptions),
    /// Run the kernel's own checkpatch on each patch of the series.
    Checkpatch(CheckpatchOptions),
    /// Run tests with the series on machines and configurations of other kinds.
    Machines(MachinesOptions),
    /// Count the lines that the series adds and removes, by file.
    Count(CountOptions),
    /// Build the drivers of the tree that have device memory, tell which of them take physical
    /// address space for it, and load what is a module.
    Symbols(SymbolsOptions),
    /// Boot a kernel to a shell.
    Shell(ShellOptions),
    /// Put the Rust parts (and the series) into a kernel tree of your own, or take them out.
    Install(InstallOptions),
    /// Remove what the lab built.
    Clean(CleanOptions),
}

/// Options of `lab setup`.
#[derive(Debug, Args)]
pub(crate) struct SetupOptions {
    /// The kernel source to fetch: 7.3 or 7.2.
    #[arg(long, default_value = "7.3")]
    pub(crate) linux: LinuxChoice,
}

/// Where a kernel comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LinuxChoice {
    /// Debian's package of this version.
    Package(crate::version::Series),
    /// Somebody's own tree.
    Tree(PathBuf),
}

impl LinuxChoice {
    /// Refuses a folder that is no kernel tree, or not of a version that is supported.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        match self {
            Self::Package(_) => Ok(()),
            Self::Tree(dir) => crate::version::Series::of_tree(dir).map(|_| ()),
        }
    }
}

impl std::str::FromStr for LinuxChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(series) = crate::version::Series::parse(text) {
            return Ok(Self::Package(series));
        }
        let looks_like_version = text.chars().all(|c| c.is_ascii_digit() || c == '.');
        if looks_like_version && !std::path::Path::new(text).exists() {
            return Err(format!(
                "version {text} is not supported: say 7.3, 7.2, or the folder of a kernel tree"
            ));
        }
        Ok(Self::Tree(PathBuf::from(text)))
    }
}

/// A version that has a package.
fn version(text: &str) -> Result<crate::version::Series, String> {
    crate::version::Series::parse(text).ok_or_else(|| "say 7.3 or 7.2".to_owned())
}

/// A line of a kernel configuration, from what the user says: `CONFIG_` may be left out.
pub(crate) fn config_symbol(text: &str) -> Result<String, String> {
    let line = text.strip_prefix("CONFIG_").unwrap_or(text);
    let (name, value) = line.split_once('=').ok_or("it has no =")?;
    let symbol = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    if name.is_empty() || !name.chars().all(symbol) {
        return Err(format!("{name:?} is no symbol of a kernel configuration"));
    }
    let number = match value.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).is_ok(),
        None => value.parse::<u64>().is_ok(),
    };
    if !number && !matches!(value, "y" | "m" | "n") {
        return Err(format!("{value:?} is neither y, m or n, nor a number"));
    }
    Ok(format!("CONFIG_{name}={value}"))
}

/// Arguments of a kernel that says what it has to report.
pub(crate) fn kernel_arguments(text: &str) -> Result<String, String> {
    let silences = |word: &str| word == "quiet" || word.starts_with("loglevel=");
    match text.split_whitespace().find(|word| silences(word)) {
        Some(word) => Err(format!(
            "with {word:?}, what the kernel reports would not be seen"
        )),
        None => Ok(text.to_owned()),
    }
}

/// Whose kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum KernelChoice {
    /// As upstream made it.
    Stock,
    /// With the series.
    Dpmem,
}

/// Which driver the tests use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Driver {
    /// The kernel's own `lib/test_hmm.c`.
    C,
    /// Our sample.
    Rust,
}

/// How a kernel is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Profile {
    /// Fast.
    Plain,
    /// With every check the kernel has.
    Debug,
}

/// A set of tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SuiteChoice {
    /// The kernel tree's own hmm-tests.
    Hmm,
    /// The kernel tree's tests of memory management, compared with the stock kernel.
    Mm,
    /// KUnit tests of the Rust parts.
    Kunit,
    /// Our own tests.
    Dpmem,
    /// nouveau's device memory, in C or in Rust, on a card that is not there.
    Nouveau,
    /// xe's pagemaps in Rust, on cards that are not there.
    Xe,
    /// Bugs of the kernel's core that the series mends: each shows on a stock kernel, and on ours
    /// it does not.
    Bugs,
    /// All that fit the driver, but for the bugs, which a stock kernel may not survive.
    All,
}

impl SuiteChoice {
    /// The driver that it is about, if it is about one.
    fn driver(self) -> Option<Driver> {
        match self {
            // Their tests are in the Rust parts, or are for what those can do; of xe's C code, they
            // would need the hardware.
            Self::Kunit | Self::Dpmem | Self::Xe => Some(Driver::Rust),
            // Most are what test_hmm runs into.
            Self::Bugs => Some(Driver::C),
            Self::Hmm | Self::Mm | Self::Nouveau | Self::All => None,
        }
    }

    /// Whether it has something for `driver`.
    pub(crate) fn takes(self, driver: Driver) -> bool {
        self == Self::Bugs || self.driver().is_none_or(|only| only == driver)
    }
}

/// What a kernel is for. Each has a kernel of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The lab's own tests.
    #[default]
    Lab,
    /// Upstream's tests of memory management, which need a lot on top.
    Mm,
    /// Looking at the drivers of the tree.
    Drivers,
    /// Looking at powerpc's, which is compiled for powerpc, whatever the architecture is.
    Uvmem,
}

impl Purpose {
    /// As it is in the name of a kernel.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::Lab => "",
            Self::Mm => "-mm",
            Self::Drivers => "-drivers",
            Self::Uvmem => "-uvmem",
        }
    }
}

/// Options that choose a kernel.
#[derive(Clone, Debug, Args)]
pub(crate) struct KernelOptions {
    /// 7.3, 7.2, or the folder of a 7.2 or 7.3 kernel tree (copied, never changed).
    #[arg(long, default_value = "7.3", value_name = "7.3|7.2|DIR")]
    pub(crate) linux: LinuxChoice,
    /// The machine's architecture.
    #[arg(long, default_value = "x86_64")]
    pub(crate) arch: Arch,
    /// The kernel: as upstream made it, or with the series.
    #[arg(long, default_value = "dpmem")]
    pub(crate) kernel: KernelChoice,
    /// The driver; `c` for a stock kernel and `rust` for dpmem's, if not given.
    #[arg(long)]
    pub(crate) driver: Option<Driver>,
    /// Plain, or with all of the kernel's checks.
    #[arg(long, default_value = "plain")]
    pub(crate) profile: Profile,
    /// A symbol of the kernel's configuration that is to be different: a kernel of its own. May be
    /// given several times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = config_symbol)]
    pub(crate) config: Vec<String>,
    /// What it is for.
    #[arg(skip)]
    pub(crate) purpose: Purpose,
    /// With so many patches of the series, and without the Rust parts.
    #[arg(skip)]
    pub(crate) prefix: Option<usize>,
}

impl KernelOptions {
    /// The driver that was asked for, or the kernel's usual one.
    pub(crate) fn driver(&self) -> Driver {
        self.driver.unwrap_or(match self.kernel {
            KernelChoice::Stock => Driver::C,
            KernelChoice::Dpmem => Driver::Rust,
        })
    }
}

/// Options of the virtual machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub(crate) struct MachineOptions {
    /// QEMU's `-cpu`.
    #[arg(long, value_name = "QEMU_CPU")]
    pub(crate) cpu: Option<String>,
    /// More kernel arguments.
    #[arg(
        long,
        value_name = "KERNEL_ARGS",
        allow_hyphen_values = true,
        value_parser = kernel_arguments
    )]
    pub(crate) append: Option<String>,
    /// Memory, as 4G or 3072M.
    #[arg(long, value_name = "SIZE")]
    pub(crate) mem: Option<MemorySize>,
    /// CPUs: a suite can want more than there usually are.
    #[arg(skip)]
    pub(crate) cpus: Option<u32>,
    /// Whether QEMU itself has to be its CPU: what KVM has is the host's.
    #[arg(skip)]
    pub(crate) emulated: bool,
    /// Shell lines that do not fail in such a machine.
    #[arg(skip)]
    pub(crate) checks: Vec<String>,
    /// Two nodes, each with half of the memory: for tests that move pages.
    #[arg(skip)]
    pub(crate) two_nodes: bool,
    /// One more device of the machine, as QEMU's command line names it; it comes before all others.
    #[arg(long, value_name = "QEMU_DEVICE")]
    pub(crate) device: Vec<String>,
}

impl MachineOptions {
    /// True if the user has said nothing about the machine.
    pub(crate) fn is_usual(&self) -> bool {
        let Self {
            cpu,
            append,
            mem,
            device,
            cpus: _,
            emulated: _,
            checks: _,
            two_nodes: _,
        } = self;
        cpu.is_none() && append.is_none() && mem.is_none() && device.is_empty()
    }
}

/// An amount of memory, in MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemorySize(pub(crate) u64);

impl std::str::FromStr for MemorySize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text} is not a size: say 4G or 3072M");
        let (digits, factor) = match text.strip_suffix(['G', 'g']) {
            Some(digits) => (digits, 1024),
            None => (text.strip_suffix(['M', 'm']).ok_or_else(wrong)?, 1),
        };
        let number: u64 = digits.parse().map_err(|_| wrong())?;
        let mib = number.checked_mul(factor).ok_or_else(wrong)?;
        // The first GiB is below 4 GiB; what is above begins with the memory that devices share
        // with the CPU.
        if !(1024..=1024 * 1024).contains(&mib) {
            return Err(format!("{text} is out of bounds: between 1G and 1024G"));
        }
        Ok(Self(mib))
    }
}

/// Options of `lab test`.
#[derive(Clone, Debug, Args)]
pub(crate) struct LabTestOptions {
    #[command(flatten)]
    pub(crate) kernel: KernelOptions,
    /// The tests to run.
    #[arg(long, default_value = "hmm")]
    pub(crate) suite: SuiteChoice,
    /// Only tests whose name contains this, or matches it if it has `*`, `?` or `[` in it; with `!`
    /// before it, all others.
    #[arg(long, value_name = "PATTERN")]
    pub(crate) filter: Option<String>,
    #[command(flatten)]
    pub(crate) machine: MachineOptions,
}

impl LabTestOptions {
    /// The driver that was asked for, or the one that the suite is about, or the kernel's usual
    /// one.
    pub(crate) fn driver(&self) -> Driver {
        let of_suite = self.suite.driver();
        let asked = self.kernel.driver.or(of_suite);
        asked.unwrap_or_else(|| self.kernel.driver())
    }

    /// Refuses what does not go together, before anything is made that takes minutes.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let (Some(of_suite), Some(asked)) = (self.suite.driver(), self.kernel.driver) else {
            return Ok(());
        };
        anyhow::ensure!(
            self.suite.takes(asked),
            "--suite {} needs --driver {}",
            value_name(&self.suite),
            value_name(&of_suite)
        );
        Ok(())
    }
}

/// What the user says for a value.
pub(crate) fn value_name(value: &impl ValueEnum) -> String {
    let possible = value.to_possible_value();
    possible.map_or_else(String::new, |value| value.get_name().to_owned())
}

/// Options of `lab shell`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ShellOptions {
    #[command(flatten)]
    pub(crate) kernel: KernelOptions,
    #[command(flatten)]
    pub(crate) machine: MachineOptions,
}

/// Options of `lab install`.
#[derive(Debug, Args)]
pub(crate) struct InstallOptions {
    /// The kernel tree.
    #[arg(long, value_name = "DIR")]
    pub(crate) kernel: PathBuf,
    /// Take everything out again.
    #[arg(long)]
    pub(crate) remove: bool,
}

/// Options of `lab clean`.
#[derive(Debug, Args)]
pub(crate) struct CleanOptions {
    /// Everything: the root, the sources and the compiler's cache as well.
    #[arg(long, conflicts_with = "old")]
    pub(crate) all: bool,
    /// Only what newer builds have replaced.
    #[arg(long)]
    pub(crate) old: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn sizes() {
        assert_eq!("4G".parse(), Ok(MemorySize(4096)));
        assert_eq!("3072M".parse(), Ok(MemorySize(3072)));
        for wrong in ["", "4", "G", "4T", "-1G", "1M", "99999999999999999G"] {
            assert!(wrong.parse::<MemorySize>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_version_nobody_supports_is_refused() {
        assert!("6.12".parse::<LinuxChoice>().is_err());
        assert!(matches!("7.2".parse(), Ok(LinuxChoice::Package(_))));
        assert!(matches!("/usr/src/linux".parse(), Ok(LinuxChoice::Tree(_))));
    }

    #[test]
    fn arguments_that_silence_a_kernel() {
        assert!(kernel_arguments("nokaslr quiet").is_err());
        assert!(kernel_arguments("loglevel=3").is_err());
        assert_eq!(
            kernel_arguments("no5lvl x=quiet").unwrap(),
            "no5lvl x=quiet"
        );
    }

    #[test]
    fn a_symbol_of_the_configuration() {
        assert_eq!(
            config_symbol("ARM64_VA_BITS_39=y"),
            Ok("CONFIG_ARM64_VA_BITS_39=y".to_owned())
        );
        assert_eq!(
            config_symbol("CONFIG_NR_CPUS=2"),
            Ok("CONFIG_NR_CPUS=2".to_owned())
        );
        for wrong in [
            "", "KSM", "ksm=y", "KSM=", "KSM=yes", "=y", "A/B=y", "KSM=../y",
        ] {
            assert!(config_symbol(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_driver_follows_the_suite() {
        let parse = |arguments: &[&str]| {
            let mut line = vec!["xtask", "lab", "test", "--suite"];
            line.extend_from_slice(arguments);
            match Options::try_parse_from(line).unwrap().command {
                Command::Lab(LabCommand::Test(options)) => {
                    options.check().map(|()| options.driver()).ok()
                }
                _ => panic!("not a test"),
            }
        };
        assert_eq!(parse(&["bugs"]), Some(Driver::C));
        assert_eq!(parse(&["bugs", "--driver", "rust"]), Some(Driver::Rust));
        assert_eq!(parse(&["kunit", "--kernel", "stock"]), Some(Driver::Rust));
        assert_eq!(parse(&["xe", "--driver", "c"]), None);
        assert_eq!(parse(&["hmm", "--kernel", "stock"]), Some(Driver::C));
        assert_eq!(parse(&["nouveau", "--driver", "c"]), Some(Driver::C));
    }

    #[test]
    fn the_driver_follows_the_kernel() {
        let parse = |arguments: &[&str]| {
            let mut line = vec!["xtask", "lab", "build"];
            line.extend_from_slice(arguments);
            match Options::try_parse_from(line).unwrap().command {
                Command::Lab(LabCommand::Build(options)) => options.driver(),
                _ => panic!("not a build"),
            }
        };
        assert_eq!(parse(&[]), Driver::Rust);
        assert_eq!(parse(&["--kernel", "stock"]), Driver::C);
        assert_eq!(
            parse(&["--kernel", "stock", "--driver", "rust"]),
            Driver::Rust
        );
    }
}
