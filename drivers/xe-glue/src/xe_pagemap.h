/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the Rust code for pagemaps defines. Included by xe_svm.h.
 */
#ifndef __XE_PAGEMAP_H__
#define __XE_PAGEMAP_H__

#include <drm/drm_pagemap.h>
#include <drm/drm_pagemap_util.h>

struct xe_device;
struct xe_tile;
struct xe_vram_region;

/* How a pagemap begins. It is made and destroyed in Rust. */
struct xe_pagemap {
	struct drm_pagemap dpagemap;
	struct drm_pagemap_peer peer;
	struct xe_vram_region *vr;
};

/* For the buffers that a pagemap's memory is in. */
extern const struct drm_pagemap_devmem_ops xe_pagemap_devmem_ops;
#define dpagemap_devmem_ops xe_pagemap_devmem_ops

/* The pagemap of @vr, with a reference for the caller; may sleep. */
struct xe_pagemap *xe_pagemap_find_or_create(struct xe_device *xe,
					     struct drm_pagemap_cache *cache,
					     struct xe_vram_region *vr);

int xe_pagemap_shrinker_create(struct xe_device *xe);
int xe_pagemap_cache_create(struct xe_tile *tile);

#endif
