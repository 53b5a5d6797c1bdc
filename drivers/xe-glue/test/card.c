// SPDX-License-Identifier: GPL-2.0
/*
 * Cards in place of xe's, and what the rest of xe does for their memory.
 */
#include "card.h"

#include <linux/bitmap.h>
#include <linux/dma-mapping.h>
#include <linux/module.h>
#include <linux/spinlock.h>
#include <linux/vmalloc.h>

#include <drm/drm_drv.h>
#include <drm/drm_file.h>
#include <drm/drm_ioctl.h>
#include <drm/drm_managed.h>

struct card_world world = {
	.wait = __WAIT_QUEUE_HEAD_INITIALIZER(world.wait),
	.window = CARD_SIZE,
};
DRM_PAGEMAP_OWNER_LIST_DEFINE(card_owners);

struct workqueue_struct *card_wq;

/* One binds or unbinds at a time. */
static DEFINE_MUTEX(slots_lock);
static struct faux_device *slots[NR_CARDS];

/* Those that can be found. */
static DEFINE_SPINLOCK(cards_lock);
static struct xe_device *cards[NR_CARDS];

bool card_fails(unsigned int what)
{
	if (atomic_dec_if_positive(&world.failures[what]))
		return false;
	atomic_long_inc(&world.nr_failed);
	return true;
}

static const struct file_operations drm_fops = {
	.owner		= THIS_MODULE,
	.open		= drm_open,
	.release	= drm_release,
	.unlocked_ioctl	= drm_ioctl,
	.fop_flags	= FOP_UNSIGNED_OFFSET,
};

static void card_release(struct drm_device *drm)
{
	struct xe_device *xe = container_of(drm, struct xe_device, drm);

	/* Pagemaps are destroyed on one of them. */
	if (xe->engine)
		destroy_workqueue(xe->engine);
	if (xe->cleaner)
		destroy_workqueue(xe->cleaner);
	if (xe->destroy_wq)
		destroy_workqueue(xe->destroy_wq);
	WARN(!list_empty(&xe->bos), "buffers are left over\n");
	WARN(atomic_read(&xe->nr_awake), "%d references keep a card awake\n",
	     atomic_read(&xe->nr_awake));
	bitmap_free(xe->used);
	vfree(xe->vram);
}

static const struct drm_driver drm_driver = {
	.name		= "xe_card",
	.desc		= "a card in place of xe's",
	.major		= 1,
	.fops		= &drm_fops,
	.release	= card_release,
};

/* As xe does it: the shrinker first, then the tile's cache, and no pagemap yet. */
static int card_probe(struct faux_device *fdev)
{
	struct device *dev = &fdev->dev;
	struct xe_device *xe;
	int err;

	dev->dma_mask = &dev->coherent_dma_mask;
	err = dma_set_mask_and_coherent(dev, DMA_BIT_MASK(64));
	if (err)
		return err;
	xe = devm_drm_dev_alloc(dev, &drm_driver, struct xe_device, drm);
	if (IS_ERR(xe))
		return PTR_ERR(xe);
	if (sscanf(dev_name(dev), "xe_card%u", &xe->index) != 1 || xe->index >= NR_CARDS)
		return -EINVAL;
	mutex_init(&xe->lock);
	INIT_LIST_HEAD(&xe->bos);
	xe->tile.xe = xe;
	xe->tile.vram.xe = xe;
	xe->tile.vram.usable_size = CARD_SIZE;
	xe->vram = vmalloc(CARD_SIZE);
	xe->used = bitmap_zalloc(CARD_SIZE >> PAGE_SHIFT, GFP_KERNEL);
	xe->destroy_wq = alloc_workqueue("xe_card-destroy", WQ_PERCPU | WQ_MEM_RECLAIM, 0);
	if (!xe->vram || !xe->used || !xe->destroy_wq)
		return -ENOMEM;
	/* What somebody else may have left there. */
	memset(xe->vram, 0xa5, CARD_SIZE);
	err = card_engine_init(xe);
	if (!err)
		err = xe_pagemap_shrinker_create(xe);
	if (!err)
		err = xe_pagemap_cache_create(&xe->tile);
	if (!err)
		err = drm_dev_register(&xe->drm, 0);
	if (err)
		return err;
	dev_set_drvdata(dev, xe);
	guard(spinlock)(&cards_lock);
	cards[xe->index] = xe;
	return 0;
}

