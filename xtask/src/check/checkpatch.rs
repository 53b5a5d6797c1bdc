// SPDX-License-Identifier: GPL-2.0

//! `lab checkpatch`: what the kernel's own checkpatch says of the series.

use std::path::Path;
use std::time::Instant;

use anyhow::{ensure, Context as _, Result};
use regex::Regex;
use serde::Deserialize;

use crate::cache::Cache;
use crate::cli::{CheckpatchOptions, LinuxChoice};
use crate::install::Installer;
use crate::process;
use crate::progress::Step;
use crate::repo;
use crate::report::{Report, Test};
use crate::source::Source;
use crate::tools::Tools;
use crate::version::Series;

/// What is known about the patches.
const KNOWN: &str = "xtask/suites/checkpatch.toml";

/// Nobody has signed the series off, and whether a new file has to be in MAINTAINERS is not for
/// checkpatch to say.
const OPTIONS: [&str; 5] = [
    "--strict",
    "--no-signoff",
    "--show-types",
    "--ignore",
    "FILE_PATH_CHANGES",
];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    #[serde(default)]
    known: Vec<Known>,
}

/// Something that checkpatch says, and that stays.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    /// A part of the patch's name.
    patch: String,
    #[serde(rename = "type")]
    kind: String,
    /// The only version of the series that has it, if it is not all.
    linux: Option<String>,
    /// How often.
    #[serde(default = "once")]
    times: usize,
    why: String,
}

fn once() -> usize {
    1
}

/// Something that checkpatch says.
#[derive(Debug)]
struct Finding {
    /// What checkpatch calls it.
    kind: String,
    /// In its words.
    text: String,
}

/// Runs `lab checkpatch`; false if there is something to mend.
pub(crate) fn run(options: &CheckpatchOptions) -> Result<bool> {
    options.linux.check()?;
    let mut report = Report::new("checkpatch")?;
    test(&options.linux, &mut report).map_err(|error| report.ended_by(error))?;
    report.finish()
}

/// One test for each patch.
pub(super) fn test(linux: &LinuxChoice, report: &mut Report) -> Result<()> {
    let known = load()?;
    let cache = Cache::open()?;
    let tools = Tools::get(&cache)?;
    let source = Source::get(&cache, &tools, linux)?;
    let series = source.series;
    let names = Installer::load(&repo::top(), series)?.series_names();
    let folder = repo::top().join("linux/series").join(series.name());
    let mut step = Step::start(
        format!("checkpatch on the series for {series}"),
        u64::try_from(names.len()).ok(),
    );
    for name in &names {
        let known = of(&known, series, name);
        let started = Instant::now();
        let outcome = said(&tools, &source.dir, &folder.join(name), report.folder())
            .and_then(|said| findings(&said))
            .map_err(|error| format!("{error:#}"))
            .and_then(|findings| judge(&findings, &known));
        let seconds = started.elapsed().as_secs_f64();
        step.tick(name.clone());
        report.add(Test::new(
            &format!("{series}/checkpatch"),
            name,
            outcome,
            seconds,
        ))?;
        for known in known {
            report.comment(&format!("{name}: {}: {}", known.kind, known.why))?;
        }
    }
    step.finish();
    Ok(())
}

fn load() -> Result<Vec<Known>> {
    Ok(repo::toml::<List>(KNOWN)?.known)
}

/// What is known about one patch.
fn of<'a>(known: &'a [Known], series: Series, name: &str) -> Vec<&'a Known> {
    let is_of = |known: &&Known| {
        let linux = known.linux.as_deref();
        name.contains(&known.patch) && linux.is_none_or(|linux| linux == series.name())
    };
    known.iter().filter(is_of).collect()
}

/// What the tree's checkpatch says of a patch.
fn said(tools: &Tools, tree: &Path, patch: &Path, logs: &Path) -> Result<String> {
    let (folder, name) = patch
        .parent()
        .zip(patch.file_name())
        .with_context(|| format!("{} is no file", patch.display()))?;
    let mut job = tools.job();
    let tree = job.bind(tree, "/linux");
    let folder = job.bind(folder, "/patches");
    // It may leave a file where it runs, which the source of a kernel is no place for.
    let logs = job.bind(logs, "/logs");
    job.folder(&logs);
    let mut command = job.command("perl");
    command
        .arg(tree.join("scripts/checkpatch.pl"))
        .args(OPTIONS)
        .arg(folder.join(name));
    process::output_if(&mut command, |status| matches!(status.code(), Some(0 | 1)))
        .context("cannot run checkpatch")
}

