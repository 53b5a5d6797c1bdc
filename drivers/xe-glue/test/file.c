// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/xe_card: processes ask for what GPUs do with their memory, and for what
 * goes wrong.
 */
#include "card.h"

#include <linux/miscdevice.h>
#include <linux/module.h>

#include <drm/drm_drv.h>

/* What a process has of the cards: as a virtual machine of xe's, it keeps pagemaps. */
struct card_file {
	struct mutex lock;	/* protects @pagemaps */
	struct xe_pagemap *pagemaps[NR_CARDS];
};

static int file_open(struct inode *inode, struct file *file)
{
	struct card_file *cf = kzalloc_obj(*cf);

	if (!cf)
		return -ENOMEM;
	mutex_init(&cf->lock);
	file->private_data = cf;
	return 0;
}

static void file_forget(struct card_file *cf, unsigned int index)
{
	if (cf->pagemaps[index])
		drm_pagemap_put(&cf->pagemaps[index]->dpagemap);
	cf->pagemaps[index] = NULL;
}

static int file_release(struct inode *inode, struct file *file)
{
	struct card_file *cf = file->private_data;

	for (unsigned int i = 0; i < NR_CARDS; i++)
		file_forget(cf, i);
	kfree(cf);
	return 0;
}

/* The pagemap of a card, with a reference. */
static struct xe_pagemap *file_pagemap(struct card_file *cf, unsigned int index)
{
	struct xe_pagemap *pagemap = ERR_PTR(-ENODEV);
	struct xe_device *xe = card_get(index);

	if (!xe)
		return pagemap;
	guard(mutex)(&cf->lock);
	if (cf->pagemaps[index] && cf->pagemaps[index]->vr->xe != xe)
		file_forget(cf, index);
	if (!cf->pagemaps[index]) {
		pagemap = xe_pagemap_find_or_create(xe, xe->tile.vram.dpagemap_cache,
						    &xe->tile.vram);
		if (!IS_ERR(pagemap))
			cf->pagemaps[index] = pagemap;
	}
	if (cf->pagemaps[index]) {
		pagemap = cf->pagemaps[index];
		drm_pagemap_get(&pagemap->dpagemap);
	}
	card_put(xe);
	return pagemap;
}

static int file_migrate(struct card_file *cf, const struct xe_card_range *range)
{
	struct xe_pagemap *pagemap;
	u64 end;
	int err;

	if (!range->len || !PAGE_ALIGNED(range->addr | range->len) ||
	    check_add_overflow(range->addr, range->len, &end))
		return -EINVAL;
	pagemap = file_pagemap(cf, range->card);
	if (IS_ERR(pagemap))
		return PTR_ERR(pagemap);
	err = drm_pagemap_populate_mm(&pagemap->dpagemap, range->addr, end, current->mm,
				      range->timeslice);
	drm_pagemap_put(&pagemap->dpagemap);
	return err;
}

static int file_flip(const struct xe_card_range *range)
{
	struct xe_device *xe = card_get(range->card);

	if (!xe)
		return -ENODEV;
	card_flip(xe, current->mm, range->addr, range->addr + range->len);
	card_put(xe);
	return 0;
}

static int file_evict(unsigned long index)
{
	struct xe_device *xe = index < NR_CARDS ? card_get(index) : NULL;
	int err;

	if (!xe)
		return -ENODEV;
	err = card_evict(xe);
	card_put(xe);
	return err;
}

static int file_set(const struct xe_card_set *set)
{
	struct xe_device *xe;

	switch (set->what) {
	case XE_CARD_FAIL_BO:
	case XE_CARD_FAIL_FENCE:
	case XE_CARD_FAIL_JOB:
	case XE_CARD_FAIL_CLEAR:
		if (set->value > INT_MAX)
			return -EINVAL;
		atomic_set(&world.failures[set->what], set->value);
		return 0;
	case XE_CARD_FAILING:
		if (set->value > INT_MAX)
			return -EINVAL;
		atomic_set(&world.failing, set->value);
		return 0;
	case XE_CARD_HELD:
		WRITE_ONCE(world.held, set->value);
		wake_up_all(&world.wait);
		return 0;
	case XE_CARD_FRAGMENTED:
		WRITE_ONCE(world.fragmented, set->value);
		return 0;
	case XE_CARD_APART:
		WRITE_ONCE(world.apart, set->value);
		return 0;
	case XE_CARD_DEAD:
		WRITE_ONCE(world.dead, set->value);
		return 0;
	case XE_CARD_WINDOW:
		WRITE_ONCE(world.window, set->value ?: CARD_SIZE);
		return 0;
	case XE_CARD_ASLEEP:
		xe = card_get(set->card);
		if (!xe)
			return -ENODEV;
		if (atomic_read(&xe->nr_awake)) {
			card_put(xe);
			return -EBUSY;
		}
		memset(xe->vram, 0x5a, CARD_SIZE);
		WRITE_ONCE(xe->asleep, true);
		card_put(xe);
		return 0;
	case XE_CARD_SIZE:
		xe = card_get(set->card);
		if (!xe)
			return -ENODEV;
		xe->tile.vram.usable_size = set->value ?: CARD_SIZE;
		card_put(xe);
		return 0;
	default:
		return -EINVAL;
	}
}

