// SPDX-License-Identifier: GPL-2.0

//! One boot for a suite: from a plan to the results of its programs, of the modules, of the console
//! and of the machine itself.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use regex::Regex;

use super::{Context, Filter};
use crate::cli::Profile;
use crate::console;
use crate::guest::{Initramfs, Plan};
use crate::kernel::Kernel;
use crate::ktap::{self, Status};
use crate::progress::Step;
use crate::report::{Report, Run, Test};
use crate::vm::{self, Bounds, Ending, Line, Machine, Note, Outcome};

/// A status of the guest's shell that is above this says by which signal a program was ended.
const SIGNALLED: i32 = 128;
/// A kselftest program's status if it skipped everything.
const KSFT_SKIP: i32 = 4;

/// What a suite wants to boot.
#[derive(Debug)]
pub(crate) struct Boot {
    /// The suite's name in the report.
    pub(crate) suite: String,
    /// Modules to have in the guest.
    pub(crate) modules: Vec<PathBuf>,
    /// Programs to have in the guest.
    pub(crate) tests: Vec<PathBuf>,
    /// More devices of the machine, as QEMU's command line names them.
    pub(crate) devices: Vec<String>,
    /// More kernel arguments.
    pub(crate) arguments: Vec<String>,
    /// Whether the machine's time is the number of its instructions.
    pub(crate) counting: bool,
    /// For how long the programs can be silent; as long as one may take, if not said.
    pub(crate) quiet: Option<Duration>,
    /// Kernel messages that a program causes on purpose: a report that matches is none.
    pub(crate) console_ok: Vec<Regex>,
}

/// What a program in the guest printed, and how it ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Output {
    /// Its lines.
    pub(crate) lines: Vec<Line>,
    /// Its status; none if the machine ended before it.
    pub(crate) status: Option<i32>,
}

/// A finished boot.
#[derive(Debug)]
pub(crate) struct Booted {
    /// What there was.
    pub(crate) outcome: Outcome,
    /// The programs that began, in order.
    pub(crate) programs: Vec<(String, Output)>,
    console_ok: Vec<Regex>,
    log: PathBuf,
}

impl Boot {
    /// Boots; `plan` is made once the machine is known, because a module's parameters can depend on
    /// it.
    pub(crate) fn run(
        &self,
        context: &Context<'_>,
        report: &mut Report,
        plan: impl FnOnce(&Machine) -> Plan,
    ) -> Result<Booted> {
        self.run_on(context, context.kernel, report, plan)
    }

    /// Boots another kernel than the one that was asked for.
    pub(crate) fn run_on(
        &self,
        context: &Context<'_>,
        kernel: &Kernel,
        report: &mut Report,
        plan: impl FnOnce(&Machine) -> Plan,
    ) -> Result<Booted> {
        let logs = report.subfolder(&self.suite.replace('/', "-"))?;
        let initrd = logs.join("initramfs.cpio");
        let mut machine = Machine::new(
            kernel.arch,
            kernel.profile,
            kernel.image(),
            initrd.clone(),
            context.machine,
        );
        for argument in &self.arguments {
            machine.argument(argument);
        }
        for device in &self.devices {
            machine.device(device);
        }
        if self.counting {
            machine.count_instructions();
        }
        let mut plan = plan(&machine);
        plan.first(&context.machine.checks);
        if kernel.profile == Profile::Debug {
            plan.checks();
            plan.leaks();
        }
        let mut initramfs = Initramfs::new(context.builder.tools, kernel.arch)?;
        self.modules
            .iter()
            .for_each(|path| initramfs.module(path.clone()));
        self.tests
            .iter()
            .for_each(|path| initramfs.test(path.clone()));
        initramfs.plan(&plan);
        initramfs.write(&initrd)?;

        let mut step = Step::start(format!("running {} on {}", self.suite, kernel.name), None);
        let outcome = vm::run(
            context.builder.cache,
            context.builder.tools,
            &machine,
            bounds(kernel.profile, &plan, self.quiet),
            &logs,
            |line| {
                if ktap::parse([line.text.as_str()]).top_level > 0 {
                    step.tick(line.text.clone());
                }
            },
        );
        // It is large, and made again from what is kept.
        let _ = std::fs::remove_file(&initrd);
        let outcome = outcome?;
        step.finish();
        let programs = split(&outcome.results);
        Ok(Booted {
            log: logs.join("console.log"),
            outcome,
            programs,
            console_ok: self.console_ok.clone(),
        })
    }
}

