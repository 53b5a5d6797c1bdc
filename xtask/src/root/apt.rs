// SPDX-License-Identifier: GPL-2.0

//! apt in the root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::packages::{SOURCE_SUITES, SUITE};
use super::{command_in, ADVICE};
use crate::arch::Arch;
use crate::disk;
use crate::process::{self, Logged};
use crate::progress::{self, Step};

/// A package, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Its version.
    pub(crate) version: String,
    /// The suite that has it.
    pub(crate) suite: String,
}

/// apt in a root.
#[derive(Debug)]
pub(crate) struct Apt<'a> {
    root: &'a Path,
    log: &'a Path,
}

impl<'a> Apt<'a> {
    /// In `root`, with its output in `log`.
    pub(crate) fn new(root: &'a Path, log: &'a Path) -> Self {
        Self { root, log }
    }

    fn command(&self, folder: &str, binds: &[(PathBuf, PathBuf)]) -> Command {
        let mut command = command_in(self.root, Path::new(folder), binds);
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command.args([
            "apt-get",
            "-q",
            "-o",
            "APT::Sandbox::User=root",
            "-o",
            "Acquire::Retries=3",
        ]);
        command
    }

    fn run(&self, what: &str, command: &mut Command, on_line: impl FnMut(&str)) -> Result<()> {
        // The machine may have moved to another network since the root was made.
        if let Ok(resolver) = fs::read("/etc/resolv.conf") {
            fs::write(self.root.join("etc/resolv.conf"), resolver)
                .context("cannot write the root's resolv.conf")?;
        }
        Logged {
            what,
            log: self.log,
            advice: ADVICE,
        }
        .run(command, on_line)
    }

    /// Knows the suites, and which of them the mirror has; these are returned.
    pub(crate) fn set_up(&self, host: Arch) -> Result<Vec<&'static str>> {
        let etc = self.root.join("etc/apt");
        let write = |path: &str, text: &str| {
            let path = etc.join(path);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
        };
        let list = fs::read_to_string(etc.join("sources.list"))
            .context("cannot read what debootstrap wrote")?;
        let mirror =
            mirror_of(&list).context("debootstrap wrote no sources.list that names a mirror")?;

