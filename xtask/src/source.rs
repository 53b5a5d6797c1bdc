// SPDX-License-Identifier: GPL-2.0

//! Kernel sources: Debian's package, or somebody's own tree.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{bail, Context, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::arch::Arch;
use crate::cache::{self, Artefact, Cache};
use crate::cli::LinuxChoice;
use crate::disk;
use crate::install;
use crate::process::Logged;
use crate::progress::{self, Step};
use crate::root::{self, short, Apt, Root};
use crate::tools::Tools;
use crate::version::Series;

/// What identifies a source in the cache.
const STAMP: &str = "dpmem-source.json";

/// A kernel source that is never written to.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// Its folder.
    pub(crate) dir: PathBuf,
    /// Its series.
    pub(crate) series: Series,
    /// Which one it is, exactly: a package version, or a user's folder.
    pub(crate) id: String,
    /// True if it is a user's folder, whose files can change.
    pub(crate) own: bool,
    /// While it is in use, nobody removes it; a user's is the user's affair.
    _package: Option<Artefact>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Stamp {
    version: String,
    suite: String,
}

impl Source {
    /// The source that was asked for.
    pub(crate) fn get(cache: &Cache, tools: &Tools, choice: &LinuxChoice) -> Result<Self> {
        match choice {
            LinuxChoice::Tree(dir) => Self::own(dir),
            LinuxChoice::Package(series) => match tools.root() {
                Some(root) => Self::package(cache, root, *series),
                None => bail!(
                    "without the Debian root there is no package of Linux {series}: say --linux DIR with a tree of your own"
                ),
            },
        }
    }

    fn own(dir: &Path) -> Result<Self> {
        let series = Series::of_tree(dir)?;
        if install::is_installed(dir) {
            bail!(
                "dpmem is installed in {}, which the lab would take for the kernel as it was: say \
                 `cargo xtask lab install --remove --kernel {0}` first",
                dir.display()
            );
        }
        let path =
            fs::canonicalize(dir).with_context(|| format!("cannot find {}", dir.display()))?;
        let mut hash = Sha256::new();
        hash.update(path.as_os_str().as_encoded_bytes());
        Ok(Self {
            dir: path,
            series,
            id: format!("own-{}", short(hash)),
            own: true,
            _package: None,
        })
    }

    fn package(cache: &Cache, root: &Root, series: Series) -> Result<Self> {
        let package = cache.artefact(&format!("src/{series}"), |part| {
            disk::require(cache.dir(), disk::SOURCE)?;
            fetch(root, series, part, &cache.path("logs/source.log"))
        })?;
        let path = package.path().join(STAMP);
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let stamp: Stamp = serde_json::from_str(&text)
            .with_context(|| format!("cannot understand {}", path.display()))?;
        Ok(Self {
            dir: package.path().join("linux"),
            series,
            id: stamp.version,
            own: false,
            _package: Some(package),
        })
    }
}

fn fetch(root: &Root, series: Series, part: &Path, log: &Path) -> Result<()> {
    let package = format!("linux-source-{series}");
    let apt = Apt::new(root.dir(), log);
    let fetch = |suites: &[&str], fresh: bool| -> Result<Stamp> {
        let Some(found) = apt.candidate(&package)? else {
            bail!(
                "no suite that the mirror has ({}) has {package}: say --linux DIR with a tree of \
                 your own, or try again when it has\n  log: {}",
                suites.join(", "),
                log.display()
            );
        };
        if fresh {
            progress::say(format!(
                "{package} {} comes from {}",
                found.version, found.suite
            ));
        }
        let mut step = Step::start(
            format!(
                "downloading {package} {} from {}",
                found.version, found.suite
            ),
            None,
        );
        let download = part.join("download");
        fs::create_dir_all(&download)
            .with_context(|| format!("cannot make {}", download.display()))?;
        apt.download(&package, &found.version, &download, |line| {
            step.tick(line.to_owned())
        })?;
        step.finish();
        Ok(Stamp {
            version: found.version,
            suite: found.suite,
        })
    };
    // What the root knows may be older than what the mirror has now.
    // A suite that could not be reached then is asked again.
    let stamp = match fetch(&[], false) {
        Ok(stamp) => stamp,
        Err(error) if disk::is_full(&error) => return Err(error),
        Err(_) => fetch(&apt.set_up(Arch::host()?)?, true)?,
    };
    unpack(root, &package, part, log)?;
    let found = Series::of_tree(&part.join("linux"))?;
    if found != series {
        bail!("{package} {} has Linux {found} in it", stamp.version);
    }
    let text = serde_json::to_string(&stamp).context("cannot write JSON")?;
    cache::write_atomically(&part.join(STAMP), text.as_bytes())
}

/// From the package to `linux/`.
fn unpack(root: &Root, package: &str, part: &Path, log: &Path) -> Result<()> {
    let mut step = Step::start(format!("unpacking {package}"), None);
    let script = "\
dpkg-deb --fsys-tarfile download/*.deb | tar -x -C download
rm download/*.deb
mkdir linux
tar -xf download/usr/src/\"$1\".tar.xz -C linux --strip-components=1
rm -r download
";
    let inside = PathBuf::from("/source");
    let mut command =
        root::command_in(root.dir(), &inside, &[(part.to_path_buf(), inside.clone())]);
    command.args(["sh", "-ec", script, "sh", package]);
    Logged {
        what: &format!("unpacking {package}"),
        log,
        advice: "run the same command again",
    }
    .run(&mut command, |line| step.tick(line.to_owned()))?;
    step.finish();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_kernel_tree_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let error = Source::own(dir.path()).unwrap_err();
        assert!(
            format!("{error}").contains("is not a kernel tree"),
            "{error}"
        );
        let error = Source::own(&dir.path().join("absent")).unwrap_err();
        assert!(
            format!("{error}").contains("there is no kernel tree at"),
            "{error}"
        );

        fs::write(
            dir.path().join("Makefile"),
            "VERSION = 6\nPATCHLEVEL = 12\n",
        )
        .unwrap();
        fs::write(dir.path().join("Kconfig"), "").unwrap();
        let error = Source::own(dir.path()).unwrap_err();
        assert!(
            format!("{error}").contains("only 7.2 and 7.3 are supported"),
            "{error}"
        );
    }
}
