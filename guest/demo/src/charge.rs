// SPDX-License-Identifier: GPL-2.0

//! Who pays for memory on a device: the group of the process, as for any other.

use std::{
    fs,
    path::{
        Path,
        PathBuf, //
    },
};

use anyhow::{
    ensure,
    Context as _,
    Result, //
};
use nix::mount::{
    mount,
    umount,
    MsFlags, //
};

use crate::{
    device::Device,
    mapping::{
        page_size,
        Mapping, //
    },
    process::Child,
    scenarios::{
        check,
        fill,
        migrate,
        pattern,
        Scenario, //
    }, //
};

/// The scenario.
pub(crate) const ALL: &[(&str, Scenario)] = &[("charged_to_its_group", charged_to_its_group)];

/// Where the groups are.
const GROUPS: &str = "/sys/fs/cgroup";

const PAGES: usize = 4096;

/// A group of processes, for as long as this lives.
struct Group(PathBuf);

impl Group {
    fn new() -> Result<Self> {
        mount(
            Some("cgroup2"),
            GROUPS,
            Some("cgroup2"),
            MsFlags::empty(),
            None::<&str>,
        )
        .context("mounting the groups")?;
        let this = Self(Path::new(GROUPS).join("dpmem-demo"));
        fs::write(Path::new(GROUPS).join("cgroup.subtree_control"), "+memory")
            .context("asking for the memory of groups")?;
        fs::create_dir(&this.0).context("making a group")?;
        Ok(this)
    }

    /// This process belongs to it from now on.
    fn join(&self) -> Result<()> {
        fs::write(self.0.join("cgroup.procs"), "0").context("joining a group")
    }

    /// How many bytes it is charged for.
    fn charged(&self) -> Result<usize> {
        let charged = fs::read_to_string(self.0.join("memory.current"))?;
        Ok(charged.trim().parse()?)
    }

    /// Checks that it is charged for `pages` pages more than when it was charged for `before`, but
    /// for what the kernel needs for them, and what processors have in store.
    fn expect(&self, before: usize, pages: usize, when: &str) -> Result<()> {
        let more = self.charged()?.saturating_sub(before) / page_size();
        let room = PAGES / 8;
        ensure!(
            more.abs_diff(pages) <= room,
            "{when}, the group is charged for {more} pages more, not for {pages}"
        );
        Ok(())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The next scenarios do not care.
        let _ = fs::remove_dir(&self.0);
        let _ = umount(GROUPS);
    }
}

fn charged_to_its_group(path: &Path) -> Result<()> {
    let group = Group::new()?;
    Child::run(|| {
        group.join()?;
        let device = Device::open(path)?;
        let before = group.charged()?;

        let mut memory = Mapping::private(PAGES)?;
        fill(memory.bytes_mut(), 60);
        group.expect(before, PAGES, "with memory")?;
        migrate(&device, &memory)?;
        group.expect(before, PAGES, "with memory on the device")?;
        check(memory.bytes(), |page| pattern(page, 60))?;
        group.expect(before, PAGES, "with memory at home")?;

        // There is nothing to move: a page on the device is the first that there is.
        let holes = Mapping::private(PAGES)?;
        group.expect(before, PAGES, "with nothing more")?;
        migrate(&device, &holes)?;
        group.expect(before, 2 * PAGES, "with as much on the device")?;
        drop(holes);
        group.expect(before, PAGES, "without that")?;
        drop(memory);
        group.expect(before, 0, "with nothing")
    })?
    .wait()
}
