// SPDX-License-Identifier: GPL-2.0
/*
 * Fields of xe's structures, and what exists in C as macros, for pagemaps in Rust.
 */
#include <linux/build_bug.h>
#include <linux/pci.h>

#include <drm/drm_drv.h>
#include <drm/drm_pagemap.h>

#include "xe_bo.h"
#include "xe_device.h"
#include "xe_exec_queue_types.h"
#include "xe_gt_stats.h"
#include "xe_migrate.h"
#include "xe_pm.h"
#include "xe_svm.h"
#include "xe_tile.h"
#include "xe_ttm_vram_mgr.h"
#include "xe_vm.h"
#include "xe_vram_types.h"

#include "hw.h"

/* What the Rust code takes for granted. */
static_assert(!offsetof(struct xe_pagemap, dpagemap));
static_assert(offsetof(struct xe_pagemap, peer) == sizeof(struct drm_pagemap));
static_assert(offsetof(struct xe_pagemap, vr) ==
	      sizeof(struct drm_pagemap) + sizeof(struct drm_pagemap_peer));
static_assert(XE_INTERCONNECT_VRAM == DRM_INTERCONNECT_DRIVER);
static_assert(XE_INTERCONNECT_P2P == DRM_INTERCONNECT_DRIVER + 1);

u64 xe_pagemap_hw_size(const struct xe_vram_region *vr)
{
	return vr->usable_size;
}

u64 xe_pagemap_hw_dpa_base(const struct xe_vram_region *vr)
{
	return vr->dpa_base;
}

u64 xe_pagemap_hw_io_start(const struct xe_vram_region *vr)
{
	return vr->io_start;
}

u64 xe_pagemap_hw_io_size(const struct xe_vram_region *vr)
{
	return vr->io_size;
}

bool xe_pagemap_hw_enter(struct xe_device *xe, int *idx)
{
	return drm_dev_enter(&xe->drm, idx);
}

void xe_pagemap_hw_exit(int idx)
{
	drm_dev_exit(idx);
}

struct drm_device *xe_pagemap_hw_drm(struct xe_device *xe)
{
	return &xe->drm;
}

struct device *xe_pagemap_hw_dev(struct xe_device *xe)
{
	return xe->drm.dev;
}

struct workqueue_struct *xe_pagemap_hw_destroy_wq(const struct xe_vram_region *vr)
{
	return vr->xe->destroy_wq;
}

void xe_pagemap_hw_set_shrinker(struct xe_device *xe, struct drm_pagemap_shrinker *shrinker)
{
	xe->usm.dpagemap_shrinker = shrinker;
}

struct drm_pagemap_shrinker *xe_pagemap_hw_shrinker(struct xe_tile *tile)
{
	struct xe_device *xe = tile_to_xe(tile);

	return IS_DGFX(xe) ? xe->usm.dpagemap_shrinker : NULL;
}

void xe_pagemap_hw_set_cache(struct xe_tile *tile, struct drm_pagemap_cache *cache)
{
	tile->mem.vram->dpagemap_cache = cache;
}

static struct xe_bo *hw_bo(struct drm_pagemap_devmem *devmem)
{
	return container_of(devmem, struct xe_bo, devmem_allocation);
}

int xe_pagemap_hw_blocks(struct drm_pagemap_devmem *devmem, void *arg,
			 int (*push)(void *arg, u64 offset, u64 size))
{
	struct ttm_resource *res = hw_bo(devmem)->ttm.resource;
	struct gpu_buddy *buddy = &xe_map_resource_to_region(res)->ttm.mm;
	struct gpu_buddy_block *block;

	list_for_each_entry(block, &to_xe_ttm_vram_mgr_resource(res)->blocks, link) {
		int err = push(arg, gpu_buddy_block_offset(block),
			       gpu_buddy_block_size(buddy, block));

		if (err)
			return err;
	}
	return 0;
}

