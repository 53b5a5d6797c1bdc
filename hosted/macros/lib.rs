// SPDX-License-Identifier: GPL-2.0

//! The kernel's `rust/macros`, but that tests are those of cargo.

#![feature(extract_if)]
#![allow(unexpected_cfgs, stable_features)]

include!(concat!(env!("OUT_DIR"), "/root.rs"));

/// Makes the tests of a module tests of cargo, each on a machine of its own. The kernel's macro
/// makes them tests of KUnit. Where there are no tests, they are compiled all the same.
#[proc_macro_attribute]
pub fn kunit_tests(suite: TokenStream, module: TokenStream) -> TokenStream {
    parse_macro_input!(suite as syn::Ident);
    // Its own tests want more of the C side than there is.
    if std::env::var("CARGO_PKG_NAME").as_deref() == Ok("kernel") {
        return TokenStream::new();
    }
    let mut module = parse_macro_input!(module as syn::ItemMod);
    let items = module.content.iter_mut().flat_map(|(_, items)| items);
    for item in items {
        let syn::Item::Fn(function) = item else {
            continue;
        };
        let Some(test) = function
            .attrs
            .iter_mut()
            .find(|attr| attr.path().is_ident("test"))
        else {
            continue;
        };
        *test = syn::parse_quote!(#[cfg_attr(test, test)]);
        function
            .attrs
            .push(syn::parse_quote!(#[cfg_attr(not(test), allow(dead_code))]));
        let (output, body) = (&function.sig.output, &function.block);
        function.block = syn::parse_quote!({ ::kernel::bindings::sim::run(|| #output #body) });
    }
    quote::quote!(#module).into()
}
