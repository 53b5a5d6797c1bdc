/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the Rust code for xe's pagemaps calls: fields of xe's structures, and what
 * exists in C as macros.
 */
#ifndef __XE_PAGEMAP_HW_H__
#define __XE_PAGEMAP_HW_H__

#include <linux/types.h>

struct device;
struct dma_fence;
struct drm_device;
struct drm_pagemap;
struct drm_pagemap_addr;
struct drm_pagemap_cache;
struct drm_pagemap_devmem;
struct drm_pagemap_owner_list;
struct drm_pagemap_peer;
struct drm_pagemap_shrinker;
struct mm_struct;
struct workqueue_struct;
struct xe_device;
struct xe_tile;
struct xe_vram_region;

/* In bytes, or addresses. */
u64 xe_pagemap_hw_size(const struct xe_vram_region *vr);
u64 xe_pagemap_hw_dpa_base(const struct xe_vram_region *vr);
u64 xe_pagemap_hw_io_start(const struct xe_vram_region *vr);
u64 xe_pagemap_hw_io_size(const struct xe_vram_region *vr);

/* False if the driver is being unbound, which otherwise waits for the other one. */
bool xe_pagemap_hw_enter(struct xe_device *xe, int *idx);
void xe_pagemap_hw_exit(int idx);

struct drm_device *xe_pagemap_hw_drm(struct xe_device *xe);
struct device *xe_pagemap_hw_dev(struct xe_device *xe);
/* Where pagemaps are destroyed. */
struct workqueue_struct *xe_pagemap_hw_destroy_wq(const struct xe_vram_region *vr);

void xe_pagemap_hw_set_shrinker(struct xe_device *xe, struct drm_pagemap_shrinker *shrinker);
/* The one of the tile's device; NULL if the tile has no memory. */
struct drm_pagemap_shrinker *xe_pagemap_hw_shrinker(struct xe_tile *tile);
void xe_pagemap_hw_set_cache(struct xe_tile *tile, struct drm_pagemap_cache *cache);

/* In xe_svm.c: see xe_svm_glue.h. */
struct drm_pagemap_owner_list *xe_pagemap_hw_owner_list(void);
bool xe_pagemap_hw_interconnect(struct drm_pagemap_peer *one, struct drm_pagemap_peer *other);
int xe_pagemap_hw_populate_mm(struct drm_pagemap *dpagemap, unsigned long start,
			      unsigned long end, struct mm_struct *mm,
			      unsigned long timeslice_ms);

/* Calls @push for each block of the buffer, until it fails. */
int xe_pagemap_hw_blocks(struct drm_pagemap_devmem *devmem, void *arg,
			 int (*push)(void *arg, u64 offset, u64 size));
/* Takes back the references that the buffer has for DRM. Does not sleep. */
void xe_pagemap_hw_release(struct drm_pagemap_devmem *devmem);

/*
 * Starts to copy @npages between @addrs and @dpa, after @after. Fills in addresses
 * behind the first of each folio. Returns a fence that is the caller's, or an error
 * pointer.
 */
struct dma_fence *xe_pagemap_hw_copy(struct xe_vram_region *vr, unsigned long npages,
				     struct drm_pagemap_addr *addrs, u64 dpa,
				     bool to_vram, struct dma_fence *after);
/* Nothing will ever be copied again. The card is awake. Not: it is being unbound. */
bool xe_pagemap_hw_gone(const struct xe_vram_region *vr);
/* Counts a copy that has taken @us. Does not sleep. */
void xe_pagemap_hw_copied(struct xe_vram_region *vr, bool to_vram, unsigned long npages,
			  s64 us);

#endif
