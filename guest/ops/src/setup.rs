// SPDX-License-Identifier: GPL-2.0

//! How the driver is loaded.

use std::{fmt, str::FromStr};

/// With a page that a CPU touches come the others of so many, where devices bring windows home.
pub const WINDOW: usize = 16;

/// How the sample driver is loaded. Each has scripts of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setup {
    /// The devices do not reach each other's memory, and a touch brings one folio home.
    Usual,
    /// The devices reach each other's memory.
    Peers,
    /// A touch brings a window of pages home.
    Windows,
}

impl Setup {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Usual, Self::Peers, Self::Windows];

    /// What it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Usual => "usual",
            Self::Peers => "peers",
            Self::Windows => "windows",
        }
    }

    /// What the driver is told: the name of a parameter, and its value.
    #[must_use]
    pub fn parameter(self) -> Option<(&'static str, usize)> {
        match self {
            Self::Usual => None,
            Self::Peers => Some(("peers", 1)),
            Self::Windows => Some(("fault_pages", WINDOW)),
        }
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Setup {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let mut all = Self::ALL.into_iter();
        let named = all.find(|setup| setup.name() == name);
        named.ok_or_else(|| format!("{name} is none of {:?}", Self::ALL.map(Self::name)))
    }
}
