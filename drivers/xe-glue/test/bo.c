// SPDX-License-Identifier: GPL-2.0
/*
 * Buffers in a card's memory, and the part of xe that migrates into them.
 */
#include "card.h"

#include <linux/bitmap.h>
#include <linux/sched/mm.h>

#include <drm/drm_drv.h>

static struct card_bo *to_bo(struct drm_pagemap_devmem *devmem)
{
	return container_of(devmem, struct card_bo, devmem);
}

/* Takes @nr pages in one piece, at a multiple of their number if that is a power of two. */
static int bo_place(struct card_bo *bo, unsigned long nr)
{
	unsigned long align = is_power_of_2(nr) ? nr - 1 : 0;
	unsigned long all = CARD_SIZE >> PAGE_SHIFT;
	struct card_block *block = &bo->blocks[bo->nr_blocks];
	unsigned long first;

	first = bitmap_find_next_zero_area(bo->xe->used, all, 0, nr, align);
	if (first >= all)
		return -ENOSPC;
	bitmap_set(bo->xe->used, first, nr);
	block->offset = (u64)first << PAGE_SHIFT;
	block->size = (u64)nr << PAGE_SHIFT;
	bo->nr_blocks++;
	return 0;
}

static void bo_displace(struct card_bo *bo)
{
	for (unsigned int i = 0; i < bo->nr_blocks; i++)
		bitmap_clear(bo->xe->used, bo->blocks[i].offset >> PAGE_SHIFT,
			     bo->blocks[i].size >> PAGE_SHIFT);
	bo->nr_blocks = 0;
}

static void bo_free_work(struct work_struct *work)
{
	struct card_bo *bo = container_of(work, struct card_bo, free_work);
	struct xe_device *xe = bo->xe;

	mutex_lock(&xe->lock);
	bo_displace(bo);
	list_del(&bo->link);
	mutex_unlock(&xe->lock);
	if (bo->devmem.mm)
		mmdrop(bo->devmem.mm);
	kfree(bo);
	atomic_dec(&world.nr_bos);
	drm_dev_put(&xe->drm);
}

static void bo_release(struct kref *ref)
{
	struct card_bo *bo = container_of(ref, struct card_bo, ref);

	/* The caller may not be able to sleep. */
	queue_work(card_wq, &bo->free_work);
}

static void card_bo_put(struct card_bo *bo)
{
	kref_put(&bo->ref, bo_release);
}

/* A buffer, whose lock is the caller's. */
static struct card_bo *card_bo_new(struct xe_device *xe, unsigned long start, size_t size)
{
	unsigned long nr = size >> PAGE_SHIFT;
	struct card_bo *bo;
	int err;

	if (card_fails(XE_CARD_FAIL_BO))
		return ERR_PTR(-ENOMEM);
	bo = kzalloc_obj(*bo);
	if (!bo)
		return ERR_PTR(-ENOMEM);
	kref_init(&bo->ref);
	mutex_init(&bo->lock);
	INIT_WORK(&bo->free_work, bo_free_work);
	bo->xe = xe;
	bo->start = start;

	guard(mutex)(&xe->lock);
	if (READ_ONCE(world.fragmented) && nr > 1) {
		/* A page between the two is somebody else's. */
		err = bo_place(bo, nr / 2);
		if (!err)
			err = bo_place(bo, nr - nr / 2 + 1);
		if (!err) {
			struct card_block *last = &bo->blocks[1];

			bitmap_clear(xe->used, last->offset >> PAGE_SHIFT, 1);
			last->offset += PAGE_SIZE;
			last->size -= PAGE_SIZE;
		}
	} else {
		err = bo_place(bo, nr);
	}
	if (err) {
		bo_displace(bo);
		kfree(bo);
		return ERR_PTR(err);
	}
	/* Nobody else knows it. */
	WARN_ON(!mutex_trylock(&bo->lock));
	list_add_tail(&bo->link, &xe->bos);
	drm_dev_get(&xe->drm);
	atomic_inc(&world.nr_bos);
	return bo;
}

