// SPDX-License-Identifier: GPL-2.0

//! Loading and unloading modules of the tree, without the hardware that they are for.

use std::fs;

use anyhow::{Context as _, Result};

use super::boot::Boot;
use super::{Context, Filter};
use crate::cli::{KernelOptions, MachineOptions};
use crate::guest::Plan;
use crate::kernel::{Builder, Kernel};
use crate::report::Report;

/// The modules that `name` needs, and itself, in the order in which they are loaded.
pub(super) fn with_dependencies(
    kernel: &Kernel,
    name: &str,
    order: &mut Vec<String>,
) -> Result<()> {
    if order.iter().any(|known| known == name) {
        return Ok(());
    }
    let path = kernel.module(name)?;
    let module = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    for needed in depends(&module) {
        with_dependencies(kernel, &needed, order)?;
    }
    order.push(name.to_owned());
    Ok(())
}

/// What the `.modinfo` of a module says that it needs.
fn depends(module: &[u8]) -> Vec<String> {
    module
        .split(|byte| *byte == 0)
        .filter_map(|text| std::str::from_utf8(text).ok()?.strip_prefix("depends="))
        .flat_map(|names| names.split(','))
        .filter(|name| !name.is_empty())
        .map(|name| name.to_owned())
        .collect()
}

/// Loads each of `names` with what it needs, and unloads all of it, in one boot.
pub(crate) fn load(
    builder: &Builder<'_>,
    options: &KernelOptions,
    kernel: &Kernel,
    names: &[&str],
    report: &mut Report,
) -> Result<()> {
    let filter = Filter::new(None)?;
    let machine = MachineOptions::default();
    let context = Context {
        builder,
        options,
        kernel,
        driver: options.driver(),
        machine: &machine,
        filter: &filter,
        label: "",
        thorough: true,
    };
    let mut order = Vec::new();
    for name in names {
        with_dependencies(kernel, name, &mut order)?;
    }
    let modules = order.iter().map(|name| kernel.module(name));
    let boot = Boot {
        suite: "load".to_owned(),
        modules: modules.collect::<Result<_>>()?,
        tests: Vec::new(),
        devices: Vec::new(),
        arguments: Vec::new(),
        counting: false,
        quiet: None,
        console_ok: Vec::new(),
    };
    let booted = boot.run(&context, report, |_| {
        let mut plan = Plan::new();
        order.iter().for_each(|name| plan.load(name, &[]));
        order.iter().rev().for_each(|name| plan.unload(name));
        plan
    })?;
    booted.finish(&context, "load", report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_module_needs() {
        assert_eq!(depends(b"x=1\0depends=drm,ttm\0y=2"), ["drm", "ttm"]);
        assert!(depends(b"depends=\0").is_empty());
        assert!(depends(b"nothing").is_empty());
    }
}
