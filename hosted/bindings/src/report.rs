// SPDX-License-Identifier: GPL-2.0

//! What a kernel with all checks would print.
//!
//! Real: that there is a report. Not simulated: its words, and that it goes on with
//! what would be memory of somebody else: that ends the test program.

use std::{
    backtrace::Backtrace,
    env,
    io::Write,
    ops::{Deref, DerefMut},
    sync::LazyLock,
};

/// Says that something is wrong, with a backtrace. The test goes on, and fails in the end.
pub(crate) fn report(what: impl AsRef<str>) {
    let what = what.as_ref();
    eprintln!("BUG: {what}\n{}", Backtrace::force_capture());
    crate::machine::note_report(what);
}

/// Whether somebody wants to know of everything where it comes from: `DPMEM_BACKTRACE=1`.
pub(crate) fn is_traced() -> bool {
    static WANTED: LazyLock<bool> = LazyLock::new(|| env::var_os(VARIABLE).is_some());
    *WANTED
}

/// Where this is asked, if somebody wants to know.
pub(crate) fn whose() -> Option<Backtrace> {
    is_traced().then(Backtrace::force_capture)
}

/// Something of which it is known where it comes from, if somebody wants to know.
pub(crate) struct Traced<T> {
    what: T,
    pub(crate) by: Option<Backtrace>,
}

impl<T> Traced<T> {
    /// It comes from here.
    pub(crate) fn new(what: T) -> Self {
        Self { what, by: whose() }
    }
}

impl<T> Deref for Traced<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.what
    }
}

impl<T> DerefMut for Traced<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.what
    }
}

/// Says that something is left over, and where the first of it comes from, if that is known.
pub(crate) fn left_over(what: &str, by: Option<&Backtrace>) -> String {
    match by {
        Some(by) => format!("left over: {what}, of which one comes from here:\n{by}"),
        None => format!("left over: {what}"),
    }
}

/// What a test is told that leaves something behind of which it could be known where it comes from.
pub(crate) const HINT: &str =
    "with DPMEM_BACKTRACE=1 it is said of pages, allocations, pagemaps, misc devices and what is \
     mapped for devices where the first of them comes from";

const VARIABLE: &str = "DPMEM_BACKTRACE";

/// Says that something is wrong after which nothing can go on. The whole test program ends, as C
/// code that unwinds has no meaning.
pub(crate) fn fatal(what: impl AsRef<str>) -> ! {
    // Not `eprintln!()`, which is captured, and lost when the program ends.
    let text = format!("BUG: {}\n{}\n", what.as_ref(), Backtrace::force_capture());
    let _ = std::io::stderr().write_all(text.as_bytes());
    std::process::abort()
}
