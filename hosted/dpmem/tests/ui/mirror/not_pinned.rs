// SPDX-License-Identifier: GPL-2.0

//! The kernel knows where a mirror is, so it cannot be moved.

use dpmem::{Mirror, UserRange};
use kernel::{mm::MmWithUser, prelude::*};

fn wrong(mm: &MmWithUser, module: &'static ThisModule, range: UserRange) -> bool {
    let mirror = Mirror::new(mm, module);
    mirror.is_shared(range)
}

fn main() {}
