// SPDX-License-Identifier: GPL-2.0

//! What a call of the lab found: printed as KTAP while it comes, and written as JSON.
//!
//! The JSON is there from the beginning, and says that it is not complete until the call has ended
//! by itself: what it says is true as well if the call is interrupted.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::cache;
use crate::disk;
use crate::ktap::Status;
use crate::repo;

/// How one test came out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Test {
    /// What it belongs to.
    pub(crate) suite: String,
    /// Its name.
    pub(crate) name: String,
    /// Its number in its program's plan.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) number: Option<usize>,
    /// How it came out.
    pub(crate) status: Status,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// How long it took.
    pub(crate) seconds: f64,
}

impl Test {
    /// One that is not a line of somebody's KTAP.
    pub(crate) fn new(suite: &str, name: &str, outcome: Result<(), String>, seconds: f64) -> Self {
        let (status, reason) = match outcome {
            Ok(()) => (Status::Pass, None),
            Err(reason) => (Status::Fail, Some(reason)),
        };
        Self {
            suite: suite.to_owned(),
            name: name.to_owned(),
            number: None,
            status,
            reason,
            seconds,
        }
    }
}

/// A kernel that tests ran on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    /// What was asked for.
    pub(crate) title: String,
    /// The kernel's name in the cache.
    pub(crate) kernel: String,
    /// What `uname -r` says.
    pub(crate) release: String,
    /// What the kernel's console said that it must not.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(crate) console: Vec<String>,
}

#[derive(Debug, Default, Serialize)]
struct Document {
    /// All that was asked for was done.
    complete: bool,
    /// Why not, if the call could still say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    runs: Vec<Run>,
    tests: Vec<Test>,
}

/// A folder for what a call leaves behind.
#[derive(Debug)]
pub(crate) struct Logs {
    folder: PathBuf,
}

impl Logs {
    /// A new folder under `target/lab/`, which `latest` names from now on.
    pub(crate) fn new(what: &str) -> Result<Self> {
        let top = repo::lab_output();
        fs::create_dir_all(&top).with_context(|| format!("cannot make {}", top.display()))?;
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let name = format!("{now}-{what}-{}", std::process::id());
        let folder = top.join(&name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let (latest, new) = (
            top.join("latest"),
            top.join(format!(".latest-{}", std::process::id())),
        );
        let link = std::os::unix::fs::symlink(&name, &new).and_then(|()| fs::rename(&new, &latest));
        link.with_context(|| format!("cannot make {}", latest.display()))?;
        Ok(Self { folder })
    }

    /// Where it is.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

/// Everything that a call found.
#[derive(Debug)]
pub(crate) struct Report {
    logs: Logs,
    document: Document,
    begun: bool,
    quiet: bool,
}

impl Report {
    /// With a new folder.
    pub(crate) fn new(what: &str) -> Result<Self> {
        Self::with(Logs::new(what)?)
    }

    fn with(logs: Logs) -> Result<Self> {
        let report = Self {
            logs,
            document: Document::default(),
            begun: false,
            quiet: false,
        };
        report.save()?;
        Ok(report)
    }

    /// One that prints nothing.
    pub(crate) fn quiet(what: &str) -> Result<Self> {
        Ok(Self {
            quiet: true,
            ..Self::new(what)?
        })
    }

    /// The releases of the kernels that tests ran on, in order; once where several in a row have
    /// the same.
    pub(crate) fn kernels(&self) -> String {
        let runs = self.document.runs.iter();
        let mut releases: Vec<_> = runs.map(|run| run.release.as_str()).collect();
        releases.dedup();
        releases.join(", ")
    }

    /// The folder, as the user sees it.
    pub(crate) fn shown_folder(&self) -> String {
        let folder = self.folder();
        folder
            .strip_prefix(repo::top())
            .unwrap_or(folder)
            .display()
            .to_string()
    }

    /// Where logs go.
    pub(crate) fn folder(&self) -> &Path {
        self.logs.folder()
    }

    /// A folder for the logs of one part.
    pub(crate) fn subfolder(&self, name: &str) -> Result<PathBuf> {
        let path = self.folder().join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }

    /// Notes on which kernel tests ran.
    pub(crate) fn run(&mut self, run: Run) -> Result<()> {
        self.comment(&format!("{} on {}", run.title, run.release))?;
        self.document.runs.push(run);
        // Once a boot, and not for each of its tests.
        self.save()
    }

    fn save(&self) -> Result<()> {
        let text = serde_json::to_vec_pretty(&self.document).context("cannot write JSON")?;
        cache::write_atomically(&self.folder().join("results.json"), &text)
    }

    /// Notes that an error ended the call, and hands it on.
    pub(crate) fn ended_by(&mut self, error: anyhow::Error) -> anyhow::Error {
        self.document.error = Some(disk::explain(&error));
        // The error itself is what the user must see.
        let _ = self.save();
        error
    }

    /// Adds the failure of something that could not be done, so that tests are missing; what comes
    /// after it can go on.
    pub(crate) fn could_not(&mut self, what: &str, error: &anyhow::Error) -> Result<()> {
        let reason = disk::explain(error);
        self.document.error.get_or_insert_with(|| reason.clone());
        self.add(Test::new(what, "run", Err(reason), 0.0))
    }

    /// Notes that something did not get to its end, so that tests are missing, of which one says
    /// why.
    pub(crate) fn incomplete(&mut self, why: &str) {
        self.document.error.get_or_insert_with(|| why.to_owned());
    }

    /// Prints a diagnostic line.
    pub(crate) fn comment(&mut self, text: &str) -> Result<()> {
        let mut out = self.begin()?;
        for line in text.lines() {
            writeln!(out, "# {line}").context("cannot print")?;
        }
        Ok(())
    }

    /// Adds a result.
    pub(crate) fn add(&mut self, test: Test) -> Result<()> {
        let number = self.document.tests.len() + 1;
        let name = format!("{}: {}", test.suite, test.name);
        let mut out = self.begin()?;
        let reason = test.reason.as_deref().unwrap_or_default();
        let mut lines = reason.lines();
        let first = lines.next().unwrap_or_default();
        match test.status {
            Status::Pass => writeln!(out, "ok {number} {name}"),
            Status::Skip => writeln!(out, "ok {number} {name} # SKIP {first}"),
            Status::Fail if first.is_empty() => writeln!(out, "not ok {number} {name}"),
            Status::Fail => writeln!(out, "not ok {number} {name} # {first}"),
        }
        .context("cannot print")?;
        for line in lines {
            writeln!(out, "# {line}").context("cannot print")?;
        }
        self.document.tests.push(test);
        Ok(())
    }

    fn begin(&mut self) -> Result<Box<dyn Write>> {
        if self.quiet {
            return Ok(Box::new(std::io::sink()));
        }
        let mut out = Box::new(std::io::stdout().lock());
        if !self.begun {
            self.begun = true;
            writeln!(out, "KTAP version 1").context("cannot print")?;
        }
        Ok(out)
    }

    /// All results so far.
    pub(crate) fn tests(&self) -> &[Test] {
        &self.document.tests
    }

    /// Writes the JSON and prints the last line; true if nothing failed and something ran.
    pub(crate) fn finish(mut self) -> Result<bool> {
        self.document.complete = self.document.error.is_none();
        self.save()?;
        let shown = format!("{}/results.json", self.shown_folder());
        let total = self.document.tests.len();
        let counts = Counts::of(&self.document.tests);
        let mut out = self.begin()?;
        writeln!(out, "1..{total}").context("cannot print")?;
        writeln!(out, "# results: {shown}").context("cannot print")?;
        writeln!(out, "{counts}").context("cannot print")?;
        Ok(counts.good())
    }
}

/// How many tests came out how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Counts {
    /// Counts.
    pub(crate) fn of<'a>(tests: impl IntoIterator<Item = &'a Test>) -> Self {
        let mut counts = Self::default();
        for test in tests {
            match test.status {
                Status::Pass => counts.passed += 1,
                Status::Fail => counts.failed += 1,
                Status::Skip => counts.skipped += 1,
            }
        }
        counts
    }