/// The findings, which are as many as checkpatch counts.
fn findings(said: &str) -> Result<Vec<Finding>> {
    let first = Regex::new(r"^(?:ERROR|WARNING|CHECK):(\w+): ").context("a bad pattern")?;
    let total = Regex::new(r"(?m)^total: (\d+) errors, (\d+) warnings, (\d+) checks, ")
        .context("a bad pattern")?;
    let found: Vec<Finding> = said
        .split("\n\n")
        .filter_map(|text| {
            let text = text.trim();
            let (_, [kind]) = first.captures(text)?.extract();
            Some(Finding {
                kind: kind.to_owned(),
                text: text.to_owned(),
            })
        })
        .collect();
    let (_, counts) = total
        .captures(said)
        .with_context(|| format!("checkpatch did not look at it: {}", said.trim()))?
        .extract::<3>();
    let counts: Vec<usize> = counts
        .iter()
        .map(|count| count.parse())
        .collect::<Result<_, _>>()
        .context("checkpatch counts what cannot be counted")?;
    ensure!(
        counts.iter().sum::<usize>() == found.len(),
        "checkpatch says something that is not understood: {}",
        said.trim()
    );
    Ok(found)
}

/// Nothing may be found but what is known, and all of that has to be, as often as it is known.
fn judge(findings: &[Finding], known: &[&Known]) -> Result<(), String> {
    let of = |kind: &str| -> Vec<&Finding> {
        let is_of = |finding: &&Finding| finding.kind == kind;
        findings.iter().filter(is_of).collect()
    };
    let is_known = |finding: &&Finding| known.iter().any(|known| known.kind == finding.kind);
    let mut wrong: Vec<String> = findings
        .iter()
        .filter(|finding| !is_known(finding))
        .map(|finding| finding.text.clone())
        .collect();
    for known in known {
        let found = of(&known.kind);
        if found.len() != known.times {
            let (kind, times) = (&known.kind, known.times);
            let said = found.len();
            wrong.push(format!(
                "checkpatch says {kind} {said} times, and {KNOWN} knows {times}"
            ));
            wrong.extend(found.iter().map(|finding| finding.text.clone()));
        }
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "\
CHECK:BIT_MACRO: Prefer using the BIT macro
#31: FILE: include/linux/migrate.h:137:
+#define A (1UL << 2)

WARNING:LONG_LINE: line length of 101 exceeds 100 columns
#32: FILE: include/linux/migrate.h:138:
+#define B

total: 0 errors, 1 warnings, 1 checks, 84 lines checked

NOTE: For some of the reported defects, checkpatch may be able to
      mechanically convert to the typical style using --fix or --fix-inplace.
";
    const NOTHING: &str = "total: 0 errors, 0 warnings, 0 checks, 9 lines checked\n\n\
                           x.patch has no obvious style problems and is ready for submission.\n";

    fn known(kind: &str) -> Known {
        Known {
            patch: "a".to_owned(),
            kind: kind.to_owned(),
            linux: None,
            times: 1,
            why: "because".to_owned(),
        }
    }

    #[test]
    fn what_checkpatch_says() {
        let found = findings(SAID).unwrap();
        let kinds: Vec<&str> = found.iter().map(|finding| finding.kind.as_str()).collect();
        assert_eq!(kinds, ["BIT_MACRO", "LONG_LINE"]);
        assert!(found[0].text.ends_with("+#define A (1UL << 2)"));
        assert!(findings(NOTHING).unwrap().is_empty());
    }

    #[test]
    fn what_is_not_understood_is_not_well() {
        assert!(findings("").is_err());
        let hidden = SAID.replace("CHECK:BIT_MACRO", "CHECK");
        assert!(findings(&hidden).is_err());
    }

    #[test]
    fn what_is_known_stays_and_has_to_be_true() {
        let found = findings(SAID).unwrap();
        let (bit, line, other) = (known("BIT_MACRO"), known("LONG_LINE"), known("OTHER"));
        assert!(judge(&found, &[&bit, &line]).is_ok());
        let unknown = judge(&found, &[&bit]).unwrap_err();
        assert!(unknown.starts_with("WARNING:LONG_LINE"), "{unknown}");
        assert!(judge(&found, &[&bit, &line, &other]).is_err());
        assert!(judge(&[], &[&bit]).is_err());
        let twice = findings(&SAID.replace("WARNING:LONG_LINE", "CHECK:BIT_MACRO"));
        assert!(judge(&twice.unwrap(), &[&bit]).is_err());
        assert!(judge(&[], &[]).is_ok());
    }

    #[test]
    fn what_is_known_is_of_a_patch() {
        for known in load().unwrap() {
            assert!(!known.why.is_empty(), "{}", known.patch);
            let linux = known.linux.as_deref();
            assert!(linux.is_none_or(|linux| Series::parse(linux).is_some()));
            for series in [Series::V7_3, Series::V7_2] {
                let names = Installer::load(&repo::top(), series)
                    .unwrap()
                    .series_names();
                let of = names.iter().filter(|name| name.contains(&known.patch));
                assert_eq!(of.count(), 1, "{} in the series for {series}", known.patch);
            }
        }
    }
}
