// SPDX-License-Identifier: GPL-2.0

//! Procedural macros of the crate `dpmem`.

mod pagemap_ops;

use proc_macro::TokenStream;
use syn::{
    parse_macro_input,
    DeriveInput, //
};

/// Makes a struct what a driver supplies for its device memory.
///
/// Implements [`DevPagemapOps`] for a struct of which one field is the allocator of offsets, marked
/// with `#[offsets]`, and one the copy engine, marked with `#[engine]`. A driver that has a word to
/// say about CPU faults names a function for them: `#[migrate_to_ram(Self::fault)]`, above the
/// struct.
///
/// # Examples
///
/// ```text
/// #[derive(DevPagemapOps)]
/// struct Vram {
///     #[offsets]
///     offsets: BitmapOffsets,
///     #[engine]
///     engine: CopyRing,
/// }
/// ```
///
/// [`DevPagemapOps`]: ../dpmem/trait.DevPagemapOps.html
#[proc_macro_derive(DevPagemapOps, attributes(offsets, engine, migrate_to_ram))]
pub fn derive_dev_pagemap_ops(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    pagemap_ops::derive(input)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
