// SPDX-License-Identifier: GPL-2.0

//! What a kernel with all checks would print. Not simulated: its words, and that it goes on with what
//! would be memory of somebody else: that ends the test program.

use std::{backtrace::Backtrace, env, io::Write, sync::LazyLock};

/// Says that something is wrong, with a backtrace. The test goes on, and fails in the end.
pub(crate) fn report(what: impl AsRef<str>) {
    let what = what.as_ref();
    eprintln!("BUG: {what}\n{}", Backtrace::force_capture());
    crate::machine::note_report(what);
}

/// Where this is asked, if somebody wants to know of everything where it comes from:
/// `DPMEM_BACKTRACE=1`.
pub(crate) fn whose() -> Option<Backtrace> {
    static WANTED: LazyLock<bool> = LazyLock::new(|| env::var_os(VARIABLE).is_some());
    WANTED.then(Backtrace::force_capture)
}

/// Says where the first of what is left over comes from, or how one gets to know.
pub(crate) fn left_over(what: &str, by: Option<&Backtrace>) -> String {
    match by {
        Some(by) => format!("left over: {what}, of which one comes from here:\n{by}"),
        None => format!("left over: {what}"),
    }
}

/// What a test that leaves something behind is told.
pub(crate) const HINT: &str =
    "with DPMEM_BACKTRACE=1 it is said where the first of them comes from";

const VARIABLE: &str = "DPMEM_BACKTRACE";

/// Says that something is wrong after which nothing can go on. The whole test program ends, as C
/// code that unwinds has no meaning.
pub(crate) fn fatal(what: impl AsRef<str>) -> ! {
    // Not `eprintln!()`, which is captured, and lost when the program ends.
    let text = format!("BUG: {}\n{}\n", what.as_ref(), Backtrace::force_capture());
    let _ = std::io::stderr().write_all(text.as_bytes());
    std::process::abort()
}
