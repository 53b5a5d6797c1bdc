// SPDX-License-Identifier: GPL-2.0

//! Booting a kernel in QEMU, and hearing what it says.

mod accel;
mod qemu;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};

use crate::cache::Cache;
use crate::console;
use crate::process::{self, Group};
use crate::tools::Tools;

use accel::Accel;

pub(crate) use qemu::Machine;

/// The prefix of what the guest's /init says to us.
const NOTE: &str = "@dpmem ";

/// How many lines of the console are shown when a machine did not end well.
const TAIL: usize = 25;

/// A line, and when it came, in seconds since the start.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    /// When.
    pub(crate) at: f64,
    /// What.
    pub(crate) text: String,
}

/// How long a machine may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Without a word.
    pub(crate) quiet: Duration,
    /// In total.
    pub(crate) total: Duration,
}

/// How a machine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It did all of its plan.
    Finished,
    /// Not so; says why.
    Broken(String),
}

/// What became of a machine.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// What the guest and its programs said.
    pub(crate) results: Vec<Line>,
    /// What the kernel said.
    pub(crate) console: Vec<Line>,
    /// How it ended.
    pub(crate) ending: Ending,
}

/// What the guest's /init said to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// The plan begins.
    Start,
    /// The plan is done.
    Done,
    /// A program begins.
    Begin(String),
    /// A program ended, with this status.
    End(String, i32),
    /// A module was loaded, or not.
    Load(String, i32),
    /// A module was unloaded, or not.
    Unload(String, i32),
    /// Something that a test needs could not be done.
    Prepare(i32, String),
}

impl Note {
    /// Understands a line, if it is a note.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let rest = line.trim_end().strip_prefix(NOTE)?;
        let (kind, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let pair = || {
            let (name, status) = rest.rsplit_once(' ')?;
            Some((name.to_owned(), status.parse().ok()?))
        };
        match kind {
            "start" => Some(Self::Start),
            "done" => Some(Self::Done),
            "begin" => Some(Self::Begin(rest.to_owned())),
            "end" => pair().map(|(name, status)| Self::End(name, status)),
            "load" => pair().map(|(name, status)| Self::Load(name, status)),
            "unload" => pair().map(|(name, status)| Self::Unload(name, status)),
            "prepare" => {
                let (status, command) = rest.split_once(' ')?;
                Some(Self::Prepare(status.parse().ok()?, command.to_owned()))
            }
            _ => None,
        }
    }
}

enum Event {
    Result(String),
    Console(String),
    Closed,
}

impl Outcome {
    /// The last lines of the console, for a message.
    pub(crate) fn tail(&self) -> String {
        let skip = self.console.len().saturating_sub(TAIL);
        self.console
            .iter()
            .skip(skip)
            .map(|line| format!("    {}\n", line.text))
            .collect()
    }
}

