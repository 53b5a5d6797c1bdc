// SPDX-License-Identifier: GPL-2.0

//! When the files of a tree were changed, for a tree out of which everything is taken for a moment:
//! what is the same afterwards is as old as before, so that make has nothing to do for it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};

use super::state::State;

/// The files that are installed, or have lines or patches of ours.
#[derive(Debug)]
pub(crate) struct Kept(Vec<(PathBuf, Vec<u8>, SystemTime)>);

impl Kept {
    /// As they are now.
    pub(crate) fn of(tree: &Path) -> Result<Self> {
        let state = State::load(tree)?;
        let inserted = state.insertions.iter().map(|of| of.file.clone());
        let mut files = state.patches.touched();
        files.extend(state.copied.iter().cloned().chain(inserted));
        let mut kept = Vec::new();
        for path in files.iter().map(|file| tree.join(file)) {
            let read = || -> std::io::Result<_> {
                Ok((fs::read(&path)?, fs::metadata(&path)?.modified()?))
            };
            // One that is gone has to be made again.
            if let Ok((content, modified)) = read() {
                kept.push((path, content, modified));
            }
        }
        Ok(Self(kept))
    }

    /// Those that have the same content again are as old as they were.
    pub(crate) fn restore(self) -> Result<()> {
        for (path, content, modified) in self.0 {
            if !fs::read(&path).is_ok_and(|now| now == content) {
                continue;
            }
            File::options()
                .write(true)
                .open(&path)
                .and_then(|file| file.set_modified(modified))
                .with_context(|| format!("cannot change the time of {}", path.display()))?;
        }
        Ok(())
    }
}
