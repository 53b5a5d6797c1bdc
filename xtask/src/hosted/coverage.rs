// SPDX-License-Identifier: GPL-2.0

//! `cargo xtask hosted --coverage`: which lines of `dpmem-core` the hosted tests reach, over both
//! kernels together.
//!
//! The compiler counts, and the LLVM tools of the toolchain say what that means. Lines of tests are
//! not counted.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use anyhow::{bail, Context, Result};
use serde::Deserialize;

use super::{cargo, Toolchain};
use crate::cli::{KernelChoice, LinuxChoice};
use crate::process;
use crate::progress::{self, Step};
use crate::repo;

/// How many of a hundred lines have to be reached.
const LEAST: f64 = 90.0;

/// How often each line of a file was reached, by its number.
type Lines = BTreeMap<usize, u64>;

/// What cargo says of a program that it has built.
#[derive(Deserialize)]
struct Built {
    executable: Option<PathBuf>,
    manifest_path: Option<PathBuf>,
    target: Option<BuiltTarget>,
    profile: Option<BuiltProfile>,
}

#[derive(Deserialize)]
struct BuiltTarget {
    name: String,
}

#[derive(Deserialize)]
struct BuiltProfile {
    test: bool,
}

/// A program with tests.
struct Program {
    path: PathBuf,
    /// Where it runs.
    folder: PathBuf,
}

/// Runs the tests, and says what they reach; false if one failed, or if it is not enough.
pub(super) fn run(linux: &LinuxChoice) -> Result<bool> {
    let tools = tools()?;
    let mut files = BTreeMap::new();
    for (kernel, name) in [
        (KernelChoice::Dpmem, "with the series"),
        (KernelChoice::Stock, "stock"),
    ] {
        let step = Step::start(format!("coverage: {name}"), None);
        let found = count(linux, kernel, &tools)?;
        step.finish();
        let Some(found) = found else {
            return Ok(false);
        };
        for (file, lines) in found {
            let all: &mut Lines = files.entry(file).or_default();
            for (line, count) in lines {
                let times = all.entry(line).or_insert(0);
                *times = (*times).max(count);
            }
        }
    }
    report(&files)
}

/// Where the LLVM tools of this toolchain are; rustup adds them, if it can.
fn tools() -> Result<PathBuf> {
    let folder = Toolchain::get()?.folder.join("bin");
    let present = || folder.join("llvm-cov").is_file() && folder.join("llvm-profdata").is_file();
    if !present() {
        process::output(Command::new("rustup").args(["component", "add", "llvm-tools"]))
            .context("llvm-cov is missing, and rustup cannot add llvm-tools")?;
    }
    if !present() {
        bail!("llvm-cov is missing, though rustup added llvm-tools");
    }
    Ok(folder)
}

/// What the tests reach over `kernel`; `None` if one failed.
fn count(
    linux: &LinuxChoice,
    kernel: KernelChoice,
    tools: &Path,
) -> Result<Option<BTreeMap<PathBuf, Lines>>> {
    let folder = repo::target().join(match kernel {
        KernelChoice::Dpmem => "coverage/dpmem",
        KernelChoice::Stock => "coverage/stock",
    });
    let profiles = folder.join("profiles");
    // What macros and build scripts reach while they build, and what an earlier run did, is not
    // asked for.
    let unused = folder.join("unused");
    let counted = |command: &mut Command, to: &Path| {
        command.env("LLVM_PROFILE_FILE", to.join("%p-%m.profraw"));
    };
    let mut command = cargo(linux, kernel)?;
    command
        .args(["test", "--locked", "--workspace", "--no-run"])
        .arg("--message-format=json-render-diagnostics")
        .env("CARGO_TARGET_DIR", &folder)
        .env("RUSTFLAGS", "-C instrument-coverage");
    counted(&mut command, &unused);
    let programs = programs(&process::output(&mut command)?)?;
    for old in [&unused, &profiles] {
        if old.exists() {
            fs::remove_dir_all(old).with_context(|| format!("cannot remove {}", old.display()))?;
        }
    }
    for program in &programs {
        let mut command = Command::new(&program.path);
        command.current_dir(&program.folder);
        counted(&mut command, &profiles);
        if let Err(error) = process::output(&mut command) {
            progress::error(&format!("{}: {error:#}", program.path.display()));
            return Ok(None);
        }
    }

    let merged = folder.join("merged.profdata");
    let mut command = Command::new(tools.join("llvm-profdata"));
    command.args(["merge", "--sparse", "--output"]).arg(&merged);
    process::output(command.arg(&profiles))?;
    let mut command = Command::new(tools.join("llvm-cov"));
    command.args(["export", "--format=lcov", "--instr-profile"]);
    command.arg(&merged);
    for program in &programs {
        command.arg("--object").arg(&program.path);
    }
    parse(&process::output(&mut command)?).map(Some)
}

