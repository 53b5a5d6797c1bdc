// SPDX-License-Identifier: GPL-2.0

//! The plan: what the guest's /init does, in the functions that it defines.

use std::time::Duration;

/// A plan, and how long it may take.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    lines: Vec<String>,
    bound: Duration,
    longest: Duration,
}

impl Plan {
    /// An empty plan.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Loads a module.
    pub(crate) fn load(&mut self, module: &str, parameters: &[String]) {
        let parameters: String = parameters
            .iter()
            .map(|parameter| format!(" {}", quote(parameter)))
            .collect();
        self.lines
            .push(format!("load {}{parameters}", quote(module)));
    }

    /// Lets the plan take so much longer, for modules that work while they are loaded.
    pub(crate) fn allow(&mut self, bound: Duration) {
        self.bound += bound;
    }

    /// Unloads a module.
    pub(crate) fn unload(&mut self, module: &str) {
        self.lines.push(format!("unload {}", quote(module)));
    }

    /// Looks first of all whether the kernel's checks are on that a debug kernel has.
    pub(crate) fn checks(&mut self) {
        self.first(&[
            "[ -f /sys/kernel/debug/page_owner ]",
            "[ -f /sys/kernel/debug/kmemleak ]",
            "grep -qx 1 /proc/sys/vm/mem_profiling",
            "grep -q 'debug_locks: *1' /proc/lockdep_stats",
        ]);
    }

    /// Runs shell commands first of all, which must not fail.
    pub(crate) fn first(&mut self, commands: &[impl AsRef<str>]) {
        let lines = commands.iter().map(AsRef::as_ref);
        let lines = lines.map(|command| format!("prepare {}", quote(command)));
        self.lines.splice(0..0, lines);
    }

    /// Runs a shell command that a test needs.
    pub(crate) fn prepare(&mut self, command: &str) {
        self.lines.push(format!("prepare {}", quote(command)));
    }

    /// Runs a test program, for at most `bound`.
    pub(crate) fn program(&mut self, name: &str, bound: Duration, command: &[String]) {
        self.program_in("/tests", name, bound, command);
    }

    /// Runs a test program in a folder of the guest.
    pub(crate) fn program_in(
        &mut self,
        folder: &str,
        name: &str,
        bound: Duration,
        command: &[String],
    ) {
        let command: Vec<String> = command.iter().map(|word| quote(word)).collect();
        self.lines.push(format!(
            "program {} {} {} {}",
            quote(name),
            bound.as_secs(),
            quote(folder),
            command.join(" ")
        ));
        self.bound += bound;
        self.longest = self.longest.max(bound);
    }

    /// Collects the results of KUnit.
    pub(crate) fn kunit(&mut self) {
        self.lines.push("kunit".to_owned());
    }

    /// Looks for leaks.
    pub(crate) fn leaks(&mut self) {
        self.lines.push("leaks".to_owned());
        self.bound += Duration::from_secs(120);
    }

    /// How long its programs may take.
    pub(crate) fn bound(&self) -> Duration {
        self.bound
    }

    /// How long one of them may take: the guest ends it then, and goes on.
    pub(crate) fn longest(&self) -> Duration {
        self.longest
    }

    /// As the guest reads it.
    pub(crate) fn script(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }
}

/// A word for the shell.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_first() {
        let mut plan = Plan::new();
        plan.load("m", &[]);
        plan.first(&["a", "b"]);
        assert_eq!(plan.script(), "prepare 'a'\nprepare 'b'\nload 'm'\n");
    }

    #[test]
    fn words_stay_words() {
        let mut plan = Plan::new();
        plan.program(
            "it's",
            Duration::from_secs(5),
            &["/tests/x".to_owned(), "$HOME a".to_owned()],
        );
        assert_eq!(
            plan.script(),
            "program 'it'\\''s' 5 '/tests' '/tests/x' '$HOME a'\n"
        );
    }
}