    /// Nothing failed, and something ran.
    pub(crate) fn good(self) -> bool {
        self.failed == 0 && self.passed > 0
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(status: Status) -> Test {
        Test {
            suite: "s".to_owned(),
            name: "n".to_owned(),
            number: None,
            status,
            reason: None,
            seconds: 0.0,
        }
    }

    #[test]
    fn skips_alone_are_not_good() {
        assert!(!Counts::of(&[]).good());
        assert!(!Counts::of(&[test(Status::Skip)]).good());
        assert!(Counts::of(&[test(Status::Skip), test(Status::Pass)]).good());
        assert!(!Counts::of(&[test(Status::Fail), test(Status::Pass)]).good());
    }

    #[test]
    fn an_interrupted_call_has_no_complete_results() {
        let dir = tempfile::tempdir().unwrap();
        let mut report = Report::with(Logs {
            folder: dir.path().to_path_buf(),
        })
        .unwrap();
        report.quiet = true;
        let read = || -> serde_json::Value {
            let text = fs::read(dir.path().join("results.json")).unwrap();
            serde_json::from_slice(&text).unwrap()
        };
        assert_eq!(read()["complete"], false);

        report.add(test(Status::Pass)).unwrap();
        report
            .run(Run {
                title: "t".to_owned(),
                kernel: "k".to_owned(),
                release: "r".to_owned(),
                console: Vec::new(),
            })
            .unwrap();
        assert_eq!(read()["complete"], false);
        assert_eq!(read()["tests"].as_array().unwrap().len(), 1);

        let error = report.ended_by(anyhow::anyhow!("inner").context("outer"));
        assert_eq!(format!("{error:#}"), "outer: inner");
        assert_eq!(read()["complete"], false);
        assert_eq!(read()["error"], "outer: inner");
    }

    #[test]
    fn what_could_not_be_done_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let mut report = Report::with(Logs {
            folder: dir.path().to_path_buf(),
        })
        .unwrap();
        report.quiet = true;
        report.add(test(Status::Pass)).unwrap();
        let error = anyhow::anyhow!("no machine");
        report.could_not("lab", &error).unwrap();
        assert!(!report.finish().unwrap());
        let text = fs::read(dir.path().join("results.json")).unwrap();
        let read: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(read["complete"], false);
        assert_eq!(read["error"], "no machine");
        assert_eq!(read["tests"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn finished_results_are_complete() {
        let dir = tempfile::tempdir().unwrap();
        let mut report = Report::with(Logs {
            folder: dir.path().to_path_buf(),
        })
        .unwrap();
        report.quiet = true;
        report.add(test(Status::Pass)).unwrap();
        assert!(report.finish().unwrap());
        let text = fs::read(dir.path().join("results.json")).unwrap();
        let read: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(read["complete"], true);
        assert!(read.get("error").is_none());
    }

    #[test]
    fn the_last_line() {
        let counts = Counts::of(&[test(Status::Skip), test(Status::Pass), test(Status::Pass)]);
        assert_eq!(counts.to_string(), "2 passed, 0 failed, 1 skipped");
    }
}
