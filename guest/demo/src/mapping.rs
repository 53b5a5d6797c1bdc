// SPDX-License-Identifier: GPL-2.0

//! Memory of this process.

use std::{
    num::NonZeroUsize,
    ops::Range,
    ptr::NonNull, //
};

use anyhow::{
    ensure,
    Context as _,
    Result, //
};
use nix::{
    errno::Errno,
    libc,
    sys::mman::{
        madvise,
        mmap_anonymous,
        mprotect,
        mremap,
        munmap,
        MRemapFlags,
        MapFlags,
        MmapAdvise,
        ProtFlags, //
    },
    unistd::{
        sysconf,
        SysconfVar, //
    },
};

/// The size of a page.
pub(crate) fn page_size() -> usize {
    match sysconf(SysconfVar::PAGE_SIZE) {
        Ok(Some(size)) => usize::try_from(size).unwrap_or(4096),
        _ => 4096,
    }
}

/// An anonymous mapping, unmapped when dropped.
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: It is memory of the whole process, and belongs to whoever has this.
unsafe impl Send for Mapping {}

impl Mapping {
    /// `pages` pages of private memory, untouched.
    pub(crate) fn private(pages: usize) -> Result<Self> {
        Self::new(pages, MapFlags::MAP_PRIVATE)
    }

    /// `pages` pages that children share.
    pub(crate) fn shared(pages: usize) -> Result<Self> {
        Self::new(pages, MapFlags::MAP_SHARED)
    }

    /// One huge page of private memory, untouched, of 2 MiB.
    pub(crate) fn huge() -> Result<Self> {
        const SIZE: usize = 2 << 20;
        let pages = SIZE / page_size();
        // Twice as much has an aligned half.
        let mut twice = Self::private(2 * pages)?;
        let before = twice.start.as_ptr().align_offset(SIZE) / page_size();
        // SAFETY: The address lies in the mapping.
        let start = unsafe { twice.start.add(before * page_size()) };
        if before > 0 {
            // SAFETY: What is before it is ours, and is not used again, as the new start says.
            unsafe { munmap(twice.start.cast(), before * page_size()) }.context("munmap")?;
        }
        twice.start = start;
        twice.len -= before * page_size();
        twice.truncate(pages)?;
        twice.advise(MmapAdvise::MADV_HUGEPAGE)?;
        Ok(twice)
    }

    fn new(pages: usize, flags: MapFlags) -> Result<Self> {
        let len = pages * page_size();
        let size = NonZeroUsize::new(len).context("a mapping without a page")?;
        let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: The kernel chooses where, so nothing of ours is replaced.
        let start = unsafe { mmap_anonymous(None, size, prot, flags) };
        let mapping = Self {
            start: start.context("mmap")?.cast(),
            len,
        };
        // Single pages, so that what is asked for is what migrates.
        mapping.advise(MmapAdvise::MADV_NOHUGEPAGE)?;
        Ok(mapping)
    }

    /// Where it begins.
    pub(crate) fn addr(&self) -> usize {
        self.start.as_ptr().addr()
    }

    /// How many pages it has.
    pub(crate) fn pages(&self) -> usize {
        self.len / page_size()
    }

    /// Where each page is, for the kernel.
    pub(crate) fn places(&self) -> impl Iterator<Item = *mut libc::c_void> {
        let addr = self.addr();
        (0..self.pages())
            .map(move |page| std::ptr::with_exposed_provenance_mut(addr + page * page_size()))
    }

    /// The bytes. Looking at them brings them home.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: The mapping is ours, readable, and zeroed or written to; whoever else writes to
        // it, the device, does so only while we wait for it.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    /// The bytes, to be changed.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: As in `bytes()`, and the borrow is unique.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }

    /// Tells the kernel what is to become of the mapping.
    pub(crate) fn advise(&self, advice: MmapAdvise) -> Result<()> {
        self.advise_pages(0..self.pages(), advice)
    }

