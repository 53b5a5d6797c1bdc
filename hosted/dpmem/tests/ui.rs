// SPDX-License-Identifier: GPL-2.0

//! Wrong programs, and what the compiler says of each.
//!
//! `TRYBUILD=overwrite cargo test -p dpmem --test ui` writes down what it says.

#![feature(cfg_sanitize)]
// The compiler says it in other words then.
#![cfg(not(sanitize = "address"))]

#[test]
#[cfg_attr(
    not(expected_messages),
    ignore = "what the compiler says was written down with another version of it, or of the kernel"
)]
fn ui() {
    trybuild::TestCases::new().compile_fail("tests/ui/*/*.rs");
}

/// `abi.rs` of both crates with a fake that is right, so that it is the lie which does not compile in
/// `tests/ui/abi`.
#[test]
fn abi() {
    let tests = trybuild::TestCases::new();
    tests.pass("tests/abi/right.rs");
    tests.pass("tests/abi/drm_right.rs");
}
