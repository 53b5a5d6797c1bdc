/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __NOUVEAU_CARD_H__
#define __NOUVEAU_CARD_H__

#include "nouveau_drv.h"
#include "nouveau_bo.h"
#include "nouveau_chan.h"
#include "nouveau_fence.h"
#include "nouveau_svm.h"

#include <linux/xarray.h>

/* Memory of the card is handed out in units of so many bytes. */
#define CARD_UNIT	(2UL << 20)

/* What nouveau_dmem.h declares. */
struct card_driver {
	struct module *owner;
	const char *name;
	/* nouveau_svm.c leaves what these migrations invalidate to them. */
	bool invalidates;
	void (*init)(struct nouveau_drm *drm);
	void (*fini)(struct nouveau_drm *drm);
	void (*suspend)(struct nouveau_drm *drm);
	void (*resume)(struct nouveau_drm *drm);
	int (*migrate_vma)(struct nouveau_drm *drm, struct nouveau_svmm *svmm,
			   struct vm_area_struct *vma, unsigned long start,
			   unsigned long end);
	unsigned long (*page_addr)(struct page *page);
};

enum card_failure {
	CARD_FAIL_NEW,
	CARD_FAIL_PIN,
	CARD_FAIL_FENCE,
	CARD_FAIL_JOB,
	CARD_FAIL_ROOM,
	CARD_NR_FAILURES,
};

struct card_bo {
	struct nouveau_bo bo;
	size_t nr;
	/* By 4 KiB or whatever a page has; NULL was never written. */
	struct page **pages;
	bool pinned;
};

/*
 * @lock: protects @units, the placement of buffers, and @cursor.
 * @faults: how many faults of the GPU are being served; below 0 if none is to be.
 * @nr_bos, @nr_fences, @nr_jobs: how many there are, and were done.
 * @nr_pinned: how many pages the buffers have that are pinned, under @lock.
 * @nr_failed: how often something has failed on purpose.
 * @nr_refused, @nr_bare: what was asked for with a page size that the GPU does not have, and what
 *	was sent while nobody had locked the channel.
 * @nr_lost: how often the driver went, and left what it had for the card.
 * @failures: what is to fail, and after how many more times.
 */
struct card {
	const struct card_driver *driver;
	struct nouveau_drm drm;
	struct drm_device dev;
	struct nouveau_channel chan;
	struct faux_device *fdev;

	struct mutex lock;		/* see above */
	struct card_bo **units;
	size_t nr_units, cursor, nr_pinned;

	atomic_t faults;		/* see above */
	wait_queue_head_t fault_wait;

	atomic_t nr_bos, nr_fences;
	atomic_long_t nr_jobs, nr_failed, nr_refused, nr_bare, nr_lost;
	atomic_t failures[CARD_NR_FAILURES];

	u32 *push;
	struct workqueue_struct *engine;
	spinlock_t fence_lock;		/* what dma_fence wants */
	u64 fence_context, fence_seqno;
	wait_queue_head_t engine_wait;
	/* The engine stops before its next job; is there; somebody has given up waiting for it. */
	bool held, waiting, late;
	/* nouveau is being unbound, or has been; it was pulled out. */
	bool unplugged, gone;
	/* The driver was asked to put it to sleep, or to go away, and not to undo that. */
	bool going;
};

/* The address space of a process, as the GPU sees it. */
struct card_svmm {
	struct nouveau_svmm base;
	struct card *card;
	/* Protected by the mutex of @base, as is what somebody looks at. */
	struct xarray ptes;
	struct page *looked_at;
};

extern struct card *card;

bool card_fails(struct card *card, enum card_failure what);
/* The page of VRAM at @addr; complains and gives NULL if it is nobody's. */
struct page *card_vram(struct card *card, u64 addr);

int card_engine_init(struct card *card);
/* The next who pushes something has to ask for room. */
void card_engine_fill(struct card *card);
void card_engine_fini(struct card *card);

struct card_svmm *card_svmm_new(struct card *card);
void card_svmm_del(struct card_svmm *svmm);
int card_svmm_access(struct card_svmm *svmm, unsigned long addr, size_t len,
		     void __user *buffer, bool write);

int card_svmm_look(struct card_svmm *svmm, unsigned long addr);
void card_svmm_look_away(struct card_svmm *svmm);

/* The faults of GPUs wait from the one to the other. The caller lets nobody else call them. */
void card_svm_suspend(struct card *card);
void card_svm_resume(struct card *card);

int card_file_init(void);
void card_file_fini(void);

int card_register(const struct card_driver *driver);
void card_unregister(void);
/* The driver goes, and comes back, as when nouveau is unbound and bound. */
void card_unbind(struct card *card);
void card_bind(struct card *card);

#define CARD_DRIVER(_name, _invalidates)				\
static const struct card_driver this_driver = {			\
	.owner		= THIS_MODULE,					\
	.name		= _name,					\
	.invalidates	= _invalidates,					\
	.init		= nouveau_dmem_init,				\
	.fini		= nouveau_dmem_fini,				\
	.suspend	= nouveau_dmem_suspend,				\
	.resume		= nouveau_dmem_resume,				\
	.migrate_vma	= nouveau_dmem_migrate_vma,			\
	.page_addr	= nouveau_dmem_page_addr,			\
};									\
									\
static int __init this_init(void)					\
{									\
	return card_register(&this_driver);				\
}									\
module_init(this_init);							\
									\
static void __exit this_exit(void)					\
{									\
	card_unregister();						\
}									\
module_exit(this_exit);							\
									\
MODULE_DESCRIPTION("nouveau's device memory, " _name);			\
MODULE_LICENSE("GPL")

#endif
