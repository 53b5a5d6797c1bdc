// SPDX-License-Identifier: GPL-2.0

//! The configuration: fragments of `linux/configs` on top of `make tinyconfig`, and a check that
//! all of it was taken.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{bail, Context, Result};
use sha2::{Digest, Sha256};

use super::{profile_name, Flavour, Make};
use crate::cache;
use crate::cli::{KernelOptions, Profile, Purpose};
use crate::progress::Step;
use crate::repo;
use crate::root::short;
use crate::suites::mm;
use crate::version::Series;

/// The merged fragments, in a tree.
const MERGED: &str = ".dpmem.config";
/// Says with what a tree was configured.
const STAMP: &str = ".dpmem-configured";

/// The fragments that make up a configuration.
#[derive(Debug)]
pub(crate) struct Fragments {
    text: String,
}

impl Fragments {
    /// Reads those that apply.
    pub(crate) fn load(series: Series, options: &KernelOptions, flavour: Flavour) -> Result<Self> {
        let profile = options.profile;
        let folder = repo::top().join("linux/configs");
        let mut names = vec![
            ("base".to_owned(), true),
            (options.arch.name().to_owned(), true),
            (series.name().to_owned(), false),
        ];
        if profile != Profile::Plain {
            names.push((profile_name(profile).to_owned(), true));
        }
        let ours = matches!(flavour, Flavour::Rust | Flavour::Dpmem);
        if options.purpose == Purpose::Uvmem {
            names = vec![("uvmem".to_owned(), true)];
        } else if options.purpose == Purpose::Drivers {
            names.push(("drivers".to_owned(), true));
            if ours {
                names.push(("drivers-rust".to_owned(), true));
            }
        } else if ours {
            names.push(("rust".to_owned(), false));
            names.push((format!("rust-{}", series.name()), false));
        }
        if flavour == Flavour::Dpmem && options.purpose != Purpose::Uvmem {
            names.push(("series".to_owned(), true));
        }
        let mut text = String::new();
        for (name, required) in names {
            let path = folder.join(format!("{name}.config"));
            match fs::read_to_string(&path) {
                Ok(fragment) => text.push_str(&fragment),
                Err(error) if !required && error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot read {}", path.display()))
                }
            }
            text.push('\n');
        }
        if options.purpose == Purpose::Mm {
            text.push_str(&mm::config(options.arch)?);
        }
        for line in &options.config {
            text.push_str(line);
            text.push('\n');
        }
        Ok(Self { text })
    }

    /// The same, and one more on top of them.
    pub(super) fn and(&self, name: &str) -> Result<Self> {
        let path = repo::top().join(format!("linux/configs/{name}.config"));
        let more =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self {
            text: format!("{}\n{more}", self.text),
        })
    }

    /// What they say, without comments: two configurations that differ in nothing else are the
    /// same.
    pub(crate) fn meaning(&self) -> String {
        self.text
            .lines()
            .filter(|line| line.starts_with("CONFIG_") || line.starts_with("# CONFIG_"))
            .map(|line| format!("{line}\n"))
            .collect()
    }
}