    /// Tells the kernel what is to become of `pages` of the mapping.
    pub(crate) fn advise_pages(&self, pages: Range<usize>, advice: MmapAdvise) -> Result<()> {
        let (start, len) = self.part(pages);
        // SAFETY: The range is ours. What the advices in use change is its content, and nobody
        // holds a reference to that.
        unsafe { madvise(start.cast(), len, advice) }.context("madvise")
    }

    /// Changes what may be done with the mapping.
    pub(crate) fn protect(&self, prot: ProtFlags) -> Result<()> {
        self.protect_pages(0..self.pages(), prot)
    }

    /// Changes what may be done with `pages` of the mapping.
    pub(crate) fn protect_pages(&self, pages: Range<usize>, prot: ProtFlags) -> Result<()> {
        let (start, len) = self.part(pages);
        // SAFETY: The range is ours, and nobody holds a reference to its content.
        unsafe { mprotect(start.cast(), len, prot) }.context("mprotect")
    }

    /// Moves the mapping to another address.
    pub(crate) fn remap(&mut self) -> Result<()> {
        let size = NonZeroUsize::new(self.len).context("a mapping without a page")?;
        let prot = ProtFlags::PROT_NONE;
        // SAFETY: The kernel chooses where, so nothing of ours is replaced.
        let new = unsafe { mmap_anonymous(None, size, prot, MapFlags::MAP_PRIVATE) };
        let new = new.context("mmap")?;
        let flags = MRemapFlags::MREMAP_MAYMOVE | MRemapFlags::MREMAP_FIXED;
        // SAFETY: Both ranges are ours, and nobody holds a reference to the content of either. The
        // old one is not used again.
        let moved = unsafe { mremap(self.start.cast(), self.len, self.len, flags, Some(new)) };
        self.start = moved.context("mremap")?.cast();
        Ok(())
    }

    /// Unmaps private memory, and maps other memory at the same address.
    pub(crate) fn renew(&mut self) -> Result<()> {
        let size = NonZeroUsize::new(self.len).context("a mapping without a page")?;
        let addr = NonZeroUsize::new(self.addr());
        let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_FIXED;
        // SAFETY: What is replaced is ours, and nobody else holds a reference to its content.
        unsafe { mmap_anonymous(addr, size, prot, flags) }.context("mmap")?;
        self.advise(MmapAdvise::MADV_NOHUGEPAGE)
    }

    /// Where `pages` begin, and their length in bytes.
    fn part(&self, pages: Range<usize>) -> (NonNull<u8>, usize) {
        assert!(pages.end <= self.pages(), "no such pages");
        // SAFETY: The pages lie in the mapping.
        let start = unsafe { self.start.add(pages.start * page_size()) };
        (start, pages.len() * page_size())
    }

    /// Unmaps all but the first `pages` pages.
    pub(crate) fn truncate(&mut self, pages: usize) -> Result<()> {
        let keep = pages * page_size();
        // SAFETY: The address lies in the mapping.
        let rest = unsafe { self.start.add(keep) };
        // SAFETY: The rest of the range is ours, and is not used again, as the length says.
        unsafe { munmap(rest.cast(), self.len - keep) }.context("munmap")?;
        self.len = keep;
        Ok(())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: The range is ours, and not used again. That it cannot be unmapped is nothing to
        // be done about.
        let _ = unsafe { munmap(self.start.cast(), self.len) };
    }
}

/// Moves pages of this process to `node`.
pub(crate) fn move_to(node: i32, pages: &[*mut libc::c_void]) -> Result<()> {
    const MPOL_MF_MOVE: i32 = 2;
    let nodes = vec![node; pages.len()];
    let mut status = vec![0i32; pages.len()];
    // SAFETY: There are as many nodes and places for a status as there are pages, and moving a page
    // changes nothing that this process can see.
    let left = unsafe {
        libc::syscall(
            libc::SYS_move_pages,
            0,
            pages.len(),
            pages.as_ptr(),
            nodes.as_ptr(),
            status.as_mut_ptr(),
            MPOL_MF_MOVE,
        )
    };
    Errno::result(left).context("move_pages")?;
    let there = status.iter().filter(|status| **status == node).count();
    ensure!(
        left == 0 && there == pages.len(),
        "{there} pages are on node {node}"
    );
    Ok(())
}
