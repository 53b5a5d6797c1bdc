// SPDX-License-Identifier: GPL-2.0

//! Comparing what two walks have said.

use std::fmt;

/// Where two walks that should be the same part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The step: what was done, as far as it was said.
    pub step: String,
    /// What one of them has said then.
    pub one: String,
    /// What the other one has.
    pub other: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "step {}\nthe kernel:     {}\nthe simulation: {}",
            self.step, self.one, self.other
        )
    }
}

/// Compares what a kernel has said with what a simulation has, line by line.
///
/// # Errors
///
/// The first difference.
pub fn compare(one: &[&str], other: &[&str]) -> Result<(), Difference> {
    let mut step = "none";
    for i in 0..one.len().max(other.len()) {
        let (left, right) = (one.get(i).copied(), other.get(i).copied());
        let line = left.or(right).unwrap_or_default();
        // The first line of a step says what is done; the others, of which process this is.
        if !is_state(line) {
            step = line;
        }
        if left != right {
            let nothing = "it ended";
            return Err(Difference {
                step: step.to_owned(),
                one: left.unwrap_or(nothing).to_owned(),
                other: right.unwrap_or(nothing).to_owned(),
            });
        }
    }
    Ok(())
}

fn is_state(line: &str) -> bool {
    line.split(' ')
        .nth(1)
        .is_some_and(|word| word.ends_with(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: [&str; 3] = [
        "7.0 parent writes 3 to 0+1: 1",
        "7.0 parent: 0+1 system rw #00000001 1+1039 none",
        "7.1 parent reads 0+1: 1",
    ];

    #[test]
    fn the_same() {
        assert_eq!(compare(&ONE, &ONE), Ok(()));
    }

    #[test]
    fn another_state() {
        let mut other = ONE;
        other[1] = "7.0 parent: 0+1 device rw #00000001 1+1039 none";
        let difference = compare(&ONE, &other).unwrap_err();
        assert_eq!(difference.step, ONE[0]);
        let said = difference.to_string();
        assert!(said.contains(ONE[1]) && said.contains(other[1]), "{said}");
    }

    #[test]
    fn one_ends_early() {
        let difference = compare(&ONE, &ONE[..2]).unwrap_err();
        assert_eq!(difference.step, ONE[2]);
        assert_eq!(difference.other, "it ended");
    }
}
