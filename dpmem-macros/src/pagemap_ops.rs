// SPDX-License-Identifier: GPL-2.0

//! `#[derive(DevPagemapOps)]`.

use proc_macro2::TokenStream;
use quote::{
    quote,
    quote_spanned, //
};
use syn::{
    spanned::Spanned as _,
    Data,
    DeriveInput,
    Error,
    Field,
    Fields,
    Member,
    Meta,
    Path,
    Result, //
};

/// Finds the field that is marked with `#[name]`, and how to reach it.
fn marked<'a>(input: &DeriveInput, fields: &'a Fields, name: &str) -> Result<(Member, &'a Field)> {
    let mut found = None;
    for (member, field) in fields.members().zip(fields) {
        for attr in field.attrs.iter().filter(|attr| attr.path().is_ident(name)) {
            if !matches!(attr.meta, Meta::Path(_)) {
                return Err(Error::new_spanned(
                    attr,
                    format!("`#[{name}]` takes no arguments: leave them out"),
                ));
            }
            if found.is_some() {
                return Err(Error::new_spanned(
                    attr,
                    format!("only one field can be `#[{name}]`: leave out the others"),
                ));
            }
            found = Some((member.clone(), field));
        }
    }
    found.ok_or_else(|| {
        let what = match name {
            "offsets" => "the allocator of offsets",
            _ => "the copy engine",
        };
        Error::new_spanned(
            &input.ident,
            format!("`DevPagemapOps` needs a field marked `#[{name}]`: {what}"),
        )
    })
}

/// The function that `#[migrate_to_ram(path)]` names, if there is one.
fn fault_handler(input: &DeriveInput) -> Result<Option<Path>> {
    let mut found = None;
    for attr in input
        .attrs
        .iter()
        .filter(|attr| attr.path().is_ident("migrate_to_ram"))
    {
        if found.is_some() {
            return Err(Error::new_spanned(
                attr,
                "only one function can be `#[migrate_to_ram]`: leave out the others",
            ));
        }
        let path = attr.parse_args::<Path>().map_err(|_| {
            Error::new_spanned(
                attr,
                "`#[migrate_to_ram]` takes a function: `#[migrate_to_ram(Self::fault)]`",
            )
        })?;
        found = Some(path);
    }
    Ok(found)
}

