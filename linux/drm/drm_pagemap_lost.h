/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What becomes of memory on a card that is gone. Included by drm_pagemap.c.
 */
#ifndef __DRM_PAGEMAP_LOST_H__
#define __DRM_PAGEMAP_LOST_H__

#include <linux/highmem.h>
#include <linux/migrate.h>

#include <drm/drm_print.h>

/*
 * Nothing can be copied home from a card that is gone, and while a page of it is
 * somebody's, its memory cannot be unregistered. The processes find zeroes.
 */
static inline int drm_pagemap_lose(struct drm_device *drm, const unsigned long *dst,
				   unsigned long npages)
{
	unsigned long i = 0, lost = 0;

	while (i < npages) {
		struct page *page = migrate_pfn_to_page(dst[i]);
		unsigned long nr = page ? folio_nr_pages(page_folio(page)) : 1;

		for (unsigned long j = 0; page && j < nr; j++)
			clear_highpage(folio_page(page_folio(page), j));
		lost += page ? nr : 0;
		i += nr;
	}
	if (lost)
		drm_err(drm, "%lu pages of processes are lost with the card\n", lost);
	return 0;
}

#endif
