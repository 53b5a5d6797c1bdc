// SPDX-License-Identifier: GPL-2.0

//! Kernels: a source, a configuration and our parts become an image, modules and test programs.

mod config;
pub(crate) mod drivers;
mod make;
mod selftests;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{bail, Context, Result};
use sha2::{Digest, Sha256};
use walkdir::WalkDir;

use crate::arch::Arch;
use crate::cache::{Cache, Lock};
use crate::cli::{Driver, KernelChoice, KernelOptions, Profile, Purpose};
use crate::disk;
use crate::install::{self, Installer};
use crate::process::Logged;
use crate::progress::{self, Step};
use crate::repo;
use crate::root::{namespace, short};
use crate::source::Source;
use crate::tools::Tools;
use crate::version::Series;

use make::Compiler;
pub(crate) use make::Make;

/// What a kernel tree has on top of its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// Nothing.
    Stock,
    /// The Rust parts.
    Rust,
    /// The Rust parts and the series.
    Dpmem,
    /// The first patches of the series, and no Rust parts in the configuration.
    Prefix,
}

impl Flavour {
    /// The flavour of a kernel with the Rust parts. While there is no series, dpmem's kernel is
    /// stock with the Rust parts, and a build of one serves as the other.
    fn choose(kernel: KernelChoice, has_series: bool) -> Self {
        match kernel {
            KernelChoice::Dpmem if has_series => Self::Dpmem,
            KernelChoice::Dpmem | KernelChoice::Stock => Self::Rust,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Stock => "stock",
            Self::Rust => "rust",
            Self::Dpmem => "dpmem",
            Self::Prefix => "prefix",
        }
    }

    /// What a new tree may begin as a copy of, the best first. Always with less in it: each waits
    /// for the other's lock.
    fn begins_as(self) -> &'static [Self] {
        match self {
            Self::Stock => &[],
            Self::Rust | Self::Prefix => &[Self::Stock],
            Self::Dpmem => &[Self::Rust, Self::Stock],
        }
    }
}

/// What is needed to build a kernel.
#[derive(Debug)]
pub(crate) struct Builder<'a> {
    /// Where it is built.
    pub(crate) cache: &'a Cache,
    /// With what.
    pub(crate) tools: &'a Tools,
    /// Where the logs go.
    pub(crate) logs: &'a Path,
}

/// A built kernel. Its tree is locked as long as this lives.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// Its name in the cache.
    pub(crate) name: String,
    /// Its tree.
    pub(crate) tree: PathBuf,
    /// Its architecture.
    pub(crate) arch: Arch,
    /// The series of versions that it belongs to.
    pub(crate) series: Series,
    /// Its configuration's profile.
    pub(crate) profile: Profile,
    /// What has compiled it, and compiles modules for it.
    compiler: Compiler,
    /// What `uname -r` says.
    pub(crate) release: String,
    _lock: Lock,
}

