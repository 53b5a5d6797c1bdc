/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __XE_CARD_H__
#define __XE_CARD_H__

#include <linux/device/faux.h>
#include <linux/dma-fence.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/workqueue.h>

#include <drm/drm_device.h>
#include <drm/drm_pagemap.h>
#include <drm/drm_pagemap_util.h>

#include "hw.h"
#include "uapi.h"
#include "xe_pagemap.h"

#define NR_CARDS	2
/* What stands for a card's bus address: behind everything that a machine has. */
#define CARD_IO_START	BIT_ULL(45)
/* How much memory a card has, in bytes. */
#define CARD_SIZE	(32UL << 20)
/* A card's own address of its memory. */
#define CARD_DPA_BASE	BIT_ULL(32)

/* Of a tile; here the only one that a card has. */
struct xe_vram_region {
	struct xe_device *xe;
	u64 usable_size;
	struct drm_pagemap_cache *dpagemap_cache;
};

struct xe_tile {
	struct xe_device *xe;
	struct xe_vram_region vram;
};

/*
 * @lock: protects @used, @bos, and the engine's fences.
 * @vram: what the card has.
 * @used: a bit for each page that a buffer has.
 * @nr_awake: how many references keep the card from sleeping.
 */
struct xe_device {
	struct drm_device drm;
	struct xe_tile tile;
	struct drm_pagemap_shrinker *shrinker;
	struct workqueue_struct *destroy_wq;
	struct workqueue_struct *engine, *cleaner;
	unsigned int index;

	struct mutex lock;		/* see above */
	u8 *vram;
	unsigned long *used;
	struct list_head bos;
	atomic_t nr_awake;
	bool asleep;
	spinlock_t fence_lock;		/* what dma_fence wants */
	u64 fence_context;
	atomic64_t fence_seqno;
};

/* Who was here last goes away here. */
extern struct workqueue_struct *card_wq;

/* A buffer is in one piece, or in two. */
struct card_block {
	u64 offset;
	u64 size;
};

/* @lock: held while memory is migrated into the buffer, or evicted from it, as xe does. */
struct card_bo {
	struct drm_pagemap_devmem devmem;
	struct mutex lock;		/* see above */
	struct xe_device *xe;
	struct kref ref;
	struct list_head link;
	struct work_struct free_work;
	struct card_block blocks[2];
	unsigned int nr_blocks;
	unsigned long start;
};

/* What there is once for all cards; see uapi.h. */
struct card_world {
	atomic_t nr_bos, nr_fences;
	atomic_long_t nr_jobs, nr_peer_pages, nr_failed, nr_woken;
	atomic_t failures[XE_CARD_FAIL_CLEAR + 1], failing;
	wait_queue_head_t wait;
	unsigned int held;
	bool waiting, fragmented, apart, dead;
	/* How much of each card's memory the other one reaches, in bytes. */
	u64 window;
};

extern struct card_world world;
extern struct drm_pagemap_owner_list card_owners;

bool card_fails(unsigned int what);

/* A card is there while its driver is bound; NULL otherwise. With a reference. */
struct xe_device *card_get(unsigned int index);
void card_put(struct xe_device *xe);
int card_bind(unsigned int index);
int card_unbind(unsigned int index);

int card_evict(struct xe_device *xe);
void card_flip(struct xe_device *xe, struct mm_struct *mm, unsigned long start,
	       unsigned long end);

int card_engine_init(struct xe_device *xe);
/* Fills a buffer with zeroes. */
struct dma_fence *card_clear(struct card_bo *bo);

int card_file_init(void);
void card_file_fini(void);

#endif
