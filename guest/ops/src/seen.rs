// SPDX-License-Identifier: GPL-2.0

//! How it is said what is seen of pages.

use std::fmt;

use crate::{Counted, Place};

/// What a device says of a page, and the kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// What the device's snapshot has.
    pub(crate) kind: u8,
    /// What the kernel tells everybody.
    pub(crate) place: Place,
}

/// In a snapshot: nothing can be there.
const ERROR: u8 = 0xff;

impl Seen {
    /// Whether the device can read it without a fault.
    pub(crate) fn is_readable(self) -> bool {
        self.kind != ERROR && self.kind & 3 != 0
    }

    /// Where the page is if one believes the device.
    fn implied(self) -> Place {
        match self.kind {
            0 | ERROR => Place::None,
            kind if kind & 0xf0 > 0x10 => Place::Away,
            _ => Place::System,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::System => "system",
            Self::Away => "away",
        })
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self.kind {
            ERROR => "error",
            0 => "none",
            kind => match kind & 0xf0 {
                0 => "system",
                0x10 => "zero",
                0x20 => "device",
                _ => "elsewhere",
            },
        };
        f.write_str(place)?;
        if self.is_readable() {
            let huge = if self.kind & 4 != 0 { " huge" } else { "" };
            let write = if self.kind & 2 != 0 { " rw" } else { " ro" };
            write!(f, "{huge}{write}")?;
        }
        match self.place {
            place if place == self.implied() => Ok(()),
            place => write!(f, ", {place}"),
        }
    }
}

/// How many pages are where, as the kernel says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// In system memory.
    pub system: usize,
    /// Somewhere else.
    pub away: usize,
    /// Nowhere.
    pub none: usize,
}

impl Count {
    /// So many pages that are in system memory.
    #[must_use]
    pub fn system(nr: usize) -> Self {
        Self {
            system: nr,
            ..Self::default()
        }
    }

    /// So many that are on a device.
    #[must_use]
    pub fn away(nr: usize) -> Self {
        Self {
            away: nr,
            ..Self::default()
        }
    }

    /// So many that are nowhere.
    #[must_use]
    pub fn none(nr: usize) -> Self {
        Self {
            none: nr,
            ..Self::default()
        }
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            system: self.system + other.system,
            away: self.away + other.away,
            none: self.none + other.none,
        }
    }

    /// Counts `places`.
    pub(crate) fn of(places: &[Place]) -> Self {
        places.iter().fold(Self::default(), |count, place| {
            count.and(match place {
                Place::System => Self::system(1),
                Place::Away => Self::away(1),
                Place::None => Self::none(1),
            })
        })
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "system {}, away {}, none {}",
            self.system, self.away, self.none
        )
    }
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        for (name, count) in &self.counts {
            // Most of them are.
            if *count != 0 {
                write!(f, ", {name} {count}")?;
            }
        }
        Ok(())
    }
}

/// How it is said what was counted of all pagemaps.
pub(crate) fn all_counted(counted: &[Counted]) -> String {
    match counted {
        [] => "no pagemap".to_owned(),
        all => all
            .iter()
            .map(Counted::to_string)
            .collect::<Vec<_>>()
            .join("; "),
    }
}

/// FNV-1a, of words.
pub(crate) fn hash(bytes: &[u8]) -> u32 {
    let words = bytes.chunks_exact(size_of::<u64>());
    let words = words.filter_map(|word| Some(u64::from_le_bytes(word.try_into().ok()?)));
    let hash = words.fold(0xcbf2_9ce4_8422_2325, |hash: u64, word| {
        (hash ^ word).wrapping_mul(0x0100_0000_01b3)
    });
    // Both halves.
    (hash >> 32) as u32 ^ hash as u32
}
