// SPDX-License-Identifier: GPL-2.0

//! Says what `linux/kbuild/Kbuild.rust` says.

/// The version of the compiler whose messages are in `tests/ui`: the second number.
const EXPECTED_COMPILER: u32 = 95;

/// The kernel of these messages, which are full of its names: 7.3, by what 7.2 does not have.
const EXPECTED_KERNEL: (&str, &str) = ("include/linux/hmm.h", "hmm_range_fault_unlocked_timeout");

/// What is switched on, if this file of the kernel has this text.
const IN_KERNEL: &[(&str, &str, &str)] = &[
    (
        "dpmem_hmm_unlocked",
        "include/linux/hmm.h",
        "hmm_range_fault_unlocked_timeout",
    ),
    (
        "dpmem_faux_bound",
        "rust/kernel/faux.rs",
        "AsRef<Device<device::Bound>> for Registration",
    ),
];

fn main() {
    let (file, text) = EXPECTED_KERNEL;
    let kernel = source::read(&source::linux().join(file)).contains(text);
    match source::compiler_minor() {
        EXPECTED_COMPILER if kernel => source::cfg("expected_messages"),
        _ => source::no_cfg("expected_messages"),
    }
    source::cfg("CONFIG_LOCKDEP");
    source::cfg("CONFIG_RUST");
    source::cfg("CONFIG_RUST_DPMEM_KUNIT_TEST");
    source::cfg("CONFIG_TRACEPOINTS");
    // Where the memory of the machine begins.
    source::cfg("CONFIG_X86");
    source::no_cfg("CONFIG_JUMP_LABEL");
    source::backend_cfg();
    println!("cargo::rustc-check-cfg=cfg(CONFIG_GPU_BUDDY, values(\"y\"))");
    println!("cargo::rustc-cfg=CONFIG_GPU_BUDDY=\"y\"");
    for (name, file, text) in IN_KERNEL {
        if source::read(&source::linux().join(file)).contains(text) {
            source::cfg(name);
        } else {
            source::no_cfg(name);
        }
    }
}
