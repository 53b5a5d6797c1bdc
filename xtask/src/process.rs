// SPDX-License-Identifier: GPL-2.0

//! Running other programs: their output goes to a log, and they end when we do.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{mpsc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};
use nix::sys::signal::{killpg, Signal};
use nix::unistd::Pid;

use crate::disk;

/// How many lines of a failed program's output are shown.
const SHOWN_LINES: usize = 12;
/// What is to end has so long to clean up.
const GRACE: Duration = Duration::from_secs(5);

/// The process groups that run now.
static GROUPS: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

fn groups() -> MutexGuard<'static, BTreeSet<i32>> {
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on Ctrl-C (or SIGTERM, SIGHUP) ends all child processes and then this one.
pub(crate) fn stop_on_signals() -> Result<()> {
    ctrlc::set_handler(|| {
        // Held to the end, so that nobody goes on who was waiting for one of them.
        let groups = groups();
        let signal = |signal| {
            for &group in groups.iter() {
                let _ = killpg(Pid::from_raw(group), signal);
            }
        };
        signal(Some(Signal::SIGTERM));
        let began = Instant::now();
        let is_there = |group: &i32| killpg(Pid::from_raw(*group), None).is_ok();
        while groups.iter().any(is_there) && began.elapsed() < GRACE {
            // They are not all children of ours, so nobody says that they have ended.
            thread::sleep(Duration::from_millis(20));
        }
        signal(Some(Signal::SIGKILL));
        eprintln!("\ndpmem: interrupted");
        std::process::exit(130);
    })
    .context("cannot install a signal handler")
}

/// A child in a process group of its own, ended with all of it when dropped.
#[derive(Debug)]
pub(crate) struct Group {
    child: Child,
    name: String,
}

impl Group {
    /// Starts `command`.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        // The lock is held over the start, so that a signal cannot come between it and the list.
        let mut groups = groups();
        let child = command
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        groups.insert(i32::try_from(child.id()).context("a process id that does not fit")?);
        drop(groups);
        Ok(Self { child, name })
    }

    /// The child, for its pipes.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits for the end.
    pub(crate) fn wait(mut self) -> Result<ExitStatus> {
        self.child
            .wait()
            .with_context(|| format!("cannot wait for {}", self.name))
    }

    /// Ends it now.
    pub(crate) fn kill(&self) {
        if let Ok(id) = i32::try_from(self.child.id()) {
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
    }

    /// Ends it, and lets it clean up: make removes what is half done, and would take it for whole
    /// the next time.
    fn end(&mut self) {
        let Ok(id) = i32::try_from(self.child.id()) else {
            return;
        };
        let _ = killpg(Pid::from_raw(id), Signal::SIGTERM);
        let child = &mut self.child;
        thread::scope(|scope| {
            let (sender, ended) = mpsc::channel();
            let wait = move || {
                let _ = child.wait();
                let _ = sender.send(());
            };
            let waiting = thread::Builder::new().spawn_scoped(scope, wait);
            let in_time = waiting.is_ok() && ended.recv_timeout(GRACE).is_ok();
            if !in_time {
                let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
            }
        });
        let _ = self.child.wait();
        // Those of the group that it has left behind.
        let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            self.end();
        }
        if let Ok(id) = i32::try_from(self.child.id()) {
            groups().remove(&id);
        }
    }
}

/// A program that runs with its output in a log.
#[derive(Debug)]
pub(crate) struct Logged<'a> {
    /// What it does, for messages: "building the kernel".
    pub(crate) what: &'a str,
    /// The log; its output is added at the end.
    pub(crate) log: &'a Path,
    /// What the user can do about a failure.
    pub(crate) advice: &'a str,
}

impl Logged<'_> {
    /// Runs `command`, and hands each line of its output to `on_line`.
    pub(crate) fn run(&self, command: &mut Command, mut on_line: impl FnMut(&str)) -> Result<()> {
        if let Some(folder) = self.log.parent() {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let log = || format!("cannot write the log {}", self.log.display());
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(self.log)
            .with_context(log)?;
        let (reader, writer) = os_pipe::pipe().context("cannot make a pipe")?;
        command
            .stdin(Stdio::null())
            .stderr(writer.try_clone().context("cannot make a pipe")?)
            .stdout(writer);
        let group = Group::start(command)?;
        // The command holds copies of the pipe's end; without them gone, its output would never
        // end.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut lines = Vec::new();
        // What runs is not ended because its log cannot be written: it may be in the middle of
        // something.
        let mut logged = Ok(());
        for line in BufReader::new(reader).split(b'\n') {
            let line = line.with_context(|| format!("cannot read the output of {}", self.what))?;
            let line = String::from_utf8_lossy(&line).into_owned();
            logged = logged.and_then(|()| writeln!(file, "{line}").with_context(log));
            on_line(&line);
            lines.push(line);
        }
        let status = group.wait()?;
        if status.success() {
            return logged;
        }
        let full = lines.iter().any(|line| line.contains(disk::NO_SPACE));
        let reason = if full {
            format!("{}: {}", disk::FULL, self.what)
        } else {
            self.what.to_owned()
        };
        bail!(
            "{reason} failed ({}):\n{}\n  log: {}\n  {}",
            describe(status),
            first_errors(&lines).join("\n"),
            self.log.display(),
            if full { disk::ADVICE } else { self.advice }
        )
    }
}

