// SPDX-License-Identifier: GPL-2.0

//! Watching the kernel's console: what must never be said there.

use std::sync::OnceLock;

use regex::{Regex, RegexSet};

/// What begins a report.
const SIGNS: &[&str] = &[
    r"\bWARNING:",
    r"\bBUG:",
    // Of the slab allocators.
    r"\bBUG \S+ \(",
    r"\bkernel BUG at ",
    r"\bOops\b",
    r"\bKASAN:",
    r"\bUBSAN:",
    r"possible recursive locking",
    r"possible circular locking",
    r"possible irq lock inversion",
    r"\bINFO: possible ",
    r"suspicious RCU usage",
    r"inconsistent lock state",
    r"bad unlock balance",
    r"held lock freed",
    r"\bINFO: task .* blocked\b.* for more than",
    r"\bINFO: trying to register non-static key",
    r"turning off the locking correctness validator",
    r"\brcu.*(stall|self-detected)",
    r"soft lockup",
    r"hard LOCKUP",
    r"unreferenced object",
    r"kmemleak: \d+ new suspected memory leaks",
    r"kmemleak: .*(disabled|error)",
    // A check that has given up.
    r"Memory allocation profiling is disabled",
    r"page ext allocation failure",
    r"page_owner is disabled",
    r"DMA-API: debugging out of memory",
    r"Kernel panic",
    r"general protection fault",
    r"page dumped because",
    r"Bad page state",
    r"Unable to handle kernel",
    r"Internal error",
    r"list_(add|del) corruption",
    r"refcount_t: ",
    r"sleeping function called from invalid context",
    r"scheduling while atomic",
];

/// What ends one.
const ENDS: &[&str] = &[r"---\[ end ", r"^={20,}$"];

/// A report is not longer than this, whatever follows.
const LONGEST: usize = 200;
/// Lines of one report are printed without a pause that is longer than this, in seconds.
const PAUSE: f64 = 0.5;

fn signs() -> Option<&'static (RegexSet, RegexSet)> {
    static SETS: OnceLock<Option<(RegexSet, RegexSet)>> = OnceLock::new();
    SETS.get_or_init(|| Some((RegexSet::new(SIGNS).ok()?, RegexSet::new(ENDS).ok()?)))
        .as_ref()
}

/// The time that printk put before a line, and the rest of the line.
fn split(line: &str) -> (Option<f64>, &str) {
    static PREFIX: OnceLock<Option<Regex>> = OnceLock::new();
    let prefix = PREFIX.get_or_init(|| Regex::new(r"^\[\s*(\d+\.\d+)\](?:\[\s*[TC]\d+\])? ").ok());
    match prefix.as_ref().and_then(|prefix| prefix.captures(line)) {
        Some(captures) => {
            let end = captures.get(0).map_or(0, |all| all.end());
            let time = captures.get(1).and_then(|time| time.as_str().parse().ok());
            (time, line.get(end..).unwrap_or_default())
        }
        None => (None, line),
    }
}

/// A line without the time before it.
pub(crate) fn message(line: &str) -> &str {
    split(line).1
}

/// All reports on a console, each from its first line to its last.
pub(crate) fn reports<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let Some((begin, end)) = signs() else {
        return vec!["no patterns to look for".to_owned()];
    };
    let mut reports = Vec::new();
    let mut report: Vec<&str> = Vec::new();
    let mut last = None;
    let mut finish = |report: &mut Vec<&str>| {
        if !report.is_empty() {
            reports.push(std::mem::take(report).join("\n"));
        }
    };
    let mut before: Option<&str> = None;
    for line in lines {
        let line = line.trim_end();
        let (time, text) = split(line);
        let pause = matches!((last, time), (Some(last), Some(time)) if time - last > PAUSE);
        last = time.or(last);
        if !report.is_empty() && (pause || report.len() >= LONGEST) {
            finish(&mut report);
        }
        if begin.is_match(text) {
            // The frame around a report of KASAN or lockdep.
            let frame = before.filter(|before| message(before).starts_with("====="));
            if frame.is_some() && report.last() == frame.as_ref() {
                report.pop();
            }
            // Two can follow each other at once, and only one of them be expected.
            finish(&mut report);
            report.extend(frame);
            report.push(line);
        } else if !report.is_empty() {
            report.push(line);
            if end.is_match(text) && report.len() > 3 {
                finish(&mut report);
            }
        }
        before = Some(line);
    }
    finish(&mut report);
    reports
}

/// What tells a report from another: its first line, without times, processors and processes.
fn signature(report: &str) -> String {
    let line = report
        .lines()
        .map(message)
        .find(|line| !line.starts_with("====="))
        .unwrap_or_default();
    line.split([',', ';']).next().unwrap_or_default().to_owned()
}

