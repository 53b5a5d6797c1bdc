// SPDX-License-Identifier: GPL-2.0

//! Memory of a process that is moved to cards.

// Not each test uses all of it.
#![allow(dead_code)]

use super::card::Card;
use bindings::sim::{Errno, Mapped, Process, HUGE_PAGE_SIZE, PAGE_SIZE};
use kernel::ffi::c_int;
use std::sync::Arc;

/// What is in page `page` of memory that was filled with `seed`.
pub(crate) fn pattern(page: usize, seed: usize) -> u8 {
    ((page * 31 + seed) % 251) as u8 + 1
}

pub(crate) struct Memory {
    pub(crate) process: Arc<Process>,
    pub(crate) addr: usize,
    pub(crate) pages: usize,
}

impl Memory {
    /// `pages` pages that nobody has touched.
    pub(crate) fn new(pages: usize) -> Self {
        let process = Arc::new(Process::new());
        let addr = process.mmap(pages * PAGE_SIZE);
        Self {
            process,
            addr,
            pages,
        }
    }

    /// So many, with a pattern.
    pub(crate) fn small(pages: usize, seed: usize) -> Self {
        let memory = Self::new(pages);
        memory.fill(seed);
        memory
    }

    /// A huge page that nobody has touched.
    pub(crate) fn huge_hole() -> Self {
        let memory = Self::new(HUGE_PAGE_SIZE / PAGE_SIZE);
        memory.process.madvise_hugepage(memory.addr, HUGE_PAGE_SIZE);
        memory
    }

    /// A huge page with a pattern.
    pub(crate) fn huge(seed: usize) -> Self {
        Self::huge_pages(1, seed)
    }

    /// So many.
    pub(crate) fn huge_pages(nr: usize, seed: usize) -> Self {
        let memory = Self::new(nr * HUGE_PAGE_SIZE / PAGE_SIZE);
        memory
            .process
            .madvise_hugepage(memory.addr, nr * HUGE_PAGE_SIZE);
        memory.fill(seed);
        memory
    }

    /// The `pages` pages from `first` on.
    pub(crate) fn part(&self, first: usize, pages: usize) -> Self {
        Self {
            process: self.process.clone(),
            addr: self.addr + first * PAGE_SIZE,
            pages,
        }
    }

    /// The same of a child.
    pub(crate) fn fork(&self) -> Self {
        Self {
            process: Arc::new(self.process.fork()),
            ..*self
        }
    }

    fn len(&self) -> usize {
        self.pages * PAGE_SIZE
    }

    /// What failed once does not fail again.
    pub(crate) fn fill(&self, seed: usize) {
        let bytes: Vec<u8> = (0..self.len())
            .map(|at| pattern(at / PAGE_SIZE, seed))
            .collect();
        let written = self.process.write(self.addr, &bytes);
        written
            .or_else(|_| self.process.write(self.addr, &bytes))
            .unwrap();
    }

    /// It is as if nobody had touched these.
    pub(crate) fn forget(&self, first: usize, pages: usize) {
        let addr = self.addr + first * PAGE_SIZE;
        self.process.madvise_dontneed(addr, pages * PAGE_SIZE);
    }

    /// Checks each byte of it: `byte` says what is in a page.
    pub(crate) fn check(&self, byte: impl Fn(usize) -> u8) {
        let mut now = vec![0xdd; self.len()];
        let read = self.process.read(self.addr, &mut now);
        read.or_else(|_| self.process.read(self.addr, &mut now))
            .unwrap();
        for (page, bytes) in now.chunks_exact(PAGE_SIZE).enumerate() {
            let byte = byte(page);
            let wrong = bytes.iter().find(|now| **now != byte);
            assert!(wrong.is_none(), "page {page} has {wrong:?} and not {byte}");
        }
    }

    pub(crate) fn is(&self, seed: usize) {
        self.check(|page| pattern(page, seed));
    }

    pub(crate) fn is_flipped(&self, seed: usize) {
        self.check(|page| !pattern(page, seed));
    }

    /// Reads a byte.
    pub(crate) fn touch(&self) -> Result<(), Errno> {
        self.process.read(self.addr, &mut [0])
    }

    /// How many of its pages are on a card.
    pub(crate) fn on_device(&self) -> usize {
        let pages = (0..self.pages).map(|page| self.process.mapped(self.addr + page * PAGE_SIZE));
        pages
            .filter(|mapped| matches!(mapped, Mapped::Device(..)))
            .count()
    }

    pub(crate) fn try_migrate(&self, card: &Arc<Card>) -> c_int {
        card.migrate(&self.process, self.addr, self.len())
    }

    /// Moves all of it to the card.
    pub(crate) fn migrate(&self, card: &Arc<Card>) {
        assert_eq!(self.try_migrate(card), 0);
        assert_eq!(self.on_device(), self.pages);
    }

    /// The card flips each bit of what it has of it.
    pub(crate) fn flip(&self, card: &Card) {
        card.flip(&self.process, self.addr, self.len());
    }
}
