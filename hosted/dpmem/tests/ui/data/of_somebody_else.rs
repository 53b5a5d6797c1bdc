// SPDX-License-Identifier: GPL-2.0

//! A page may be there longer than the process that moved it, and so may what is kept with it.

use dpmem::{Collected, DevPagemapOps};
use kernel::{prelude::*, sync::Arc};

struct Process;

struct Svmm<'p> {
    _of: &'p Process,
}

fn wrong<T>(pages: Collected<'_, T>, process: &Process) -> Result
where
    T: DevPagemapOps<Data = Arc<Svmm<'static>>>,
{
    let svmm = Arc::new(Svmm { _of: process }, GFP_KERNEL)?;
    pages.fill_with(|_| svmm.clone()).copy()?.commit();
    Ok(())
}

fn main() {}
