// SPDX-License-Identifier: GPL-2.0
/*
 * The copy engine of a card: it copies with the CPU, one job after the other, in
 * a workqueue.
 */
#include "card.h"

#include <linux/highmem.h>

#include <drm/drm_print.h>

struct card_job {
	struct work_struct work;
	struct xe_device *xe;
	struct dma_fence *fence, *after;
	u64 dpa;
	bool to_vram, clear;
	unsigned long npages;
	struct drm_pagemap_addr addrs[];
};

static const char *fence_name(struct dma_fence *fence)
{
	return "xe_card";
}

static void fence_release(struct dma_fence *fence)
{
	atomic_dec(&world.nr_fences);
	dma_fence_free(fence);
}

static const struct dma_fence_ops fence_ops = {
	.get_driver_name	= fence_name,
	.get_timeline_name	= fence_name,
	.release		= fence_release,
};

/* What the card @xe has at @offset, if it has that. */
static void *vram_at(struct xe_device *xe, u64 offset)
{
	if (WARN(offset >= CARD_SIZE, "the card has nothing at %llx\n", offset))
		return NULL;
	if (WARN(!test_bit(offset >> PAGE_SHIFT, xe->used),
		 "nobody has memory at %llx of the card\n", offset))
		return NULL;
	return xe->vram + offset;
}

/* What is at @at from the beginning of a folio, seen from a card. */
static void *other_side(const struct drm_pagemap_addr *addr, u64 at,
			struct xe_device **peer)
{
	u64 where = addr->addr + at;

	switch (addr->proto) {
	case DRM_INTERCONNECT_SYSTEM:
		/* There is no IOMMU in front of these cards. */
		if (WARN(!pfn_valid(where >> PAGE_SHIFT),
			 "no memory at %llx of the machine\n", where))
			return NULL;
		return page_address(pfn_to_page(where >> PAGE_SHIFT));
	case DRM_INTERCONNECT_DRIVER + 1:
		where -= CARD_IO_START;
		*peer = card_get(where / CARD_SIZE);
		if (WARN(!*peer, "no card at %llx\n", where))
			return NULL;
		atomic_long_inc(&world.nr_peer_pages);
		return vram_at(*peer, where % CARD_SIZE);
	default:
		WARN(1, "the engine does not know protocol %u\n", (unsigned int)addr->proto);
		return NULL;
	}
}

static int job_copy_page(struct card_job *job, unsigned long i,
			 const struct drm_pagemap_addr *addr, u64 at)
{
	void *here = vram_at(job->xe, job->dpa - CARD_DPA_BASE + ((u64)i << PAGE_SHIFT));
	struct xe_device *peer = NULL;
	void *there = other_side(addr, at, &peer);

	if (here && there && job->to_vram)
		memcpy(here, there, PAGE_SIZE);
	else if (here && there)
		memcpy(there, here, PAGE_SIZE);
	if (peer)
		card_put(peer);
	return here && there ? 0 : -EIO;
}

static int job_run(struct card_job *job)
{
	const struct drm_pagemap_addr *addr = NULL;
	unsigned long i, first = 0;
	int err = 0;

	if (WARN(READ_ONCE(job->xe->asleep), "a job for a card that sleeps\n"))
		return -EIO;
	if (job->clear) {
		if (card_fails(XE_CARD_FAIL_CLEAR))
			return -EIO;
		memset(job->xe->vram + job->dpa, 0, job->npages << PAGE_SHIFT);
		return 0;
	}
	if (card_fails(XE_CARD_FAIL_JOB) || READ_ONCE(world.dead))
		return -EIO;
	if (atomic_dec_if_positive(&world.failing) >= 0) {
		atomic_long_inc(&world.nr_failed);
		return -EIO;
	}
	atomic_long_inc(&world.nr_jobs);
	for (i = 0; i < job->npages && !err; i++) {
		/* Only the first page of a folio has an address. */
		if (!addr || i - first >= NR_PAGES(addr->order)) {
			addr = &job->addrs[i];
			first = i;
		}
		if (WARN(!addr->addr, "a copy without an address\n"))
			return -EIO;
		err = job_copy_page(job, i, addr, (u64)(i - first) << PAGE_SHIFT);
	}
	return err;
}

static bool job_is_held(struct card_job *job)
{
	return READ_ONCE(world.held) & (job->clear ? XE_CARD_HELD_CLEARS : XE_CARD_HELD_COPIES);
}