impl Builder<'_> {
    /// Builds the kernel that was asked for, or what changed of it.
    pub(crate) fn build(&self, options: &KernelOptions) -> Result<Kernel> {
        let source = Source::get(self.cache, self.tools, &options.linux)?;
        let compiler = Compiler::of(options);
        self.tools
            .require(&Make::programs(options.arch, compiler)?)?;
        // A stock kernel has none of our parts, and does not depend on what they are.
        let stock = options.prefix.is_none()
            && options.kernel == KernelChoice::Stock
            && options.driver() == Driver::C;
        let installer = if stock {
            None
        } else {
            Some(Installer::load(&repo::top(), source.series)?)
        };
        let flavour = match &installer {
            None => Flavour::Stock,
            Some(_) if options.prefix.is_some() => Flavour::Prefix,
            Some(installer) => Flavour::choose(options.kernel, installer.has_series()),
        };
        let fragments = config::Fragments::load(source.series, options, flavour)?;

        let kind = kind(&source, options, flavour);
        // Neither our parts nor the series are in the name: the installer brings them up to date.
        let hash = self.hash(&source, &kind, &fragments)?;
        let name = format!("{kind}-{}", short(hash));

        // Whoever builds or boots this kernel has its tree for himself.
        let lock = self.cache.lock(&format!("tree-{name}"))?;
        let artefact = self.cache.artefact(&format!("trees/{name}"), |part| {
            match self.nearest_tree(&source, options, flavour)? {
                Some((nearest, _lock)) => self.copy(&source, &nearest, part),
                None => self.copy(&source, &source.dir, part),
            }
        })?;
        let tree = artefact.path().to_path_buf();
        self.remove_old(&kind, &name)?;
        let kept = source.own.then(|| install::Kept::of(&tree)).transpose()?;
        if source.own {
            self.sync_own(&source, &tree)?;
        }
        if let Some(installer) = &installer {
            let series = match (flavour, options.prefix) {
                (Flavour::Dpmem, _) => install::Series::Apply,
                (Flavour::Prefix, Some(patches)) => install::Series::Prefix(patches),
                _ => install::Series::Leave,
            };
            installer.install(&tree, series)?;
        }
        if let Some(kept) = kept {
            kept.restore()?;
        }

        let mut make = Make::new(self, &tree, &name, options.arch, compiler);
        if options.purpose == Purpose::Uvmem {
            make = make.for_powerpc();
        }
        config::configure(&make, &fragments)?;
        match options.purpose {
            Purpose::Drivers => drivers::build(&make, &kind, flavour, &fragments)?,
            Purpose::Uvmem => drivers::build_uvmem(&make)?,
            Purpose::Lab | Purpose::Mm => {
                make.kernel(&kind, &[], &["modules"])?;
                selftests::build(&make)?;
            }
        }

        let path = tree.join("include/config/kernel.release");
        let release =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let release = release.trim().to_owned();
        Ok(Kernel {
            name,
            tree,
            arch: options.arch,
            series: source.series,
            profile: options.profile,
            compiler,
            release,
            _lock: lock,
        })
    }

    /// Builds more of the kernel tree's test programs.
    pub(crate) fn selftests(&self, kernel: &Kernel, programs: &[&str]) -> Result<()> {
        let make = Make::new(
            self,
            &kernel.tree,
            &kernel.name,
            kernel.arch,
            kernel.compiler,
        );
        let step = Step::start(
            format!("building the test programs of {}", kernel.name),
            None,
        );
        selftests::programs(&make, programs)?;
        step.finish();
        Ok(())
    }

    /// Runs make for a check of the Rust parts: a warning about one of our files is a failure.
    pub(crate) fn lint(&self, kernel: &Kernel, name: &str, arguments: &[&str]) -> Result<()> {
        let make = Make::new(
            self,
            &kernel.tree,
            &kernel.name,
            kernel.arch,
            kernel.compiler,
        );
        let warnings = make.warnings(&format!("{name} in the kernel tree"), arguments)?;
        if !warnings.is_empty() {
            bail!("{name} warns:\n{}", warnings.join("\n"));
        }
        Ok(())
    }

    /// What a tree of this kind depends on, besides the series.
    fn hash(&self, source: &Source, kind: &str, fragments: &config::Fragments) -> Result<Sha256> {
        let mut hash = Sha256::new();
        hash.update(format!("{}\n{}\n{kind}\n", source.id, self.tools.stamp()?));
        hash.update(fragments.meaning());
        Ok(hash)
    }

    /// A tree of the same source and configuration with less of ours in it, if one is there and
    /// built: most of what was compiled there serves here.
    fn nearest_tree(
        &self,
        source: &Source,
        options: &KernelOptions,
        flavour: Flavour,
    ) -> Result<Option<(PathBuf, Lock)>> {
        if source.own {
            return Ok(None);
        }
        for &other in flavour.begins_as() {
            let fragments = config::Fragments::load(source.series, options, other)?;
            let kind = kind(source, options, other);
            let name = format!("{kind}-{}", short(self.hash(source, &kind, &fragments)?));
            let tree = self.cache.path(format!("trees/{name}"));
            let is_built = || tree.join(options.arch.image_path()).exists();
            // One without an image may be in use by this very run: of `lab symbols`, only objects
            // are built.
            if !is_built() {
                continue;
            }
            // Who has the lock may be removing it, or building something that does not compile.
            let lock = self.cache.lock(&format!("tree-{name}"))?;
            if is_built() {
                return Ok(Some((tree, lock)));
            }
        }
        Ok(None)
    }

    fn copy(&self, source: &Source, from: &Path, part: &Path) -> Result<()> {
        disk::require(self.cache.dir(), disk::TREE)?;
        let step = Step::start(format!("copying Linux {}", source.id), None);
        if source.own {
            fs::create_dir_all(part).with_context(|| format!("cannot make {}", part.display()))?;
        } else {
            let mut command = Command::new("cp");
            command
                .args(["-a", "--reflink=auto", "--"])
                .arg(from)
                .arg(part);
            self.logged("copying the kernel source")
                .run(&mut command, |_| {})?;
        }
        step.finish();
        Ok(())
    }

    /// Brings a copy of a user's tree up to date: what the user built there stays there, what we
    /// built here stays here.
    fn sync_own(&self, source: &Source, tree: &Path) -> Result<()> {
        let step = Step::start(format!("copying {}", source.dir.display()), None);
        if tree.join("Makefile").exists() {
            install::remove(tree)?;
        }
        let mut job = self.tools.job();
        let from = job.bind(&source.dir, "/from");
        let to = job.bind(tree, "/to");
        let mut command = job.command("rsync");
        command.args([
            "-a",
            "--delete",
            "--exclude=/.git",
            "--exclude=/.config*",
            "--exclude=/.dpmem*",
        ]);
        command.args([
            "--exclude=/include/generated/",
            "--exclude=/include/config/",
            "--exclude=/arch/*/include/generated/",
        ]);
        for product in [
            "*.o",
            "*.ko",
            "*.a",
            "*.cmd",
            "*.mod",
            "*.mod.c",
            "*.order",
            "*.symvers",
            "*.rmeta",
            "*.rlib",
            "*.so",
        ] {
            command.arg(format!("--exclude={product}"));
        }
        command.arg("--filter=:- .gitignore");
        command.arg(format!("{}/", from.display())).arg(to);
        self.logged("copying your kernel tree")
            .run(&mut command, |_| {})?;
        step.finish();
        Ok(())
    }

    /// Trees of the same kind that this one replaces.
    fn remove_old(&self, kind: &str, name: &str) -> Result<()> {
        let trees = self.cache.folder("trees")?;
        for entry in
            fs::read_dir(&trees).with_context(|| format!("cannot read {}", trees.display()))?
        {
            let entry = entry.with_context(|| format!("cannot read {}", trees.display()))?;
            let other = entry.file_name().to_string_lossy().into_owned();
            let same_kind = other
                .strip_prefix(kind)
                .and_then(|rest| rest.strip_prefix('-'))
                .is_some_and(|rest| {
                    rest.chars().all(|c| c.is_ascii_hexdigit()) && rest.len() == 12
                });
            if same_kind && other != name {
                // Another checkout may have another configuration, and be at work in its own.
                let Some(_lock) = self.cache.try_lock(&format!("tree-{other}"))? else {
                    progress::say(format!("{other} is in use, and stays"));
                    continue;
                };
                progress::say(format!("removing the build {other}, which {name} replaces"));
                namespace::remove_tree(&entry.path())?;
            }
        }
        Ok(())
    }

    fn logged<'a>(&'a self, what: &'a str) -> LoggedIn<'a> {
        LoggedIn {
            what,
            log: self.logs.join("prepare.log"),
        }
    }
}

