// SPDX-License-Identifier: GPL-2.0

//! What the user sees on stderr: messages, and how far a long step is.

use std::borrow::Cow;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Without a terminal, a long step says how far it is this often.
const PLAIN_INTERVAL: Duration = Duration::from_secs(30);

/// Says something.
pub(crate) fn say(message: impl AsRef<str>) {
    eprintln!("dpmem: {}", message.as_ref());
}

/// Says what went wrong.
pub(crate) fn error(message: &str) {
    eprintln!("dpmem: error: {message}");
}

/// A long step.
pub(crate) struct Step {
    what: String,
    bar: Option<ProgressBar>,
    total: Option<u64>,
    done: u64,
    started: Instant,
    said: Instant,
}

impl Step {
    /// Begins a step of `total` units, as far as that is known.
    pub(crate) fn start(what: impl Into<String>, total: Option<u64>) -> Self {
        let what = what.into();
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::no_length();
            let template = if total.is_some() {
                "dpmem: {prefix} [{bar:24}] {pos}/{len} {elapsed} {wide_msg}"
            } else {
                "dpmem: {prefix} {spinner} {elapsed} {wide_msg}"
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            if let Some(total) = total {
                bar.set_length(total);
            }
            bar.set_prefix(what.clone());
            bar.enable_steady_tick(Duration::from_millis(250));
            bar
        });
        if bar.is_none() {
            say(format!("{what} ..."));
        }
        let now = Instant::now();
        Self {
            what,
            bar,
            total,
            done: 0,
            started: now,
            said: now,
        }
    }

    /// One unit more, and what it was.
    pub(crate) fn tick(&mut self, detail: impl Into<Cow<'static, str>>) {
        self.done += 1;
        let detail = detail.into();
        match &self.bar {
            Some(bar) => {
                // The total is what it was the last time, and can be too small.
                if self.total.is_some_and(|total| self.done > total) {
                    bar.set_length(self.done);
                }
                bar.set_position(self.done);
                bar.set_message(detail);
            }
            None if self.said.elapsed() >= PLAIN_INTERVAL => {
                self.said = Instant::now();
                let of = self
                    .total
                    .map_or_else(String::new, |total| format!("/{}", total.max(self.done)));
                say(format!(
                    "{}: {}{of} after {} s",
                    self.what,
                    self.done,
                    self.started.elapsed().as_secs()
                ));
            }
            None => {}
        }
    }

    /// How many units there were.
    pub(crate) fn done(&self) -> u64 {
        self.done
    }

    /// Ends the step, and says how long it took.
    pub(crate) fn finish(self) {
        let seconds = self.started.elapsed().as_secs_f32();
        say(format!("{}: done in {seconds:.1} s", self.what));
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
