// SPDX-License-Identifier: GPL-2.0

//! A bug of xe's that a compiler can see, if it is asked: `xe_svm_get_pagemaps()` looks at a
//! variable that nobody has set on a device without memory (X1 of `driver-bugs.rst`). The kernel
//! is built with that warning off, and with all variables zero.

use std::io::Write as _;
use std::process::Stdio;

use anyhow::{bail, Context as _, Result};

use crate::kernel::Kernel;
use crate::report::Test;
use crate::tools::Tools;

/// What is compiled.
const SOURCE: &str = "drivers/gpu/drm/xe/xe_svm.c";
/// Where that is.
const FOLDER: &str = "drivers/gpu/drm/xe";
/// How it was compiled.
const COMMAND: &str = "drivers/gpu/drm/xe/.xe_svm.o.cmd";
/// The variable.
const NAME: &str = "xpagemap";
/// What `lab install` inserts.
const MEND: &str = "\txpagemap = NULL;";
/// What the compiler is asked for.
const WARNING: &str = "-Wmaybe-uninitialized";

/// The stock kernel must have the bug, and ours must not, but for the line that is inserted.
pub(super) fn test(tools: &Tools, stock: &Kernel, ours: &Kernel) -> Result<Test> {
    let verdict = if !is_warned_of(tools, stock, None)? {
        Err(format!("nothing is said of {NAME} on the stock kernel"))
    } else if is_warned_of(tools, ours, None)? {
        Err(format!("{NAME} may still be used before it is set"))
    } else if !is_warned_of(tools, ours, Some(MEND))? {
        Err(format!("nothing is said of {NAME} without the line for it"))
    } else {
        Ok(())
    };
    let name = "xe: a device without memory";
    Ok(Test::new("symbols", name, verdict, 0.0))
}

/// Whether the compiler says that the variable may be used before it is set, where the source does
/// not have the line `without`.
fn is_warned_of(tools: &Tools, kernel: &Kernel, without: Option<&str>) -> Result<bool> {
    let read = |file: &str| {
        let path = kernel.tree.join(file);
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let mut source = read(SOURCE)?;
    if let Some(line) = without {
        source = source.replace(&format!("{line}\n"), "");
    }
    let command = with_warning(&read(COMMAND)?)
        .with_context(|| format!("{COMMAND} does not say how {SOURCE} was compiled"))?;
    let mut job = tools.job();
    let inside = job.bind(&kernel.tree, "/objects");
    let mut shell = job.command("sh");
    let mut child = shell
        .arg("-c")
        .arg(format!("cd {} && {command}", inside.display()))
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run the compiler")?;
    let mut stdin = child.stdin.take().context("the compiler reads nothing")?;
    let written = stdin.write_all(source.as_bytes());
    drop(stdin);
    let output = child
        .wait_with_output()
        .context("cannot run the compiler")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{SOURCE} does not compile: {}", said.trim());
    }
    written.context("the compiler has not read all")?;
    let warned = |line: &str| line.contains(NAME) && line.contains("may be used uninitialized");
    Ok(said.lines().any(warned))
}

/// The saved command in `text`, but that it reads what it is given, makes no file, and asks for the
/// warning.
fn with_warning(text: &str) -> Option<String> {
    let (_, command) = text.lines().next()?.split_once(" := ")?;
    // What comes behind it is about the object.
    let command = command.split(';').next()?;
    let mut words = command
        .split_whitespace()
        .filter(|word| !word.starts_with("-Wp,-MMD"));
    let (mut changed, mut reads) = (Vec::new(), false);
    while let Some(word) = words.next() {
        if word == "-o" {
            words.next()?;
        } else if word == SOURCE {
            changed.extend(["-I", FOLDER, "-x", "c", "-"]);
            reads = true;
        } else {
            changed.push(word);
        }
    }
    changed.extend(["-o", "/dev/null", WARNING]);
    reads.then(|| changed.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_asks_for_the_warning() {
        let text = "savedcmd_a.o := gcc -Wp,-MMD,.a.o.d -Wno-maybe-uninitialized -DNAME='\"a\"' \
                    -c -o a.o drivers/gpu/drm/xe/xe_svm.c ; objtool a.o\n\nsource_a.o := a.c\n";
        assert_eq!(
            with_warning(text).as_deref(),
            Some(
                "gcc -Wno-maybe-uninitialized -DNAME='\"a\"' -c -I drivers/gpu/drm/xe -x c - \
                 -o /dev/null -Wmaybe-uninitialized"
            )
        );
        assert_eq!(with_warning("savedcmd_a.o := gcc -c -o a.o a.c\n"), None);
        assert_eq!(with_warning(""), None);
    }
}
