// SPDX-License-Identifier: GPL-2.0
/*
 * A card in place of nouveau's: its memory, and the buffers in it.
 */
#define CONFIG_DRM_NOUVEAU_SVM 1
#include "card.h"

#include <core/device.h>
#include <linux/device/faux.h>
#include <linux/dma-mapping.h>
#include <linux/mmu_notifier.h>
#include <linux/module.h>
#include <nvif/class.h>

static unsigned int vram = 1024;
module_param(vram, uint, 0444);
MODULE_PARM_DESC(vram, "how much memory the card has, in MiB");

/* There is one, for as long as a driver is loaded. */
struct card *card;

bool card_fails(struct card *card, enum card_failure what)
{
	/* Below 0, all do. */
	if (atomic_read(&card->failures[what]) >= 0 &&
	    atomic_dec_if_positive(&card->failures[what]))
		return false;
	atomic_long_inc(&card->nr_failed);
	return true;
}

static struct card *card_of_cli(struct nouveau_cli *cli)
{
	return container_of(cli, struct card, drm.client);
}

static struct card_bo *to_card_bo(struct nouveau_bo *bo)
{
	return container_of(bo, struct card_bo, bo);
}

static size_t card_bo_units(struct card_bo *bo)
{
	return DIV_ROUND_UP(bo->nr, CARD_UNIT / PAGE_SIZE);
}

/*
 * Finds a place, behind the last one that was found, so that it is seldom the
 * one that a buffer had before.
 */
static int card_bo_place(struct card *card, struct card_bo *bo)
{
	size_t nr = card_bo_units(bo);

	guard(mutex)(&card->lock);
	for (size_t tried = 0; tried < card->nr_units; tried++) {
		size_t first = (card->cursor + tried) % card->nr_units;
		size_t i;

		if (first + nr > card->nr_units)
			continue;
		for (i = 0; i < nr && !card->units[first + i]; i++)
			;
		if (i < nr)
			continue;
		for (i = 0; i < nr; i++)
			card->units[first + i] = bo;
		card->cursor = first + nr;
		bo->bo.offset = first * CARD_UNIT;
		bo->pinned = true;
		card->nr_pinned += bo->nr;
		return 0;
	}
	return -ENOMEM;
}

static void card_bo_displace(struct card *card, struct card_bo *bo)
{
	guard(mutex)(&card->lock);
	if (WARN(!bo->pinned, "a buffer is unpinned that is not pinned\n"))
		return;
	for (size_t i = 0; i < card_bo_units(bo); i++)
		card->units[bo->bo.offset / CARD_UNIT + i] = NULL;
	bo->pinned = false;
	card->nr_pinned -= bo->nr;
	bo->bo.offset = ~0ULL << PAGE_SHIFT;
}

static int card_page_new(struct card_bo *bo, size_t i, gfp_t gfp)
{
	bo->pages[i] = alloc_page(gfp);
	if (!bo->pages[i])
		return -ENOMEM;
	/* What somebody else may have left there. */
	memset(page_address(bo->pages[i]), 0xa5, PAGE_SIZE);
	return 0;
}

/*
 * All pages of a buffer that is not too large for that. The others come later.
 * They are the card's memory, and there are as many as the card has: where each
 * allocation fails in turn, that is about the driver's.
 */
static void card_bo_fill(struct card_bo *bo)
{
	if (bo->nr > CARD_UNIT / PAGE_SIZE)
		return;
	for (size_t i = 0; i < bo->nr; i++)
		card_page_new(bo, i, GFP_KERNEL | __GFP_NOFAIL);
}

static void card_bo_free(struct card_bo *bo)
{
	for (size_t i = 0; bo->pages && i < bo->nr; i++)
		if (bo->pages[i])
			__free_page(bo->pages[i]);
	kvfree(bo->pages);
	kfree(bo);
}

int nouveau_bo_new_pin(struct nouveau_cli *cli, u32 domain, u32 size,
		       struct nouveau_bo **pbo)
{
	struct card *card = card_of_cli(cli);
	struct card_bo *bo;
	int ret;

	if (WARN_ON(domain != NOUVEAU_GEM_DOMAIN_VRAM))
		return -EINVAL;
	if (card_fails(card, CARD_FAIL_NEW))
		return -ENOMEM;

	bo = kzalloc_obj(*bo);
	if (!bo)
		return -ENOMEM;
	bo->nr = DIV_ROUND_UP(size, PAGE_SIZE);
	bo->pages = kvcalloc(bo->nr, sizeof(*bo->pages), GFP_KERNEL);
	ret = bo->pages ? card_bo_place(card, bo) : -ENOMEM;
	if (ret) {
		card_bo_free(bo);
		return ret;
	}
	card_bo_fill(bo);
	atomic_inc(&card->nr_bos);
	*pbo = &bo->bo;
	return 0;
}
EXPORT_SYMBOL_GPL(nouveau_bo_new_pin);

int nouveau_bo_pin(struct nouveau_bo *nvbo, u32 domain, bool contig)
{
	struct card_bo *bo = to_card_bo(nvbo);

	if (WARN_ON(domain != NOUVEAU_GEM_DOMAIN_VRAM))
		return -EINVAL;
	if (WARN(bo->pinned, "a buffer is pinned twice\n"))
		return -EBUSY;
	if (card_fails(card, CARD_FAIL_PIN))
		return -ENOMEM;
	return card_bo_place(card, bo);
}
EXPORT_SYMBOL_GPL(nouveau_bo_pin);

int nouveau_bo_unpin(struct nouveau_bo *nvbo)
{
	card_bo_displace(card, to_card_bo(nvbo));
	return 0;
}
EXPORT_SYMBOL_GPL(nouveau_bo_unpin);

