// SPDX-License-Identifier: GPL-2.0

//! What processes do to memory that a device uses: walks that proptest makes, or scripts; and what
//! is seen of it.
//!
//! The same steps are taken on a kernel and on a simulated one, and after each of them both say
//! where each page is and what is in it. Whatever is said differently is a fault of the simulation,
//! or of the kernel. What a script expects must be so on both.

#![forbid(unsafe_code)]

mod compare;
mod op;
mod play;
mod process;
mod scripts;
mod seen;
mod setup;
#[cfg(feature = "walks")]
mod steps;
mod walk;
mod walker;

pub use compare::{compare, Difference};
pub use op::{Access, Defect, File, Nonsense, Op, Pages, Step, Who};
pub use play::{Line, Memory, Play};
pub use process::{About, Answer, Counted, Errno, Place, Process, Request};
pub use scripts::Script;
pub use seen::Count;
pub use setup::{Setup, WINDOW};
#[cfg(feature = "walks")]
pub use steps::steps;
pub use walk::{walk, Watch, World};
pub use walker::Walker;

/// How large a page is.
pub const PAGE_SIZE: usize = 4096;

/// How many pages a huge page has.
pub const HUGE: usize = 512;

/// How many pages a process uses in a walk: two huge pages, which may be such, and some that may
/// not.
pub const NR: usize = 2 * HUGE + 16;

/// The numbers that walks are made from in the tests.
pub const SEEDS: std::ops::Range<u64> = 1..17;

/// How many steps each of them has at most: some wishes cannot be fulfilled, such as the exit of a
/// child that is not there.
pub const STEPS: usize = 50;

/// How much memory a device has where the two kernels are compared, in MiB, and in pages.
pub const DEVICE_MIB: usize = 16;
/// The same in pages.
pub const DEVICE_PAGES: usize = (DEVICE_MIB << 20) / PAGE_SIZE;

/// Where the memory of a process is, which begins a huge page.
pub const MEMORY: usize = 0x10_0000_0000;

/// Where pages are moved to: from here on there is nothing.
pub const ROOM: usize = MEMORY + (1 << 30);
