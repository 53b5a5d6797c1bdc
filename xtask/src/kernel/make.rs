// SPDX-License-Identifier: GPL-2.0

//! Calling make in a kernel tree.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{jobs, Builder};
use crate::arch::Arch;
use crate::cache;
use crate::cli::{KernelOptions, Profile};
use crate::disk;
use crate::process::Logged;
use crate::progress::Step;
use crate::tools::Job;

/// How many lines a full build of each kind printed the last time.
const SIZES: &str = "build-sizes.json";
/// About how many lines a full build of the lab's configuration prints.
const USUAL_SIZE: u64 = 2300;
/// The kernel tree, as the compilers see it: the same for every tree, so that ccache's hits do not
/// depend on it.
const INSIDE: &str = "/linux";

/// What compiles a kernel's C files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compiler {
    /// What most kernels are compiled with.
    Gcc,
    /// With the rest of LLVM.
    Clang,
}

impl Compiler {
    /// What it takes for such a kernel: with KASAN, Rust depends on clang, and so does C that is
    /// compiled into Rust code.
    pub(super) fn of(options: &KernelOptions) -> Self {
        // The last word counts, as in a configuration.
        let inlines = options
            .config
            .iter()
            .filter_map(|line| line.split_once('='));
        let mut inlines = inlines.filter(|(name, _)| *name == "CONFIG_RUST_INLINE_HELPERS");
        let inlines = inlines.next_back().is_some_and(|(_, value)| value == "y");
        match (options.profile, inlines) {
            (Profile::Plain, false) => Self::Gcc,
            (Profile::Plain, true) | (Profile::Debug, _) => Self::Clang,
        }
    }
}

/// make in one tree.
#[derive(Debug)]
pub(crate) struct Make<'a> {
    builder: &'a Builder<'a>,
    tree: &'a Path,
    name: &'a str,
    arch: Arch,
    compiler: Compiler,
    powerpc: bool,
}

impl<'a> Make<'a> {
    /// For the tree `tree`, called `name`.
    pub(crate) fn new(
        builder: &'a Builder<'a>,
        tree: &'a Path,
        name: &'a str,
        arch: Arch,
        compiler: Compiler,
    ) -> Self {
        Self {
            builder,
            tree,
            name,
            arch,
            compiler,
            powerpc: false,
        }
    }

    /// The same, for powerpc, for which there is no machine here.
    pub(crate) fn for_powerpc(self) -> Self {
        Self {
            powerpc: true,
            ..self
        }
    }

    /// The tree.
    pub(crate) fn tree(&self) -> &Path {
        self.tree
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        self.name
    }

    /// Where the output goes.
    fn log(&self) -> PathBuf {
        self.builder.logs.join(format!("build-{}.log", self.name))
    }

    /// The tree, as make sees it.
    pub(crate) fn inside(&self, path: &str) -> PathBuf {
        match self.builder.tools.root() {
            Some(_) => Path::new(INSIDE).join(path),
            None => self.tree.join(path),
        }
    }

