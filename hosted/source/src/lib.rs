// SPDX-License-Identifier: GPL-2.0

//! Finds the source of the kernel that `cargo xtask` unpacked, for the build scripts of this
//! workspace.
//!
//! A crate root cannot be chosen by a build script, so each crate here has a root of a few lines,
//! which includes the kernel's root from `OUT_DIR`. [`Root`] puts it there: the kernel's file but
//! for its inner attributes, which `include!` does not take, beside links to the files of its
//! modules, which are used as they are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The series that is taken if nobody says anything else.
const DEFAULT: &str = "7.3";

/// Ends the build with one line.
fn fail(line: &str) -> ! {
    println!("cargo::error={line}");
    // Cargo sees to the rest, without repeating all that was said.
    std::process::exit(0);
}

/// The variable `name`, on which the build depends from now on.
fn env(name: &str) -> Option<String> {
    println!("cargo::rerun-if-env-changed={name}");
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Where `cargo xtask` puts what it fetches.
fn cache() -> PathBuf {
    let variables = ["DPMEM_CACHE", "XDG_CACHE_HOME", "HOME"].map(env);
    let dir = match variables.map(|value| value.map(PathBuf::from)) {
        [Some(dir), _, _] => dir,
        [None, Some(dir), _] => dir.join("dpmem"),
        [None, None, Some(home)] => home.join(".cache/dpmem"),
        [None, None, None] => fail("no folder for the cache: set DPMEM_CACHE or HOME"),
    };
    if !dir.is_absolute() {
        // This is not the folder that the user is in.
        fail(&format!(
            "DPMEM_CACHE={} must be absolute for cargo",
            dir.display()
        ));
    }
    dir
}

/// The kernel's source: `DPMEM_LINUX` says which, as a series or as a folder.
pub fn linux() -> PathBuf {
    let choice = env("DPMEM_LINUX").unwrap_or_else(|| DEFAULT.to_owned());
    if choice.contains('/') {
        let dir = PathBuf::from(&choice);
        if !dir.is_absolute() {
            fail(&format!("DPMEM_LINUX={choice} must be absolute for cargo"));
        }
        if !dir.join("rust/kernel/lib.rs").is_file() {
            fail(&format!("DPMEM_LINUX={choice} is not a kernel's source"));
        }
        return dir;
    }
    let dir = cache().join("src").join(&choice).join("linux");
    if !dir.join("rust/kernel/lib.rs").is_file() {
        fail(&format!(
            "there is no source of Linux {choice} at {}: \
             `cargo xtask hosted --linux {choice}`, in the folder above hosted/, gets it",
            dir.display()
        ));
    }
    println!("cargo::rerun-if-changed={}", dir.join("Makefile").display());
    dir
}

/// The version of the kernel, from the head of its Makefile: the first two numbers.
fn version() -> (u32, u32) {
    let makefile = linux().join("Makefile");
    let text = read(&makefile);
    let number = |name: &str| number_in(&text, name);
    match (number("VERSION"), number("PATCHLEVEL")) {
        (Some(version), Some(patchlevel)) => (version, patchlevel),
        _ => fail(&format!("{} has no version", makefile.display())),
    }
}

/// The number that a Makefile gives to `name`.
fn number_in(makefile: &str, name: &str) -> Option<u32> {
    makefile.lines().find_map(|line| {
        let (found, value) = line.split_once('=')?;
        (found.trim() == name).then(|| value.trim().parse().ok())?
    })
}

/// Whether drivers of PCI devices are written as those here are: 7.3 has changed how.
pub fn has_pci() -> bool {
    version() >= (7, 3)
}

/// Switches on `pci` if [`has_pci`].
pub fn pci_cfg() {
    match has_pci() {
        true => cfg("pci"),
        false => no_cfg("pci"),
    }
}

/// The text of the kernel's file `path`.
pub fn read(path: &Path) -> String {
    println!("cargo::rerun-if-changed={}", path.display());
    fs::read_to_string(path)
        .unwrap_or_else(|err| fail(&format!("cannot read {}: {err}", path.display())))
}

/// Where a build script leaves what it makes.
fn out() -> PathBuf {
    PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_else(|| fail("OUT_DIR is not set")))
}

/// Writes `text` to the file `name`.
pub fn write(name: &str, text: &str) {
    let path = out().join(name);
    fs::write(&path, text)
        .unwrap_or_else(|err| fail(&format!("cannot write {}: {err}", path.display())));
}

/// The root of a crate.
pub struct Root {
    file: PathBuf,
    text: String,
}

impl Root {
    /// The one at `file`.
    pub fn at(file: &Path) -> Self {
        let text = without_inner_attributes(&read(file));
        Self {
            file: file.to_owned(),
            text,
        }
    }

    /// The kernel's one at `path`.
    pub fn of_linux(path: &str) -> Self {
        Self::at(&linux().join(path))
    }

    /// The text, to look at.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Puts `new` in the place of `old`, which must be there exactly once.
    pub fn replace(mut self, old: &str, new: &str) -> Self {
        if self.text.matches(old).count() != 1 {
            let file = self.file.display();
            fail(&format!(
                "{file} has not one `{old}`: hosted/ has to be adapted to it"
            ));
        }
        self.text = self.text.replacen(old, new, 1);
        self
    }

