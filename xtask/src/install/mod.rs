// SPDX-License-Identifier: GPL-2.0

//! Putting the Rust parts and the series into a kernel tree, and taking them out.
//!
//! What every file becomes is computed first; a tree that does not fit is refused before anything
//! is written. Then the changes are written down in the tree as a whole, and carried out: a run
//! that was killed in between is finished by the next one. Files that already are what they should
//! be are not touched, so that make has nothing to do for them.

mod kept;
mod lines;
mod manifest;
mod series;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{bail, Context, Result};

use crate::version;
use manifest::Manifest;
use state::{Changes, Insertion, State};

pub(crate) use kept::Kept;
pub(crate) use series::Patches;

/// What to do about the series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Series {
    /// The tree has none of it afterwards.
    Leave,
    /// The tree has all of it afterwards.
    Apply,
    /// The tree has its first patches afterwards, so many.
    Prefix(usize),
}

/// What is put into trees of one kernel series.
#[derive(Debug)]
pub(crate) struct Installer {
    series: version::Series,
    /// Contents by their paths in the tree.
    files: BTreeMap<String, Vec<u8>>,
    insertions: Vec<Insertion>,
    patches: Patches,
}

impl Installer {
    /// Reads the manifest and what it names.
    pub(crate) fn load(repository: &Path, series: version::Series) -> Result<Self> {
        let manifest = Manifest::load(repository)?;
        Ok(Self {
            series,
            files: manifest.files(repository)?,
            insertions: manifest.insertions()?,
            patches: Patches::load(&repository.join("linux/series").join(series.name()))?,
        })
    }

    /// True if there is a series.
    pub(crate) fn has_series(&self) -> bool {
        !self.patches.is_empty()
    }

    /// The names of the series' patches, in order.
    pub(crate) fn series_names(&self) -> Vec<String> {
        self.patches.names()
    }

    /// Brings everything in the tree to what it should be.
    pub(crate) fn install(&self, tree: &Path, series: Series) -> Result<()> {
        let patches = match series {
            Series::Apply => self.patches.clone(),
            Series::Prefix(patches) => self.patches.prefix(patches),
            Series::Leave => Patches::default(),
        };
        let found = version::Series::of_tree(tree)?;
        if found != self.series {
            bail!("{} is Linux {found}, not {}", tree.display(), self.series);
        }
        Changes::finish(tree)?;
        let before = State::load(tree)?;
        let mut work = Work::begin(tree, &before)?;
        let applied = work.has(&before.patches)?;
        if applied && before.patches != patches {
            work.patch(&before.patches, true)?;
        }
        if !applied || before.patches != patches {
            work.patch(&patches, false)?;
        }
        let mut insertions = Vec::new();
        for insertion in &self.insertions {
            insertions.extend(work.insert(insertion)?);
        }
        let folders = work.place(&self.files, &before)?;
        let state = State {
            copied: self.files.keys().cloned().collect(),
            folders,
            insertions,
            patches,
        };
        work.finish(Some(state), BTreeSet::new())
    }
}

impl Installer {
    /// Takes everything out of somebody's tree again. That is not possible if the list of what is
    /// installed is lost, which git may have taken for a file that nobody needs.
    pub(crate) fn remove(&self, tree: &Path) -> Result<()> {
        if !State::is_there(tree) {
            if let Some(file) = self.found_in(tree)? {
                bail!(
                    "{} has something of dpmem's in {file}, and no list of what was installed: \
                     restore it (git checkout, if it is git's)",
                    tree.display()
                );
            }
        }
        remove(tree)
    }

    /// A file of the tree that is ours, or has our lines.
    fn found_in(&self, tree: &Path) -> Result<Option<&str>> {
        let ours = self.files.keys().find(|file| tree.join(file).exists());
        if let Some(file) = ours {
            return Ok(Some(file));
        }
        for insertion in self.insertions.iter().filter(|of| !of.unless_present) {
            let path = tree.join(&insertion.file);
            let text = fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            let is_there = |line: &String| text.lines().any(|of| of == line);
            let mut ours = insertion.lines.iter().filter(|of| !of.trim().is_empty());
            if ours.all(is_there) {
                return Ok(Some(&insertion.file));
            }
        }
        Ok(None)
    }
}

/// Whether something is installed in the tree, or about to be.
pub(crate) fn is_installed(tree: &Path) -> bool {
    State::is_there(tree)
}

/// Takes everything out of the tree again that it says is installed.
pub(crate) fn remove(tree: &Path) -> Result<()> {
    version::Series::of_tree(tree)?;
    Changes::finish(tree)?;
    let before = State::load(tree)?;
    let mut work = Work::begin(tree, &before)?;
    if work.has(&before.patches)? {
        work.patch(&before.patches, true)?;
    }
    work.place(&BTreeMap::new(), &before)?;
    work.finish(None, before.folders)
}