/* Buffers are evicted while the card is still there. What devres has, goes next. */
static void card_remove(struct faux_device *fdev)
{
	struct xe_device *xe = dev_get_drvdata(&fdev->dev);

	drm_dev_unplug(&xe->drm);
	while (card_evict(xe))
		cond_resched();
	/* Until now a peer may have copied from it. */
	guard(spinlock)(&cards_lock);
	cards[xe->index] = NULL;
}

static const struct faux_device_ops card_ops = {
	.probe	= card_probe,
	.remove	= card_remove,
};

int card_bind(unsigned int index)
{
	struct faux_device *fdev;
	char name[16];

	guard(mutex)(&slots_lock);
	if (index >= NR_CARDS)
		return -EINVAL;
	if (slots[index])
		return -EBUSY;
	snprintf(name, sizeof(name), "xe_card%u", index);
	fdev = faux_device_create_with_groups(name, NULL, &card_ops, NULL);
	if (!fdev)
		return -ENODEV;
	slots[index] = fdev;
	return 0;
}

int card_unbind(unsigned int index)
{
	guard(mutex)(&slots_lock);
	if (index >= NR_CARDS || !slots[index])
		return -ENODEV;
	faux_device_destroy(slots[index]);
	slots[index] = NULL;
	return 0;
}

struct xe_device *card_get(unsigned int index)
{
	struct xe_device *xe;

	guard(spinlock)(&cards_lock);
	xe = index < NR_CARDS ? cards[index] : NULL;
	if (xe)
		drm_dev_get(&xe->drm);
	return xe;
}

void card_put(struct xe_device *xe)
{
	drm_dev_put(&xe->drm);
}

/* What the Rust code calls. */

u64 xe_pagemap_hw_size(const struct xe_vram_region *vr)
{
	return vr->usable_size;
}

u64 xe_pagemap_hw_dpa_base(const struct xe_vram_region *vr)
{
	return CARD_DPA_BASE;
}

u64 xe_pagemap_hw_io_start(const struct xe_vram_region *vr)
{
	return CARD_IO_START + vr->xe->index * CARD_SIZE;
}

u64 xe_pagemap_hw_io_size(const struct xe_vram_region *vr)
{
	return READ_ONCE(world.window);
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
	xe->shrinker = shrinker;
}

struct drm_pagemap_shrinker *xe_pagemap_hw_shrinker(struct xe_tile *tile)
{
	return tile->xe->shrinker;
}

void xe_pagemap_hw_set_cache(struct xe_tile *tile, struct drm_pagemap_cache *cache)
{
	tile->vram.dpagemap_cache = cache;
}

struct drm_pagemap_owner_list *xe_pagemap_hw_owner_list(void)
{
	return &card_owners;
}

bool xe_pagemap_hw_interconnect(struct drm_pagemap_peer *one, struct drm_pagemap_peer *other)
{
	struct xe_pagemap *a = container_of(one, struct xe_pagemap, peer);
	struct xe_pagemap *b = container_of(other, struct xe_pagemap, peer);

	return a->dpagemap.drm->dev == b->dpagemap.drm->dev || !READ_ONCE(world.apart);
}

static int __init card_init(void)
{
	int err;

	card_wq = alloc_workqueue("xe_card", WQ_UNBOUND, 0);
	if (!card_wq)
		return -ENOMEM;
	err = card_file_init();
	if (err) {
		destroy_workqueue(card_wq);
		return err;
	}
	for (unsigned int i = 0; i < NR_CARDS && !err; i++)
		err = card_bind(i);
	if (err) {
		for (unsigned int i = 0; i < NR_CARDS; i++)
			card_unbind(i);
		card_file_fini();
		destroy_workqueue(card_wq);
	}
	return err;
}
module_init(card_init);

static void __exit card_exit(void)
{
	card_file_fini();
	for (unsigned int i = 0; i < NR_CARDS; i++)
		card_unbind(i);
	destroy_workqueue(card_wq);
	/* The last references to fences go away by RCU. */
	rcu_barrier();
	WARN(atomic_read(&world.nr_bos), "%d buffers are left over\n",
	     atomic_read(&world.nr_bos));
	WARN(atomic_read(&world.nr_fences), "%d fences are left over\n",
	     atomic_read(&world.nr_fences));
	WARN(!list_empty(&card_owners.peers), "a peer is left over\n");
}
module_exit(card_exit);

MODULE_DESCRIPTION("cards in place of xe's, and xe's pagemaps in Rust");
MODULE_LICENSE("GPL");
