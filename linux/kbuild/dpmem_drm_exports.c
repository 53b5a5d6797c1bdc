// SPDX-License-Identifier: GPL-2.0

/*
 * Exports what the crate dpmem_drm defines, for modules that use it, as exports.c
 * does for the crates that are always built in.
 */
#include <linux/export.h>

#define EXPORT_SYMBOL_RUST_GPL(sym) extern int sym; EXPORT_SYMBOL_GPL(sym)

#include "exports_dpmem_drm_generated.h"