        write(
            "preferences.d/dpmem",
            &format!(
                "Package: *\nPin: release n={SUITE}\nPin-Priority: 900\n\nPackage: *\nPin: release n=*\nPin-Priority: 50\n"
            ),
        )?;
        let mut add = command_in(self.root, Path::new("/"), &[]);
        for arch in Arch::ALL.into_iter().filter(|&arch| arch != host) {
            self.run(
                "dpkg --add-architecture",
                add.args(["dpkg", "--add-architecture", arch.debian()]),
                |_| {},
            )?;
        }
        let mut step = Step::start("asking the mirror for its suites", None);
        // Not for those that it may have lost since it was asked the last time.
        let mut update = self.command("/", &[]);
        update.args(["update", "-o", "Dir::Etc::sourceparts=-"]);
        self.run("apt-get update", &mut update, |line| {
            step.tick(line.to_owned())
        })?;
        let mut found = vec![SUITE];
        for suite in SOURCE_SUITES.into_iter().filter(|&suite| suite != SUITE) {
            let file = format!("sources.list.d/dpmem-{suite}.sources");
            write(
                &file,
                &format!(
                    "Types: deb\nURIs: {mirror}\nSuites: {suite}\nComponents: main\nArchitectures: {}\n\
                     Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\nCheck-Valid-Until: no\n",
                    host.debian()
                ),
            )?;
            let mut update = self.command("/", &[]);
            update.args([
                "update",
                "-o",
                "APT::Get::List-Cleanup=0",
                "-o",
                "Dir::Etc::sourceparts=-",
                "-o",
            ]);
            update.arg(format!("Dir::Etc::sourcelist=/etc/apt/{file}"));
            match self.run("apt-get update", &mut update, |line| {
                step.tick(line.to_owned())
            }) {
                Ok(()) => found.push(suite),
                Err(error) => {
                    if disk::is_full(&error) {
                        return Err(error);
                    }
                    fs::remove_file(etc.join(&file))
                        .with_context(|| format!("cannot remove {file}"))?;
                    progress::say(format!("the mirror has no suite {suite}"));
                }
            }
        }
        step.finish();
        Ok(found)
    }

    /// Asks the mirror again what it has.
    pub(crate) fn update(&self) -> Result<()> {
        let mut step = Step::start("asking the mirror what it has", None);
        self.run(
            "apt-get update",
            self.command("/", &[]).arg("update"),
            |line| step.tick(line.to_owned()),
        )?;
        step.finish();
        Ok(())
    }

    /// Installs packages.
    pub(crate) fn install(&self, packages: &[String], on_line: impl FnMut(&str)) -> Result<()> {
        let mut command = self.command("/", &[]);
        command
            .args(["install", "-y", "--no-install-recommends"])
            .args(packages);
        self.run("apt-get install", &mut command, on_line)
    }

    /// Unpacks a package into a folder of the root, without installing it.
    pub(crate) fn unpack(&self, package: &str, target: &str) -> Result<()> {
        // One mount namespace, and with it one /tmp, for all of it.
        let script = "apt-get -q -o APT::Sandbox::User=root download \"$1\"; mkdir -p \"$2\"; dpkg-deb -x ./*.deb \"$2\"";
        let mut both = command_in(self.root, Path::new("/tmp"), &[]);
        both.args(["sh", "-ec", script, "sh", package, target]);
        self.run(&format!("fetching {package}"), &mut both, |_| {})
    }

    /// Downloads one version of a package into `folder`.
    pub(crate) fn download(
        &self,
        package: &str,
        version: &str,
        folder: &Path,
        on_line: impl FnMut(&str),
    ) -> Result<()> {
        let mut command = self.command(
            "/download",
            &[(folder.to_path_buf(), PathBuf::from("/download"))],
        );
        command.arg("download").arg(format!("{package}={version}"));
        self.run(
            &format!("downloading {package} {version}"),
            &mut command,
            on_line,
        )
    }

    /// Removes downloaded packages.
    pub(crate) fn clean(&self) -> Result<()> {
        self.run("apt-get clean", self.command("/", &[]).arg("clean"), |_| {})
    }

    /// Where a package is: the first of our suites that has it, with its newest version there.
    pub(crate) fn candidate(&self, package: &str) -> Result<Option<Candidate>> {
        let mut command = command_in(self.root, Path::new("/"), &[]);
        let table = process::output(command.args(["apt-cache", "madison", package]))?;
        Ok(first_of(&table, &SOURCE_SUITES))
    }
}

/// The mirror in the first line of a one-line sources.list.
fn mirror_of(list: &str) -> Option<&str> {
    let line = list.lines().find(|line| line.starts_with("deb "))?;
    line.split_whitespace()
        .skip(1)
        .find(|word| !word.starts_with('['))
}

/// The first of `suites` in a table of `apt-cache madison`.
fn first_of(table: &str, suites: &[&str]) -> Option<Candidate> {
    let rows: Vec<(&str, &str)> = table
        .lines()
        .filter_map(|line| {
            let mut columns = line.split('|').map(str::trim);
            let version = columns.nth(1)?;
            // "<mirror> <suite>/<component> <architecture> Packages"
            let suite = columns
                .next()?
                .split_whitespace()
                .nth(1)?
                .split('/')
                .next()?;
            Some((version, suite))
        })
        .collect();
    suites.iter().find_map(|&suite| {
        let (version, _) = rows.iter().find(|(_, of)| *of == suite)?;
        Some(Candidate {
            version: (*version).to_owned(),
            suite: suite.to_owned(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_read_from_the_list() {
        assert_eq!(
            mirror_of("# x\ndeb http://mirror.test/debian trixie main\n"),
            Some("http://mirror.test/debian")
        );
        assert_eq!(
            mirror_of("deb [trusted=yes] file:/m trixie main\n"),
            Some("file:/m")
        );
        assert_eq!(mirror_of("# nothing\n"), None);
    }

    #[test]
    fn the_first_suite_wins() {
        let table = "\
linux-source-7.3 | 7.3.9-1 | http://mirror.test/debian sid/main amd64 Packages
linux-source-7.3 | 7.3.4-1~bpo13+1 | http://mirror.test/debian trixie-backports/main amd64 Packages
";
        let found = first_of(table, &SOURCE_SUITES).unwrap();
        assert_eq!(found.version, "7.3.4-1~bpo13+1");
        assert_eq!(found.suite, "trixie-backports");
        assert_eq!(first_of("", &SOURCE_SUITES), None);
    }
}
