// SPDX-License-Identifier: GPL-2.0

//! A page that others look at.

use dpmem::RamPageMut;
use kernel::page::Page;

fn wrong(page: &Page) {
    RamPageMut::of(page).clear();
}

fn main() {}
