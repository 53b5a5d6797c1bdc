// SPDX-License-Identifier: GPL-2.0

//! `--filter`.

use anyhow::{Context, Result};
use globset::{Glob, GlobMatcher};

/// Which tests run.
#[derive(Clone, Debug)]
pub(crate) enum Filter {
    /// All.
    All,
    /// Those whose name contains this.
    Contains(String),
    /// Those whose name matches this.
    Matches(Box<GlobMatcher>),
    /// All others.
    Not(Box<Self>),
}

impl Filter {
    /// Understands the pattern.
    pub(crate) fn new(pattern: Option<&str>) -> Result<Self> {
        Ok(match pattern {
            None | Some("") => Self::All,
            Some(pattern) if pattern.starts_with('!') => {
                Self::Not(Box::new(Self::new(pattern.get(1..))?))
            }
            Some(pattern) if pattern.contains(['*', '?', '[']) => {
                let glob =
                    Glob::new(pattern).with_context(|| format!("{pattern} is not a pattern"))?;
                Self::Matches(Box::new(glob.compile_matcher()))
            }
            Some(text) => Self::Contains(text.to_owned()),
        })
    }

    /// True if this test is to run.
    pub(crate) fn takes(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Contains(text) => name.contains(text),
            Self::Matches(glob) => glob.is_match(name),
            Self::Not(of) => !of.takes(name),
        }
    }

    /// True if no test runs whose name does not contain `text`.
    pub(crate) fn needs(&self, text: &str) -> bool {
        match self {
            Self::Contains(of) => of.contains(text),
            Self::Matches(glob) => glob.glob().glob().contains(text),
            Self::All | Self::Not(_) => false,
        }
    }

    /// True if there is no filter.
    pub(crate) fn is_all(&self) -> bool {
        matches!(self, Self::All)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let takes = |pattern: Option<&str>, name: &str| Filter::new(pattern).unwrap().takes(name);
        assert!(takes(None, "x"));
        assert!(takes(
            Some("migrate"),
            "hmm.hmm_device_private.migrate_fault"
        ));
        assert!(!takes(Some("migrate"), "hmm.hmm_device_private.anon_read"));
        assert!(takes(Some("*.migrate"), "hmm.hmm_device_private.migrate"));
        assert!(!takes(
            Some("*.migrate"),
            "hmm.hmm_device_private.migrate_fault"
        ));
        assert!(Filter::new(Some("[")).is_err());
        assert!(takes(Some("!benchmark"), "hmm.migrate"));
        assert!(!takes(Some("!*bench*"), "hmm.benchmark"));
        assert!(!takes(Some("!"), "x"));
    }
}
