// SPDX-License-Identifier: GPL-2.0

//! What is in the virtual machine: an initramfs with programs, and the plan of what it does.

mod initramfs;
mod plan;
pub(crate) mod programs;

pub(crate) use initramfs::Initramfs;
pub(crate) use plan::Plan;
