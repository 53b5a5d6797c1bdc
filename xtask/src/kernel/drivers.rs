// SPDX-License-Identifier: GPL-2.0

//! The drivers of the kernel tree that have device memory.

use anyhow::Result;

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
}

/// All of them, but powerpc's.
pub(crate) const ALL: &[Driver] = &[
    Driver {
        name: "test_hmm",
        object: "lib/test_hmm.o",
        module: Some("lib/test_hmm.ko"),
    },
    Driver {
        name: "nouveau",
        object: "drivers/gpu/drm/nouveau/nouveau_dmem.o",
        module: Some("drivers/gpu/drm/nouveau/nouveau.ko"),
    },
    Driver {
        name: "xe",
        object: "drivers/gpu/drm/xe/xe_svm.o",
        module: Some("drivers/gpu/drm/xe/xe.ko"),
    },
    Driver {
        name: "amdgpu",
        object: AMDKFD,
        module: None,
    },
];

/// powerpc's, of which nothing else is built.
pub(crate) const UVMEM: Driver = Driver {
    name: "uvmem",
    object: "arch/powerpc/kvm/book3s_hv_uvmem.o",
    module: None,
};

/// amdgpu is large, and what is looked at are two objects of it.
const AMDKFD: &str = "drivers/gpu/drm/amd/amdgpu/../amdkfd/kfd_migrate.o";
const AMDGPU_OFF: &str = "CONFIG_DRM_AMDGPU=";

/// Builds what is looked at.
pub(super) fn build(make: &Make<'_>, kind: &str, flavour: Flavour) -> Result<()> {
    let mut objects = vec![AMDKFD];
    if flavour == Flavour::Stock {
        objects = ALL.iter().map(|driver| driver.object).collect();
    } else {
        make.kernel(kind, &[AMDGPU_OFF], &["modules"])?;
    }
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