    fn job(&self) -> Result<Job<'a>> {
        let tools = self.builder.tools;
        let mut job = tools.job();
        let tree = job.bind(self.tree, INSIDE);
        let ccache = job.bind(&self.builder.cache.folder("ccache")?, "/ccache");
        job.folder(&tree);
        job.env("CCACHE_DIR", ccache);
        job.env("CCACHE_MAXSIZE", "10G");
        job.env("RUST_LIB_SRC", tools.rust_library()?);
        // The same file from the same source, whoever builds it and when.
        job.env("KBUILD_BUILD_TIMESTAMP", "2026-01-01");
        job.env("KBUILD_BUILD_USER", "dpmem");
        job.env("KBUILD_BUILD_HOST", "lab");
        Ok(job)
    }

    /// The variables that every call needs.
    pub(crate) fn variables(&self) -> Result<Vec<String>> {
        if self.powerpc {
            // clang compiles for it without a compiler of its own.
            return Ok(vec!["ARCH=powerpc".to_owned(), "LLVM=1".to_owned()]);
        }
        let mut variables = vec![format!("ARCH={}", self.arch.kernel())];
        if self.arch != Arch::host()? {
            variables.push(format!("CROSS_COMPILE={}-", self.arch.triplet()));
        }
        if self.compiler == Compiler::Clang {
            variables.push("LLVM=1".to_owned());
        }
        Ok(variables)
    }

    /// The programs that such a build needs besides those that all need.
    pub(crate) fn programs(arch: Arch, compiler: Compiler) -> Result<Vec<String>> {
        let mut programs = Vec::new();
        if arch != Arch::host()? {
            programs.extend(["gcc", "ld"].map(|name| format!("{}-{name}", arch.triplet())));
            programs.push(arch.qemu().to_owned());
        }
        if compiler == Compiler::Clang {
            let llvm = [
                "clang",
                "ld.lld",
                "llvm-ar",
                "llvm-link",
                "llvm-nm",
                "llvm-objcopy",
            ];
            programs.extend(llvm.map(str::to_owned));
        }
        Ok(programs)
    }

    /// The C compiler of the kernel tree's programs.
    pub(crate) fn cc(&self) -> Result<String> {
        Ok(if self.arch == Arch::host()? {
            "gcc".to_owned()
        } else {
            format!("{}-gcc", self.arch.triplet())
        })
    }

    fn command(&self, arguments: &[OsString]) -> Result<Command> {
        let mut command = self.job()?.command("make");
        command.args(self.variables()?).args(arguments);
        Ok(command)
    }

    fn logged(&self, what: &str, command: &mut Command, on_line: impl FnMut(&str)) -> Result<()> {
        disk::require(self.builder.cache.dir(), disk::STEP)?;
        let advice = "mend what the first error names, and run the same command again";
        Logged {
            what,
            log: &self.log(),
            advice,
        }
        .run(command, on_line)
    }

    /// Runs make.
    pub(crate) fn run(&self, what: &str, arguments: &[&str]) -> Result<()> {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        self.logged(what, &mut self.command(&arguments)?, |_| {})
    }

    /// Runs make, and returns the warnings about Rust code in its output.
    pub(crate) fn warnings(&self, what: &str, arguments: &[&str]) -> Result<Vec<String>> {
        let mut all: Vec<OsString> = vec![format!("-j{}", jobs()).into()];
        all.extend(arguments.iter().map(OsString::from));
        let mut found = Vec::new();
        let mut follows = 0;
        self.logged(what, &mut self.command(&all)?, |line| {
            if line.starts_with("warning: ") || line.starts_with("warning[") {
                follows = 4;
            }
            if follows > 0 {
                follows -= 1;
                found.push(line.to_owned());
            }
        })?;
        Ok(found)
    }

    /// Builds the modules in a folder outside of the tree.
    pub(crate) fn external(&self, folder: &Path) -> Result<()> {
        let mut job = self.job()?;
        let inside = job.bind(folder, "/module");
        let mut command = job.command("make");
        command
            .args(self.variables()?)
            .arg(format!("M={}", inside.display()))
            .arg("modules");
        self.logged("building a module", &mut command, |_| {})
    }

    /// Runs a shell command in the tree.
    pub(crate) fn shell(&self, what: &str, line: &str) -> Result<()> {
        let mut command = self.job()?.command("sh");
        self.logged(what, command.args(["-c", line]), |_| {})
    }

    /// Builds the image and `targets`, with these variables; `kind` is what the size of a build
    /// depends on.
    pub(crate) fn kernel(&self, kind: &str, variables: &[&str], targets: &[&str]) -> Result<()> {
        let sizes = self.builder.cache.path(SIZES);
        let mut known: BTreeMap<String, u64> = fs::read(&sizes)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        let image = self.tree.join(self.arch.image_path());
        let first = !image.exists();
        let total = first.then(|| known.get(kind).copied().unwrap_or(USUAL_SIZE));
        let mut step = Step::start(format!("building {}", self.name), total);
        let mut arguments: Vec<OsString> = vec![format!("-j{}", jobs()).into()];
        arguments.extend(variables.iter().map(OsString::from));
        arguments.push(self.arch.image_target().into());
        arguments.extend(targets.iter().map(OsString::from));
        self.logged(
            "building the kernel",
            &mut self.command(&arguments)?,
            |line| {
                // "  CC      mm/memremap.o": a command's name and its object.
                if line.starts_with("  ") {
                    step.tick(line.trim().to_owned());
                }
            },
        )?;
        if first {
            known.insert(kind.to_owned(), step.done());
            let text = serde_json::to_vec_pretty(&known).context("cannot write JSON")?;
            cache::write_atomically(&sizes, &text)?;
        }
        step.finish();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::cli::{KernelChoice, LinuxChoice, Purpose};
    use crate::version::Series;

    #[test]
    fn what_takes_clang() {
        let of = |profile, config: &[&str]| {
            Compiler::of(&KernelOptions {
                linux: LinuxChoice::Package(Series::V7_3),
                arch: Arch::X86_64,
                kernel: KernelChoice::Dpmem,
                driver: None,
                profile,
                config: config.iter().map(|line| (*line).to_owned()).collect(),
                purpose: Purpose::Lab,
                prefix: None,
            })
        };
        let (yes, no) = (
            "CONFIG_RUST_INLINE_HELPERS=y",
            "CONFIG_RUST_INLINE_HELPERS=n",
        );
        assert_eq!(of(Profile::Plain, &["CONFIG_CMA=y"]), Compiler::Gcc);
        assert_eq!(of(Profile::Plain, &[no, yes]), Compiler::Clang);
        assert_eq!(of(Profile::Plain, &[yes, no]), Compiler::Gcc);
        assert_eq!(of(Profile::Debug, &[no]), Compiler::Clang);
    }
}