/// The kind of a tree: the trees of one kind replace each other.
fn kind(source: &Source, options: &KernelOptions, flavour: Flavour) -> String {
    let own = if source.own { "own-" } else { "" };
    let purpose = options.purpose.suffix();
    let config: String = options
        .config
        .iter()
        .map(|line| format!("-{}", line.trim_start_matches("CONFIG_")))
        .collect();
    format!(
        "{own}{}-{}-{}{purpose}{config}-{}",
        source.series,
        options.arch.name(),
        profile_name(options.profile),
        flavour.name()
    )
}

/// A step whose log is among the others.
struct LoggedIn<'a> {
    what: &'a str,
    log: PathBuf,
}

impl LoggedIn<'_> {
    fn run(&self, command: &mut Command, on_line: impl FnMut(&str)) -> Result<()> {
        Logged {
            what: self.what,
            log: &self.log,
            advice: "then run the same command again",
        }
        .run(command, on_line)
    }
}

impl Kernel {
    /// The image to boot.
    pub(crate) fn image(&self) -> PathBuf {
        self.tree.join(self.arch.image_path())
    }

    /// Whether it is configured with `symbol`, built in or as a module.
    pub(crate) fn has(&self, symbol: &str) -> Result<bool> {
        config::has(&self.tree, symbol)
    }

    /// A module, by its name.
    pub(crate) fn module(&self, name: &str) -> Result<PathBuf> {
        let file = format!("{name}.ko");
        WalkDir::new(&self.tree)
            .into_iter()
            .filter_map(Result::ok)
            .find(|entry| entry.file_name() == file.as_str())
            .map(walkdir::DirEntry::into_path)
            .with_context(|| {
                format!(
                    "{} has no module {file}: is it in a configuration of linux/configs?",
                    self.name
                )
            })
    }

    /// Builds a module that is not in the tree; `folder` has its sources.
    pub(crate) fn external(
        &self,
        builder: &Builder<'_>,
        folder: &Path,
        name: &str,
    ) -> Result<PathBuf> {
        let own = builder.logs.join(format!("{name}-{}", self.name));
        fs::create_dir_all(&own).with_context(|| format!("cannot make {}", own.display()))?;
        for entry in
            fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?
        {
            let path = entry?.path();
            let to = own.join(path.file_name().unwrap_or_default());
            fs::copy(&path, &to).with_context(|| format!("cannot write {}", to.display()))?;
        }
        Make::new(builder, &self.tree, &self.name, self.arch, self.compiler).external(&own)?;
        Ok(own.join(format!("{name}.ko")))
    }

    /// A program of the tree's mm selftests.
    pub(crate) fn selftest(&self, name: &str) -> Result<PathBuf> {
        let path = self.tree.join(selftests::FOLDER).join(name);
        if path.is_file() {
            Ok(path)
        } else {
            bail!("{} has no test program {name}", self.name)
        }
    }

    /// The source of a test program of the tree's mm selftests.
    pub(crate) fn selftest_source(&self, file: &str) -> Result<String> {
        let path = self.tree.join(selftests::FOLDER).join(file);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }
}

/// The profile's name, as on the command line.
pub(crate) fn profile_name(profile: Profile) -> &'static str {
    match profile {
        Profile::Plain => "plain",
        Profile::Debug => "debug",
    }
}

/// How many jobs make runs.
fn jobs() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