void nouveau_bo_unpin_del(struct nouveau_bo **pbo)
{
	struct card_bo *bo;

	if (!*pbo)
		return;
	bo = to_card_bo(*pbo);
	card_bo_displace(card, bo);
	card_bo_free(bo);
	atomic_dec(&card->nr_bos);
	*pbo = NULL;
}
EXPORT_SYMBOL_GPL(nouveau_bo_unpin_del);

/* What nouveau_bo_fini() calls. */
void ttm_bo_fini(struct ttm_buffer_object *ttm)
{
	struct card_bo *bo = to_card_bo(nouveau_bo(ttm));

	WARN(bo->pinned, "a buffer is pinned, and goes away\n");
	card_bo_free(bo);
	atomic_dec(&card->nr_bos);
}
EXPORT_SYMBOL_GPL(ttm_bo_fini);

bool drm_dev_enter(struct drm_device *dev, int *idx)
{
	*idx = 0;
	return !READ_ONCE(card->unplugged);
}
EXPORT_SYMBOL_GPL(drm_dev_enter);

void drm_dev_exit(int idx)
{
}
EXPORT_SYMBOL_GPL(drm_dev_exit);

/* Only an ioctl wakes the card up, and it will. */
int card_request_resume(struct device *dev)
{
	return 0;
}
EXPORT_SYMBOL_GPL(card_request_resume);

struct page *card_vram(struct card *card, u64 addr)
{
	struct card_bo *bo = NULL;
	size_t i;

	guard(mutex)(&card->lock);
	if (addr / CARD_UNIT < card->nr_units)
		bo = card->units[addr / CARD_UNIT];
	if (WARN(!bo, "nobody has memory at %llx of the card\n", addr))
		return NULL;
	i = (addr - bo->bo.offset) >> PAGE_SHIFT;
	/* The caller may have a lock that notifiers take. */
	if (!bo->pages[i] && card_page_new(bo, i, GFP_NOWAIT))
		return NULL;
	return bo->pages[i];
}

static int card_init(struct card *card)
{
	struct device *dev;
	int ret;

	mutex_init(&card->lock);
	init_waitqueue_head(&card->fault_wait);
	card->nr_units = ((u64)vram << 20) / CARD_UNIT;
	card->units = kvcalloc(card->nr_units, sizeof(*card->units), GFP_KERNEL);
	if (!card->units)
		return -ENOMEM;

	card->fdev = faux_device_create("nouveau_card", NULL, NULL);
	if (!card->fdev)
		return -ENODEV;
	dev = &card->fdev->dev;
	dev->dma_mask = &dev->coherent_dma_mask;
	ret = dma_set_mask_and_coherent(dev, DMA_BIT_MASK(47));
	if (ret)
		return ret;

	card->dev.dev = dev;
	card->drm.dev = &card->dev;
	card->drm.nvkm = kzalloc_obj(*card->drm.nvkm);
	if (!card->drm.nvkm)
		return -ENOMEM;
	card->drm.nvkm->dev = dev;
	card->drm.client.drm = &card->drm;
	mutex_init(&card->drm.client.mutex);
	/* That there is one is all that is looked at. */
	card->drm.svm = (struct nouveau_svm *)card;
	card->drm.client.device.info.family = NV_DEVICE_INFO_V0_PASCAL;
	card->drm.client.device.info.ram_size = card->nr_units * CARD_UNIT;
	card->drm.client.device.info.ram_user = card->nr_units * CARD_UNIT;
	card->drm.ttm.copy.oclass = PASCAL_DMA_COPY_A;
	card->drm.ttm.chan = &card->chan;
	card->chan.cli = &card->drm.client;
	return card_engine_init(card);
}

static void card_fini(struct card *card)
{
	card_engine_fini(card);
	WARN(atomic_read(&card->nr_bos), "%d buffers are left over\n",
	     atomic_read(&card->nr_bos));
	WARN(atomic_read(&card->nr_fences), "%d fences are left over\n",
	     atomic_read(&card->nr_fences));
	kfree(card->drm.nvkm);
	if (card->fdev)
		faux_device_destroy(card->fdev);
	kvfree(card->units);
	kfree(card);
}

void card_bind(struct card *card)
{
	WRITE_ONCE(card->unplugged, false);
	WRITE_ONCE(card->gone, false);
	atomic_set(&card->chan.killed, 0);
	card->driver->init(&card->drm);
}

/* nouveau_drm_device_remove() unplugs first, whatever the reason. */
void card_unbind(struct card *card)
{
	WRITE_ONCE(card->unplugged, true);
	card->driver->fini(&card->drm);
}

/* Takes a card into service, of whose memory @driver takes care. */
int card_register(const struct card_driver *driver)
{
	int ret;

	if (card)
		return -EBUSY;
	card = kzalloc_obj(*card);
	if (!card)
		return -ENOMEM;
	card->driver = driver;
	ret = card_init(card);
	if (!ret) {
		card_bind(card);
		ret = card_file_init();
		if (ret)
			card_unbind(card);
	}
	if (ret) {
		card_fini(card);
		card = NULL;
		return ret;
	}
	pr_info("a card with %zu MiB, its memory %s\n",
		card->nr_units * CARD_UNIT >> 20, driver->name);
	return 0;
}
EXPORT_SYMBOL_GPL(card_register);

/* Takes it away again. No file is open: each has a reference to the driver's module. */
void card_unregister(void)
{
	card_file_fini();
	/* What was open may still have notifiers that are on their way to be freed. */
	mmu_notifier_synchronize();
	card_unbind(card);
	card_fini(card);
	card = NULL;
}
EXPORT_SYMBOL_GPL(card_unregister);

MODULE_DESCRIPTION("a card in place of nouveau's");
MODULE_LICENSE("GPL");
