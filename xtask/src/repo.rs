// SPDX-License-Identifier: GPL-2.0

//! Where things are in the checkout.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::de::DeserializeOwned;

/// The top folder of the repository.
pub(crate) fn top() -> PathBuf {
    // cargo says where the crate is; the compiled-in folder is for a binary that somebody starts by
    // hand.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest
        .parent()
        .map_or(manifest.clone(), Path::to_path_buf)
}

/// What the TOML file at `path`, from the top folder on, says.
pub(crate) fn toml<T: DeserializeOwned>(path: &str) -> Result<T> {
    let text =
        fs::read_to_string(top().join(path)).with_context(|| format!("cannot read {path}"))?;
    toml::from_str(&text).with_context(|| format!("{path} is not as it should be"))
}

/// What is made here.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| top().join("target"), PathBuf::from)
}

/// Logs and results.
pub(crate) fn lab_output() -> PathBuf {
    target().join("lab")
}
