// SPDX-License-Identifier: GPL-2.0

//! A fence is over when somebody has waited for it.

use dpmem::Fence;
use kernel::prelude::*;

struct Seqno(u64);

impl Fence for Seqno {
    fn wait(self) -> Result {
        Err(EIO)
    }
}

fn wrong(fence: Seqno) -> Result {
    fence.wait()?;
    fence.wait()
}

fn main() {}
