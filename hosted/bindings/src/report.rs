// SPDX-License-Identifier: GPL-2.0

//! What a kernel with all checks would print.

use std::backtrace::Backtrace;

/// Says that something is wrong, with a backtrace. The test goes on, and fails in the end.
pub(crate) fn report(what: impl AsRef<str>) {
    let what = what.as_ref();
    eprintln!("BUG: {what}\n{}", Backtrace::force_capture());
    crate::machine::note_report(what);
}

/// Says that something is wrong after which nothing can go on. The whole test program ends, as C code that unwinds has
/// no meaning.
pub(crate) fn fatal(what: impl AsRef<str>) -> ! {
    eprintln!("BUG: {}\n{}", what.as_ref(), Backtrace::force_capture());
    std::process::abort()
}
