// SPDX-License-Identifier: GPL-2.0

//! What xe supplies for DRM's pagemaps.

use kernel::{
    mm::MmWithUser,
    prelude::*,
    sizes::SZ_8M,
    time::Delta,
    workqueue::Queue, //
};

use dpmem::{
    NrPages,
    PageOffset,
    UserRange, //
};
use dpmem_drm::{
    Devmem,
    Fence,
    Pagemap,
    PagemapOps,
    Places,
    Protocol,
    ReleasedDevmem,
    Run,
    Way, //
};

use crate::ffi::{
    self,
    Vram, //
};

/// As many bytes as `xe_migrate_to_vram()` takes.
const MAX_RUN: Result<NrPages> = NrPages::from_bytes(SZ_8M);

impl PagemapOps for Vram {
    const MAX_RUN: NrPages = match MAX_RUN {
        Ok(nr) => nr,
        Err(_) => NrPages::new(1),
    };
    // `xe_svm.h` has these two: XE_INTERCONNECT_VRAM and XE_INTERCONNECT_P2P.
    const LOCAL: Protocol = Protocol::of_driver(0);
    const PEER: Protocol = Protocol::of_driver(1);

    fn populate_mm(
        pagemap: &Pagemap<Self>,
        mm: &MmWithUser,
        range: UserRange,
        timeslice_ms: c_ulong,
    ) -> Result {
        ffi::populate_mm(pagemap, mm, range, timeslice_ms)
    }

    fn places(&self, memory: &Devmem<'_>, places: &mut Places<'_>) -> Result {
        ffi::for_each_block(memory, &mut |offset, bytes| places.push(offset, bytes))
    }

    fn release(&self, memory: ReleasedDevmem) {
        ffi::release(memory);
    }

    fn copy(&self, run: &Run<'_>, way: Way, after: Option<&Fence>) -> Result<Fence> {
        let place = self.address(run.offset()).ok_or(EINVAL)?;
        Vram::copy(self, run, place, way, after)
    }

    fn is_gone(&self) -> bool {
        Vram::is_gone(self)
    }

    fn copied(&self, way: Way, nr: NrPages, took: Delta) {
        Vram::copied(self, way, nr, took);
    }

    fn address(&self, offset: PageOffset) -> Option<u64> {
        self.dpa_base().checked_add(bytes(offset)?)
    }

    fn bus_address(&self, offset: PageOffset, len: usize) -> Option<u64> {
        let start = bytes(offset)?;
        // The window to it may be smaller than the memory.
        let end = start.checked_add(len.try_into().ok()?)?;
        (end <= self.io_size()).then(|| self.io_start().checked_add(start))?
    }

    fn destroy_queue(&self) -> &Queue {
        Vram::destroy_queue(self)
    }
}

/// How far from the beginning of a region a page is.
fn bytes(offset: PageOffset) -> Option<u64> {
    offset.to_bytes()?.try_into().ok()
}