/// The files of a tree that change, as they will be.
struct Work<'a> {
    tree: &'a Path,
    files: BTreeMap<String, Option<Vec<u8>>>,
    /// Somebody has restored a file.
    restored: bool,
}

impl<'a> Work<'a> {
    /// The tree without the lines that were inserted earlier. If none of them are there, somebody
    /// has restored the file.
    fn begin(tree: &'a Path, before: &State) -> Result<Self> {
        let mut work = Self {
            tree,
            files: BTreeMap::new(),
            restored: false,
        };
        for insertion in before.insertions.iter().rev() {
            let text = work.text(&insertion.file)?;
            if lines::gone(&text, insertion) {
                work.restored = true;
                continue;
            }
            let without = lines::remove(&text, insertion).with_context(|| {
                format!(
                    "{} was changed by hand where dpmem's lines are (undo that, and run the command again)",
                    insertion.file
                )
            })?;
            work.files
                .insert(insertion.file.clone(), Some(without.into_bytes()));
        }
        Ok(work)
    }

    /// A file, as it is so far.
    fn read(&mut self, file: &str) -> Result<Option<Vec<u8>>> {
        if let Some(content) = self.files.get(file) {
            return Ok(content.clone());
        }
        match fs::read(self.tree.join(file)) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error)
                .with_context(|| format!("cannot read {}", self.tree.join(file).display())),
        }
    }

    fn text(&mut self, file: &str) -> Result<String> {
        let content = self
            .read(file)?
            .with_context(|| format!("the tree does not fit: it has no {file}"))?;
        String::from_utf8(content)
            .with_context(|| format!("the tree does not fit: {file} is not text"))
    }

    fn insert(&mut self, insertion: &Insertion) -> Result<Option<Insertion>> {
        let text = self.text(&insertion.file)?;
        let (with, done) = lines::insert(&text, insertion)
            .with_context(|| format!("the tree does not fit: {}", insertion.file))?;
        self.files
            .insert(insertion.file.clone(), Some(with.into_bytes()));
        Ok(done)
    }

    fn patch(&mut self, patches: &Patches, reverse: bool) -> Result<()> {
        let contents = self.contents(patches)?;
        self.files.extend(patches.apply(contents, reverse)?);
        Ok(())
    }

    /// True if these patches, which were applied earlier, still are. If somebody has restored the
    /// files that they changed, those that they made may be left over, and are not in the way.
    fn has(&mut self, patches: &Patches) -> Result<bool> {
        if !self.restored || patches.is_empty() {
            return Ok(true);
        }
        let found = self.contents(patches)?;
        if patches.apply(found.clone(), true).is_ok() {
            return Ok(true);
        }
        let made = patches.made();
        let mut restored = found.clone();
        for file in &made {
            restored.insert(file.clone(), None);
        }
        let with = patches.apply(restored, false)?;
        for file in made {
            let (found, ours) = (found.get(&file), with.get(&file));
            if found.is_some_and(Option::is_some) && found != ours {
                bail!("the tree does not fit: {file} was changed by hand");
            }
            self.files.insert(file, None);
        }
        Ok(false)
    }

    /// The files that patches are about.
    fn contents(&mut self, patches: &Patches) -> Result<BTreeMap<String, Option<Vec<u8>>>> {
        let mut contents = BTreeMap::new();
        for file in patches.touched() {
            contents.insert(file.clone(), self.read(&file)?);
        }
        Ok(contents)
    }

    /// Puts our own files into their places, and removes those that were there earlier; returns the
    /// folders that did not exist before.
    fn place(
        &mut self,
        files: &BTreeMap<String, Vec<u8>>,
        before: &State,
    ) -> Result<BTreeSet<String>> {
        let mut folders = before.folders.clone();
        for old in before.copied.iter().filter(|old| !files.contains_key(*old)) {
            self.files.insert(old.clone(), None);
        }
        for (path, content) in files {
            if !before.copied.contains(path) && self.read(path)?.is_some() {
                bail!("the tree does not fit: {path} is there already, and not from dpmem");
            }
            for folder in Path::new(path).ancestors().skip(1) {
                if !folder.as_os_str().is_empty() && !self.tree.join(folder).exists() {
                    folders.insert(folder.to_string_lossy().into_owned());
                }
            }
            self.files.insert(path.clone(), Some(content.clone()));
        }
        Ok(folders)
    }

    fn finish(self, state: Option<State>, folders: BTreeSet<String>) -> Result<()> {
        let mut files = BTreeMap::new();
        for (path, content) in self.files {
            let now = fs::read(self.tree.join(&path)).ok();
            if now != content {
                files.insert(path, content);
            }
        }
        Changes {
            files,
            state,
            folders,
        }
        .carry_out(self.tree)
    }
}

#[cfg(test)]
mod tests;
