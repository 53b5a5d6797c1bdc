// SPDX-License-Identifier: GPL-2.0

//! A pagemap of something that is not what a driver supplies.

use dpmem::DevPagemap;

struct Vram;

fn wrong(_pagemap: &DevPagemap<Vram>) {}

fn main() {}
