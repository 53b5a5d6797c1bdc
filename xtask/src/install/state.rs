// SPDX-License-Identifier: GPL-2.0

//! What dpmem keeps in a tree: a list of what is installed, and for a moment the changes that are
//! being made.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Patches;

/// The list.
const STATE: &str = ".dpmem-installed";
/// A file that is being written, for as long as it is not whole.
const NEW: &str = ".dpmem-new";
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

fn remove_if_there(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

fn remove(path: &Path) -> Result<()> {
    remove_if_there(path).with_context(|| format!("cannot remove {}", path.display()))
}

/// Writes a file anew, with the mode that it had: the old one can have other names, in a tree that
/// was copied with hard links.
fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let found = fs::canonicalize(path).ok();
    let path = found.as_deref().unwrap_or(path);
    // Always the same name: a run that was killed leaves it behind, and the next one takes it.
    let new = path.with_file_name(NEW);
    let write = || -> std::io::Result<()> {
        remove_if_there(&new)?;
        fs::write(&new, content)?;
        if let Ok(old) = fs::metadata(path) {
            fs::set_permissions(&new, old.permissions())?;
        }
        fs::rename(&new, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

impl State {
    /// Whether `tree` says what is installed in it, or what is about to be.
    pub(super) fn is_there(tree: &Path) -> bool {
        [STATE, CHANGES].iter().any(|file| tree.join(file).exists())
    }

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
    /// Folders that are removed then, unless there is something else in them.
    #[serde(default)]
    pub(super) folders: BTreeSet<String>,
}

impl Changes {
    /// Makes the changes.
    pub(super) fn carry_out(self, tree: &Path) -> Result<()> {
        if self.files.is_empty() && load::<State>(&tree.join(STATE))? == self.state {
            return Ok(());
        }
        let text = serde_json::to_vec(&self).context("cannot write JSON")?;
        replace(&tree.join(CHANGES), &text)?;
        Self::finish(tree)
    }

    /// Makes the changes that are written down in the tree, if there are any.
    pub(super) fn finish(tree: &Path) -> Result<()> {
        let Some(changes) = load::<Self>(&tree.join(CHANGES))? else {
            // Nothing was changed before they were written down.
            return remove(&tree.join(NEW));
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
                    replace(&path, content)?;
                }
            }
        }
        // Deepest first.
        for folder in changes.folders.iter().rev() {
            let _ = fs::remove_dir(tree.join(folder));
        }
        match &changes.state {
            Some(state) => {
                let text = serde_json::to_vec_pretty(state).context("cannot write JSON")?;
                replace(&tree.join(STATE), &text)?;
            }
            None => remove(&tree.join(STATE))?,
        }
        remove(&tree.join(CHANGES))
    }
}
