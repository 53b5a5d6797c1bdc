// SPDX-License-Identifier: GPL-2.0

//! The page table is the mirror's: what it says is true under the lock alone.

use dpmem::{Mirror, PageTable};

fn wrong<P: PageTable>(mirror: &Mirror<P>) -> &mut P {
    mirror.with_page_table(|page_table| page_table)
}

fn main() {}
