// SPDX-License-Identifier: GPL-2.0

//! The Debian root: made once by debootstrap, with the tools that build and boot kernels. One
//! without the tools comes first, and is enough for somebody who only wants a package.

mod apt;
pub(crate) mod namespace;
pub(crate) mod packages;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{bail, Context, Result};
use sha2::{Digest, Sha256};

use crate::arch::Arch;
use crate::cache::{Artefact, Cache};
use crate::disk;
use crate::process::{self, Logged};
use crate::progress::{self, Step};

pub(crate) use apt::Apt;

/// Changed when the way in which the root is made changes.
const RECIPE: u32 = 1;

/// Names the versions of the tools, in the root.
const STAMP: &str = "etc/dpmem-tools";

/// What to do when the root cannot be made.
const ADVICE: &str = "if the mirror does not answer, try again later; then run the same command again: nothing is left over";

/// A root that is ready.
#[derive(Clone, Debug)]
pub(crate) struct Root(Artefact);

impl Root {
    /// The root in the cache; made first, if it is not there.
    pub(crate) fn get(cache: &Cache) -> Result<Self> {
        let host = Arch::host()?;
        let name = Self::name(host);
        let root = cache.artefact(&name, |part| {
            disk::require(cache.dir(), disk::ROOT)?;
            make(cache, part, host)
        })?;
        Ok(Self(root))
    }

    /// A root that can fetch packages and unpack them: the one with the tools, if it is there.
    pub(crate) fn for_packages(cache: &Cache) -> Result<Self> {
        if Self::is_made(cache) {
            return Self::get(cache);
        }
        base(cache).map(Self)
    }

    /// True if the root is in the cache.
    pub(crate) fn is_made(cache: &Cache) -> bool {
        Arch::host().is_ok_and(|host| cache.path(Self::name(host)).exists())
    }

    /// The root's name in the cache: another one for another list of packages.
    pub(crate) fn name(host: Arch) -> String {
        let mut hash = Sha256::new();
        hash.update(format!(
            "{RECIPE} {} {}",
            packages::SUITE,
            packages::list(host).join(" ")
        ));
        format!("roots/{}-{}", packages::SUITE, short(hash))
    }

    /// Its folder.
    pub(crate) fn dir(&self) -> &Path {
        self.0.path()
    }

    /// What says which tools are in it.
    pub(crate) fn stamp(&self) -> Result<String> {
        let path = self.dir().join(STAMP);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }
}

/// The first twelve hexadecimal digits.
pub(crate) fn short(hash: Sha256) -> String {
    hash.finalize()
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A command in the root `dir`: folder, mounts, what.
pub(crate) fn command_in(dir: &Path, folder: &Path, binds: &[(PathBuf, PathBuf)]) -> Command {
    let mut command = namespace::script(include_str!("enter.sh"));
    command.arg(dir).arg(folder);
    for (outside, inside) in binds {
        command.arg(outside).arg(inside);
    }
    command.arg("--");
    command
}

/// True if there is a debootstrap.
pub(crate) fn has_debootstrap() -> bool {
    which::which_in("debootstrap", Some(namespace::PATH), "/").is_ok()
}

/// Makes sure that there is a debootstrap: root on Debian and its relatives gets one.
pub(crate) fn ensure_debootstrap(log: &Path) -> Result<()> {
    if has_debootstrap() {
        return Ok(());
    }
    if !namespace::is_root() || process::find("apt-get").is_none() {
        bail!("debootstrap is missing");
    }
    let step = Step::start("installing debootstrap", None);
    let install = Logged {
        what: "installing debootstrap",
        log,
        advice: ADVICE,
    };
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .arg("-q")
            .args(arguments);
        command
    };
    let packages = [
        "install",
        "-y",
        "--no-install-recommends",
        "debootstrap",
        "debian-archive-keyring",
    ];
    if install.run(&mut apt(&packages), |_| {}).is_err() {
        // A bare machine has no lists of packages yet.
        install.run(&mut apt(&["update"]), |_| {})?;
        install.run(&mut apt(&packages), |_| {})?;
    }
    step.finish();
    if has_debootstrap() {
        Ok(())
    } else {
        bail!("debootstrap is missing")
    }
}

/// The root without the tools; made first, if it is not there.
fn base(cache: &Cache) -> Result<Artefact> {
    let mut hash = Sha256::new();
    hash.update(format!("{RECIPE} {}", packages::SUITE));
    let name = format!("roots/{}-base-{}", packages::SUITE, short(hash));
    cache.artefact(&name, |part| {
        disk::require(cache.dir(), disk::BASE)?;
        bootstrap(part, Arch::host()?, &cache.path("logs/root.log"))
    })
}

fn bootstrap(dir: &Path, host: Arch, log: &Path) -> Result<()> {
    let mut step = Step::start(format!("making a Debian {} root", packages::SUITE), None);
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let mut bootstrap = namespace::script(include_str!("bootstrap.sh"));
    bootstrap.arg(dir).arg(packages::SUITE);
    Logged {
        what: "debootstrap",
        log,
        advice: ADVICE,
    }
    .run(&mut bootstrap, |line| step.tick(line.to_owned()))?;
    step.finish();

    let apt = Apt::new(dir, log);
    let suites = apt.set_up(host)?;
    progress::say(format!(
        "kernel sources can come from: {}",
        suites.join(", ")
    ));
    Ok(())
}

/// Gets all packages.
fn install(apt: &Apt<'_>, host: Arch, step: &mut Step) -> Result<()> {
    let packages = packages::list(host);
    apt.install(&packages, |line| step.tick(line.to_owned()))?;
    for arch in Arch::ALL.into_iter().filter(|&arch| arch != host) {
        // Its files are where the native package has the same, so it cannot be installed.
        apt.unpack(
            &format!("busybox-static:{}", arch.debian()),
            &format!("/opt/guest/{}", arch.name()),
        )?;
    }
    Ok(())
}

/// Copies a root, with the owners and modes that it has inside.
const COPY: &str = "cp -a \"$1/.\" \"$2\"";

fn make(cache: &Cache, dir: &Path, host: Arch) -> Result<()> {
    let log = &cache.path("logs/root.log");
    let base = base(cache)?;
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Logged {
        what: "copying the root",
        log,
        advice: ADVICE,
    }
    .run(namespace::script(COPY).arg(base.path()).arg(dir), |_| {})?;

    let apt = Apt::new(dir, log);
    let mut step = Step::start("installing the tools in it", None);
    if let Err(error) = install(&apt, host, &mut step) {
        if disk::is_full(&error) {
            return Err(error);
        }
        // What the copied root knows may be older than what the mirror has now.
        apt.update()?;
        install(&apt, host, &mut step)?;
    }
    step.finish();
    apt.clean()?;

    let mut query = command_in(dir, Path::new("/"), &[]);
    let versions = process::output(query.args(["dpkg-query", "-W"]))?;
    let mut hash = Sha256::new();
    hash.update(versions);
    let stamp = dir.join(STAMP);
    fs::write(&stamp, short(hash)).with_context(|| format!("cannot write {}", stamp.display()))
}
