// SPDX-License-Identifier: GPL-2.0

//! The initramfs.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cpio::newc;

use super::Plan;
use crate::arch::Arch;
use crate::repo;
use crate::tools::Tools;

/// What will be in the initramfs.
#[derive(Debug)]
pub(crate) struct Initramfs {
    files: Vec<(String, Content)>,
}

#[derive(Debug)]
enum Content {
    Copy(PathBuf),
    Text(String),
    Node { major: u32, minor: u32 },
}

impl Initramfs {
    /// busybox and /init.
    pub(crate) fn new(tools: &Tools, arch: Arch) -> Result<Self> {
        let files = vec![
            (
                "bin/busybox".to_owned(),
                Content::Copy(tools.busybox(arch)?),
            ),
            (
                "init".to_owned(),
                Content::Copy(repo::top().join("guest/init")),
            ),
            // The kernel opens it for /init before anything is mounted.
            (
                "dev/console".to_owned(),
                Content::Node { major: 5, minor: 1 },
            ),
        ];
        Ok(Self { files })
    }

    /// Adds a kernel module.
    pub(crate) fn module(&mut self, path: PathBuf) {
        self.add("modules", path);
    }

    /// Adds a test program.
    pub(crate) fn test(&mut self, path: PathBuf) {
        self.add("tests", path);
    }

    fn add(&mut self, folder: &str, path: PathBuf) {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        self.files
            .push((format!("{folder}/{name}"), Content::Copy(path)));
    }

    /// Adds the plan; without one, the guest gives a shell.
    pub(crate) fn plan(&mut self, plan: &Plan) {
        self.files
            .push(("plan".to_owned(), Content::Text(plan.script())));
    }

    /// Writes it.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let context = || format!("cannot write {}", path.display());
        let mut out = BufWriter::new(File::create(path).with_context(context)?);
        let mut number = 0;
        let mut entry =
            |name: &str, mode: u32, node: Option<(u32, u32)>, data: &[u8]| -> Result<()> {
                number += 1;
                let mut builder = newc::Builder::new(name).ino(number).mode(mode).nlink(1);
                if let Some((major, minor)) = node {
                    builder = builder.rdev_major(major).rdev_minor(minor);
                }
                let size = u32::try_from(data.len())
                    .with_context(|| format!("{name} is too large for an initramfs"))?;
                let mut writer = builder.write(&mut out, size);
                std::io::Write::write_all(&mut writer, data).with_context(context)?;
                writer.finish().with_context(context)?;
                Ok(())
            };
        let mut folders = BTreeSet::new();
        for (name, content) in &self.files {
            for folder in Path::new(name)
                .ancestors()
                .skip(1)
                .collect::<Vec<_>>()
                .into_iter()
                .rev()
            {
                if !folder.as_os_str().is_empty() && folders.insert(folder.to_path_buf()) {
                    entry(&folder.to_string_lossy(), 0o040_755, None, &[])?;
                }
            }
            match content {
                Content::Copy(from) => {
                    let data = fs::read(from)
                        .with_context(|| format!("cannot read {}", from.display()))?;
                    entry(name, 0o100_755, None, &data)?;
                }
                Content::Text(text) => entry(name, 0o100_644, None, text.as_bytes())?,
                Content::Node { major, minor } => {
                    entry(name, 0o020_600, Some((*major, *minor)), &[])?
                }
            }
        }
        newc::trailer(&mut out).with_context(context)?;
        std::io::Write::flush(&mut out).with_context(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_come_before_what_is_in_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.cpio");
        let files = vec![
            ("a/b/c".to_owned(), Content::Text("hello".to_owned())),
            ("a/d".to_owned(), Content::Node { major: 5, minor: 1 }),
        ];
        Initramfs { files }.write(&path).unwrap();

        let mut names = Vec::new();
        let mut rest: Box<dyn std::io::Read> = Box::new(File::open(&path).unwrap());
        loop {
            let reader = newc::Reader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                break;
            }
            names.push(reader.entry().name().to_owned());
            rest = reader.finish().unwrap();
        }
        assert_eq!(names, ["a", "a/b", "a/b/c", "a/d"]);
    }
}