/// The programs with tests that cargo has built, but for the one that runs the compiler.
fn programs(messages: &str) -> Result<Vec<Program>> {
    let mut programs = Vec::new();
    for line in messages.lines().filter(|line| line.starts_with('{')) {
        let built: Built = serde_json::from_str(line).context("cannot understand cargo")?;
        let (Some(path), Some(manifest), Some(target)) =
            (built.executable, built.manifest_path, built.target)
        else {
            continue;
        };
        // Such as one that tests start.
        if !built.profile.is_some_and(|profile| profile.test) {
            continue;
        }
        let folder = manifest.parent().unwrap_or(Path::new("/")).to_owned();
        if target.name != "ui" {
            programs.push(Program { path, folder });
        }
    }
    Ok(programs)
}

/// The lines of the layer in what `llvm-cov` says.
fn parse(text: &str) -> Result<BTreeMap<PathBuf, Lines>> {
    let layer = repo::top().join("dpmem-core/src");
    let mut files: BTreeMap<PathBuf, Lines> = BTreeMap::new();
    let mut current = None;
    for line in text.lines() {
        if let Some(path) = line.strip_prefix("SF:") {
            let path = normal(Path::new(path));
            current = path.strip_prefix(&layer).ok().map(Path::to_owned);
            current =
                current.filter(|file| !file.starts_with("tests") && !file.ends_with("tests.rs"));
        } else if let (Some(numbers), Some(file)) = (line.strip_prefix("DA:"), &current) {
            let mut numbers = numbers.split(',').map(str::parse::<u64>);
            let (Some(Ok(number)), Some(Ok(count))) = (numbers.next(), numbers.next()) else {
                bail!("cannot understand llvm-cov: {line}");
            };
            let lines = files.entry(file.clone()).or_default();
            lines.insert(usize::try_from(number)?, count);
        }
    }
    if files.is_empty() {
        bail!("llvm-cov says nothing of {}", layer.display());
    }
    for (file, lines) in &mut files {
        let path = layer.join(file);
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let end = first_line_of_tests(&text);
        lines.retain(|number, _| *number < end);
    }
    Ok(files)
}

/// `path` without `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                normal.pop();
            }
            other => normal.push(other),
        }
    }
    normal
}

/// Where the tests of a file begin, which are its last part.
fn first_line_of_tests(text: &str) -> usize {
    let mut lines = text.lines().enumerate();
    let found = lines.find(|(_, line)| line.starts_with("#[kunit_tests("));
    found.map_or(usize::MAX, |(i, _)| i + 1)
}

/// Prints what was reached, and notes what was not; false if it is not enough.
fn report(files: &BTreeMap<PathBuf, Lines>) -> Result<bool> {
    let layer = repo::top().join("dpmem-core/src");
    let mut unreached = String::new();
    let mut total = (0, 0);
    println!("{:<28} {:>6} {:>8}", "file", "lines", "reached");
    for (file, lines) in files {
        let reached = lines.values().filter(|count| **count > 0).count();
        total = (total.0 + lines.len(), total.1 + reached);
        let name = file.display().to_string();
        println!(
            "{name:<28} {:>6} {:>7.1}%",
            lines.len(),
            percent(lines.len(), reached)
        );
        let text = fs::read_to_string(layer.join(file))?;
        let text: Vec<&str> = text.lines().collect();
        for (number, _) in lines.iter().filter(|(_, count)| **count == 0) {
            let line = text.get(number - 1).unwrap_or(&"");
            unreached += &format!("dpmem-core/src/{name}:{number}: {}\n", line.trim());
        }
    }
    let all = percent(total.0, total.1);
    println!("{:<28} {:>6} {all:>7.1}%", "all", total.0);
    let path = repo::target().join("coverage/unreached.txt");
    fs::write(&path, unreached).with_context(|| format!("cannot write {}", path.display()))?;
    println!("what is not reached: {}", path.display());
    if all < LEAST {
        progress::error(&format!(
            "{all:.1} % of the lines are reached, and {LEAST} % have to be"
        ));
    }
    Ok(all >= LEAST)
}

/// How many of a hundred.
fn percent(all: usize, some: usize) -> f64 {
    100.0 * some as f64 / all.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_the_last_part() {
        let text = "fn a() {}\n\n#[cfg(X)]\n#[kunit_tests(a)]\nmod tests {}\n";
        assert_eq!(first_line_of_tests(text), 4);
        assert_eq!(first_line_of_tests("fn a() {}\n"), usize::MAX);
    }

    #[test]
    fn paths_have_one_name() {
        let path = normal(Path::new("/a/hosted/dpmem/../../dpmem-core/src/x.rs"));
        assert_eq!(path, Path::new("/a/dpmem-core/src/x.rs"));
    }

    #[test]
    fn programs_with_tests() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","manifest_path":"/a/Cargo.toml","target":{"name":"t"},"profile":{"test":true},"executable":"/x"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","manifest_path":"/a/Cargo.toml","target":{"name":"ui"},"profile":{"test":true},"executable":"/u"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","manifest_path":"/a/Cargo.toml","target":{"name":"s"},"profile":{"test":false},"executable":"/s"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        let programs = programs(messages).unwrap();
        assert_eq!(programs.len(), 1);
        assert_eq!(programs[0].path, Path::new("/x"));
        assert_eq!(programs[0].folder, Path::new("/a"));
    }
}