/// One report of each kind, with the number of those that are like it.
pub(crate) fn unique(reports: Vec<String>) -> Vec<String> {
    let mut kinds: Vec<(String, String, usize)> = Vec::new();
    for report in reports {
        let signature = signature(&report);
        match kinds.iter_mut().find(|(of, ..)| *of == signature) {
            Some((_, _, more)) => *more += 1,
            None => kinds.push((signature, report, 0)),
        }
    }
    kinds
        .into_iter()
        .map(|(_, report, more)| match more {
            0 => report,
            more => format!("{report}\n({more} more like this one, in console.log)"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_boot_has_none() {
        let text = "\
[    0.000000] Linux version 7.3.4 (dpmem@lab) #1 SMP
[    0.100000] kmemleak: Kernel memory leak detector initialized (mem pool available: 15679)
[    0.100000] rcu: RCU lockdep checking is enabled.
[    0.300000] Memory failure: 0x1234: recovery action for dirty LRU page: Recovered
[    1.000000] HMM test module loaded. This is only for testing HMM.
[    2.000000] reboot: Power down";
        assert_eq!(reports(text.lines()), Vec::<String>::new());
    }

    #[test]
    fn a_warning_is_found_whole() {
        let text = "\
[    1.000000] fine
[    1.100000] ------------[ cut here ]------------
[    1.100000] WARNING: mm/memremap.c:123 at x+0x1/0x2, CPU#0: hmm-tests/99
[    1.100000] Call Trace:
[    1.100000]  <TASK>
[    1.100000]  </TASK>
[    1.100000] ---[ end trace 0000000000000000 ]---
[    1.200000] fine again";
        let found = reports(text.lines());
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("[    1.100000] WARNING: mm/memremap.c:123"));
        assert!(found[0].ends_with("---[ end trace 0000000000000000 ]---"));
    }

    #[test]
    fn every_kind_is_found() {
        for text in [
            "BUG: KASAN: slab-use-after-free in x+0x1/0x2",
            "BUG: kernel NULL pointer dereference, address: 0000000000000000",
            "Oops: general protection fault, probably for non-canonical address",
            "WARNING: possible circular locking dependency detected",
            "WARNING: suspicious RCU usage",
            "INFO: task hmm-tests:99 blocked for more than 122 seconds.",
            "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
            "watchdog: BUG: soft lockup - CPU#0 stuck for 26s!",
            "kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
            "Kernel panic - not syncing: No working init found.",
            "page dumped because: VM_BUG_ON_PAGE(x)",
            "UBSAN: array-index-out-of-bounds in x.c:1:2",
            "Unable to handle kernel paging request at virtual address ffff",
        ] {
            assert_eq!(
                reports([format!("[    1.000000] {text}").as_str()]).len(),
                1,
                "{text}"
            );
            assert_eq!(
                reports([format!("[    1.000000][  T12] {text}").as_str()]).len(),
                1,
                "{text}"
            );
        }
    }

    #[test]
    fn one_does_not_hide_another() {
        let text = "\
[    1.000000] page: refcount:1 mapcount:0
[    1.000000] page dumped because: gup_test
[    1.000001] ==================================================================
[    1.000001] BUG: KASAN: use-after-free in x+0x1/0x2
[    1.000002] Call Trace:";
        let found = reports(text.lines());
        assert_eq!(found[0], "[    1.000000] page dumped because: gup_test");
        assert!(found[1].starts_with("[    1.000001] ====="));
        assert!(found[1].ends_with("Call Trace:"));
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn the_same_report_is_shown_once() {
        let report = |at: &str, pid: u32| {
            format!("[{at}] WARNING: mm/x.c:1 at x+0x1/0x2, CPU#0: t/{pid}\ntrace")
        };
        let other = "[    3.000000] BUG: y".to_owned();
        let found = unique(vec![
            report("    1.000000", 7),
            other.clone(),
            report("    2.000000", 8),
        ]);
        assert_eq!(found.len(), 2);
        assert!(
            found[0].ends_with("trace\n(1 more like this one, in console.log)"),
            "{}",
            found[0]
        );
        assert_eq!(found[1], other);
    }

    #[test]
    fn what_begins_a_report() {
        for line in [
            "INFO: task kworker/0:1:7 blocked for more than 122 seconds.",
            "INFO: task sh:1 blocked in I/O wait for more than 122 seconds.",
            "INFO: trying to register non-static key.",
            "turning off the locking correctness validator.",
            "BUG kmalloc-64 (Not tainted): Poison overwritten",
            "DMA-API: debugging out of memory - disabling",
            "With module x there are too many tags to fit in 4 page flag bits. Memory allocation \
             profiling is disabled!",
        ] {
            assert_eq!(reports([line]).len(), 1, "{line}");
        }
        for line in ["DEBUG (x)", "Memory: 4G", "INFO: nothing"] {
            assert!(reports([line]).is_empty(), "{line}");
        }
    }

    #[test]
    fn a_pause_separates_reports() {
        let text = "[    1.000000] BUG: one\n[    1.000001]  trace\n[    5.000000] fine\n[    6.000000] BUG: two";
        let found = reports(text.lines());
        assert_eq!(
            found,
            [
                "[    1.000000] BUG: one\n[    1.000001]  trace",
                "[    6.000000] BUG: two"
            ]
        );
    }
}
