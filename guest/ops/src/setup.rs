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
    /// Both.
    PeerWindows,
}

impl Setup {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Usual, Self::Peers, Self::Windows, Self::PeerWindows];

    /// What it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Usual => "usual",
            Self::Peers => "peers",
            Self::Windows => "windows",
            Self::PeerWindows => "peer_windows",
        }
    }

    /// What the driver is told: names of parameters, and their values.
    pub fn parameters(self) -> impl Iterator<Item = (&'static str, usize)> {
        let peers = matches!(self, Self::Peers | Self::PeerWindows);
        let windows = matches!(self, Self::Windows | Self::PeerWindows);
        let peers = peers.then_some(("peers", 1));
        peers
            .into_iter()
            .chain(windows.then_some(("fault_pages", WINDOW)))
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
