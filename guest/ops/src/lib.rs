// SPDX-License-Identifier: GPL-2.0

//! What processes do to memory that a device uses, made from a number, and what is seen of it.
//!
//! The same steps are taken on a kernel and on a simulated one, and after each of them both say where each page is and
//! what is in it. Whatever is said differently is a fault of the simulation, or of the kernel.

#![forbid(unsafe_code)]

mod compare;
mod steps;
mod walk;

pub use compare::{compare, Difference};
pub use steps::{steps, Op, Pages, Step, Who};
pub use walk::{walk, Errno, Process, Request, Walker, World};

/// How large a page is.
pub const PAGE_SIZE: usize = 4096;

/// How many pages a huge page has.
pub const HUGE: usize = 512;

/// How many pages a process uses: two huge pages, which may be such, and some that may not.
pub const NR: usize = 2 * HUGE + 16;

/// The numbers that walks are made from in the tests.
pub const SEEDS: std::ops::Range<u64> = 1..17;

/// How many steps each of them has.
pub const STEPS: usize = 50;

/// Where pages are moved to, in processes that can have memory anywhere; from here on there is nothing.
pub const ROOM: usize = 0x10_0000_0000;