/// The implementation for `input`, or what is wrong with it.
pub(crate) fn derive(input: DeriveInput) -> Result<TokenStream> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new_spanned(
            &input.ident,
            "`DevPagemapOps` can only be derived for a struct: put the allocator of offsets and the \
             copy engine into one",
        ));
    };
    // A derive macro's attributes are allowed on fields, and here as well.
    let on_fields = data.fields.iter().flat_map(|field| &field.attrs);
    if let Some(attr) = on_fields
        .into_iter()
        .find(|attr| attr.path().is_ident("migrate_to_ram"))
    {
        return Err(Error::new_spanned(
            attr,
            "`#[migrate_to_ram]` belongs above the struct, and not to a field",
        ));
    }
    let misplaced = |attr: &&syn::Attribute| {
        ["offsets", "engine"]
            .iter()
            .any(|name| attr.path().is_ident(name))
    };
    if let Some(attr) = input.attrs.iter().find(misplaced) {
        return Err(Error::new_spanned(
            attr,
            "this attribute belongs to the field that it is about, not to the struct",
        ));
    }
    let (offsets, engine) = match (
        marked(&input, &data.fields, "offsets"),
        marked(&input, &data.fields, "engine"),
    ) {
        (Ok(offsets), Ok(engine)) => (offsets, engine),
        (Err(mut one), Err(other)) => {
            one.combine(other);
            return Err(one);
        }
        (Err(err), _) | (_, Err(err)) => return Err(err),
    };

    // If the attribute is wrong, all else is as it should be: nothing more is to be said than that.
    let (handler, wrong) = match fault_handler(&input) {
        Ok(handler) => (handler, None),
        Err(err) => (None, Some(err.into_compile_error())),
    };
    let fault_fn = handler.map(|path| {
        // The span of the path, so that a function of the wrong type is reported there.
        let call = quote_spanned!(path.span()=> #path(fault));
        quote! {
            #[inline]
            fn migrate_to_ram(fault: ::dpmem::Fault<'_, Self>) -> ::dpmem::FaultAnswer<'_> {
                #call
            }
        }
    });

    let accessor = |name: &str, (member, field): (Member, &Field)| {
        let ty = &field.ty;
        let method = syn::Ident::new(name, proc_macro2::Span::call_site());
        // The span of the type, so that a type which is no allocator or engine is reported there.
        let returned = quote_spanned!(ty.span()=> #ty);
        let body = quote! {
            #[inline]
            fn #method(&self) -> &#returned {
                &self.#member
            }
        };
        (returned, body)
    };
    let (offsets_ty, offsets_fn) = accessor("offsets", offsets);
    // The span of the engine's type here as well, for the same reason.
    let ty = &engine.1.ty;
    let data_ty = quote_spanned!(ty.span()=> <#ty as ::dpmem::CopyEngine>::Data);
    let (engine_ty, engine_fn) = accessor("engine", engine);

    let name = &input.ident;
    let (impl_generics, ty_generics, where_clause) = input.generics.split_for_impl();
    Ok(quote! {
        #[automatically_derived]
        impl #impl_generics ::dpmem::DevPagemapOps for #name #ty_generics #where_clause {
            type Offsets = #offsets_ty;
            type Data = #data_ty;
            type Engine = #engine_ty;

            #offsets_fn

            #engine_fn

            #fault_fn
        }

        #wrong
    })
}

#[cfg(test)]
mod tests {
    use super::derive;
    use syn::parse_quote;

    fn error(input: syn::DeriveInput) -> Vec<String> {
        let err = derive(input).expect_err("the input is wrong");
        err.into_iter().map(|err| err.to_string()).collect()
    }

    #[test]
    fn both_parts_make_an_implementation() {
        let tokens = derive(parse_quote! {
            struct Vram<T: Bound> where T: Copy {
                #[offsets]
                offsets: Buddy<T>,
                other: u32,
                #[engine]
                engine: Ring,
            }
        })
        .expect("the input is right");
        let imp: syn::ItemImpl = syn::parse2(tokens).expect("the output is an impl block");

        let (_, path, _) = imp.trait_.expect("it implements a trait");
        assert!(path.leading_colon.is_some());
        assert_eq!(path.segments[0].ident, "dpmem");
        assert_eq!(path.segments[1].ident, "DevPagemapOps");
        assert_eq!(imp.generics.params.len(), 1);
        assert!(imp.generics.where_clause.is_some());
        assert_eq!(imp.items.len(), 5);
    }

    #[test]
    fn a_tuple_struct_will_do() {
        let tokens = derive(parse_quote! {
            struct Vram(#[offsets] Buddy, #[engine] Ring);
        })
        .expect("the input is right");
        assert!(tokens.to_string().contains("self . 0"));
        assert!(tokens.to_string().contains("self . 1"));
    }

    #[test]
    fn a_function_may_answer_faults() {
        let tokens = derive(parse_quote! {
            #[migrate_to_ram(Self::fault)]
            struct Vram(#[offsets] Buddy, #[engine] Ring);
        })
        .expect("the input is right");
        let imp: syn::ItemImpl = syn::parse2(tokens).expect("the output is an impl block");
        assert_eq!(imp.items.len(), 6);
    }

    #[test]
    fn what_answers_faults_is_one_function() {
        let nameless: syn::DeriveInput = parse_quote! {
            #[migrate_to_ram]
            struct Vram(#[offsets] Buddy, #[engine] Ring);
        };
        let twice: syn::DeriveInput = parse_quote! {
            #[migrate_to_ram(a)]
            #[migrate_to_ram(b)]
            struct Vram(#[offsets] Buddy, #[engine] Ring);
        };
        for (input, message) in [(nameless, "takes a function"), (twice, "only one function")] {
            let tokens = derive(input).expect("the implementation is there all the same");
            let file: syn::File = syn::parse2(tokens).expect("the output is two items");
            let [syn::Item::Impl(imp), syn::Item::Macro(error)] = &file.items[..] else {
                panic!("the output is an impl block, and what is wrong");
            };
            assert_eq!(imp.items.len(), 5);
            let said = error.mac.tokens.to_string();
            assert!(said.contains(message), "{said}");
        }
    }

    #[test]
    fn a_missing_part_is_named() {
        let errors = error(parse_quote! {
            struct Vram { #[offsets] offsets: Buddy, engine: Ring }
        });
        assert_eq!(errors.len(), 1);
        assert!(errors[0].contains("`#[engine]`"), "{errors:?}");
    }

    #[test]
    fn both_missing_parts_are_named() {
        assert_eq!(error(parse_quote! { struct Vram; }).len(), 2);
    }

    #[test]
    fn a_part_cannot_be_there_twice() {
        let errors = error(parse_quote! {
            struct Vram { #[offsets] a: Buddy, #[offsets] b: Buddy, #[engine] c: Ring }
        });
        assert!(errors[0].contains("only one field"), "{errors:?}");
    }

    #[test]
    fn attributes_take_no_arguments() {
        let errors = error(parse_quote! {
            struct Vram { #[offsets(4)] a: Buddy, #[engine] c: Ring }
        });
        assert!(errors[0].contains("no arguments"), "{errors:?}");
    }

    #[test]
    fn attributes_are_those_of_fields() {
        let errors = error(parse_quote! {
            #[engine] struct Vram { #[offsets] a: Buddy, c: Ring }
        });
        assert_eq!(errors.len(), 1);
        assert!(errors[0].contains("belongs to the field"), "{errors:?}");
    }

    #[test]
    fn only_structs_have_parts() {
        let errors = error(parse_quote! { enum Vram { A, B } });
        assert!(errors[0].contains("struct"), "{errors:?}");
    }
}
