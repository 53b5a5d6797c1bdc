// SPDX-License-Identifier: GPL-2.0

//! Takes constants of C out of the kernel's headers.

use std::path::Path;

/// The numbers that `header` gives names to: those whose name `wants` says so of.
fn constants(linux: &Path, header: &str, ty: &str, wants: impl Fn(&str) -> bool) -> String {
    let mut text = String::new();
    for line in source::read(&linux.join(header)).lines() {
        let mut words = line.split_whitespace();
        let (Some("#define"), Some(name), Some(value)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        // `_AC(0x1000, ULL)`, a number, or another name.
        let value = value.trim_start_matches("_AC(").trim_end_matches(',');
        let hex = value
            .strip_prefix("0x")
            .and_then(|hex| u64::from_str_radix(hex, 16).ok());
        let known = hex.is_some() || value.parse::<u64>().is_ok() || wants(value);
        if wants(name) && known {
            text += &format!("pub const {name}: {ty} = {value};\n");
        }
    }
    text
}

fn main() {
    let linux = source::linux();
    let parameters = source::read(&linux.join("rust/bindgen_parameters"));
    let newtype = parameters
        .lines()
        .any(|line| line.contains("newtype") && line.contains("hrtimer_restart"));
    match newtype {
        true => source::cfg("newtype_enums"),
        false => source::no_cfg("newtype_enums"),
    }
    source::backend_cfg();
    let error = |name: &str| name.len() > 1 && name.starts_with('E');
    let headers = [
        "include/uapi/asm-generic/errno-base.h",
        "include/uapi/asm-generic/errno.h",
        "include/linux/errno.h",
    ];
    let errors: String = headers
        .iter()
        .map(|header| constants(&linux, header, "u32", error))
        .collect();
    source::write("errno.rs", &errors);
    let size = |name: &str| name.starts_with("SZ_");
    let sizes = constants(&linux, "include/linux/sizes.h", "u64", size);
    source::write("sizes.rs", &sizes);
    let id = |name: &str| name.starts_with("PCI_CLASS_") || name.starts_with("PCI_VENDOR_ID_");
    let ids = constants(&linux, "include/linux/pci_ids.h", "u32", id);
    source::write("pci_ids.rs", &ids);
}
