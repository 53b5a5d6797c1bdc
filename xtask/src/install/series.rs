// SPDX-License-Identifier: GPL-2.0

//! The series: patches for one kernel series, in `linux/series/<version>/`, in the order of its
//! file `series`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{bail, Context, Result};
use serde::{Deserialize, Serialize};

/// One patch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Patch {
    name: String,
    text: String,
}

/// Patches, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Patches(Vec<Patch>);

impl Patches {
    /// Reads the series in this folder; without the folder there is none.
    pub(crate) fn load(folder: &Path) -> Result<Self> {
        let list = folder.join("series");
        if !list.exists() {
            return Ok(Self::default());
        }
        let read = |path: &Path| {
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
        };
        let patches = read(&list)?
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|name| {
                Ok(Patch {
                    name: name.to_owned(),
                    text: read(&folder.join(name))?,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self(patches))
    }

    /// True if there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first ones, so many.
    pub(super) fn prefix(&self, patches: usize) -> Self {
        Self(self.0.iter().take(patches).cloned().collect())
    }

    /// Their names, in order.
    pub(super) fn names(&self) -> Vec<String> {
        self.0.iter().map(|patch| patch.name.clone()).collect()
    }

    /// Their names and texts, in order.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        let patches = self.0.iter();
        patches.map(|patch| (patch.name.as_str(), patch.text.as_str()))
    }

    /// The files that the patches change, make or remove.
    pub(super) fn touched(&self) -> BTreeSet<String> {
        self.0
            .iter()
            .flat_map(|patch| patch.text.lines())
            .filter_map(|line| {
                line.strip_prefix("--- a/")
                    .or_else(|| line.strip_prefix("+++ b/"))
            })
            .map(path_of)
            .collect()
    }

    /// The files that the patches make.
    pub(super) fn made(&self) -> BTreeSet<String> {
        let lines: Vec<&str> = self.0.iter().flat_map(|patch| patch.text.lines()).collect();
        lines
            .windows(2)
            .filter_map(|pair| match pair {
                ["--- /dev/null", file] => file.strip_prefix("+++ b/").map(path_of),
                _ => None,
            })
            .collect()
    }

    /// Applies them to these contents, or takes them back.
    pub(super) fn apply(
        &self,
        contents: BTreeMap<String, Option<Vec<u8>>>,
        reverse: bool,
    ) -> Result<BTreeMap<String, Option<Vec<u8>>>> {
        if self.is_empty() {
            return Ok(contents);
        }
        let stage = tempfile::tempdir().context("cannot make a temporary folder")?;
        for (file, content) in &contents {
            if let Some(content) = content {
                let path = stage.path().join(file);
                let folder = path.parent().unwrap_or(stage.path());
                fs::create_dir_all(folder)
                    .and_then(|()| fs::write(&path, content))
                    .with_context(|| format!("cannot write {}", path.display()))?;
            }
        }
        let text = tempfile::NamedTempFile::new().context("cannot make a temporary file")?;
        let ordered: Vec<&Patch> = if reverse {
            self.0.iter().rev().collect()
        } else {
            self.0.iter().collect()
        };
        for patch in ordered {
            fs::write(text.path(), &patch.text).context("cannot write a temporary file")?;
            let mut command = Command::new("git");
            // No repository may be found above the temporary folder: git would apply to that.
            command.env(
                "GIT_CEILING_DIRECTORIES",
                stage.path().parent().unwrap_or(Path::new("/")),
            );
            command.env_remove("GIT_DIR").env_remove("GIT_WORK_TREE");
            command
                .current_dir(stage.path())
                .args(["apply", "--whitespace=nowarn"]);
            if reverse {
                command.arg("-R");
            }
            let output = command
                .arg(text.path())
                .output()
                .context("cannot start git")?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr);
                let verb = if reverse { "taken back" } else { "applied" };
                bail!(
                    "the tree does not fit: {} cannot be {verb}: {}",
                    patch.name,
                    said.trim()
                );
            }
        }
        contents
            .into_keys()
            .map(|file| {
                let content = match fs::read(stage.path().join(&file)) {
                    Ok(content) => Some(content),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                    Err(error) => return Err(error).with_context(|| format!("cannot read {file}")),
                };
                Ok((file, content))
            })
            .collect()
    }
}

/// The path in what follows `--- a/` or `+++ b/`.
fn path_of(rest: &str) -> String {
    rest.split('\t')
        .next()
        .unwrap_or(rest)
        .trim_end()
        .to_owned()
}
