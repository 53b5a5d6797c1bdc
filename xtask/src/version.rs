// SPDX-License-Identifier: GPL-2.0

//! Which kernel versions are supported, and which one a tree is.

use std::fmt;
use std::path::Path;

use anyhow::{bail, Context, Result};

/// A supported kernel series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Series {
    /// 7.2 and its point releases.
    V7_2,
    /// 7.3, its release candidates and point releases.
    V7_3,
}

impl Series {
    /// From `7.2` or `7.3`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "7.2" => Some(Self::V7_2),
            "7.3" => Some(Self::V7_3),
            _ => None,
        }
    }

    /// As on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V7_2 => "7.2",
            Self::V7_3 => "7.3",
        }
    }

    /// What the Makefile of a kernel tree says.
    pub(crate) fn of_tree(tree: &Path) -> Result<Self> {
        if !tree.is_dir() {
            bail!("there is no kernel tree at {}", tree.display());
        }
        let path = tree.join("Makefile");
        if !path.is_file() || !tree.join("Kconfig").is_file() {
            bail!(
                "{} is not a kernel tree: it has no Makefile and Kconfig",
                tree.display()
            );
        }
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let found = Self::of_makefile(&text);
        match found {
            Ok(series) => Ok(series),
            Err(version) => bail!(
                "{} is Linux {version}: only 7.2 and 7.3 are supported",
                tree.display()
            ),
        }
    }

    /// The series, or the version that is not one of them.
    fn of_makefile(text: &str) -> Result<Self, String> {
        let value = |name: &str| {
            text.lines()
                .take(20)
                .filter_map(|line| line.split_once('='))
                .find(|(key, _)| key.trim() == name)
                .map_or("?", |(_, value)| value.trim())
        };
        let version = format!("{}.{}", value("VERSION"), value("PATCHLEVEL"));
        Self::parse(&version).ok_or(version)
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makefiles() {
        let text = "# SPDX\nVERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = 4\nEXTRAVERSION =\n";
        assert_eq!(Series::of_makefile(text), Ok(Series::V7_3));
        let text = "VERSION = 6\nPATCHLEVEL = 12\n";
        assert_eq!(Series::of_makefile(text), Err("6.12".to_owned()));
        assert_eq!(Series::of_makefile("all:\n"), Err("?.?".to_owned()));
    }
}
