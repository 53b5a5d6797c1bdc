// SPDX-License-Identifier: GPL-2.0
/*
 * What the Rust code cannot do by itself: commands for the copy engine, which
 * are written with macros, and fields of nouveau's structures.
 */
#include "hw.h"

#include <linux/pci.h>

#include "nouveau_drv.h"
#include "nouveau_bo.h"
#include "nouveau_chan.h"
#include "nouveau_dma.h"
#include "nouveau_fence.h"

#include <nvif/class.h>
#include <nvif/push906f.h>

#include <nvhw/class/cla0b5.h>

/* Words that a job needs, and that a fence needs behind all of them. */
#define JOB_WORDS	20
#define FENCE_WORDS	32

/*
 * What nvkm lets these cards be given. Their commands have room for 49 bits,
 * but for 40 only in Kepler's, which are the ones that have a header here. So
 * the upper part of an address is pushed as it is, and not by NVVAL().
 */
#define ADDRESS_BITS	47

/* What the Rust code has as well. */
static_assert(NOUVEAU_DMEM_HW_JOBS == 64);
static_assert(sizeof(struct nouveau_dmem_hw_job) == 24);
static_assert(offsetof(struct nouveau_dmem_hw_job, vram) == 0);
static_assert(offsetof(struct nouveau_dmem_hw_job, host) == 8);
static_assert(offsetof(struct nouveau_dmem_hw_job, npages) == 16);
static_assert(offsetof(struct nouveau_dmem_hw_job, way) == 20);
static_assert(NOUVEAU_DMEM_HW_TO_VRAM == 0);
static_assert(NOUVEAU_DMEM_HW_TO_HOST == 1);
static_assert(NOUVEAU_DMEM_HW_CLEAR_VRAM == 2);

/* Without svm, no process has anything to do with the card's memory. */
bool nouveau_dmem_hw_supported(struct nouveau_drm *drm)
{
	static struct lock_class_key client_key;

	if (!drm->svm || !drm->ttm.chan ||
	    drm->client.device.info.family < NV_DEVICE_INFO_V0_PASCAL)
		return false;

	switch (drm->ttm.copy.oclass) {
	case PASCAL_DMA_COPY_A:
	case PASCAL_DMA_COPY_B:
	case VOLTA_DMA_COPY_A:
	case TURING_DMA_COPY_A:
		/*
		 * The mutex of the channel's client is taken with the mmap lock
		 * held, and those of processes' clients before it.
		 */
		lockdep_set_class(&drm->client.mutex, &client_key);
		return true;
	default:
		return false;
	}
}

/*
 * The channel was killed, or the card is not on its bus any more: no job will
 * ever be done. That DRM's device is unplugged does not say so: it always is
 * when nouveau is unbound.
 */
bool nouveau_dmem_hw_gone(struct nouveau_drm *drm)
{
	struct device *dev = drm->dev->dev;

	return atomic_read(&drm->ttm.chan->killed) ||
	       (dev_is_pci(dev) && !pci_device_is_present(to_pci_dev(dev)));
}

/*
 * Somebody needs a card that may be asleep. Does not wait for it: 0 is for a
 * card that is going to wake up, or to fail to, and 1 for one that is awake.
 */
int nouveau_dmem_hw_wake(struct nouveau_drm *drm)
{
	int ret = pm_request_resume(drm->dev->dev);

	/* It is just waking up. */
	return ret == -EINPROGRESS ? 0 : ret;
}

u64 nouveau_dmem_hw_vram_size(struct nouveau_drm *drm)
{
	return drm->client.device.info.ram_user;
}

struct device *nouveau_dmem_hw_device(struct nouveau_drm *drm)
{
	return drm->dev->dev;
}

/* nouveau_svm.c compares it with the owner of a page. */
void *nouveau_dmem_hw_owner(struct nouveau_drm *drm)
{
	return drm->dev;
}

void *nouveau_dmem_hw_get(struct nouveau_drm *drm)
{
	/* What it points to was written before xchg() in _set(). */
	return smp_load_acquire(&drm->dmem);
}

