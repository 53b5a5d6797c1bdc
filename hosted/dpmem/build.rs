// SPDX-License-Identifier: GPL-2.0

//! Says what `linux/kbuild/Kbuild.rust` says.

/// The version of the compiler whose messages are in `tests/ui`: the second number.
const EXPECTED_COMPILER: u32 = 95;

fn main() {
    match source::compiler_minor() {
        EXPECTED_COMPILER => source::cfg("expected_compiler"),
        _ => source::no_cfg("expected_compiler"),
    }
    source::cfg("CONFIG_RUST");
    source::cfg("CONFIG_RUST_DPMEM_KUNIT_TEST");
    // The kernel has an index space for device memory, which is what `bindings` simulates.
    source::cfg("dpmem_offset");
    println!("cargo::rustc-check-cfg=cfg(CONFIG_GPU_BUDDY, values(\"y\"))");
    println!("cargo::rustc-cfg=CONFIG_GPU_BUDDY=\"y\"");
    let hmm = source::read(&source::linux().join("include/linux/hmm.h"));
    if hmm.contains("hmm_range_fault_unlocked_timeout") {
        source::cfg("dpmem_hmm_unlocked");
    } else {
        source::no_cfg("dpmem_hmm_unlocked");
    }
}
