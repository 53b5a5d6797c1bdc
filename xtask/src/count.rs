// SPDX-License-Identifier: GPL-2.0

//! `lab count`: how many lines the series adds and removes, by file.
//!
//! What counts is what comes of the patches together: a line that one of them adds and a later one
//! removes is none, and only one that comes back after it was removed is counted twice. That takes
//! no source of a kernel, as the hunks say where they apply.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::{bail, ensure, Context as _, Result};

use crate::cli::CountOptions;
use crate::install::Patches;
use crate::repo;

/// The first patch that is no mend which stands alone, as it is called in its file's name.
const FIRST_AFTER_MENDS: &str = "one-place-that-takes-write-permission-from-a-leaf";

/// Patches before that which mend nothing that goes wrong today: they prepare for what follows.
const PREPARATIONS: [&str; 3] = [
    "page_ext-pages-outside-every-section",
    "do-not-look-for-the-pageblock",
    "let-the-KASAN-shadow-of-an-area",
];

/// What the core may have at most, apart from mends and new files: below this.
const GOAL: usize = 400;

/// What loses a search, and nothing else.
const RESOURCE: &str = "kernel/resource.c";

/// The part of the kernel that a file belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Mends,
    Preparations,
    Core,
    Resource,
    New,
    Drivers,
    Tests,
    Documentation,
}

impl Part {
    /// Where a file belongs, but for the mends of the core.
    fn of(path: &str, is_new: bool) -> Self {
        let below = |folders: &[&str]| folders.iter().any(|folder| path.starts_with(folder));
        if path == RESOURCE {
            Self::Resource
        } else if path == "MAINTAINERS" || below(&["Documentation/"]) {
            Self::Documentation
        } else if below(&["lib/test_", "lib/tests/", "mm/tests/", "tools/testing/"]) {
            Self::Tests
        } else if below(&["drivers/", "include/drm/", "arch/powerpc/kvm/"]) {
            // Secure memory of powerpc's KVM has a driver for it.
            Self::Drivers
        } else if is_new {
            Self::New
        } else {
            Self::Core
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mends => "core: mends, which stand alone",
            Self::Preparations => "core: preparations",
            Self::Core => "core: the rest, without kernel/resource.c",
            Self::Resource => "kernel/resource.c, which loses a search",
            Self::New => "new files",
            Self::Drivers => "drivers",
            Self::Tests => "tests",
            Self::Documentation => "documentation and MAINTAINERS",
        })
    }
}

/// How many lines there are more, and how many of those that were there are gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Lines {
    added: usize,
    removed: usize,
}

impl std::iter::Sum for Lines {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, lines| Self {
            added: sum.added + lines.added,
            removed: sum.removed + lines.removed,
        })
    }
}

/// The counts of the files of each part, by their paths.
type Counts = BTreeMap<(Part, String), Lines>;

/// A file that patches change.
#[derive(Debug, Default)]
struct File {
    /// Its lines, as far as a patch has come: to what part a patch has added them, or none if they
    /// were there. What follows was there.
    lines: Vec<Option<Part>>,
    /// Of which part those are that were there and are gone.
    removed: Vec<Part>,
}

impl File {
    /// Has hunks change it, which count for this part.
    fn apply(&mut self, hunks: &[Hunk<'_>], part: Part) {
        for hunk in hunks {
            let mut at = hunk.at;
            for line in &hunk.lines {
                match line.as_bytes().first() {
                    Some(b'-') => {
                        self.reach(at + 1);
                        if self.lines.remove(at).is_none() {
                            self.removed.push(part);
                        }
                    }
                    Some(b'+') => {
                        self.reach(at);
                        self.lines.insert(at, Some(part));
                        at += 1;
                    }
                    _ => at += 1,
                }
            }
        }
    }

    fn reach(&mut self, lines: usize) {
        if self.lines.len() < lines {
            self.lines.resize(lines, None);
        }
    }
}

/// A part of a file that a patch changes.
#[derive(Debug)]
struct Hunk<'a> {
    /// The number of its first line in the file as it becomes, from 0 on.
    at: usize,
    /// Its lines, with what they begin with: what is not `-` or `+` stays.
    lines: Vec<&'a str>,
}