void *nouveau_dmem_hw_set(struct nouveau_drm *drm, void *dmem)
{
	return xchg(&drm->dmem, dmem);
}

/* A buffer in VRAM, pinned, and in one piece, as that is what flags of 0 mean. */
int nouveau_dmem_hw_bo_new(struct nouveau_drm *drm, u32 size,
			   struct nouveau_bo **bo)
{
	return nouveau_bo_new_pin(&drm->client, NOUVEAU_GEM_DOMAIN_VRAM, size,
				  bo);
}

/* The same for one that was unpinned. It may be somewhere else afterwards. */
int nouveau_dmem_hw_bo_pin(struct nouveau_bo *bo)
{
	return nouveau_bo_pin(bo, NOUVEAU_GEM_DOMAIN_VRAM, false);
}

/* Gives up a buffer that is not pinned. */
void nouveau_dmem_hw_bo_fini(struct nouveau_bo *bo)
{
	nouveau_bo_fini(bo);
}

/* One that is not pinned any more may be moving: nobody uses what is said then. */
u64 nouveau_dmem_hw_bo_offset(struct nouveau_bo *bo)
{
	return data_race(bo->offset);
}

/* What every job says to the engine: linear, and one after the other. */
#define LAUNCH								\
	(NVDEF(NVA0B5, LAUNCH_DMA, DATA_TRANSFER_TYPE, NON_PIPELINED) |	\
	 NVDEF(NVA0B5, LAUNCH_DMA, FLUSH_ENABLE, TRUE) |		\
	 NVDEF(NVA0B5, LAUNCH_DMA, SEMAPHORE_TYPE, NONE) |		\
	 NVDEF(NVA0B5, LAUNCH_DMA, INTERRUPT_TYPE, NONE) |		\
	 NVDEF(NVA0B5, LAUNCH_DMA, SRC_MEMORY_LAYOUT, PITCH) |		\
	 NVDEF(NVA0B5, LAUNCH_DMA, DST_MEMORY_LAYOUT, PITCH) |		\
	 NVDEF(NVA0B5, LAUNCH_DMA, BYPASS_L2, USE_PTE_SETTING) |	\
	 NVDEF(NVA0B5, LAUNCH_DMA, DST_TYPE, PHYSICAL))

static void push_clear(struct nvif_push *push,
		       const struct nouveau_dmem_hw_job *job)
{
	u64 bytes = (u64)job->npages << PAGE_SHIFT;

	PUSH_IMMD(push, NVA0B5, SET_DST_PHYS_MODE,
		  NVDEF(NVA0B5, SET_DST_PHYS_MODE, TARGET, LOCAL_FB));
	/* Two components of four bytes each, both constant. */
	PUSH_MTHD(push, NVA0B5, SET_REMAP_CONST_A, 0,
				SET_REMAP_CONST_B, 0,

				SET_REMAP_COMPONENTS,
		  NVDEF(NVA0B5, SET_REMAP_COMPONENTS, DST_X, CONST_A) |
		  NVDEF(NVA0B5, SET_REMAP_COMPONENTS, DST_Y, CONST_B) |
		  NVDEF(NVA0B5, SET_REMAP_COMPONENTS, COMPONENT_SIZE, FOUR) |
		  NVDEF(NVA0B5, SET_REMAP_COMPONENTS, NUM_DST_COMPONENTS, TWO));
	PUSH_MTHD(push, NVA0B5, OFFSET_OUT_UPPER, upper_32_bits(job->vram),
				OFFSET_OUT_LOWER, lower_32_bits(job->vram));
	PUSH_MTHD(push, NVA0B5, LINE_LENGTH_IN, bytes / 8);
	PUSH_MTHD(push, NVA0B5, LAUNCH_DMA, LAUNCH |
		  NVDEF(NVA0B5, LAUNCH_DMA, MULTI_LINE_ENABLE, FALSE) |
		  NVDEF(NVA0B5, LAUNCH_DMA, REMAP_ENABLE, TRUE));
}

