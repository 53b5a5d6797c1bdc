// SPDX-License-Identifier: GPL-2.0

//! A bug of xe's that a compiler can see, if it is asked: `xe_svm_get_pagemaps()` looks at a
//! variable that nobody has set on a device without memory (X1 of `driver-bugs.rst`). The kernel
//! is built with that warning off, and with all variables zero.

use anyhow::{bail, Context as _, Result};

use crate::kernel::Kernel;
use crate::report::Test;
use crate::tools::Tools;

/// How the object was compiled.
const COMMAND: &str = "drivers/gpu/drm/xe/.xe_svm.o.cmd";
/// The variable.
const NAME: &str = "xpagemap";

/// The stock kernel must have the bug, and ours must not.
pub(super) fn test(tools: &Tools, stock: &Kernel, ours: &Kernel) -> Result<Test> {
    let verdict = match (is_warned_of(tools, stock)?, is_warned_of(tools, ours)?) {
        (true, false) => Ok(()),
        (_, true) => Err(format!("{NAME} may still be used before it is set")),
        (false, false) => Err(format!("nothing is said of {NAME} on the stock kernel")),
    };
    Ok(Test::new(
        "symbols",
        "xe: no memory, no pagemap",
        verdict,
        0.0,
    ))
}

/// Whether the compiler says that the variable may be used before it is set.
fn is_warned_of(tools: &Tools, kernel: &Kernel) -> Result<bool> {
    let path = kernel.tree.join(COMMAND);
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let command = with_warning(&text).with_context(|| format!("{COMMAND} has no command"))?;
    let mut job = tools.job();
    let inside = job.bind(&kernel.tree, "/objects");
    let mut shell = job.command("sh");
    let output = shell
        .arg("-c")
        .arg(format!("cd {} && {command}", inside.display()))
        .output()
        .context("cannot run the compiler")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("xe_svm.c does not compile: {}", said.trim());
    }
    Ok(said
        .lines()
        .any(|line| line.contains(NAME) && line.contains("may be used uninitialized")))
}

/// The saved command in `text`, which makes no file and asks for the warning.
fn with_warning(text: &str) -> Option<String> {
    let (_, command) = text.lines().next()?.split_once(" := ")?;
    // What comes behind it is about the object.
    let command = command.split(';').next()?;
    let mut words = command
        .split_whitespace()
        .filter(|word| !word.starts_with("-Wp,-MMD"));
    let mut changed = Vec::new();
    while let Some(word) = words.next() {
        changed.push(word);
        if word == "-o" {
            words.next()?;
            changed.extend(["/dev/null", "-Wmaybe-uninitialized"]);
        }
    }
    changed
        .contains(&"-Wmaybe-uninitialized")
        .then(|| changed.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_asks_for_the_warning() {
        let text = "savedcmd_a.o := gcc -Wp,-MMD,.a.o.d -Wno-maybe-uninitialized \
                    -DNAME='\"a\"'  -c -o a.o a.c ; objtool a.o\n\nsource_a.o := a.c\n";
        assert_eq!(
            with_warning(text).as_deref(),
            Some(
                "gcc -Wno-maybe-uninitialized -DNAME='\"a\"' -c -o /dev/null \
                 -Wmaybe-uninitialized a.c"
            )
        );
        assert_eq!(with_warning("savedcmd_a.o := gcc -c a.c\n"), None);
        assert_eq!(with_warning(""), None);
    }
}