fn bounds(profile: Profile, plan: &Plan, quiet: Option<Duration>) -> Bounds {
    let boot = Duration::from_secs(match profile {
        Profile::Plain => 120,
        Profile::Debug => 400,
    });
    // A program is ended by the guest itself; this is for a guest that cannot do that any more.
    Bounds {
        quiet: quiet.unwrap_or(plan.longest()) + boot,
        total: boot + plan.bound(),
    }
}

/// The output of each program.
fn split(results: &[Line]) -> Vec<(String, Output)> {
    let mut programs: Vec<(String, Output)> = Vec::new();
    let mut running = false;
    for line in results {
        match Note::parse(&line.text) {
            Some(Note::Begin(name)) => {
                programs.push((name, Output::default()));
                running = true;
            }
            Some(Note::End(_, status)) => {
                if let Some((_, output)) = programs.last_mut().filter(|_| running) {
                    output.status = Some(status);
                }
                running = false;
            }
            _ => {
                if let Some((_, output)) = programs.last_mut().filter(|_| running) {
                    output.lines.push(line.clone());
                }
            }
        }
    }
    programs
}

impl Output {
    /// How the program ended, if not well.
    fn trouble(&self) -> Option<String> {
        match self.status {
            None => Some("the machine ended before the program did".to_owned()),
            Some(0 | 1 | KSFT_SKIP) => None,
            Some(status) if status > SIGNALLED => Some(format!(
                "the program was ended by signal {}",
                status - SIGNALLED
            )),
            Some(status) => Some(format!("the program ended with status {status}")),
        }
    }

    /// The results of a program that prints TAP, as far as `filter` takes them. What its plan
    /// promised and did not come is a failure, whatever the filter.
    pub(crate) fn tests(
        &self,
        suite: &str,
        program: &str,
        expected: Option<usize>,
        filter: &Filter,
    ) -> Vec<Test> {
        let document = ktap::parse(self.lines.iter().map(|line| line.text.as_str()));
        let mut tests = self.cases(suite, program, &document);
        let trouble = self.troubles(suite, program, expected, &document, &tests);
        tests.retain(|test| filter.takes(&test.name));
        tests.extend(trouble);
        tests
    }

    /// What the program reported.
    fn cases(&self, suite: &str, program: &str, document: &ktap::Document) -> Vec<Test> {
        let mut before = self.lines.first().map_or(0.0, |line| line.at);
        let mut tests: Vec<Test> = Vec::new();
        for case in &document.cases {
            let at = self.lines.get(case.line).map_or(before, |line| line.at);
            let name = if case.name.is_empty() {
                program.to_owned()
            } else {
                case.name.clone()
            };
            let reason = match case.status {
                Status::Fail => Some(self.diagnostics(case.line, case.reason.as_deref())),
                _ => case.reason.clone(),
            };
            tests.push(Test {
                suite: suite.to_owned(),
                name,
                number: case.number,
                status: case.status,
                reason,
                seconds: at - before,
            });
            before = at;
        }
        tests
    }

    /// What is wrong with the program itself, which has reported `tests`.
    fn troubles(
        &self,
        suite: &str,
        program: &str,
        expected: Option<usize>,
        document: &ktap::Document,
        tests: &[Test],
    ) -> Vec<Test> {
        let after = tests.last().map_or_else(
            || "before any test".to_owned(),
            |test| format!("after {}", test.name),
        );
        let trouble = self.trouble();
        let promised = expected.or(document.plan);
        let missing = promised.map_or(0, |plan| plan.saturating_sub(document.top_level));
        if missing > 0 {
            let why = trouble.as_deref().unwrap_or("the program ended early");
            return (1..=missing)
                .map(|number| {
                    let name = format!("{program}: missing result {number} of {missing}");
                    let reason = format!("did not report: {why} {after}");
                    Test::new(suite, &name, Err(reason), 0.0)
                })
                .collect();
        }
        let failed = tests.iter().any(|test| test.status == Status::Fail);
        let why = match (trouble, self.status) {
            (Some(trouble), _) => format!("{trouble} {after}"),
            (None, Some(1)) if !failed => {
                "the program ended with status 1, though no test failed".to_owned()
            }
            (None, _) if tests.is_empty() => "the program ran no test".to_owned(),
            (None, _) => return Vec::new(),
        };
        vec![Test::new(suite, program, Err(why), 0.0)]
    }

    /// What a test said before the line in which it failed.
    fn diagnostics(&self, line: usize, reason: Option<&str>) -> String {
        let said: Vec<&str> = self
            .lines
            .iter()
            .take(line)
            .rev()
            .map(|line| line.text.trim())
            .take_while(|text| text.starts_with('#') && !text.starts_with("#  RUN"))
            .take(12)
            .map(|text| text.trim_start_matches('#').trim())
            .collect();
        let mut text = reason.unwrap_or_default().to_owned();
        for line in said.into_iter().rev() {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(line);
        }
        text
    }
}

