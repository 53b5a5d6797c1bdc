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

/// Wrong programs of those, the token that is marked in each, and what it says to do there.
const TOLD: &[(&str, &str, &str)] = &[
    (
        "data/not_a_pointer",
        "u64",
        "keep an `Arc` of it, or `()` for nothing at all",
    ),
    (
        "derive/arguments",
        "#[offsets(4096)]",
        "takes no arguments: leave them out",
    ),
    (
        "derive/enum",
        "Vram",
        "put the allocator of offsets and the copy engine into one",
    ),
    (
        "derive/generic_without_bound",
        "A",
        "take `BitmapOffsets` or `ChunkOffsets`, or implement `OffsetAllocator` for it",
    ),
    (
        "derive/handler_on_a_field",
        "#[migrate_to_ram(Self::fault)]",
        "belongs above the struct, and not to a field",
    ),
    (
        "derive/handler_without_a_name",
        "#[migrate_to_ram]",
        "takes a function: `#[migrate_to_ram(Self::fault)]`",
    ),
    (
        "derive/misspelt",
        "Vram",
        "needs a field marked `#[offsets]`: the allocator of offsets",
    ),
    (
        "derive/neither",
        "Vram",
        "needs a field marked `#[offsets]`: the allocator of offsets",
    ),
    (
        "derive/no_engine",
        "Vram",
        "needs a field marked `#[engine]`: the copy engine",
    ),
    (
        "derive/no_offsets",
        "Vram",
        "needs a field marked `#[offsets]`: the allocator of offsets",
    ),
    (
        "derive/not_an_allocator",
        "usize",
        "take `BitmapOffsets` or `ChunkOffsets`, or implement `OffsetAllocator` for it",
    ),
    (
        "derive/not_an_engine",
        "Ring",
        "implement `CopyEngine` for it: `submit()` starts the transfers of a batch",
    ),
    (
        "derive/on_the_struct",
        "#[engine]",
        "this attribute belongs to the field that it is about, not to the struct",
    ),
    (
        "derive/two_allocators",
        "#[offsets]",
        "only one field can be `#[offsets]`: leave out the others",
    ),
    (
        "derive/two_engines",
        "#[engine]",
        "only one field can be `#[engine]`: leave out the others",
    ),
    (
        "derive/two_handlers",
        "#[migrate_to_ram(Self::other)]",
        "only one function can be `#[migrate_to_ram]`: leave out the others",
    ),
    (
        "derive/union",
        "Vram",
        "put the allocator of offsets and the copy engine into one",
    ),
    (
        "dma/mapped_for_nothing",
        "map.sync()?",
        "keep it in the fence of the batch",
    ),
    (
        "fault/answer_ignored",
        "fault.migrate()",
        "return it from `migrate_to_ram()`",
    ),
    (
        "folio/requested_for_nothing",
        "pagemap.request_folio(Order::ZERO)?",
        "keep it for as long as the device uses it",
    ),
    (
        "migration/collected_for_nothing",
        "MigrateVma::to_device(pagemap, mmap, range, buffer)?",
        "go on with `fill()`",
    ),
    (
        "migration/commit_without_copy",
        "commit",
        "call `copy()` first, and `commit()` on what that gives",
    ),
    (
        "migration/commit_without_fill",
        "commit",
        "call `fill()` first, which finds a place for each",
    ),
    (
        "migration/copied_for_nothing",
        "pages.copy()?",
        "go on with `commit()`",
    ),
    (
        "migration/copy_without_fill",
        "copy",
        "call `fill()` first, which finds a place for each",
    ),
    (
        "migration/filled_for_nothing",
        "pages.fill()",
        "go on with `copy()`",
    ),
    (
        "mirror/missing_ignored",
        "mirror.write(range, Some(device), |_, _| Ok(()))?",
        "have `Mirror::fault()` bring them, and visit what is left",
    ),
    (
        "mirror/no_page_table",
        "BoundMirrors<Entries>",
        "implement `PageTable` for it: `invalidate()` takes translations away",
    ),
    (
        "mirror/page_table_without_invalidate",
        "impl PageTable for Entries",
        "implement the missing item: `fn invalidate(&mut self, _: UserRange)",
    ),
    (
        "traits/fence_that_cannot_wait",
        "u64",
        "implement `Fence` for it, or say `()` if everything has been copied",
    ),
    (
        "traits/ops_without_derive",
        "DevPagemap<Vram>",
        "add `#[derive(DevPagemapOps)]` to a struct with fields marked",
    ),
    (
        "traits/published_for_a_moment",
        "SLOT.publish(Arc::new(1, GFP_KERNEL)?)?",
        "keep it as long as the device is registered",
    ),
];

/// The first thing that the compiler says of `program`, as it was written down.
fn said(program: &str) -> String {
    let file = format!("tests/ui/{program}.stderr");
    let all = std::fs::read_to_string(&file).unwrap_or_else(|err| panic!("{file}: {err}"));
    let mut parts = all.split("\n\n");
    parts.next().unwrap_or_default().to_owned()
}

/// The first thing that is marked in `said` as what is wrong.
fn marked(said: &str) -> &str {
    let lines: Vec<_> = said.lines().collect();
    let quoted = lines.windows(2).find_map(|pair| {
        let start = pair[1].find('^')?;
        let length = pair[1][start..].find(|mark| mark != '^');
        let end = length.map_or(pair[1].len(), |length| start + length);
        pair[0].get(start..end)
    });
    quoted.unwrap_or_else(|| panic!("nothing is marked:\n{said}"))
}

#[test]
fn thirty_are_told_what_to_do() {
    let mut programs: Vec<_> = TOLD.iter().map(|(program, ..)| program).collect();
    programs.sort_unstable();
    programs.dedup();
    assert!(programs.len() >= 30, "there are {}", programs.len());
    for &(program, token, told) in TOLD {
        let said = said(program);
        assert_eq!(marked(&said), token, "{program}");
        // Not in what is quoted of the program, or of the crate.
        let quotes = |first: char| first == '|' || first.is_ascii_digit();
        let mut own = said
            .lines()
            .filter(|line| !line.trim_start().starts_with(quotes));
        assert!(own.any(|line| line.contains(told)), "{program}:\n{said}");
    }
}