/// Runs a command, and returns what it printed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    output_if(command, |status| status.success())
}

/// Runs a command, and returns what it printed if it ended in a way that `is_good` takes.
pub(crate) fn output_if(
    command: &mut Command,
    is_good: impl FnOnce(ExitStatus) -> bool,
) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {name}"))?;
    if !is_good(output.status) {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{name} failed ({}): {}",
            describe(output.status),
            said.trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// How a program ended, in words.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("ended by signal {signal}"),
        (None, None) => "ended in an unknown way".to_owned(),
    }
}

/// The lines that say what went wrong: from the first error on, or the last lines if nothing looks
/// like one.
fn first_errors(lines: &[String]) -> Vec<String> {
    let is_error = |line: &String| {
        let line = line.to_ascii_lowercase();
        [
            "error:",
            "error[",
            "fatal",
            "undefined reference",
            "no space left",
            "e: ",
            "cannot ",
            "is not set",
        ]
        .iter()
        .any(|sign| line.contains(sign))
            && !line.contains("(ignored)")
    };
    let last = lines.len().saturating_sub(SHOWN_LINES);
    // With a little of what came before it.
    let start = lines
        .iter()
        .position(is_error)
        .map_or(last, |first| first.saturating_sub(2));
    lines
        .iter()
        .skip(start)
        .take(SHOWN_LINES)
        .map(|line| format!("    {line}"))
        .collect()
}

/// Finds a program on this machine.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    which::which(program).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(script: &str) -> (Result<()>, String) {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let run = Logged {
            what: "trying",
            log: &log,
            advice: "do better",
        };
        let outcome = run.run(Command::new("sh").args(["-c", script]), |_| {});
        (outcome, fs::read_to_string(&log).unwrap())
    }

    #[test]
    fn output_goes_to_the_log() {
        let (outcome, log) = logged("echo one; echo two >&2");
        outcome.unwrap();
        assert_eq!(log, "one\ntwo\n");
    }

    #[test]
    fn a_failure_says_what_why_and_where() {
        let (outcome, _) = logged("echo fine; echo 'x.c:1: error: bad'; exit 3");
        let message = format!("{}", outcome.unwrap_err());
        assert!(
            message
                .starts_with("trying failed (exit status 3):\n    fine\n    x.c:1: error: bad\n"),
            "{message}"
        );
        assert!(message.contains("log: "), "{message}");
        assert!(message.ends_with("do better"), "{message}");
    }

    #[test]
    fn a_full_disk_is_recognised() {
        let (outcome, _) = logged("echo 'cp: x: No space left on device'; exit 1");
        assert!(format!("{}", outcome.unwrap_err()).starts_with("the disk is full: trying failed"));
    }

    /// A group that runs `script`, which has said that it is ready, and what else it says.
    fn ready(script: &str) -> (Group, impl Iterator<Item = std::io::Result<String>>) {
        let (reader, writer) = os_pipe::pipe().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdout(writer);
        let group = Group::start(&mut command).unwrap();
        let mut lines = BufReader::new(reader).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        (group, lines)
    }

    #[test]
    fn what_does_not_care_is_ended_as_well() {
        let script = "(trap '' TERM; echo ready; exec sleep 1000) & wait";
        let (group, mut lines) = ready(script);
        drop(group);
        // Nobody has the other end any more.
        assert!(lines.next().is_none());
    }

    #[test]
    fn what_is_dropped_cleans_up() {
        let script = "trap 'echo cleaned; exit' TERM; echo ready; while :; do sleep 0.01; done";
        let (group, mut lines) = ready(script);
        drop(group);
        assert_eq!(lines.next().unwrap().unwrap(), "cleaned");
        assert!(lines.next().is_none());
    }

    #[test]
    fn a_log_that_cannot_be_written_does_not_end_the_program() {
        let dir = tempfile::tempdir().unwrap();
        let made = dir.path().join("made");
        let run = Logged {
            what: "trying",
            log: Path::new("/dev/full"),
            advice: "",
        };
        let script = format!("echo one; echo two; echo three > {}", made.display());
        let error = run.run(Command::new("sh").args(["-c", &script]), |_| {});
        let error = format!("{:#}", error.unwrap_err());
        assert!(error.starts_with("cannot write the log"), "{error}");
        assert_eq!(fs::read_to_string(made).unwrap(), "three\n");
    }

    #[test]
    fn dropping_a_group_ends_it() {
        let (reader, writer) = os_pipe::pipe().unwrap();
        let mut command = Command::new("sh");
        command
            .args(["-c", "sleep 1000 & sleep 1000"])
            .stdout(writer);
        let group = Group::start(&mut command).unwrap();
        drop(command);
        drop(group);
        // Nobody has the other end any more.
        assert_eq!(BufReader::new(reader).lines().count(), 0);
    }
}