impl Booted {
    /// A program's output, if it began.
    pub(crate) fn program(&self, name: &str) -> Option<&Output> {
        self.programs
            .iter()
            .find(|(of, _)| of == name)
            .map(|(_, output)| output)
    }

    /// The results of a program that prints TAP, as far as `filter` takes them; a failure if it
    /// never began.
    pub(crate) fn tests(
        &self,
        suite: &str,
        program: &str,
        expected: Option<usize>,
        filter: &Filter,
    ) -> Vec<Test> {
        match self.program(program) {
            Some(output) => output.tests(suite, program, expected, filter),
            None => vec![Test::new(
                suite,
                program,
                Err("did not run: the machine ended before it".to_owned()),
                0.0,
            )],
        }
    }

    /// The result of a program of which only the status counts.
    pub(crate) fn verdict(&self, suite: &str, program: &str) -> Test {
        let Some(output) = self.program(program) else {
            return Test::new(
                suite,
                program,
                Err("did not run: the machine ended before it".to_owned()),
                0.0,
            );
        };
        let seconds = match (output.lines.first(), output.lines.last()) {
            (Some(first), Some(last)) => last.at - first.at,
            _ => 0.0,
        };
        let last: Vec<&str> = output
            .lines
            .iter()
            .rev()
            .map(|line| line.text.trim())
            .filter(|text| !text.is_empty())
            .take(6)
            .collect();
        let said = last.into_iter().rev().collect::<Vec<_>>().join("\n");
        match output.status {
            Some(0) => Test::new(suite, program, Ok(()), seconds),
            Some(KSFT_SKIP) => {
                let reason = said
                    .lines()
                    .last()
                    .unwrap_or("it did not say why")
                    .to_owned();
                Test {
                    suite: suite.to_owned(),
                    name: program.to_owned(),
                    number: None,
                    status: Status::Skip,
                    reason: Some(reason),
                    seconds,
                }
            }
            Some(1) => Test::new(suite, program, Err(format!("status 1\n{said}")), seconds),
            _ => {
                let trouble = output.trouble().unwrap_or_default();
                Test::new(suite, program, Err(format!("{trouble}\n{said}")), seconds)
            }
        }
    }

    /// Whether all modules were loaded that were to be, and the machine was as it was to be.
    pub(crate) fn loaded(&self) -> bool {
        let notes = self.outcome.results.iter();
        notes
            .filter_map(|line| Note::parse(&line.text))
            .all(|note| match note {
                Note::Load(_, status) | Note::Prepare(status, _) => status == 0,
                _ => true,
            })
    }

    /// What every boot has: how modules came and went, what the console said, how the machine
    /// ended; and the reports on the console by themselves.
    pub(crate) fn rest(&self, suite: &str) -> (Vec<Test>, Vec<String>) {
        let mut tests = Vec::new();
        for line in &self.outcome.results {
            let (name, status) = match Note::parse(&line.text) {
                Some(Note::Load(module, status)) => (format!("insmod {module}"), status),
                Some(Note::Unload(module, status)) => (format!("rmmod {module}"), status),
                Some(Note::Prepare(status, command)) => (format!("prepare {command}"), status),
                _ => continue,
            };
            let outcome = if status == 0 {
                Ok(())
            } else {
                Err(format!("status {status}; see {}", self.log.display()))
            };
            tests.push(Test::new(suite, &name, outcome, 0.0));
        }
        if let Some(leaks) = self.program("leaks") {
            let found: Vec<&str> = leaks
                .lines
                .iter()
                .map(|line| line.text.as_str())
                .filter(|text| !text.trim().is_empty())
                .collect();
            let outcome = match leaks.status {
                Some(0) if found.is_empty() => Ok(()),
                Some(0) => Err(format!("kmemleak found:\n{}", found.join("\n"))),
                _ => Err("kmemleak could not be asked".to_owned()),
            };
            tests.push(Test::new(suite, "leaks", outcome, 0.0));
        }
        let mut reports =
            console::reports(self.outcome.console.iter().map(|line| line.text.as_str()));
        reports.retain(|report| {
            !self
                .console_ok
                .iter()
                .any(|pattern| pattern.is_match(report))
        });
        let reports = console::unique(reports);
        let outcome = if reports.is_empty() {
            Ok(())
        } else {
            Err(format!("the kernel complained:\n{}", reports.join("\n\n")))
        };
        tests.push(Test::new(suite, "console", outcome, 0.0));
        let outcome = match &self.outcome.ending {
            Ending::Finished => Ok(()),
            Ending::Broken(why) => Err(format!(
                "{why}; the console's last lines:\n{}",
                self.outcome.tail()
            )),
        };
        tests.push(Test::new(suite, "machine", outcome, 0.0));
        (tests, reports)
    }

