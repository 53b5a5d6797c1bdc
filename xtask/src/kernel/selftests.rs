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
    program(make, "hmm-tests")?;
    step.finish();
    cache::write_atomically(&stamp, wanted.as_bytes())
}

/// Builds one program.
pub(crate) fn program(make: &Make<'_>, name: &str) -> Result<()> {
    let folder = format!("{FOLDER}/");
    let target = make.inside(&format!("{FOLDER}/{name}"));
    make.run(
        &format!("building the test program {name}"),
        &["-C", &folder, "LDFLAGS=-static", &target.to_string_lossy()],
    )
}