    /// Keeps only those of the modules that are in other files of which `keep` says so.
    pub fn keep_modules(mut self, keep: impl Fn(&str) -> bool) -> Self {
        self.text = self
            .text
            .lines()
            .map(|line| match module_of(line) {
                Some(name) if !keep(name) => format!("#[cfg(any())] {line}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        self
    }

    /// Leaves `root.rs` in `OUT_DIR`, and links to what lies beside the file.
    pub fn write(self) {
        let folder = self.file.parent().unwrap_or(Path::new("/"));
        let entries = fs::read_dir(folder)
            .unwrap_or_else(|err| fail(&format!("cannot read {}: {err}", folder.display())));
        for entry in entries.flatten() {
            let link = out().join(entry.file_name());
            let _ = fs::remove_file(&link);
            let linked = std::os::unix::fs::symlink(entry.path(), &link);
            linked.unwrap_or_else(|err| fail(&format!("cannot link {}: {err}", link.display())));
        }
        write("root.rs", &self.text);
    }
}

/// The name of the module that `line` says is in another file.
fn module_of(line: &str) -> Option<&str> {
    let line = line.trim();
    line.strip_prefix("pub mod ")
        .or_else(|| line.strip_prefix("mod "))?
        .strip_suffix(';')
}

/// `text` with each inner attribute, and each inner line of documentation, turned into an empty
/// line.
fn without_inner_attributes(text: &str) -> String {
    let mut depth = 0usize;
    let mut result = String::new();
    for line in text.lines() {
        let begins = depth == 0 && (line.starts_with("#![") || line.starts_with("//!"));
        if (begins && line.starts_with("#![")) || depth > 0 {
            depth += line.matches('[').count();
            depth = depth.saturating_sub(line.matches(']').count());
        } else if !begins {
            result.push_str(line);
        }
        result.push('\n');
    }
    result
}

/// Switches `name` on for the crate.
pub fn cfg(name: &str) {
    println!("cargo::rustc-check-cfg=cfg({name})");
    println!("cargo::rustc-cfg={name}");
}

/// Tells the compiler that `name` may be switched on, and is not.
pub fn no_cfg(name: &str) {
    println!("cargo::rustc-check-cfg=cfg({name})");
}

/// Switches on that the kernel has an index space for device memory, as `linux/series` gives it,
/// unless `DPMEM_KERNEL` says that it is a stock one.
pub fn backend_cfg() {
    match env("DPMEM_KERNEL").as_deref() {
        None | Some("dpmem") => cfg("dpmem_offset"),
        Some("stock") => no_cfg("dpmem_offset"),
        Some(other) => fail(&format!(
            "DPMEM_KERNEL={other}: it is `dpmem`, the kernel with the series, or `stock`"
        )),
    }
}

/// Switches on what the kernel's configuration says of the compiler.
pub fn compiler_cfgs() {
    let minor = compiler_minor();
    let text = read(&linux().join("init/Kconfig"));
    let mut name = None;
    for line in text.lines() {
        if let Some(config) = line.strip_prefix("config RUSTC_HAS_") {
            name = Some(format!("CONFIG_RUSTC_HAS_{config}"));
        } else if let Some(least) = line.trim().strip_prefix("def_bool RUSTC_VERSION >= ") {
            let least: u32 = least.parse().unwrap_or(u32::MAX);
            match name.take() {
                Some(name) if 100_000 + minor * 100 >= least => cfg(&name),
                Some(name) => no_cfg(&name),
                None => {}
            }
        }
    }
}

/// The second number of the compiler's version.
pub fn compiler_minor() -> u32 {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output();
    output
        .ok()
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .and_then(|text| text.split('.').nth(1)?.parse().ok())
        .unwrap_or_else(|| fail("rustc does not say which version it is"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inner_attributes_go_and_lines_stay() {
        let text = "//! A\n#![cfg_attr(\n    x,\n    y[0]\n)]\nmod a;\n/// B\npub mod b;\n";
        let rest = without_inner_attributes(text);
        assert_eq!(rest, "\n\n\n\n\nmod a;\n/// B\npub mod b;\n");
        assert_eq!(rest.lines().count(), text.lines().count());
    }

    #[test]
    fn numbers() {
        let makefile = "# A\nVERSION = 7\nPATCHLEVEL = 3\nEXTRAVERSION =\nKERNELVERSION = x\n";
        assert_eq!(number_in(makefile, "VERSION"), Some(7));
        assert_eq!(number_in(makefile, "PATCHLEVEL"), Some(3));
        assert_eq!(number_in(makefile, "EXTRAVERSION"), None);
        assert_eq!(number_in(makefile, "SUBLEVEL"), None);
    }

    #[test]
    fn modules() {
        assert_eq!(module_of("pub mod b;"), Some("b"));
        assert_eq!(module_of("    mod c;"), Some("c"));
        assert_eq!(module_of("mod d {"), None);
        assert_eq!(module_of("modest;"), None);
    }
}