    /// Adds [`Booted::rest`].
    pub(crate) fn finish(
        &self,
        context: &Context<'_>,
        suite: &str,
        report: &mut Report,
    ) -> Result<()> {
        let (tests, console) = self.rest(suite);
        for test in tests {
            report.add(test)?;
        }
        if let Ending::Broken(why) = &self.outcome.ending {
            report.incomplete(why);
        }
        report.run(Run {
            title: suite.to_owned(),
            kernel: context.kernel.name.clone(),
            release: context.kernel.release.clone(),
            console,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(text: &str, status: Option<i32>) -> Output {
        let lines = text
            .lines()
            .enumerate()
            .map(|(n, text)| Line {
                at: n as f64,
                text: text.to_owned(),
            })
            .collect();
        Output { lines, status }
    }

    fn chosen(output: &Output, expected: Option<usize>, filter: Option<&str>) -> Vec<Test> {
        output.tests("s", "p", expected, &Filter::new(filter).unwrap())
    }

    fn statuses(tests: &[Test]) -> Vec<Status> {
        tests.iter().map(|test| test.status).collect()
    }

    #[test]
    fn a_killed_program_fails_for_what_it_did_not_report() {
        let tests = chosen(
            &output("TAP version 13\n1..3\nok 1 a\n#  RUN  b ...", Some(137)),
            None,
            None,
        );
        assert_eq!(statuses(&tests), [Status::Pass, Status::Fail, Status::Fail]);
        assert_eq!(
            tests[1].reason.as_deref(),
            Some("did not report: the program was ended by signal 9 after a")
        );
    }

    #[test]
    fn a_filter_hides_no_trouble() {
        let text = "TAP version 13\n1..3\nok 1 a\nok 2 b";
        let killed = chosen(&output(text, Some(139)), None, Some("c"));
        assert_eq!(statuses(&killed), [Status::Fail]);
        let killed = chosen(&output(text, Some(139)), None, Some("b"));
        assert_eq!(statuses(&killed), [Status::Pass, Status::Fail]);
        let text = "1..2\nok 1 a\nok 2 b";
        assert!(chosen(&output(text, Some(0)), None, Some("c")).is_empty());
    }

    #[test]
    fn nothing_is_not_a_pass() {
        assert_eq!(
            statuses(&chosen(&output("", Some(0)), None, None)),
            [Status::Fail]
        );
        assert_eq!(
            statuses(&chosen(
                &output("TAP version 13\n1..0", Some(0)),
                None,
                None
            )),
            [Status::Fail]
        );
        assert_eq!(
            statuses(&chosen(&output("ok 1 a", Some(0)), Some(2), None)),
            [Status::Pass, Status::Fail]
        );
    }

    #[test]
    fn a_bad_status_is_a_failure_even_if_all_lines_are_good() {
        for status in [Some(1), Some(139), Some(3), None] {
            let tests = chosen(&output("1..1\nok 1 a", status), None, None);
            assert_eq!(statuses(&tests), [Status::Pass, Status::Fail], "{status:?}");
        }
    }

    #[test]
    fn a_failure_comes_with_what_was_said() {
        let text = "1..1\n#  RUN  a ...\n# x.c:12:a:Expected 1 == 2\n# a: Test terminated by assertion\nnot ok 1 a";
        let tests = chosen(&output(text, Some(1)), None, None);
        assert_eq!(
            tests[0].reason.as_deref(),
            Some("x.c:12:a:Expected 1 == 2\na: Test terminated by assertion")
        );
    }

    #[test]
    fn programs_are_told_apart() {
        let text =
            "@dpmem start\n@dpmem begin a\nok 1 x\n\n@dpmem end a 0\nnoise\n@dpmem begin b\nok 1 y";
        let lines: Vec<Line> = text
            .lines()
            .map(|text| Line {
                at: 0.0,
                text: text.to_owned(),
            })
            .collect();
        let programs = split(&lines);
        assert_eq!(programs.len(), 2);
        assert_eq!(programs[0].1.status, Some(0));
        assert_eq!(programs[0].1.lines.len(), 2);
        assert_eq!(programs[1].1.status, None);
    }
}
