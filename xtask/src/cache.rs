// SPDX-License-Identifier: GPL-2.0

//! The cache outside of the checkout, in which every artefact appears at once or not at all.
//!
//! An artefact `x` is made as `x.part` under the lock `locks/x` and renamed when it is whole.
//! Whatever ended the run that made it, the next run sees no `x`, removes `x.part` and begins
//! again. Who uses it shares that lock, and who removes it has it alone.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{bail, Context, Result};
use fs4::fs_std::FileExt;

use crate::progress;
use crate::root::namespace;

/// The variable that says where it is.
pub(crate) const VARIABLE: &str = "DPMEM_CACHE";

/// The cache.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    dir: PathBuf,
}

/// A lock on one artefact, given back when dropped.
#[derive(Debug)]
pub(crate) struct Lock(#[allow(dead_code)] File);

/// Something in the cache that is whole, and that nobody removes while it is in use.
#[derive(Clone, Debug)]
pub(crate) struct Artefact {
    path: PathBuf,
    _lock: Arc<Lock>,
}

impl Artefact {
    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Cache {
    /// `$DPMEM_CACHE`, or the user's cache folder.
    pub(crate) fn open() -> Result<Self> {
        let variable = |name: &str| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let dir = match (
            variable(VARIABLE),
            variable("XDG_CACHE_HOME"),
            variable("HOME"),
        ) {
            (Some(dir), _, _) => dir,
            (None, Some(dir), _) => dir.join("dpmem"),
            (None, None, Some(home)) => home.join(".cache/dpmem"),
            (None, None, None) => bail!("no folder for the cache: set DPMEM_CACHE or HOME"),
        };
        Self::at(&dir)
    }

    /// A cache in this folder.
    pub(crate) fn at(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir.join("locks")).with_context(|| {
            format!(
                "cannot make the cache folder {} (DPMEM_CACHE can name another)",
                dir.display()
            )
        })?;
        let dir =
            fs::canonicalize(dir).with_context(|| format!("cannot find {}", dir.display()))?;
        Ok(Self { dir })
    }

    /// The cache's folder.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The path of something in the cache.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.join(name)
    }

    /// Makes sure that a folder of the cache is there.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.path(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }

    /// Takes the lock of an artefact; waits for another run that has it.
    pub(crate) fn lock(&self, name: &str) -> Result<Lock> {
        self.take(name, FileExt::try_lock_exclusive, FileExt::lock_exclusive)
    }

    /// Takes the lock of an artefact, unless another run has it.
    pub(crate) fn try_lock(&self, name: &str) -> Result<Option<Lock>> {
        let (path, file) = self.lock_file(name)?;
        let is_taken = FileExt::try_lock_exclusive(&file)
            .with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(is_taken.then_some(Lock(file)))
    }

    /// Shares the lock of an artefact with others that use it.
    fn share(&self, name: &str) -> Result<Lock> {
        self.take(name, FileExt::try_lock_shared, FileExt::lock_shared)
    }

    fn lock_file(&self, name: &str) -> Result<(PathBuf, File)> {
        let path = self.path("locks").join(name.replace('/', "-"));
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("cannot open the lock {}", path.display()))?;
        Ok((path, file))
    }

    fn take(
        &self,
        name: &str,
        at_once: fn(&File) -> io::Result<bool>,
        in_time: fn(&File) -> io::Result<()>,
    ) -> Result<Lock> {
        let (path, file) = self.lock_file(name)?;
        let context = || format!("cannot lock {}", path.display());
        if !at_once(&file).with_context(context)? {
            progress::say(format!(
                "waiting for another dpmem run that works on {name}"
            ));
            in_time(&file).with_context(context)?;
        }
        Ok(Lock(file))
    }

    /// Returns the artefact `name`; makes it first, if it is not there. `make` gets the path at
    /// which to make it.
    pub(crate) fn artefact(
        &self,
        name: &str,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Artefact> {
        let path = self.path(name);
        if let Some(artefact) = self.existing(name)? {
            return Ok(artefact);
        }
        let lock = self.lock(name)?;
        if !path.exists() {
            let part = self.path(format!("{name}.part"));
            namespace::remove_tree(&part)?;
            if let Some(parent) = part.parent() {
                fs::create_dir_all(parent)
                    .with_context(|| format!("cannot make {}", parent.display()))?;
            }
            make(&part).inspect_err(|_| {
                // The disk may be full, and nobody looks for this. The error is what counts.
                let _ = namespace::remove_tree(&part);
            })?;
            fs::rename(&part, &path)
                .with_context(|| format!("cannot put {} in its place", path.display()))?;
        }
        drop(lock);
        self.existing(name)?
            .with_context(|| format!("{} was removed: run the same command again", path.display()))
    }

    /// The artefact `name`, if it is there.
    fn existing(&self, name: &str) -> Result<Option<Artefact>> {
        let path = self.path(name);
        if !path.exists() {
            return Ok(None);
        }
        let lock = Arc::new(self.share(name)?);
        Ok(path.exists().then_some(Artefact { path, _lock: lock }))
    }
}

/// Writes a file so that it is there whole or not at all.
pub(crate) fn write_atomically(path: &Path, content: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let context = || format!("cannot write {}", path.display());
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(context)?;
    std::io::Write::write_all(&mut file, content).with_context(context)?;
    file.persist(path)
        .map_err(|error| error.error)
        .with_context(context)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unfinished_artefact_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path()).unwrap();
        fs::create_dir_all(cache.path("things/x.part")).unwrap();
        fs::write(cache.path("things/x.part/half"), "").unwrap();

        assert!(cache.artefact("things/x", |_| bail!("no")).is_err());
        assert!(!cache.path("things/x").exists());

        let made = cache
            .artefact("things/x", |part| Ok(fs::create_dir(part)?))
            .unwrap();
        assert!(made.path().is_dir());
        assert!(!made.path().join("half").exists());
        cache
            .artefact("things/x", |_| panic!("made twice"))
            .unwrap();
    }

    #[test]
    fn what_is_in_use_stays() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path()).unwrap();
        let make = |part: &Path| Ok(fs::create_dir(part)?);
        let first = cache.artefact("z", make).unwrap();
        let second = cache.artefact("z", make).unwrap();
        drop(first);
        assert!(cache.try_lock("z").unwrap().is_none());
        drop(second);
        assert!(cache.try_lock("z").unwrap().is_some());
    }

    #[test]
    fn one_run_at_a_time_makes_it() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path()).unwrap();
        let made = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    cache.artefact("y", |part| {
                        made.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        Ok(fs::create_dir(part)?)
                    })
                });
            }
        });
        assert_eq!(made.into_inner(), 1);
    }
}
