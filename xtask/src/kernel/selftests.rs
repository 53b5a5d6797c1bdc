// SPDX-License-Identifier: GPL-2.0

//! The kernel tree's own test programs, unmodified, linked statically.

use std::fs;

use anyhow::Result;
use sha2::{Digest, Sha256};

use super::Make;
use crate::cache;
use crate::progress::Step;
use crate::root::short;

/// Where they are.
pub(crate) const FOLDER: &str = "tools/testing/selftests/mm";

/// Says from what they were built.
const STAMP: &str = ".dpmem-selftests";

/// Builds hmm-tests, unless that was done from the same sources.
pub(crate) fn build(make: &Make<'_>) -> Result<()> {
    let tree = make.tree();
    let folder = tree.join(FOLDER);
    let mut hash = Sha256::new();
    for file in [
        "hmm-tests.c",
        "vm_util.c",
        "vm_util.h",
        "../kselftest_harness.h",
        "../../../../lib/test_hmm_uapi.h",
    ] {
        hash.update(fs::read(folder.join(file)).unwrap_or_default());
    }
    let wanted = short(hash);
    let stamp = tree.join(STAMP);
    if folder.join("hmm-tests").is_file()
        && fs::read_to_string(&stamp).is_ok_and(|found| found == wanted)
    {
        return Ok(());
    }
    let step = Step::start(
        format!("building the test programs of {}", make.name()),
        None,
    );
    make.run("installing the kernel's headers", &["-s", "headers"])?;
    programs(make, &["hmm-tests"])?;
    step.finish();
    cache::write_atomically(&stamp, wanted.as_bytes())
}

/// Builds programs.
pub(crate) fn programs(make: &Make<'_>, names: &[&str]) -> Result<()> {
    let mut arguments = vec![
        "-C".to_owned(),
        format!("{FOLDER}/"),
        format!("CC={}", make.cc()?),
    ];
    // No module is wanted that the folder's Makefile would build for the running kernel.
    arguments.extend(["LDFLAGS=-static".to_owned(), "KDIR=/nonexistent".to_owned()]);
    for name in names {
        let path = make.inside(&format!("{FOLDER}/{name}"));
        arguments.push(path.to_string_lossy().into_owned());
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    make.run("building the kernel tree's test programs", &arguments)
}