static int file_kept(unsigned int index)
{
	struct xe_device *xe = card_get(index);
	struct drm_pagemap_cache *cache;
	struct drm_pagemap *dpagemap;
	int ret;

	if (!xe)
		return -ENODEV;
	cache = xe->tile.vram.dpagemap_cache;
	ret = drm_pagemap_cache_lock_lookup(cache);
	if (ret)
		goto out;
	dpagemap = drm_pagemap_get_from_cache(cache);
	drm_pagemap_cache_unlock_lookup(cache);
	ret = PTR_ERR_OR_ZERO(dpagemap);
	if (!IS_ERR_OR_NULL(dpagemap)) {
		drm_pagemap_put(dpagemap);
		ret = 1;
	}
out:
	card_put(xe);
	return ret;
}

static void file_state(struct card_file *cf, struct xe_card_state *state)
{
	/* What is on its way to be freed is not there any more. */
	flush_workqueue(card_wq);
	rcu_barrier();
	state->nr_bos = atomic_read(&world.nr_bos);
	state->nr_fences = atomic_read(&world.nr_fences);
	state->nr_jobs = atomic_long_read(&world.nr_jobs);
	state->nr_peer_pages = atomic_long_read(&world.nr_peer_pages);
	state->nr_failed = atomic_long_read(&world.nr_failed);
	state->nr_woken = atomic_long_read(&world.nr_woken);
	state->nr_awake = 0;
	for (unsigned int i = 0; i < NR_CARDS; i++) {
		struct xe_device *xe = card_get(i);

		if (xe) {
			state->nr_awake += atomic_read(&xe->nr_awake);
			card_put(xe);
		}
	}
	guard(mutex)(&cf->lock);
	state->one_owner = cf->pagemaps[0] && cf->pagemaps[1] &&
			   cf->pagemaps[0]->peer.owner == cf->pagemaps[1]->peer.owner;
}

static long file_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct card_file *cf = file->private_data;
	void __user *argp = (void __user *)arg;
	struct xe_card_range range;
	struct xe_card_state state;
	struct xe_card_set set;

	switch (cmd) {
	case XE_CARD_MIGRATE:
	case XE_CARD_FLIP:
		if (copy_from_user(&range, argp, sizeof(range)))
			return -EFAULT;
		return cmd == XE_CARD_FLIP ? file_flip(&range) : file_migrate(cf, &range);
	case XE_CARD_EVICT:
		return file_evict(arg);
	case XE_CARD_UNBIND:
		return card_unbind(arg);
	case XE_CARD_BIND:
		return card_bind(arg);
	case XE_CARD_SET:
		if (copy_from_user(&set, argp, sizeof(set)))
			return -EFAULT;
		return file_set(&set);
	case XE_CARD_STATE:
		file_state(cf, &state);
		return copy_to_user(argp, &state, sizeof(state)) ? -EFAULT : 0;
	case XE_CARD_KEPT:
		return file_kept(arg);
	case XE_CARD_AWAIT:
		return wait_event_killable(world.wait, READ_ONCE(world.waiting));
	default:
		return -ENOTTY;
	}
}

static const struct file_operations file_ops = {
	.owner		= THIS_MODULE,
	.open		= file_open,
	.release	= file_release,
	.unlocked_ioctl	= file_ioctl,
};

static struct miscdevice misc = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "xe_card",
	.fops	= &file_ops,
};

int card_file_init(void)
{
	return misc_register(&misc);
}

void card_file_fini(void)
{
	misc_deregister(&misc);
}