/// Boots `machine` and waits for its end; `on_result` gets each line of the results as it comes.
pub(crate) fn run(
    cache: &Cache,
    tools: &Tools,
    machine: &Machine,
    bounds: Bounds,
    logs: &Path,
    mut on_result: impl FnMut(&Line),
) -> Result<Outcome> {
    let log = |name: &str| {
        let path = logs.join(name);
        File::create(&path).with_context(|| format!("cannot write {}", path.display()))
    };
    let (mut console_log, mut results_log) = (log("console.log")?, log("results.log")?);
    let accel = Accel::choose(cache, tools, machine)?;
    let mut command = machine.clone().with_accel(accel).command(tools)?;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let started = Instant::now();
    let mut group = Group::start(&mut command)?;
    let (sender, events) = mpsc::channel();
    let stdout = group.child().stdout.take().context("QEMU has no output")?;
    let stderr = group
        .child()
        .stderr
        .take()
        .context("QEMU has no error output")?;
    read_lines(stdout, sender.clone(), Event::Result);
    read_lines(stderr, sender, Event::Console);

    let mut outcome = Outcome {
        results: Vec::new(),
        console: Vec::new(),
        ending: Ending::Finished,
    };
    let mut open = 2;
    let mut stopped = None;
    while open > 0 {
        let left = bounds.total.saturating_sub(started.elapsed());
        // Also for a machine that always has something to say.
        let event = match left {
            Duration::ZERO => Err(RecvTimeoutError::Timeout),
            left => events.recv_timeout(bounds.quiet.min(left)),
        };
        let at = started.elapsed().as_secs_f64();
        match event {
            Ok(Event::Result(text)) => {
                let line = Line {
                    at,
                    text: text.trim_end_matches('\r').to_owned(),
                };
                writeln!(results_log, "[{at:9.3}] {}", line.text)
                    .context("cannot write results.log")?;
                on_result(&line);
                outcome.results.push(line);
            }
            Ok(Event::Console(text)) => {
                let line = Line {
                    at,
                    text: text.trim_end_matches('\r').to_owned(),
                };
                writeln!(console_log, "{}", line.text).context("cannot write console.log")?;
                outcome.console.push(line);
            }
            Ok(Event::Closed) => open -= 1,
            Err(RecvTimeoutError::Timeout) => {
                let why = if left <= bounds.quiet && started.elapsed() >= bounds.total {
                    format!("it was still running after {} s", bounds.total.as_secs())
                } else {
                    format!("it said nothing for {} s", bounds.quiet.as_secs())
                };
                stopped = Some(why);
                group.kill();
                break;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let done = outcome
        .results
        .iter()
        .any(|line| Note::parse(&line.text) == Some(Note::Done));
    let status = group.wait()?;
    outcome.ending = match stopped {
        Some(why) => Ending::Broken(format!(
            "the machine hung: {why}, and was ended{}",
            doing(&outcome.results)
        )),
        None if done => Ending::Finished,
        None => Ending::Broken(early(&outcome, &process::describe(status))),
    };
    let booted = outcome
        .console
        .iter()
        .any(|line| line.text.contains("Linux version"));
    if !booted && outcome.results.is_empty() && stopped_is_none(&outcome.ending) {
        bail!(
            "QEMU did not start the kernel ({}):\n{}  log: {}\n  \
             look at what was said with --cpu, --mem, --append and --device",
            process::describe(status),
            outcome.tail(),
            logs.join("console.log").display()
        );
    }
    Ok(outcome)
}

/// True unless the machine was stopped by us.
fn stopped_is_none(ending: &Ending) -> bool {
    !matches!(ending, Ending::Broken(why) if why.starts_with("the machine hung"))
}

/// Why a machine ended before its plan was done.
fn early(outcome: &Outcome, status: &str) -> String {
    let panic = outcome
        .console
        .iter()
        .find(|line| line.text.contains("Kernel panic"));
    let what = match panic {
        Some(line) => console::message(&line.text).to_owned(),
        None => format!("the machine ended early (QEMU: {status})"),
    };
    format!("{what}{}", doing(&outcome.results))
}

/// What was running at the end.
fn doing(results: &[Line]) -> String {
    let mut program = None;
    let mut test = None;
    for line in results {
        match Note::parse(&line.text) {
            Some(Note::Begin(name)) => program = Some(name),
            Some(Note::End(..)) => (program, test) = (None, None),
            _ => {
                if let Some(name) = line
                    .text
                    .trim()
                    .strip_prefix("#  RUN")
                    .map(|rest| rest.trim().trim_end_matches(" ..."))
                {
                    test = Some(name.to_owned());
                }
            }
        }
    }
    match (program, test) {
        (Some(program), Some(test)) => format!(", while {program} was running {test}"),
        (Some(program), None) => format!(", while {program} was running"),
        (None, _) if results.is_empty() => ", before /init said anything".to_owned(),
        (None, _) => String::new(),
    }
}

fn read_lines(from: impl Read + Send + 'static, to: Sender<Event>, event: fn(String) -> Event) {
    thread::spawn(move || {
        for line in BufReader::new(from)
            .split(b'\n')
            .map_while(std::io::Result::ok)
        {
            if to
                .send(event(String::from_utf8_lossy(&line).into_owned()))
                .is_err()
            {
                return;
            }
        }
        let _ = to.send(Event::Closed);
    });
}

/// Boots `machine` with this terminal as its console.
pub(crate) fn interact(cache: &Cache, tools: &Tools, machine: &Machine) -> Result<()> {
    let accel = Accel::choose(cache, tools, machine)?;
    let status = machine
        .clone()
        .with_accel(accel)
        .command(tools)?
        .status()
        .context("cannot start QEMU")?;
    if status.success() {
        Ok(())
    } else {
        bail!("QEMU failed ({})", process::describe(status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(texts: &[&str]) -> Vec<Line> {
        texts
            .iter()
            .map(|&text| Line {
                at: 0.0,
                text: text.to_owned(),
            })
            .collect()
    }

    #[test]
    fn notes() {
        assert_eq!(Note::parse("@dpmem done"), Some(Note::Done));
        assert_eq!(
            Note::parse("@dpmem end hmm-tests 137\r"),
            Some(Note::End("hmm-tests".to_owned(), 137))
        );
        assert_eq!(
            Note::parse("@dpmem prepare 1 echo 1 > /x"),
            Some(Note::Prepare(1, "echo 1 > /x".to_owned()))
        );
        assert_eq!(Note::parse("@dpmem end"), None);
        assert_eq!(Note::parse("ok 1 x"), None);
    }

    #[test]
    fn what_was_running_is_told() {
        let results = lines(&[
            "@dpmem start",
            "@dpmem begin hmm-tests",
            "#  RUN           hmm.a.b ...",
            "# x",
        ]);
        assert_eq!(doing(&results), ", while hmm-tests was running hmm.a.b");
        assert_eq!(
            doing(&lines(&[
                "@dpmem start",
                "@dpmem begin x",
                "@dpmem end x 0"
            ])),
            ""
        );
        assert_eq!(doing(&[]), ", before /init said anything");
    }
}
