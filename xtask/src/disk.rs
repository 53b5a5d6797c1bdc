// SPDX-License-Identifier: GPL-2.0

//! Room on the disk: checked before a step that needs much, and reported as what it is when it runs
//! out.

use std::path::Path;

use anyhow::{bail, Context, Result};

/// What a step needs, in GiB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Need {
    /// For what.
    pub(crate) what: &'static str,
    /// How much.
    pub(crate) gib: u64,
}

/// A Debian root without the tools.
pub(crate) const BASE: Need = Need {
    what: "a Debian root",
    gib: 1,
};
/// The Debian root.
pub(crate) const ROOT: Need = Need {
    what: "the Debian root with the tools",
    gib: 4,
};
/// An unpacked source, and for a moment the package of it.
pub(crate) const SOURCE: Need = Need {
    what: "a kernel source",
    gib: 3,
};
/// A kernel tree that is built.
pub(crate) const TREE: Need = Need {
    what: "a kernel build",
    gib: 4,
};
/// A step in a tree that is there already.
pub(crate) const STEP: Need = Need {
    what: "a build step",
    gib: 1,
};

/// What shells, compilers and apt say when the disk is full.
pub(crate) const NO_SPACE: &str = "No space left on device";

/// What to do when the disk is full.
pub(crate) const ADVICE: &str =
    "make room, or name another folder with DPMEM_CACHE, and run the command again";

/// Fails if `folder`'s file system has no room for `need`.
pub(crate) fn require(folder: &Path, need: Need) -> Result<()> {
    let free = fs4::available_space(folder)
        .with_context(|| format!("cannot see how much room there is in {}", folder.display()))?;
    let wanted = need.gib << 30;
    if free < wanted {
        bail!(
            "not enough room on the disk: {} needs {} GiB in {}, and {:.1} GiB are free (DPMEM_CACHE can name another folder)",
            need.what,
            need.gib,
            folder.display(),
            free as f64 / (1u64 << 30) as f64
        );
    }
    Ok(())
}

/// How it is said that it was a full disk.
pub(crate) const FULL: &str = "the disk is full";

/// Whether a full disk was the cause of an error.
pub(crate) fn is_full(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>();
        io.is_some_and(|io| io.kind() == std::io::ErrorKind::StorageFull)
            || cause.to_string().starts_with(FULL)
    })
}

/// The whole chain of an error in one message, with a word on a full disk if that was the cause.
pub(crate) fn explain(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    if is_full(error) && !text.contains(FULL) {
        format!("{FULL}: {text}\n  {ADVICE}")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_called_so() {
        let io = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let error = anyhow::Error::new(io).context("cannot write x");
        let text = explain(&error);
        assert!(
            text.starts_with("the disk is full: cannot write x"),
            "{text}"
        );
        assert!(text.ends_with(ADVICE), "{text}");
    }

    #[test]
    fn too_much_is_refused() {
        let error = require(
            Path::new("/"),
            Need {
                what: "everything",
                gib: 1 << 30,
            },
        )
        .unwrap_err();
        assert!(format!("{error}").contains("everything needs"));
    }
}
