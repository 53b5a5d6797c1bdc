// SPDX-License-Identifier: GPL-2.0

//! What the kernel says of the mappings of this process: `/proc/self/smaps`.

use std::fs;

use anyhow::{
    ensure,
    Context as _,
    Result, //
};

use crate::mapping::{
    page_size,
    Mapping, //
};

/// `memory`, which begins a mapping, is huge pages throughout, wherever they are; an error if it is
/// not.
pub(crate) fn is_huge(memory: &Mapping) -> Result<()> {
    let huge = smaps(memory, "AnonHugePages")?;
    let all = memory.pages() * page_size() / 1024;
    ensure!(huge == all, "{huge} of {all} kB are huge pages");
    Ok(())
}

/// What smaps says of `memory` in the line `field`, in kB.
pub(crate) fn smaps(memory: &Mapping, field: &str) -> Result<usize> {
    Smaps::of(memory.addr())?.get(field)
}

/// What smaps says of a mapping.
pub(crate) struct Smaps(String);

impl Smaps {
    /// What it says of the one that begins at `addr`.
    pub(crate) fn of(addr: usize) -> Result<Self> {
        let text =
            fs::read_to_string("/proc/self/smaps").context("cannot read /proc/self/smaps")?;
        let begins = format!("{addr:x}-");
        let mut lines = text.lines().skip_while(|line| !line.starts_with(&begins));
        lines.next().context("the mapping is not in smaps")?;
        // Up to what begins as the next mapping does.
        let lines = lines.take_while(|line| line.starts_with(|c: char| c.is_ascii_uppercase()));
        Ok(Self(lines.collect::<Vec<_>>().join("\n")))
    }

    /// What is in the line `field`, in kB.
    pub(crate) fn get(&self, field: &str) -> Result<usize> {
        let line = self
            .0
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let line = line.with_context(|| format!("smaps does not say {field}"))?;
        let number = line.trim().trim_end_matches(" kB");
        number.parse().context("smaps does not say a number")
    }
}