static void push_copy(struct nvif_push *push,
		      const struct nouveau_dmem_hw_job *job)
{
	bool to_vram = job->way == NOUVEAU_DMEM_HW_TO_VRAM;
	u64 src = to_vram ? job->host : job->vram;
	u64 dst = to_vram ? job->vram : job->host;

	if (to_vram) {
		PUSH_IMMD(push, NVA0B5, SET_SRC_PHYS_MODE,
			  NVDEF(NVA0B5, SET_SRC_PHYS_MODE, TARGET, COHERENT_SYSMEM));
		PUSH_IMMD(push, NVA0B5, SET_DST_PHYS_MODE,
			  NVDEF(NVA0B5, SET_DST_PHYS_MODE, TARGET, LOCAL_FB));
	} else {
		PUSH_IMMD(push, NVA0B5, SET_SRC_PHYS_MODE,
			  NVDEF(NVA0B5, SET_SRC_PHYS_MODE, TARGET, LOCAL_FB));
		PUSH_IMMD(push, NVA0B5, SET_DST_PHYS_MODE,
			  NVDEF(NVA0B5, SET_DST_PHYS_MODE, TARGET, COHERENT_SYSMEM));
	}
	PUSH_MTHD(push, NVA0B5, OFFSET_IN_UPPER, upper_32_bits(src),
				OFFSET_IN_LOWER, lower_32_bits(src),
				OFFSET_OUT_UPPER, upper_32_bits(dst),
				OFFSET_OUT_LOWER, lower_32_bits(dst),
				PITCH_IN, PAGE_SIZE,
				PITCH_OUT, PAGE_SIZE,
				LINE_LENGTH_IN, PAGE_SIZE,
				LINE_COUNT, job->npages);
	PUSH_MTHD(push, NVA0B5, LAUNCH_DMA, LAUNCH |
		  NVDEF(NVA0B5, LAUNCH_DMA, SRC_TYPE, PHYSICAL) |
		  NVDEF(NVA0B5, LAUNCH_DMA, MULTI_LINE_ENABLE, TRUE) |
		  NVDEF(NVA0B5, LAUNCH_DMA, REMAP_ENABLE, FALSE));
}

/*
 * Starts @nr jobs, and gives the fence that is signalled behind the last of
 * them. If this fails, none of them has been started, unless the channel was
 * killed, in which case none ever will be. TTM uses the channel as well, and
 * takes the same mutex for it.
 */
int nouveau_dmem_hw_submit(struct nouveau_drm *drm,
			   const struct nouveau_dmem_hw_job *jobs, u32 nr,
			   struct nouveau_fence **fence)
{
	struct nouveau_channel *chan = drm->ttm.chan;
	struct nvif_push *push = &chan->chan.push;
	u32 *bgn, *cur;
	int ret;

	*fence = NULL;
	if (nr > NOUVEAU_DMEM_HW_JOBS)
		return -EINVAL;
	/* No address is beyond these, unless something is wrong with it. */
	for (u32 i = 0; i < nr; i++) {
		u64 size = (u64)jobs[i].npages << PAGE_SHIFT;

		if ((jobs[i].host + size - 1) >> ADDRESS_BITS ||
		    (jobs[i].vram + size - 1) >> ADDRESS_BITS)
			return -EIO;
	}

	guard(mutex)(&chan->cli->mutex);

	/*
	 * Room for everything at once: what waits for room would send what is
	 * there, and then there is no way back.
	 */
	ret = PUSH_WAIT(push, nr * JOB_WORDS + FENCE_WORDS);
	if (ret)
		return ret;

	bgn = push->bgn;
	cur = push->cur;
	for (u32 i = 0; i < nr; i++) {
		if (jobs[i].way == NOUVEAU_DMEM_HW_CLEAR_VRAM)
			push_clear(push, &jobs[i]);
		else
			push_copy(push, &jobs[i]);
	}

	/* This sends them. */
	ret = nouveau_fence_new(fence, chan);
	if (ret && push->bgn == bgn)
		push->cur = cur;
	return ret;
}

/* How a fence that is signalled has ended: 0, or why it was given up. */
int nouveau_dmem_hw_fence_status(struct nouveau_fence *fence)
{
	return min(dma_fence_get_status(&fence->base), 0);
}
