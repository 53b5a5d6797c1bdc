// SPDX-License-Identifier: GPL-2.0

//! What a kernel with all checks would print.

use std::{backtrace::Backtrace, io::Write};

/// Says that something is wrong, with a backtrace. The test goes on, and fails in the end.
pub(crate) fn report(what: impl AsRef<str>) {
    let what = what.as_ref();
    eprintln!("BUG: {what}\n{}", Backtrace::force_capture());
    crate::machine::note_report(what);
}

/// Says that something is wrong after which nothing can go on. The whole test program ends, as C code that unwinds has
/// no meaning.
pub(crate) fn fatal(what: impl AsRef<str>) -> ! {
    // Not `eprintln!()`, which is captured, and lost when the program ends.
    let text = format!("BUG: {}\n{}\n", what.as_ref(), Backtrace::force_capture());
    let _ = std::io::stderr().write_all(text.as_bytes());
    std::process::abort()
}
