// SPDX-License-Identifier: GPL-2.0

//! Each fault has an answer of its own.

use dpmem::{DevPagemapOps, Fault, FaultAnswer};
use kernel::sync::Mutex;

struct Kept {
    answer: Mutex<Option<FaultAnswer<'static>>>,
}

fn kept<T: DevPagemapOps>(kept: &Kept, fault: Fault<'_, T>) {
    *kept.answer.lock() = Some(fault.migrate());
}

fn given_again<'f, T: DevPagemapOps>(kept: &Kept, fault: Fault<'f, T>) -> FaultAnswer<'f> {
    match kept.answer.lock().take() {
        Some(answer) => answer,
        None => fault.migrate(),
    }
}

fn main() {}
