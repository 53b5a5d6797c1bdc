/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __NOUVEAU_DMEM_HW_H__
#define __NOUVEAU_DMEM_HW_H__

#include <linux/types.h>

struct device;
struct nouveau_bo;
struct nouveau_drm;
struct nouveau_fence;

/* As many jobs are submitted at once, and as many fit into a push buffer. */
#define NOUVEAU_DMEM_HW_JOBS	64

enum nouveau_dmem_hw_way {
	NOUVEAU_DMEM_HW_TO_VRAM,
	NOUVEAU_DMEM_HW_TO_HOST,
	NOUVEAU_DMEM_HW_CLEAR_VRAM,
};

/* Addresses are those that the copy engine uses. */
struct nouveau_dmem_hw_job {
	u64 vram;
	u64 host;
	u32 npages;
	u32 way;
};

bool nouveau_dmem_hw_supported(struct nouveau_drm *drm);
bool nouveau_dmem_hw_gone(struct nouveau_drm *drm);
int nouveau_dmem_hw_wake(struct nouveau_drm *drm);
u64 nouveau_dmem_hw_vram_size(struct nouveau_drm *drm);
struct device *nouveau_dmem_hw_device(struct nouveau_drm *drm);
void *nouveau_dmem_hw_owner(struct nouveau_drm *drm);
void *nouveau_dmem_hw_get(struct nouveau_drm *drm);
void *nouveau_dmem_hw_set(struct nouveau_drm *drm, void *dmem);
int nouveau_dmem_hw_bo_new(struct nouveau_drm *drm, u32 size,
			   struct nouveau_bo **bo);
int nouveau_dmem_hw_bo_pin(struct nouveau_bo *bo);
void nouveau_dmem_hw_bo_fini(struct nouveau_bo *bo);
u64 nouveau_dmem_hw_bo_offset(struct nouveau_bo *bo);
int nouveau_dmem_hw_submit(struct nouveau_drm *drm,
			   const struct nouveau_dmem_hw_job *jobs, u32 nr,
			   struct nouveau_fence **fence);
int nouveau_dmem_hw_fence_status(struct nouveau_fence *fence);

#endif