impl<'a> Hunk<'a> {
    /// Reads one that begins with `@@ -<line>[,<lines>] +<line>[,<lines>] @@`, and takes its lines.
    fn parse(head: &str, text: &mut impl Iterator<Item = &'a str>) -> Result<Self> {
        let (at, mut old, mut new) = Self::head(head).context("not a hunk")?;
        let mut lines = Vec::new();
        while old > 0 || new > 0 {
            let line = text.next().context("the patch ends in it")?;
            let (of_old, of_new) = match line.as_bytes().first() {
                Some(b'-') => (1, 0),
                Some(b'+') => (0, 1),
                // Mail loses the space of an empty line.
                Some(b' ') | None => (1, 1),
                // Says that the line before has no end.
                Some(b'\\') => continue,
                Some(_) => bail!("not a line of it: {line}"),
            };
            ensure!(old >= of_old && new >= of_new, "it has more lines");
            old -= of_old;
            new -= of_new;
            lines.push(line);
        }
        Ok(Self { at, lines })
    }

    /// Where it begins, and how many lines it had and has.
    fn head(line: &str) -> Option<(usize, usize, usize)> {
        let mut words = line.strip_prefix("@@ ")?.split(' ');
        let mut side = |sign| -> Option<(usize, usize)> {
            let range = words.next()?.strip_prefix(sign)?;
            let (start, lines) = range.split_once(',').unwrap_or((range, "1"));
            Some((start.parse().ok()?, lines.parse().ok()?))
        };
        let (_, old) = side('-')?;
        let (start, new) = side('+')?;
        // Of no lines, the one before them is named.
        let at = match new {
            0 => start,
            _ => start.checked_sub(1)?,
        };
        (words.next()? == "@@").then_some((at, old, new))
    }
}

/// What a patch does to a file.
#[derive(Debug)]
struct Change<'a> {
    path: &'a str,
    is_new: bool,
    hunks: Vec<Hunk<'a>>,
}

impl<'a> Change<'a> {
    /// Reads a patch, as git writes it with its mail around it.
    fn all(text: &'a str) -> Result<Vec<Self>> {
        let mut changes: Vec<Self> = Vec::new();
        let mut lines = text.lines();
        // The file as it was; what is before the first line that begins a file is the mail.
        let mut from = None;
        let mut in_files = false;
        while let Some(line) = lines.next() {
            if line.starts_with("diff --git ") {
                (in_files, from) = (true, None);
            } else if !in_files {
                continue;
            } else if line.starts_with("rename ") {
                bail!("it renames a file, which cannot be counted");
            } else if let Some(name) = line.strip_prefix("--- ") {
                from = Some(name);
            } else if let (Some(from), Some(name)) = (from, line.strip_prefix("+++ ")) {
                let path = name.strip_prefix("b/").or(from.strip_prefix("a/"));
                changes.push(Self {
                    path: path.with_context(|| format!("a file without a name: {line}"))?,
                    is_new: from == "/dev/null",
                    hunks: Vec::new(),
                });
            } else if line.starts_with("@@ ") {
                let change = changes.last_mut().context("a hunk before a file")?;
                let hunk = Hunk::parse(line, &mut lines);
                let place = || format!("{}: {line}", change.path);
                change.hunks.push(hunk.with_context(place)?);
            }
        }
        ensure!(!changes.is_empty(), "it changes no file");
        Ok(changes)
    }

    fn part(&self) -> Part {
        Part::of(self.path, self.is_new)
    }

    /// Whether it tells how something is built.
    fn is_build(&self) -> bool {
        self.path.ends_with("/Kconfig") || self.path.ends_with("/Makefile")
    }
}