static void job_work(struct work_struct *work)
{
	struct card_job *job = container_of(work, struct card_job, work);
	int err;

	if (job_is_held(job)) {
		WRITE_ONCE(world.waiting, true);
		wake_up_all(&world.wait);
		wait_event(world.wait, !job_is_held(job));
		WRITE_ONCE(world.waiting, false);
	}
	/* What clears is somebody else. */
	if (job->after && !dma_fence_is_signaled(job->after))
		dma_fence_wait(job->after, false);
	dma_fence_put(job->after);
	err = job_run(job);
	if (err)
		dma_fence_set_error(job->fence, err);
	dma_fence_signal(job->fence);
	dma_fence_put(job->fence);
	kvfree(job);
}

static struct dma_fence *job_start(struct card_job *job, struct dma_fence *after)
{
	struct xe_device *xe = job->xe;
	struct dma_fence *fence = kzalloc_obj(*fence);

	if (!fence) {
		kvfree(job);
		return ERR_PTR(-ENOMEM);
	}
	atomic_inc(&world.nr_fences);
	dma_fence_init(fence, &fence_ops, &xe->fence_lock, xe->fence_context + job->clear,
		       atomic64_inc_return(&xe->fence_seqno));
	INIT_WORK(&job->work, job_work);
	job->fence = dma_fence_get(fence);
	job->after = dma_fence_get(after);
	queue_work(job->clear ? xe->cleaner : xe->engine, &job->work);
	return fence;
}

struct dma_fence *card_clear(struct card_bo *bo)
{
	struct dma_fence *fence = NULL;

	for (unsigned int i = 0; i < bo->nr_blocks; i++) {
		struct card_job *job = kvzalloc(sizeof(*job), GFP_KERNEL);
		struct dma_fence *last = fence;

		fence = ERR_PTR(-ENOMEM);
		if (!job)
			goto out_wait;
		job->xe = bo->xe;
		job->clear = true;
		job->dpa = bo->blocks[i].offset;
		job->npages = bo->blocks[i].size >> PAGE_SHIFT;
		fence = job_start(job, NULL);
out_wait:
		/* The last one is signalled last. */
		if (IS_ERR(fence) && last)
			dma_fence_wait(last, false);
		dma_fence_put(last);
		if (IS_ERR(fence))
			break;
	}
	return fence;
}

int card_engine_init(struct xe_device *xe)
{
	spin_lock_init(&xe->fence_lock);
	xe->fence_context = dma_fence_context_alloc(2);
	xe->engine = alloc_ordered_workqueue("xe_card-engine", 0);
	xe->cleaner = alloc_ordered_workqueue("xe_card-cleaner", 0);
	return xe->engine && xe->cleaner ? 0 : -ENOMEM;
}

/* What the Rust code calls. */

struct dma_fence *xe_pagemap_hw_copy(struct xe_vram_region *vr, unsigned long npages,
				     struct drm_pagemap_addr *addrs, u64 dpa,
				     bool to_vram, struct dma_fence *after)
{
	struct card_job *job;

	if (WARN(npages > SZ_8M / PAGE_SIZE, "more than the engine takes at once\n"))
		return ERR_PTR(-EINVAL);
	if (card_fails(XE_CARD_FAIL_FENCE))
		return ERR_PTR(-ENOMEM);
	job = kvzalloc(struct_size(job, addrs, npages), GFP_KERNEL);
	if (!job)
		return ERR_PTR(-ENOMEM);
	job->xe = vr->xe;
	job->dpa = dpa;
	job->to_vram = to_vram;
	job->npages = npages;
	memcpy(job->addrs, addrs, npages * sizeof(*addrs));
	/* xe leaves something where nobody should look. */
	for (unsigned long i = 0; i < npages; i += NR_PAGES(addrs[i].order))
		for (unsigned long j = 1; j < NR_PAGES(addrs[i].order); j++)
			addrs[i + j].addr = addrs[i].addr + j * PAGE_SIZE;
	return job_start(job, after);
}

bool xe_pagemap_hw_gone(const struct xe_vram_region *vr)
{
	return READ_ONCE(world.dead);
}

void xe_pagemap_hw_copied(struct xe_vram_region *vr, bool to_vram, unsigned long npages,
			  s64 us)
{
	drm_dbg(&vr->xe->drm, "%lu pages %s VRAM in %lld us\n", npages,
		to_vram ? "to" : "from", us);
}
