// SPDX-License-Identifier: GPL-2.0

//! What ordinary things cost a process, in instructions, on a machine whose time stamps count them.

use std::hint::black_box;

use anyhow::{
    Context as _,
    Result, //
};
use nix::sys::mman::ProtFlags;

use crate::{
    mapping::{
        move_to,
        page_size,
        Mapping, //
    },
    process::Child,
    scenarios::fill, //
};

const PAGES: usize = 1024;

/// How often everything is done. The least of all counts is the one that nothing has interrupted.
const ROUNDS: usize = 10;

/// Something that costs, which says how much.
type Measure = fn() -> Result<u64>;

const ALL: &[(&str, Measure)] = &[
    ("touch", touch),
    ("fork", forked),
    ("mprotect", protect),
    ("mremap", remap),
    ("munmap", unmap),
    ("migrate", migrate),
];

/// Says what everything costs.
pub(crate) fn tell() -> Result<bool> {
    for (name, measure) in ALL {
        let mut least = u64::MAX;
        for _ in 0..ROUNDS {
            least = least.min(measure().with_context(|| (*name).to_owned())?);
        }
        println!("cost {name} {least}");
    }
    Ok(true)
}

/// The time stamp.
#[cfg(target_arch = "x86_64")]
fn stamp() -> Result<u64> {
    // SAFETY: Every CPU of this architecture has it, and Linux lets processes read it.
    Ok(unsafe { std::arch::x86_64::_rdtsc() })
}

#[cfg(not(target_arch = "x86_64"))]
fn stamp() -> Result<u64> {
    anyhow::bail!("there is no time stamp that counts instructions")
}

/// What `body` costs.
fn cost(body: impl FnOnce() -> Result<()>) -> Result<u64> {
    let begin = stamp()?;
    body()?;
    Ok(stamp()?.saturating_sub(begin))
}

fn memory() -> Result<Mapping> {
    let mut memory = Mapping::private(PAGES)?;
    fill(memory.bytes_mut(), 1);
    Ok(memory)
}

/// Every page is written for the first time.
fn touch() -> Result<u64> {
    let mut memory = Mapping::private(PAGES)?;
    cost(|| {
        for page in memory.bytes_mut().chunks_mut(page_size()) {
            if let Some(byte) = page.first_mut() {
                *black_box(byte) = 1;
            }
        }
        Ok(())
    })
}

/// A child is made, and ends.
fn forked() -> Result<u64> {
    let memory = memory()?;
    let cost = cost(|| Child::run(|| Ok(()))?.wait());
    drop(memory);
    cost
}

/// Nothing may be written any more, and then everything again.
fn protect() -> Result<u64> {
    let memory = memory()?;
    cost(|| {
        memory.protect(ProtFlags::PROT_READ)?;
        memory.protect(ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)
    })
}

fn remap() -> Result<u64> {
    let mut memory = memory()?;
    cost(|| memory.remap())
}

fn unmap() -> Result<u64> {
    let memory = memory()?;
    cost(|| {
        drop(memory);
        Ok(())
    })
}

/// All pages go to the other node of the machine, and back.
fn migrate() -> Result<u64> {
    let memory = memory()?;
    let pages: Vec<_> = memory.places().collect();
    move_to(0, &pages)?;
    cost(|| {
        move_to(1, &pages)?;
        move_to(0, &pages)
    })
}