/* Calls @each for each buffer of the card, with a reference, and with its lock. */
static void card_bos(struct xe_device *xe, void (*each)(struct card_bo *bo, void *arg),
		     void *arg)
{
	struct card_bo *bo, *last = NULL;

	mutex_lock(&xe->lock);
	list_for_each_entry(bo, &xe->bos, link) {
		if (!kref_get_unless_zero(&bo->ref))
			continue;
		mutex_unlock(&xe->lock);
		if (last)
			card_bo_put(last);
		mutex_lock(&bo->lock);
		/* It may be that there was nothing to be migrated into it. */
		if (bo->devmem.ops)
			each(bo, arg);
		mutex_unlock(&bo->lock);
		/* It stays in the list for as long as there is a reference. */
		last = bo;
		mutex_lock(&xe->lock);
	}
	mutex_unlock(&xe->lock);
	if (last)
		card_bo_put(last);
}

/* One of whose process nothing is left is empty already. */
static void bo_evict(struct card_bo *bo, void *arg)
{
	int *left = arg, err = drm_pagemap_evict_to_ram(&bo->devmem);

	if (err && !completion_done(&bo->devmem.detached))
		*left = err;
}

int card_evict(struct xe_device *xe)
{
	int left = 0;

	card_bos(xe, bo_evict, &left);
	return left;
}

struct flip {
	struct mm_struct *mm;
	unsigned long start, end;
};

static void bo_flip(struct card_bo *bo, void *arg)
{
	struct flip *flip = arg;
	unsigned long at = bo->start;

	if (bo->devmem.mm != flip->mm)
		return;
	for (unsigned int i = 0; i < bo->nr_blocks; i++) {
		for (u64 byte = 0; byte < bo->blocks[i].size; byte++, at++)
			if (at >= flip->start && at < flip->end)
				bo->xe->vram[bo->blocks[i].offset + byte] ^= 0xff;
	}
}

void card_flip(struct xe_device *xe, struct mm_struct *mm, unsigned long start,
	       unsigned long end)
{
	struct flip flip = { .mm = mm, .start = start, .end = end };

	card_bos(xe, bo_flip, &flip);
}

/* What the Rust code calls. */

int xe_pagemap_hw_blocks(struct drm_pagemap_devmem *devmem, void *arg,
				 int (*push)(void *arg, u64 offset, u64 size))
{
	struct card_bo *bo = to_bo(devmem);
	int err = 0;

	for (unsigned int i = 0; i < bo->nr_blocks && !err; i++)
		err = push(arg, bo->blocks[i].offset, bo->blocks[i].size);
	return err;
}

void xe_pagemap_hw_release(struct drm_pagemap_devmem *devmem)
{
	struct card_bo *bo = to_bo(devmem);

	dma_fence_put(devmem->pre_migrate_fence);
	devmem->pre_migrate_fence = NULL;
	atomic_dec(&bo->xe->nr_awake);
	card_bo_put(bo);
}

int xe_pagemap_hw_populate_mm(struct drm_pagemap *dpagemap, unsigned long start,
			      unsigned long end, struct mm_struct *mm,
			      unsigned long timeslice_ms)
{
	struct drm_pagemap_migrate_details details = { .timeslice_ms = timeslice_ms };
	struct xe_pagemap *pagemap = container_of(dpagemap, struct xe_pagemap, dpagemap);
	struct xe_device *xe = pagemap->vr->xe;
	struct dma_fence *cleared;
	struct card_bo *bo;
	int idx, err = 0;

	if (!drm_dev_enter(&xe->drm, &idx))
		return -ENODEV;
	/* As xe does, with a reference to its runtime power. */
	if (xchg(&xe->asleep, false))
		atomic_long_inc(&world.nr_woken);
	bo = card_bo_new(xe, start, end - start);
	if (IS_ERR(bo)) {
		err = PTR_ERR(bo);
		goto out_exit;
	}
	cleared = card_clear(bo);
	if (IS_ERR(cleared)) {
		err = PTR_ERR(cleared);
		goto out_put;
	}
	mmgrab(mm);
	drm_pagemap_devmem_init(&bo->devmem, xe->drm.dev, mm, &xe_pagemap_devmem_ops,
				dpagemap, end - start, cleared);
	kref_get(&bo->ref);
	atomic_inc(&xe->nr_awake);
	/* Consumes that reference. */
	err = drm_pagemap_migrate_to_devmem(&bo->devmem, mm, start, end, &details);
out_put:
	mutex_unlock(&bo->lock);
	card_bo_put(bo);
out_exit:
	drm_dev_exit(idx);
	return err;
}