void xe_pagemap_hw_release(struct drm_pagemap_devmem *devmem)
{
	struct xe_bo *bo = hw_bo(devmem);
	struct xe_device *xe = xe_bo_device(bo);

	dma_fence_put(devmem->pre_migrate_fence);
	xe_bo_put_async(bo);
	xe_pm_runtime_put(xe);
}

/* For 4 KiB, 64 KiB, 2 MiB, and all. */
struct hw_ids {
	enum xe_gt_stats_id small, medium, large, all;
};

static const struct hw_ids hw_kb[] = {
	[false] = {
		XE_GT_STATS_ID_SVM_4K_CPU_COPY_KB,
		XE_GT_STATS_ID_SVM_64K_CPU_COPY_KB,
		XE_GT_STATS_ID_SVM_2M_CPU_COPY_KB,
		XE_GT_STATS_ID_SVM_CPU_COPY_KB,
	},
	[true] = {
		XE_GT_STATS_ID_SVM_4K_DEVICE_COPY_KB,
		XE_GT_STATS_ID_SVM_64K_DEVICE_COPY_KB,
		XE_GT_STATS_ID_SVM_2M_DEVICE_COPY_KB,
		XE_GT_STATS_ID_SVM_DEVICE_COPY_KB,
	},
};

static const struct hw_ids hw_us[] = {
	[false] = {
		XE_GT_STATS_ID_SVM_4K_CPU_COPY_US,
		XE_GT_STATS_ID_SVM_64K_CPU_COPY_US,
		XE_GT_STATS_ID_SVM_2M_CPU_COPY_US,
		XE_GT_STATS_ID_SVM_CPU_COPY_US,
	},
	[true] = {
		XE_GT_STATS_ID_SVM_4K_DEVICE_COPY_US,
		XE_GT_STATS_ID_SVM_64K_DEVICE_COPY_US,
		XE_GT_STATS_ID_SVM_2M_DEVICE_COPY_US,
		XE_GT_STATS_ID_SVM_DEVICE_COPY_US,
	},
};

static void hw_count(struct xe_gt *gt, const struct hw_ids *ids, unsigned long npages, int by)
{
	switch (npages << PAGE_SHIFT) {
	case SZ_4K:
		xe_gt_stats_incr(gt, ids->small, by);
		break;
	case SZ_64K:
		xe_gt_stats_incr(gt, ids->medium, by);
		break;
	case SZ_2M:
		xe_gt_stats_incr(gt, ids->large, by);
		break;
	}
	xe_gt_stats_incr(gt, ids->all, by);
}

struct dma_fence *xe_pagemap_hw_copy(struct xe_vram_region *vr, unsigned long npages,
				     struct drm_pagemap_addr *addrs, u64 dpa,
				     bool to_vram, struct dma_fence *after)
{
	struct xe_gt *gt = xe_migrate_exec_queue(vr->migrate)->gt;

	vm_dbg(&vr->xe->drm, "copy %s VRAM, %lu pages at 0x%016llx\n", to_vram ? "to" : "from",
	       npages, dpa);
	hw_count(gt, &hw_kb[to_vram], npages, npages * (PAGE_SIZE / SZ_1K));
	if (to_vram)
		return xe_migrate_to_vram(vr->migrate, npages, addrs, dpa, after);
	return xe_migrate_from_vram(vr->migrate, npages, dpa, addrs, after);
}

bool xe_pagemap_hw_gone(const struct xe_vram_region *vr)
{
	return xe_device_wedged(vr->xe) ||
	       !pci_device_is_present(to_pci_dev(vr->xe->drm.dev));
}

void xe_pagemap_hw_copied(struct xe_vram_region *vr, bool to_vram, unsigned long npages,
			  s64 us)
{
	struct xe_gt *gt = xe_migrate_exec_queue(vr->migrate)->gt;

	hw_count(gt, &hw_us[to_vram], npages, us);
}
