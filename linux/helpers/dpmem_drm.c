// SPDX-License-Identifier: GPL-2.0

/* What the crate dpmem_drm needs of static inlines, as dpmem.c has it. */
#include <drm/drm_pagemap.h>
#include <linux/dma-fence.h>

#if IS_ENABLED(CONFIG_RUST_DPMEM_DRM)

/* include/linux/dma-fence.h */

__rust_helper void rust_helper_dma_fence_put(struct dma_fence *fence)
{
	dma_fence_put(fence);
}

/* include/drm/drm_pagemap.h */

__rust_helper struct drm_pagemap_addr
rust_helper_drm_pagemap_addr_encode(dma_addr_t addr, enum drm_interconnect_protocol proto,
				    unsigned int order, enum dma_data_direction dir)
{
	return drm_pagemap_addr_encode(addr, proto, order, dir);
}

__rust_helper enum dma_data_direction
rust_helper_drm_pagemap_addr_dir(const struct drm_pagemap_addr *addr)
{
	return addr->dir;
}

#endif
