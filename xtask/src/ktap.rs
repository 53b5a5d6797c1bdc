// SPDX-License-Identifier: GPL-2.0

//! Understanding TAP and KTAP, as kselftest programs and KUnit print it.

use regex::Regex;
use std::sync::OnceLock;

/// How a test came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// It passed.
    Pass,
    /// It failed.
    Fail,
    /// It did not run.
    Skip,
}

/// One test's result line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    /// Its name; with the names of the tests around it, separated by dots.
    pub(crate) name: String,
    /// How it came out.
    pub(crate) status: Status,
    /// Why.
    pub(crate) reason: Option<String>,
    /// Its number in the outermost document, if it has one there.
    pub(crate) number: Option<usize>,
    /// The line's number in what was parsed.
    pub(crate) line: usize,
}

/// What a program printed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Document {
    /// The results, without those that only sum up a nested document.
    pub(crate) cases: Vec<Case>,
    /// How many results the outermost plan promised.
    pub(crate) plan: Option<usize>,
    /// How many outermost results came.
    pub(crate) top_level: usize,
}

struct Patterns {
    result: Regex,
    plan: Regex,
}

fn patterns() -> Option<&'static Patterns> {
    static PATTERNS: OnceLock<Option<Patterns>> = OnceLock::new();
    PATTERNS
        .get_or_init(|| {
            Some(Patterns {
                result: Regex::new(r"^(ok|not ok)(?:\s+(\d+))?(?:\s+-)?(?:\s+(.*))?$").ok()?,
                plan: Regex::new(r"^1\.\.(\d+)(?:\s*#\s*(.*))?$").ok()?,
            })
        })
        .as_ref()
}

/// Splits "name # DIRECTIVE reason".
fn description(text: &str) -> (&str, Option<(String, &str)>) {
    let (name, comment) = match text.split_once(" # ") {
        Some((name, comment)) => (name, comment),
        None => match text.strip_prefix("# ") {
            Some(comment) => ("", comment),
            None => return (text.trim(), None),
        },
    };
    let comment = comment.trim();
    let (word, rest) = comment
        .split_once(char::is_whitespace)
        .unwrap_or((comment, ""));
    (name.trim(), Some((word.to_ascii_uppercase(), rest.trim())))
}

/// Understands the lines of a program. Unknown lines are diagnostics, whatever they are.
pub(crate) fn parse<'a>(lines: impl IntoIterator<Item = &'a str>) -> Document {
    let mut document = Document::default();
    let Some(patterns) = patterns() else {
        return document;
    };
    // Results that are not yet claimed by the result line of the test around them: (depth, case).
    let mut open: Vec<(usize, Case)> = Vec::new();
    for (number, line) in lines.into_iter().enumerate() {
        let line = line.trim_end();
        let text = line.trim_start();
        let depth = (line.len() - text.len()) / 4;
        if let Some(plan) = patterns.plan.captures(text) {
            if depth == 0 {
                let count: Option<usize> =
                    plan.get(1).and_then(|count| count.as_str().parse().ok());
                document.plan = match (document.plan, count) {
                    (Some(before), Some(count)) => Some(before + count),
                    (before, count) => count.or(before),
                };
                if let (Some(0), Some(reason)) = (count, plan.get(2)) {
                    let (word, reason) = reason
                        .as_str()
                        .split_once(' ')
                        .unwrap_or((reason.as_str(), ""));
                    if word.eq_ignore_ascii_case("skip") {
                        open.push((
                            0,
                            Case {
                                name: String::new(),
                                status: Status::Skip,
                                reason: Some(reason.to_owned()),
                                number: None,
                                line: number,
                            },
                        ));
                    }
                }
            }
            continue;
        }
        let Some(result) = patterns.result.captures(text) else {
            continue;
        };
        let ok = result.get(1).is_some_and(|word| word.as_str() == "ok");
        let (name, directive) = description(result.get(3).map_or("", |text| text.as_str()));
        let (status, reason) = match directive {
            Some((word, reason)) if word == "SKIP" => (Status::Skip, Some(reason.to_owned())),
            // Known to fail, and it did.
            Some((word, reason)) if word == "XFAIL" && ok => {
                (Status::Pass, Some(format!("expected failure: {reason}")))
            }
            Some((word, reason)) if word == "XPASS" => (
                Status::Fail,
                Some(format!("passed, against expectation: {reason}")),
            ),
            Some((word, reason)) if !ok => (
                Status::Fail,
                Some(format!("{} {reason}", word.to_lowercase())),
            ),
            _ => (if ok { Status::Pass } else { Status::Fail }, None),
        };
        let own = result
            .get(2)
            .filter(|_| depth == 0)
            .and_then(|number| number.as_str().parse().ok());
        let name = match name {
            "" => directive_name(&reason)
                .unwrap_or_else(|| format!("test {}", result.get(2).map_or("?", |n| n.as_str()))),
            name => name.to_owned(),
        };
        if depth == 0 {
            document.top_level += 1;
        }
        // Everything deeper belongs to this one.
        let start = open
            .iter()
            .rposition(|(of, _)| *of <= depth)
            .map_or(0, |index| index + 1);
        let children = open.len() > start;
        for (of, case) in open.iter_mut().skip(start) {
            *of = depth;
            case.name = format!("{name}.{}", case.name);
        }
        // What is only the sum of its parts is not counted again; but a part that is missing must
        // not be lost.
        let parts_failed = open
            .iter()
            .skip(start)
            .any(|(_, case)| case.status == Status::Fail);
        if !children || (status == Status::Fail && !parts_failed) {
            open.push((
                depth,
                Case {
                    name,
                    status,
                    reason,
                    number: own,
                    line: number,
                },
            ));
        }
    }
    document.cases = open.into_iter().map(|(_, case)| case).collect();
    document
}

