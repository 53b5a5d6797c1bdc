// SPDX-License-Identifier: GPL-2.0

//! Walks of `dpmem-ops` over a simulated kernel with the sample driver: says what is seen after each step, as
//! `dpmem-demo --walk` does on a kernel.
//!
//! `walk SEED...` walks from these numbers, or else from those that the tests use.

use std::process::ExitCode;

use bindings::sim::{run, Errno, Module, Process, PAGE_SIZE};
use dpmem_ops::{walk, Op, Request, Walker, Who, World, HUGE, NR, ROOM, SEEDS, STEPS};

extern crate dmirror;

extern "C" {
    fn __dmirror_init() -> i32;
    fn __dmirror_exit();
}

/// The device.
const DEVICE: &str = "hmm_dmirror0";

/// How large a command is: five numbers.
const COMMAND: usize = 40;

/// A process, with room for a command and its buffer.
struct Simulated {
    process: Process,
    command: usize,
    buffer: usize,
}

impl Simulated {
    fn new() -> Self {
        let process = Process::new();
        Self {
            command: process.mmap(PAGE_SIZE),
            buffer: process.mmap(NR * PAGE_SIZE),
            process,
        }
    }

    fn fork(&self) -> Self {
        Self {
            process: self.process.fork(),
            ..*self
        }
    }
}

/// An error as walks have it.
fn errno(Errno(number): Errno) -> dpmem_ops::Errno {
    dpmem_ops::Errno(number as i32)
}

impl dpmem_ops::Process for Simulated {
    fn write(&mut self, addr: usize, bytes: &[u8]) -> Result<(), dpmem_ops::Errno> {
        self.process.write(addr, bytes).map_err(errno)
    }

    fn read(&mut self, addr: usize, bytes: &mut [u8]) -> Result<(), dpmem_ops::Errno> {
        self.process.read(addr, bytes).map_err(errno)
    }

    fn device(
        &mut self,
        request: Request,
        addr: usize,
        nr: usize,
        bytes: &mut [u8],
    ) -> Result<usize, dpmem_ops::Errno> {
        let command = [addr, self.buffer, nr, 0, 0];
        let mut raw: Vec<u8> = command.iter().flat_map(|n| n.to_ne_bytes()).collect();
        let process = &self.process;
        process.write(self.command, &raw).map_err(errno)?;
        process.write(self.buffer, bytes).map_err(errno)?;
        let file = process.open(DEVICE).map_err(errno)?;
        // `_IOWR('H', request, struct hmm_dmirror_cmd)`.
        let number = 3 << 30 | (COMMAND as u32) << 16 | u32::from(b'H') << 8 | request as u32;
        file.ioctl(number, self.command).map_err(errno)?;
        drop(file);
        process.read(self.command, &mut raw).map_err(errno)?;
        process.read(self.buffer, bytes).map_err(errno)?;
        let (_, rest) = raw.split_at(3 * size_of::<usize>());
        let (done, _) = rest.split_at(size_of::<usize>());
        Ok(done.try_into().map_or(0, usize::from_ne_bytes))
    }

    fn protect(&mut self, addr: usize, nr: usize, write: bool) -> Result<(), dpmem_ops::Errno> {
        self.process.mprotect(addr, nr * PAGE_SIZE, write);
        Ok(())
    }

    fn remap(&mut self, addr: usize, nr: usize, to: usize) -> Result<(), dpmem_ops::Errno> {
        self.process.mremap(addr, nr * PAGE_SIZE, to);
        Ok(())
    }

    fn drop_pages(&mut self, addr: usize, nr: usize) -> Result<(), dpmem_ops::Errno> {
        self.process.madvise_dontneed(addr, nr * PAGE_SIZE);
        Ok(())
    }

    fn want_huge(&mut self, addr: usize, nr: usize) -> Result<(), dpmem_ops::Errno> {
        self.process.madvise_hugepage(addr, nr * PAGE_SIZE);
        Ok(())
    }
}

/// A process, and its child, if it has one.
struct Family {
    parent: Walker<Simulated>,
    child: Option<Walker<Simulated>>,
}

impl Family {
    fn new() -> Self {
        let process = Simulated::new();
        let memory = process.process.mmap(NR * PAGE_SIZE);
        process
            .process
            .madvise_hugepage(memory, 2 * HUGE * PAGE_SIZE);
        Self {
            parent: Walker::new(process, memory, ROOM),
            child: None,
        }
    }

    fn walker(&mut self, who: Who) -> &mut Walker<Simulated> {
        match (who, &mut self.child) {
            (Who::Child, Some(child)) => child,
            _ => &mut self.parent,
        }
    }
}

impl World for Family {
    fn act(&mut self, who: Who, _number: usize, op: Op) -> String {
        self.walker(who).act(op)
    }

    fn state(&mut self, who: Who) -> String {
        self.walker(who).state()
    }

    fn fork(&mut self) {
        self.child = Some(self.parent.fork(self.parent.process.fork()));
    }

    fn exit(&mut self) {
        self.child = None;
    }
}

/// Walks once, on a machine of its own.
fn walk_from(seed: u64, say: impl FnMut(&str)) -> Result<(), Errno> {
    run(|| {
        // SAFETY: These are the two functions that `module!` makes for the driver.
        let _driver = unsafe { Module::load(__dmirror_init, __dmirror_exit) }?;
        walk(seed, STEPS, &mut Family::new(), say);
        Ok(())
    })
}

fn main() -> ExitCode {
    let seeds: Result<Vec<u64>, _> = std::env::args().skip(1).map(|seed| seed.parse()).collect();
    let seeds = match seeds {
        Ok(seeds) if seeds.is_empty() => SEEDS.collect(),
        Ok(seeds) => seeds,
        Err(err) => {
            eprintln!("a walk begins with a number: {err}");
            return ExitCode::from(2);
        }
    };
    for seed in seeds {
        if let Err(err) = walk_from(seed, |line| println!("walk {line}")) {
            eprintln!("the driver cannot be loaded: {err:?}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(seed: u64) -> Vec<String> {
        let mut said = Vec::new();
        walk_from(seed, |line| said.push(line.to_owned())).unwrap();
        said
    }

    #[test]
    fn what_is_read_is_what_was_written() {
        for seed in SEEDS {
            let said = said(seed);
            let wrong: Vec<_> = said.iter().filter(|line| line.contains("WRONG")).collect();
            assert!(wrong.is_empty(), "{wrong:?}");
        }
    }

    #[test]
    fn the_same_each_time() {
        assert_eq!(said(1), said(1));
    }
}
