// SPDX-License-Identifier: GPL-2.0

//! The drivers of the kernel tree that have device memory.

use anyhow::Result;

use super::config::{self, Fragments};
use super::{jobs, Flavour, Make};
use crate::progress::Step;

/// One of them.
#[derive(Debug)]
pub(crate) struct Driver {
    /// What people call it.
    pub(crate) name: &'static str,
    /// The object that takes care of device memory on a stock kernel.
    pub(crate) object: &'static str,
    /// The module, if it is built as a whole on ours.
    pub(crate) module: Option<&'static str>,
    /// A function that the module has if what is ours is linked into it.
    pub(crate) ours: Option<&'static str>,
    /// What is looked at on ours besides: objects of the C code, as the series leaves it.
    pub(crate) objects: &'static [&'static str],
}

/// All of them, but powerpc's.
pub(crate) const ALL: &[Driver] = &[
    Driver {
        name: "test_hmm",
        object: "lib/test_hmm.o",
        module: Some("lib/test_hmm.ko"),
        ours: None,
        objects: &[],
    },
    Driver {
        name: "nouveau",
        object: NOUVEAU,
        module: Some("drivers/gpu/drm/nouveau/nouveau.ko"),
        ours: Some("nouveau_dmem_hw_submit"),
        objects: &[NOUVEAU],
    },
    Driver {
        name: "xe",
        object: XE,
        module: Some("drivers/gpu/drm/xe/xe.ko"),
        ours: Some("xe_pagemap_hw_copy"),
        objects: &[XE],
    },
    Driver {
        name: "amdgpu",
        object: AMDKFD,
        module: None,
        ours: None,
        objects: &[AMDKFD, AMDKFD_SVM],
    },
];

/// powerpc's, of which nothing else is built.
pub(crate) const UVMEM: Driver = Driver {
    name: "uvmem",
    object: UVMEM_OBJECT,
    module: None,
    ours: None,
    objects: &[UVMEM_OBJECT],
};

const NOUVEAU: &str = "drivers/gpu/drm/nouveau/nouveau_dmem.o";
const XE: &str = "drivers/gpu/drm/xe/xe_svm.o";
const UVMEM_OBJECT: &str = "arch/powerpc/kvm/book3s_hv_uvmem.o";
/// amdgpu is large, and what is looked at are the two objects that the series changes.
const AMDKFD: &str = "drivers/gpu/drm/amd/amdgpu/../amdkfd/kfd_migrate.o";
const AMDKFD_SVM: &str = "drivers/gpu/drm/amd/amdgpu/../amdkfd/kfd_svm.o";
const AMDGPU_OFF: &str = "CONFIG_DRM_AMDGPU=";

/// Builds what is looked at. On ours, that is the modules with what is in Rust, and then the objects
/// in C that could be in its place, with which the tree stays configured.
pub(super) fn build(
    make: &Make<'_>,
    kind: &str,
    flavour: Flavour,
    fragments: &Fragments,
) -> Result<()> {
    let objects: Vec<_> = if flavour == Flavour::Stock {
        ALL.iter().map(|driver| driver.object).collect()
    } else {
        make.kernel(kind, &[AMDGPU_OFF], &["modules"])?;
        config::configure(make, &fragments.and("drivers-c")?)?;
        ALL.iter()
            .flat_map(|driver| driver.objects)
            .copied()
            .collect()
    };
    let step = Step::start(format!("building objects of {}", make.name()), None);
    make.run("building the drivers", &objects)?;
    step.finish();
    Ok(())
}

/// Compiles powerpc's, and what that needs.
pub(super) fn build_uvmem(make: &Make<'_>) -> Result<()> {
    let step = Step::start(format!("building an object of {}", make.name()), None);
    let jobs = format!("-j{}", jobs());
    make.run("building the driver", &[&jobs, UVMEM.object])?;
    step.finish();
    Ok(())
}