/// Whether a patch is about tests: what it says of how to build is, then, as well.
fn are_for_tests(changes: &[Change<'_>]) -> bool {
    let is_test = |change: &Change<'_>| change.part() == Part::Tests;
    let is_beside = |change: &Change<'_>| change.is_build() || change.part() == Part::Documentation;
    changes.iter().any(is_test) && changes.iter().all(|of| is_test(of) || is_beside(of))
}

/// Prints the counts.
pub(crate) fn run(options: &CountOptions) -> Result<()> {
    let series = options.linux;
    let folder = repo::top().join("linux/series").join(series.name());
    let patches = Patches::load(&folder)?;
    let patches: Vec<(&str, &str)> = patches.texts().collect();
    let counts = count(&patches).with_context(|| folder.display().to_string())?;
    print!("{}", table(&counts));
    println!("\n{} patches for Linux {series}", patches.len());
    Ok(())
}

/// Counts what each part has, from the names of patches and their texts, in order.
fn count(patches: &[(&str, &str)]) -> Result<Counts> {
    let mut names = patches.iter().map(|(name, _)| name);
    let Some(first) = names.position(|name| name.contains(FIRST_AFTER_MENDS)) else {
        bail!("no patch is called {FIRST_AFTER_MENDS}, which is the first after the mends");
    };
    let mut made = BTreeSet::new();
    // What a mend has changed is as it was for those that follow: the two are counted apart.
    let mut files: BTreeMap<(Option<Part>, &str), File> = BTreeMap::new();
    for (i, (name, text)) in patches.iter().enumerate() {
        let alone = match PREPARATIONS.iter().any(|of| name.contains(of)) {
            true => Part::Preparations,
            false => Part::Mends,
        };
        let changes = Change::all(text).with_context(|| (*name).to_owned())?;
        let for_tests = are_for_tests(&changes);
        for change in changes {
            if change.is_new {
                made.insert(change.path);
            }
            let part = match Part::of(change.path, made.contains(change.path)) {
                Part::Core | Part::Resource | Part::New if i < first => alone,
                Part::Core if for_tests => Part::Tests,
                part => part,
            };
            let file = files.entry(((part == alone).then_some(alone), change.path));
            file.or_default().apply(&change.hunks, part);
        }
    }
    let mut counts = Counts::new();
    for ((_, path), file) in files {
        let key = |part| (part, path.to_owned());
        for part in file.lines.into_iter().flatten() {
            counts.entry(key(part)).or_default().added += 1;
        }
        for part in file.removed {
            counts.entry(key(part)).or_default().removed += 1;
        }
    }
    Ok(counts)
}

/// A table for people: each part, and its files.
fn table(counts: &Counts) -> String {
    let line =
        |name: String, Lines { added, removed }| format!("{name:<52} {added:>7} {removed:>7}\n");
    let mut table = format!("{:<52} {:>7} {:>7}\n", "", "added", "removed");
    let mut last = None;
    for ((part, path), lines) in counts {
        if last.replace(part) != Some(part) {
            table.push_str(&line(part.to_string(), sum(counts, &[*part])));
        }
        table.push_str(&line(format!("  {path}"), *lines));
    }
    let of = |part| sum(counts, &[part]);
    let resource = of(Part::Resource);
    table.push_str(&format!(
        "\nThe core, apart from mends and new files: {} lines added or changed, {} more in \
         preparations, and {} in {RESOURCE}, which loses {}; the goal is under {GOAL}\n",
        of(Part::Core).added,
        of(Part::Preparations).added,
        resource.added,
        resource.removed
    ));
    table
}

/// What these parts have together.
fn sum(counts: &Counts, parts: &[Part]) -> Lines {
    let of_parts = counts.iter().filter(|((part, _), _)| parts.contains(part));
    of_parts.map(|(_, lines)| *lines).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::version::Series;

    /// A mend, in a mail that has more in it than it needs.
    const MEND: (&str, &str) = (
        "0001-mm-mend.patch",
        "\
From 0 Mon Sep 17 00:00:00 2001
Subject: [PATCH 01/03] mm: mend

It is not counted what is said here:
--- a/mm/no.c
+++ b/mm/no.c
@@ -1 +1 @@
-this
+that
---
 mm/hmm.c | 3 ++-
 1 file changed, 2 insertions(+), 1 deletion(-)

diff --git a/mm/hmm.c b/mm/hmm.c
index 1..2 100644
--- a/mm/hmm.c
+++ b/mm/hmm.c
@@ -10,4 +10,5 @@ int hmm(void)
 one
--- a line of SQL
+++ and one that begins so
+two

 three
-- \n2.47.3
",
    );

    const FIRST: (&str, &str) = (
        "0002-mm-one-place-that-takes-write-permission-from-a-leaf.patch",
        "\
diff --git a/mm/new.c b/mm/new.c
new file mode 100644
--- /dev/null
+++ b/mm/new.c
@@ -0,0 +1,3 @@
+one
+two
+three
diff --git a/mm/hmm.c b/mm/hmm.c
--- a/mm/hmm.c
+++ b/mm/hmm.c
@@ -11,3 +11,2 @@ int hmm(void)
 and
-two
 three
@@ -20 +19,2 @@ int other(void)
-old
+new
+newer
\\ No newline at end of file
diff --git a/lib/test_hmm.c b/lib/test_hmm.c
deleted file mode 100644
--- a/lib/test_hmm.c
+++ /dev/null
@@ -1,2 +0,0 @@
-one
-two
",
    );

    /// It changes what the one before it has added, and more.
    const LATER: (&str, &str) = (
        "0003-mm-later.patch",
        "\
diff --git a/mm/new.c b/mm/new.c
--- a/mm/new.c
+++ b/mm/new.c
@@ -1,3 +1,3 @@
 one
-two
+2
 three
diff --git a/mm/hmm.c b/mm/hmm.c
--- a/mm/hmm.c
+++ b/mm/hmm.c
@@ -19,3 +19,2 @@ int other(void)
 new
-newer
-oldest
+new again
",
    );

    /// A test, and what builds it.
    const TEST: (&str, &str) = (
        "0004-mm-test.patch",
        "\
diff --git a/mm/Kconfig b/mm/Kconfig
--- a/mm/Kconfig
+++ b/mm/Kconfig
@@ -1 +1,2 @@
 mainmenu
+config TEST
diff --git a/mm/tests/kunit.c b/mm/tests/kunit.c
new file mode 100644
--- /dev/null
+++ b/mm/tests/kunit.c
@@ -0,0 +1 @@
+test
",
    );

    fn lines(added: usize, removed: usize) -> Lines {
        Lines { added, removed }
    }

    fn of(counts: &Counts, part: Part, path: &str) -> Option<Lines> {
        counts.get(&(part, path.to_owned())).copied()
    }

    #[test]
    fn what_is_added_and_removed_later_does_not_count() {
        let counts = count(&[MEND, FIRST, LATER]).unwrap();
        assert_eq!(of(&counts, Part::Mends, "mm/hmm.c"), Some(lines(2, 1)));
        // A line of the mend goes, which was there already, and so do two more.
        assert_eq!(of(&counts, Part::Core, "mm/hmm.c"), Some(lines(2, 3)));
        assert_eq!(of(&counts, Part::New, "mm/new.c"), Some(lines(3, 0)));
        assert_eq!(
            of(&counts, Part::Tests, "lib/test_hmm.c"),
            Some(lines(0, 2))
        );
        assert_eq!(counts.len(), 4);
        let table = table(&counts);
        let core = "apart from mends and new files: 2 lines added or changed, 0 more in";
        assert!(table.contains(core), "{table}");
    }

    #[test]
    fn the_series_is_as_its_documentation_says() {
        let document = repo::top().join("Documentation/series.rst");
        let document = std::fs::read_to_string(document).unwrap();
        for series in [Series::V7_3, Series::V7_2] {
            let patches = Patches::load(&repo::top().join("linux/series").join(series.name()));
            let patches = patches.unwrap();
            let counts = count(&patches.texts().collect::<Vec<_>>()).unwrap();
            assert!(
                sum(&counts, &[Part::Core]).added < GOAL,
                "{}",
                table(&counts)
            );
            for part in counts.keys().map(|(part, _)| part) {
                let Lines { added, removed } = sum(&counts, &[*part]);
                let said = document.lines().any(|line| {
                    let mut words = line.split_whitespace().rev();
                    let numbers = [words.next(), words.next()];
                    numbers == [Some(removed.to_string().as_str()), Some(&added.to_string())]
                });
                assert!(said || series != Series::V7_3, "{part}: {added} {removed}");
            }
        }
    }

    #[test]
    fn what_builds_a_test_is_of_the_tests() {
        let counts = count(&[FIRST, TEST]).unwrap();
        assert_eq!(of(&counts, Part::Tests, "mm/Kconfig"), Some(lines(1, 0)));
        let (alone, _) = TEST.1.split_at(TEST.1.rfind("diff").unwrap());
        let counts = count(&[FIRST, (TEST.0, alone)]).unwrap();
        assert_eq!(of(&counts, Part::Core, "mm/Kconfig"), Some(lines(1, 0)));
        let more = format!("{}{}", LATER.1, TEST.1);
        let counts = count(&[FIRST, (LATER.0, &more)]).unwrap();
        assert_eq!(of(&counts, Part::Core, "mm/Kconfig"), Some(lines(1, 0)));
    }

    #[test]
    fn the_mends_have_an_end() {
        assert!(count(&[MEND, LATER]).is_err());
        let counts = count(&[FIRST]).unwrap();
        assert!(counts.keys().all(|(part, _)| *part != Part::Mends));
        // One of a driver is the driver's.
        let mend = MEND.1.replace("mm/hmm.c", "drivers/acme.c");
        let counts = count(&[(MEND.0, &mend), FIRST]).unwrap();
        assert_eq!(
            of(&counts, Part::Drivers, "drivers/acme.c"),
            Some(lines(2, 1))
        );
    }

    #[test]
    fn a_patch_that_is_damaged_is_an_error() {
        let damaged = |from: &str, to: &str| {
            let text = FIRST.1.replace(from, to);
            assert_ne!(text, FIRST.1);
            let shown = format!("{:#}", count(&[(FIRST.0, &text)]).unwrap_err());
            assert!(shown.starts_with(FIRST.0), "{shown}");
            shown
        };
        assert!(damaged("@@ -1,2 +0,0 @@", "@@ -1,3 +0,0 @@").contains("ends in it"));
        assert!(damaged("-1,2 +0,0", "-1,b +0,0").contains("not a hunk"));
        assert!(damaged("+two", "two").contains("not a line"));
        assert!(damaged("+0,0 @@", "+1,1 @@").contains("ends in it"));
        assert!(damaged("-11,3 +11,2", "-11,3 +11,1").contains("more lines"));
        assert!(damaged("new file mode 100644", "rename from mm/old.c").contains("renames"));
    }

    #[test]
    fn each_file_has_its_part() {
        for (path, part) in [
            ("MAINTAINERS", Part::Documentation),
            ("Documentation/mm/hmm.rst", Part::Documentation),
            ("arch/powerpc/kvm/book3s_hv_uvmem.c", Part::Drivers),
            ("arch/powerpc/mm/mem.c", Part::Core),
            ("drivers/gpu/drm/drm_pagemap.c", Part::Drivers),
            ("fs/proc/task_mmu.c", Part::Core),
            ("include/drm/drm_pagemap.h", Part::Drivers),
            ("include/linux/leafops.h", Part::Core),
            ("kernel/resource.c", Part::Resource),
            ("lib/test_hmm.c", Part::Tests),
            ("mm/memremap.c", Part::Core),
        ] {
            assert_eq!(Part::of(path, false), part, "{path}");
        }
        let tests = "mm/tests/device_private_kunit.c";
        assert_eq!(Part::of(tests, true), Part::Tests);
        assert_eq!(Part::of("mm/device_private.c", true), Part::New);
    }
}
