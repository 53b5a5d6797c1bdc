// SPDX-License-Identifier: GPL-2.0

//! What the driver's framework counts: the directories in `/sys/kernel/debug/dpmem`.

use std::{
    collections::BTreeMap,
    fs,
    path::{
        Path,
        PathBuf, //
    },
};

use anyhow::{
    bail,
    Context as _,
    Result, //
};

/// Where they are.
const ROOT: &str = "/sys/kernel/debug/dpmem";

/// The counters of one pagemap, while it is registered.
pub(crate) struct Counters {
    path: PathBuf,
}

impl Counters {
    /// Those of all pagemaps, in the order in which they were registered.
    pub(crate) fn all() -> Result<Vec<Self>> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(ROOT).with_context(|| format!("cannot read {ROOT}"))? {
            let counters = Self {
                path: entry?.path(),
            };
            found.insert(counters.number()?, counters);
        }
        Ok(found.into_values().collect())
    }

    /// Those of the only pagemap.
    pub(crate) fn only() -> Result<Self> {
        let mut all = Self::all()?;
        match (all.pop(), all.len()) {
            (Some(only), 0) => Ok(only),
            (None, _) => bail!("there is no pagemap"),
            (Some(_), others) => bail!("there are {} pagemaps", others + 1),
        }
    }

    /// The name, which the driver chose, and the number, which makes it unique.
    fn parts(&self) -> Result<(&str, u64)> {
        let name = self.path.file_name().and_then(|name| name.to_str());
        let parts = name.and_then(|name| name.rsplit_once('-'));
        let (name, number) = parts.with_context(|| format!("{}", self.path.display()))?;
        Ok((name, number.parse()?))
    }

    /// The name that the driver chose.
    pub(crate) fn name(&self) -> Result<&str> {
        Ok(self.parts()?.0)
    }

    /// The number, which is the pagemap's in the trace as well.
    pub(crate) fn number(&self) -> Result<u64> {
        Ok(self.parts()?.1)
    }

    /// All counters by name, those of failures among them, but for those that are zero.
    pub(crate) fn read(&self) -> Result<BTreeMap<String, u64>> {
        let mut counts = BTreeMap::new();
        for folder in [&self.path, &self.path.join("failures")] {
            read(folder, &mut counts)
                .with_context(|| format!("cannot read {}", folder.display()))?;
        }
        Ok(counts)
    }
}

/// Reads the files of `folder`.
fn read(folder: &Path, counts: &mut BTreeMap<String, u64>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            continue;
        }
        let count = fs::read_to_string(entry.path())?.trim().parse()?;
        if count != 0 {
            counts.insert(entry.file_name().to_string_lossy().into_owned(), count);
        }
    }
    Ok(())
}
