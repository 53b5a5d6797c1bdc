// SPDX-License-Identifier: GPL-2.0

//! Inserting lines beside an anchor, and removing exactly these.

use std::ops::Range;

use anyhow::{bail, ensure, Result};

use super::state::{Insertion, Place};

/// The lines that an anchor is, which are beside each other and there once: the first, and the one
/// behind the last.
fn position(lines: &[&str], anchor: &str) -> Result<Range<usize>> {
    let anchor: Vec<&str> = anchor.lines().map(str::trim_end).collect();
    let is_anchor = |lines: &[&str]| {
        lines
            .iter()
            .map(|line| line.trim_end())
            .eq(anchor.iter().copied())
    };
    ensure!(!anchor.is_empty(), "an anchor is empty");
    let mut found = lines
        .windows(anchor.len())
        .enumerate()
        .filter(|(_, lines)| is_anchor(lines));
    let first = anchor.first().map_or("", |line| line.trim());
    match (found.next(), found.next()) {
        (Some((index, _)), None) => Ok(index..index + anchor.len()),
        (None, _) => bail!("it has no line \"{first}\""),
        (Some(_), Some(_)) => bail!("it has the line \"{first}\" more than once"),
    }
}

/// Inserts the lines; returns the text with them, and what was really inserted.
pub(super) fn insert(text: &str, insertion: &Insertion) -> Result<(String, Option<Insertion>)> {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    ensure!(
        text.is_empty() || text.ends_with('\n'),
        "it does not end with a newline"
    );
    let at = match &insertion.place {
        Place::Before(anchor) => position(&lines, anchor)?.start,
        Place::After(anchor) => position(&lines, anchor)?.end,
        Place::End => lines.len(),
    };
    let present = |line: &str| lines.iter().any(|of| of.trim_end() == line.trim_end());
    let mut new = insertion.lines.clone();
    if insertion.unless_present {
        new.retain(|line| !present(line));
    } else if let Some(line) = new
        .iter()
        .find(|line| !line.trim().is_empty() && present(line))
    {
        bail!(
            "it already has the line \"{}\", and not from dpmem",
            line.trim()
        );
    }
    if new.is_empty() {
        return Ok((text.to_owned(), None));
    }
    let (before, after) = lines.split_at_checked(at).unwrap_or((&lines, &[]));
    let mut result = before.concat();
    for line in &new {
        result.push_str(line);
        result.push('\n');
    }
    result.push_str(&after.concat());
    Ok((
        result,
        Some(Insertion {
            lines: new,
            ..insertion.clone()
        }),
    ))
}

/// True if nothing of what [`insert`] inserted is there.
pub(super) fn gone(text: &str, insertion: &Insertion) -> bool {
    let ours = |line: &str| {
        let mut all = insertion.lines.iter().filter(|of| !of.trim().is_empty());
        all.any(|of| of == line)
    };
    !text.lines().any(ours)
}

/// Removes what [`insert`] inserted.
pub(super) fn remove(text: &str, insertion: &Insertion) -> Result<String> {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let count = insertion.lines.len();
    let start = match &insertion.place {
        Place::Before(anchor) => position(&lines, anchor)?.start.checked_sub(count),
        Place::After(anchor) => Some(position(&lines, anchor)?.end),
        Place::End => lines.len().checked_sub(count),
    };
    let parts = start.and_then(|start| {
        let (before, rest) = lines.split_at_checked(start)?;
        let (block, after) = rest.split_at_checked(count)?;
        let ours = block
            .iter()
            .zip(&insertion.lines)
            .all(|(found, line)| found.strip_suffix('\n') == Some(line));
        ours.then(|| before.concat() + &after.concat())
    });
    match parts {
        Some(text) => Ok(text),
        None => bail!("dpmem's lines are not where they were put"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insertion(place: Place, lines: &[&str]) -> Insertion {
        Insertion {
            file: "f".to_owned(),
            place,
            lines: lines.iter().map(|&line| line.to_owned()).collect(),
            unless_present: false,
        }
    }

    const TEXT: &str = "one\n\ttwo  \nthree\n";

    #[test]
    fn in_and_out_again() {
        for (place, expected) in [
            (
                Place::Before("\ttwo".to_owned()),
                "one\nx\n\ny\n\ttwo  \nthree\n",
            ),
            (
                Place::After("\ttwo".to_owned()),
                "one\n\ttwo  \nx\n\ny\nthree\n",
            ),
            (Place::End, "one\n\ttwo  \nthree\nx\n\ny\n"),
        ] {
            let (with, done) = insert(TEXT, &insertion(place, &["x", "", "y"])).unwrap();
            assert_eq!(with, expected);
            assert_eq!(remove(&with, &done.unwrap()).unwrap(), TEXT);
        }
    }

    #[test]
    fn an_anchor_of_more_than_one_line() {
        for (place, expected) in [
            (
                Place::Before("\ttwo\nthree".to_owned()),
                "one\nx\n\ttwo  \nthree\n",
            ),
            (
                Place::After("one\n\ttwo".to_owned()),
                "one\n\ttwo  \nx\nthree\n",
            ),
        ] {
            let (with, done) = insert(TEXT, &insertion(place, &["x"])).unwrap();
            assert_eq!(with, expected);
            assert_eq!(remove(&with, &done.unwrap()).unwrap(), TEXT);
        }
        let apart = Place::After("one\nthree".to_owned());
        assert!(insert(TEXT, &insertion(apart, &["x"])).is_err());
    }

    #[test]
    fn an_anchor_must_be_there_once() {
        for text in ["", "one\n", "three\nthree\n", "  three\n"] {
            assert!(
                insert(text, &insertion(Place::Before("three".to_owned()), &["x"])).is_err(),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_there_is_not_inserted() {
        let mut twice = insertion(Place::End, &["one", "four"]);
        assert!(insert(TEXT, &twice).is_err());
        twice.unless_present = true;
        let (with, done) = insert(TEXT, &twice).unwrap();
        assert_eq!(with, "one\n\ttwo  \nthree\nfour\n");
        assert_eq!(remove(&with, &done.unwrap()).unwrap(), TEXT);
        twice.lines.pop();
        assert_eq!(insert(TEXT, &twice).unwrap(), (TEXT.to_owned(), None));
    }

    #[test]
    fn a_change_by_hand_is_noticed() {
        let ours = insertion(Place::End, &["x", "y"]);
        assert!(remove("one\nx\nz\n", &ours).is_err());
        assert!(remove("y\n", &ours).is_err());
    }
}
