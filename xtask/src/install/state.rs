// SPDX-License-Identifier: GPL-2.0

//! What dpmem keeps in a tree: a list of what is installed, and for a moment the changes that are being made.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Patches;
use crate::cache::write_atomically;

/// The list.
const STATE: &str = ".dpmem-installed";
/// The changes.
const CHANGES: &str = ".dpmem-changes";

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Place {
    /// Before the only line like this.
    Before(String),
    /// After the only line like this.
    After(String),
    /// At the end of the file.
    End,
}

/// Lines that are inserted into a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Insertion {
    /// The file.
    pub(super) file: String,
    /// Where.
    pub(super) place: Place,
    /// The lines.
    pub(super) lines: Vec<String>,
    /// Not those that the file has already.
    #[serde(default)]
    pub(super) unless_present: bool,
}

/// What is installed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// Our files.
    pub(super) copied: BTreeSet<String>,
    /// Folders that were made for them.
    pub(super) folders: BTreeSet<String>,
    /// Our lines, in the order in which they were inserted.
    pub(super) insertions: Vec<Insertion>,
    /// Our patches.
    pub(super) patches: Patches,
}

fn load<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .with_context(|| format!("cannot understand {}", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

impl State {
    /// What is installed in `tree`.
    pub(super) fn load(tree: &Path) -> Result<Self> {
        Ok(load(&tree.join(STATE))?.unwrap_or_default())
    }
}

/// Changes to a tree, all of which are made, or none.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Changes {
    /// What files become; none: the file is removed.
    pub(super) files: BTreeMap<String, Option<Vec<u8>>>,
    /// What is installed afterwards.
    pub(super) state: Option<State>,
}

impl Changes {
    /// Makes the changes.
    pub(super) fn carry_out(self, tree: &Path) -> Result<()> {
        if self.files.is_empty() && load::<State>(&tree.join(STATE))? == self.state {
            return Ok(());
        }
        let text = serde_json::to_vec(&self).context("cannot write JSON")?;
        write_atomically(&tree.join(CHANGES), &text)?;
        Self::finish(tree)
    }

    /// Makes the changes that are written down in the tree, if there are any.
    pub(super) fn finish(tree: &Path) -> Result<()> {
        let Some(changes) = load::<Self>(&tree.join(CHANGES))? else {
            return Ok(());
        };
        for (file, content) in &changes.files {
            let path = tree.join(file);
            match content {
                None => remove(&path)?,
                Some(content) if fs::read(&path).is_ok_and(|now| now == *content) => {}
                Some(content) => {
                    if let Some(folder) = path.parent() {
                        fs::create_dir_all(folder)
                            .with_context(|| format!("cannot make {}", folder.display()))?;
                    }
                    // In place, so that the file keeps its mode.
                    fs::write(&path, content)
                        .with_context(|| format!("cannot write {}", path.display()))?;
                }
            }
        }
        match &changes.state {
            Some(state) => {
                let text = serde_json::to_vec_pretty(state).context("cannot write JSON")?;
                write_atomically(&tree.join(STATE), &text)?;
            }
            None => remove(&tree.join(STATE))?,
        }
        remove(&tree.join(CHANGES))
    }
}
