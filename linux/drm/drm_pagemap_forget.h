/* SPDX-License-Identifier: GPL-2.0 */
/*
 * How a cache forgets a pagemap that is destroyed because its device is gone.
 * Included by drm_pagemap_util.c, behind the structures of it.
 */
#ifndef __DRM_PAGEMAP_FORGET_H__
#define __DRM_PAGEMAP_FORGET_H__

#include <linux/completion.h>
#include <linux/spinlock.h>

#include <drm/drm_pagemap.h>

/*
 * A pagemap and the cache that it is in know each other, and neither is freed,
 * for as long as this is held. Taken before the locks of caches and shrinkers.
 */
static DEFINE_SPINLOCK(drm_pagemap_caches);

/* Nobody has a reference to @dpagemap. Whoever waits for it looks again. */
static void drm_pagemap_forget(struct drm_pagemap *dpagemap)
{
	struct drm_pagemap_cache *cache;

	spin_lock(&drm_pagemap_caches);
	cache = dpagemap->cache;
	if (cache) {
		spin_lock(&cache->lock);
		if (cache->dpagemap == dpagemap)
			cache->dpagemap = NULL;
		spin_unlock(&cache->lock);
		complete_all(&cache->queued);
	}
	spin_unlock(&drm_pagemap_caches);
}

#endif