/// Configures a tree, unless that was done with the same fragments and the same Kconfig of ours.
pub(crate) fn configure(make: &Make<'_>, fragments: &Fragments) -> Result<()> {
    let tree = make.tree();
    let mut hash = Sha256::new();
    hash.update(fragments.meaning());
    for ours in [
        "rust/dpmem/Kconfig",
        "samples/rust/dmirror/Kconfig",
        "samples/rust/edu/Kconfig",
        "samples/rust/nouveau_dmem/Kconfig",
        "samples/rust/xe_pagemap/Kconfig",
        "drivers/gpu/drm/nouveau/dmem/Kconfig",
        "drivers/gpu/drm/xe/pagemap/Kconfig",
        "samples/rust/Kconfig",
        "mm/Kconfig",
    ] {
        hash.update(fs::read(tree.join(ours)).unwrap_or_default());
    }
    let wanted = short(hash);
    let stamp = tree.join(STAMP);
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted)
        && tree.join(".config").is_file()
    {
        return Ok(());
    }
    let step = Step::start(format!("configuring {}", make.name()), None);
    // It is said of the configuration that is about to be overwritten.
    match fs::remove_file(&stamp) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", stamp.display()));
        }
        _ => {}
    }
    cache::write_atomically(&tree.join(MERGED), fragments.text.as_bytes())?;
    make.run("configuring the kernel", &["-s", "tinyconfig"])?;
    let merge = format!("scripts/kconfig/merge_config.sh -m -Q .config {MERGED}");
    make.shell("merging the configuration", &merge)?;
    make.run("configuring the kernel", &["-s", "olddefconfig"])?;
    step.finish();

    let config = fs::read_to_string(tree.join(".config"))
        .context("cannot read the configuration that make wrote")?;
    let missing = not_taken(&fragments.text, &config);
    if !missing.is_empty() {
        bail!(
            "the configuration of {} did not become what linux/configs asks for:\n    {}\n  \
             (a dependency is missing, or the symbol does not exist in this version)",
            make.name(),
            missing.join("\n    ")
        );
    }
    cache::write_atomically(&stamp, wanted.as_bytes())
}

/// What symbols have in a configuration or a fragment; the last line about one counts.
fn symbols(text: &str) -> BTreeMap<&str, &str> {
    text.lines()
        .filter_map(|line| {
            let line = line.trim();
            match line.strip_prefix("# ") {
                Some(rest) => Some((
                    rest.strip_suffix(" is not set")
                        .filter(|s| s.starts_with("CONFIG_"))?,
                    "n",
                )),
                None => line
                    .split_once('=')
                    .filter(|(symbol, _)| symbol.starts_with("CONFIG_")),
            }
        })
        .collect()
}

/// Whether a tree is configured with `symbol`, built in or as a module.
pub(super) fn has(tree: &Path, symbol: &str) -> Result<bool> {
    let path = tree.join(".config");
    let config =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let name = format!("CONFIG_{symbol}");
    let value = symbols(&config).get(name.as_str()).copied();
    Ok(matches!(value, Some("y" | "m")))
}

/// The lines that were asked for and did not come true.
fn not_taken(asked: &str, config: &str) -> Vec<String> {
    let config = symbols(config);
    symbols(asked)
        .into_iter()
        .filter_map(|(symbol, value)| {
            let found = config.get(symbol).copied().unwrap_or("n");
            (found != value).then(|| match found {
                "n" => format!("{symbol}={value} was asked for and is not set"),
                _ => format!("{symbol}={value} was asked for and is {found}"),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_asked_for_must_be_there() {
        let asked =
            "# a comment\nCONFIG_A=y\nCONFIG_B=m\nCONFIG_C=7\n# CONFIG_D is not set\nCONFIG_E=n\n";
        assert_eq!(
            not_taken(asked, "CONFIG_A=y\nCONFIG_B=m\nCONFIG_C=7\n"),
            Vec::<String>::new()
        );
        assert_eq!(
            not_taken(
                asked,
                "CONFIG_A=y\nCONFIG_B=y\n# CONFIG_C is not set\nCONFIG_D=y\n"
            ),
            [
                "CONFIG_B=m was asked for and is y",
                "CONFIG_C=7 was asked for and is not set",
                "CONFIG_D=n was asked for and is y"
            ]
        );
    }

    #[test]
    fn what_a_tree_is_configured_with() {
        let tree = tempfile::tempdir().unwrap();
        assert!(has(tree.path(), "A").is_err());
        let config = "CONFIG_A=y\nCONFIG_B=m\nCONFIG_C=7\n# CONFIG_D is not set\n";
        fs::write(tree.path().join(".config"), config).unwrap();
        let found = |symbol| has(tree.path(), symbol).unwrap();
        assert!(found("A") && found("B"));
        assert!(!found("C") && !found("D") && !found("E"));
    }

    #[test]
    fn a_later_fragment_wins() {
        assert!(not_taken("CONFIG_A=y\n# CONFIG_A is not set\n", "").is_empty());
    }
}
