// SPDX-License-Identifier: GPL-2.0

//! Finds the kernel's files, and chooses those that are needed.

/// The modules of the crate `kernel` that are here. All others would need more of the C side.
const MODULES: &[&str] = &[
    "alloc",
    "bitmap",
    "bits",
    "bug",
    "build_assert",
    "cred",
    "debugfs",
    "device",
    "devres",
    "dma",
    "faux",
    "error",
    "fmt",
    "fs",
    "gpu",
    "impl_flags",
    "init",
    "interrupt",
    "interop",
    "io",
    "ioctl",
    "iov",
    "jump_label",
    "miscdevice",
    "mm",
    "module",
    "module_param",
    "num",
    "page",
    "pid_namespace",
    "prelude",
    "print",
    "processor",
    "ptr",
    "rbtree",
    "revocable",
    "safety",
    "seq_file",
    "scatterlist",
    "sizes",
    "std_vendor",
    "str",
    "sync",
    "task",
    "time",
    "tracepoint",
    "transmute",
    "types",
    "uaccess",
    "workqueue",
];

/// Those besides that a driver of a PCI device needs.
const PCI_MODULES: &[&str] = &["acpi", "device_id", "driver", "irq", "of", "pci"];

/// What of the kernel's configuration is switched on.
const CONFIG: &[&str] = &[
    "CONFIG_64BIT",
    "CONFIG_ARCH_SUPPORTS_ATOMIC_RMW",
    "CONFIG_DEBUG_FS",
    "CONFIG_MMU",
    "CONFIG_PRINTK",
    "CONFIG_RUST",
    "CONFIG_RUST_BITMAP_HARDENED",
    "CONFIG_SMP",
];

fn main() {
    source::compiler_cfgs();
    CONFIG.iter().for_each(|name| source::cfg(name));
    // Which has a value.
    println!("cargo::rustc-check-cfg=cfg(CONFIG_GPU_BUDDY, values(\"y\"))");
    println!("cargo::rustc-cfg=CONFIG_GPU_BUDDY=\"y\"");
    let pci = source::has_pci();
    if pci {
        source::cfg("CONFIG_PCI");
    }
    source::Root::of_linux("rust/kernel/lib.rs")
        .keep_modules(|name| MODULES.contains(&name) || pci && PCI_MODULES.contains(&name))
        // There is a standard library, which has one.
        .replace("#[panic_handler]", "#[cfg(any())]")
        .write();
}
