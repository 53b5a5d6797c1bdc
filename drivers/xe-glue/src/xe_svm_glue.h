/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the Rust code for pagemaps calls, and what is static in xe_svm.c. Included
 * there, once.
 */
#include "pagemap/hw.h"

struct drm_pagemap_owner_list *xe_pagemap_hw_owner_list(void)
{
	/* The Rust code makes pagemaps whose peers have NULL for this. */
	BUILD_BUG_ON(XE_PEER_PAGEMAP != NULL);
	return &xe_owner_list;
}

bool xe_pagemap_hw_interconnect(struct drm_pagemap_peer *one, struct drm_pagemap_peer *other)
{
	return xe_has_interconnect(one, other);
}

int xe_pagemap_hw_populate_mm(struct drm_pagemap *dpagemap, unsigned long start,
			      unsigned long end, struct mm_struct *mm,
			      unsigned long timeslice_ms)
{
	return xe_drm_pagemap_populate_mm(dpagemap, start, end, mm, timeslice_ms);
}