/// `ok 3 # SKIP some name` of old style programs: the reason is all there is.
fn directive_name(reason: &Option<String>) -> Option<String> {
    reason.as_ref().filter(|reason| !reason.is_empty()).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cases(text: &str) -> Vec<(String, Status)> {
        parse(text.lines())
            .cases
            .into_iter()
            .map(|case| (case.name, case.status))
            .collect()
    }

    #[test]
    fn kselftest_harness() {
        let text = "\
TAP version 13
1..4
# Starting 4 tests from 2 test cases.
#  RUN           hmm.hmm_device_private.open_close ...
#            OK  hmm.hmm_device_private.open_close
ok 1 hmm.hmm_device_private.open_close
#  RUN           hmm.hmm_device_private.anon_read ...
not ok 2 hmm.hmm_device_private.anon_read
#      SKIP      DEVICE_COHERENT not available
ok 3 hmm.hmm_device_coherent.open_close # SKIP DEVICE_COHERENT not available
# FAILED: 3 / 4 tests passed.
";
        let document = parse(text.lines());
        assert_eq!(document.plan, Some(4));
        assert_eq!(document.top_level, 3);
        let found = document.cases;
        assert_eq!(found[0].status, Status::Pass);
        assert_eq!(found[1].status, Status::Fail);
        assert_eq!(found[2].status, Status::Skip);
        assert_eq!(found[2].name, "hmm.hmm_device_coherent.open_close");
        assert_eq!(
            found[2].reason.as_deref(),
            Some("DEVICE_COHERENT not available")
        );
    }

    #[test]
    fn kunit_is_nested() {
        let text = "\
KTAP version 1
    KTAP version 1
    # Subtest: rust_dpmem
    1..2
    ok 1 a
    not ok 2 b
not ok 1 rust_dpmem
ok 2 lonely
";
        assert_eq!(
            cases(text),
            [
                ("rust_dpmem.a".to_owned(), Status::Pass),
                ("rust_dpmem.b".to_owned(), Status::Fail),
                ("lonely".to_owned(), Status::Pass)
            ]
        );
    }

    #[test]
    fn deeper_nesting() {
        let text = "        ok 1 x\n        ok 2 y # SKIP no\n    ok 1 inner\nok 1 outer\n";
        assert_eq!(
            cases(text),
            [
                ("outer.inner.x".to_owned(), Status::Pass),
                ("outer.inner.y".to_owned(), Status::Skip)
            ]
        );
    }

    #[test]
    fn a_suite_that_fails_though_its_tests_pass_is_a_failure() {
        let text = "    ok 1 x\nnot ok 1 suite\n";
        assert_eq!(
            cases(text),
            [
                ("suite.x".to_owned(), Status::Pass),
                ("suite".to_owned(), Status::Fail)
            ]
        );
    }

    #[test]
    fn odd_lines() {
        assert_eq!(cases("okay 1\nnot okay\nhello\n"), []);
        assert_eq!(cases("ok 1\n"), [("test 1".to_owned(), Status::Pass)]);
        assert_eq!(
            cases("ok 1 - dashed\n"),
            [("dashed".to_owned(), Status::Pass)]
        );
        assert_eq!(
            cases("not ok 1 x # TODO later\n"),
            [("x".to_owned(), Status::Fail)]
        );
        assert_eq!(
            cases("ok 1 x # XFAIL known\n"),
            [("x".to_owned(), Status::Pass)]
        );
        assert_eq!(
            cases("1..0 # SKIP no driver\n"),
            [(String::new(), Status::Skip)]
        );
    }
}
