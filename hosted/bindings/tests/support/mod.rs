// SPDX-License-Identifier: GPL-2.0

//! Tests in which something is wrong.

// Each of them uses some of it.
#![allow(dead_code)]

use bindings::{dma_data_direction, sim::run};
#[cfg(not(newtype_enums))]
use bindings::{
    dma_data_direction_DMA_BIDIRECTIONAL, dma_data_direction_DMA_FROM_DEVICE,
    dma_data_direction_DMA_NONE, dma_data_direction_DMA_TO_DEVICE,
};
use std::{
    env,
    panic::{catch_unwind, AssertUnwindSafe},
    process::Command,
};

// 7.3 asks bindgen for a type of their own, 7.2 does not.
#[cfg(newtype_enums)]
pub const DMA_BIDIRECTIONAL: dma_data_direction = dma_data_direction::DMA_BIDIRECTIONAL;
#[cfg(newtype_enums)]
pub const DMA_NONE: dma_data_direction = dma_data_direction::DMA_NONE;
#[cfg(not(newtype_enums))]
pub const DMA_NONE: dma_data_direction = dma_data_direction_DMA_NONE;
#[cfg(newtype_enums)]
pub const DMA_TO_DEVICE: dma_data_direction = dma_data_direction::DMA_TO_DEVICE;
#[cfg(newtype_enums)]
pub const DMA_FROM_DEVICE: dma_data_direction = dma_data_direction::DMA_FROM_DEVICE;
#[cfg(not(newtype_enums))]
pub const DMA_BIDIRECTIONAL: dma_data_direction = dma_data_direction_DMA_BIDIRECTIONAL;
#[cfg(not(newtype_enums))]
pub const DMA_TO_DEVICE: dma_data_direction = dma_data_direction_DMA_TO_DEVICE;
#[cfg(not(newtype_enums))]
pub const DMA_FROM_DEVICE: dma_data_direction = dma_data_direction_DMA_FROM_DEVICE;

/// Runs `f`, which must be reported, in these words.
pub fn reported(words: &str, f: impl FnOnce()) {
    let result = catch_unwind(AssertUnwindSafe(|| run(f)));
    let Err(panic) = result else {
        panic!("nothing was reported");
    };
    let text = panic.downcast_ref::<String>().expect("a report is text");
    assert!(text.contains(words), "{text}");
}

/// The variable that says which case a program is.
const CASE: &str = "CASE_THAT_ENDS";

/// Runs `f` in a program of its own, which must end with a report in these words. `name` is that of
/// the test.
pub fn ends(name: &str, words: &str, f: impl FnOnce()) {
    if env::var(CASE).is_ok_and(|case| case == name) {
        return run(f);
    }
    let program = env::current_exe().unwrap();
    let output = Command::new(program)
        .args(["--exact", name, "--nocapture"])
        .env(CASE, name)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "nothing was reported");
    assert!(said.contains(words), "something else was reported: {said}");
}
