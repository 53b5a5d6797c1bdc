// SPDX-License-Identifier: GPL-2.0

//! The manifest, `linux/install.toml`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{bail, Context, Result};
use serde::Deserialize;
use walkdir::WalkDir;

use super::state::{Insertion, Place};

/// Where it is.
const PATH: &str = "linux/install.toml";

/// What the file says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    #[serde(default)]
    copy: Vec<Copy>,
    #[serde(default)]
    insert: Vec<Insert>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Copy {
    from: String,
    to: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Insert {
    file: String,
    before: Option<String>,
    after: Option<String>,
    at: Option<String>,
    lines: Vec<String>,
    #[serde(default)]
    unless_present: bool,
}

impl Manifest {
    /// Reads it.
    pub(super) fn load(repository: &Path) -> Result<Self> {
        let path = repository.join(PATH);
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("cannot understand {}", path.display()))
    }

    /// The files it copies, by their paths in the tree.
    pub(super) fn files(&self, repository: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut files = BTreeMap::new();
        for copy in &self.copy {
            let from = repository.join(&copy.from);
            if !from.exists() {
                bail!("{PATH} names {}, which does not exist", copy.from);
            }
            for entry in WalkDir::new(&from).sort_by_file_name() {
                let entry = entry.with_context(|| format!("cannot read {}", from.display()))?;
                if entry.file_type().is_dir() {
                    continue;
                }
                let inner = entry.path().strip_prefix(&from).unwrap_or(Path::new(""));
                let to = if inner.as_os_str().is_empty() {
                    copy.to.clone()
                } else {
                    format!("{}/{}", copy.to, inner.display())
                };
                let content = fs::read(entry.path())
                    .with_context(|| format!("cannot read {}", entry.path().display()))?;
                if files.insert(to.clone(), content).is_some() {
                    bail!("{PATH} copies two files to {to}");
                }
            }
        }
        Ok(files)
    }

    /// The lines it inserts.
    pub(super) fn insertions(&self) -> Result<Vec<Insertion>> {
        self.insert
            .iter()
            .map(|insert| {
                let place = match (&insert.before, &insert.after, insert.at.as_deref()) {
                    (Some(anchor), None, None) => Place::Before(anchor.clone()),
                    (None, Some(anchor), None) => Place::After(anchor.clone()),
                    (None, None, Some("end")) => Place::End,
                    _ => bail!(
                        "{PATH}: one of before, after and at = \"end\" for {}",
                        insert.file
                    ),
                };
                Ok(Insertion {
                    file: insert.file.clone(),
                    place,
                    lines: insert.lines.clone(),
                    unless_present: insert.unless_present,
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_place() {
        let manifest = |text: &str| toml::from_str::<Manifest>(text).unwrap().insertions();
        assert!(manifest("[[insert]]\nfile = \"x\"\nlines = [\"a\"]\nbefore = \"b\"\n").is_ok());
        assert!(manifest("[[insert]]\nfile = \"x\"\nlines = [\"a\"]\n").is_err());
        assert!(manifest(
            "[[insert]]\nfile = \"x\"\nlines = [\"a\"]\nbefore = \"b\"\nafter = \"c\"\n"
        )
        .is_err());
        assert!(manifest("[[insert]]\nfile = \"x\"\nlines = [\"a\"]\nat = \"start\"\n").is_err());
    }

    #[test]
    fn the_repositorys_own_manifest_is_understood() {
        let repository = crate::repo::top();
        let manifest = Manifest::load(&repository).unwrap();
        manifest.insertions().unwrap();
        manifest.files(&repository).unwrap();
    }
}
