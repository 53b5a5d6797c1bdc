// SPDX-License-Identifier: GPL-2.0

/*
 * What the crate dpmem needs of static inlines, macros and fields. Each does one
 * thing, and has the name of what it wraps, if that has one; but for two, which
 * are asked for each page, and say so.
 */
#include <linux/device.h>
#include <linux/dma-mapping.h>
#include <linux/gfp.h>
#include <linux/highmem.h>
#include <linux/hmm.h>
#include <linux/memremap.h>
#include <linux/migrate.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/module.h>
#include <linux/nodemask.h>
#include <linux/pagemap.h>
#include <linux/percpu-refcount.h>
#include <linux/spinlock.h>

#if IS_ENABLED(CONFIG_RUST_DPMEM)

/* include/linux/memremap.h */

__rust_helper struct dev_pagemap *rust_helper_page_pgmap(const struct page *page)
{
	return page_pgmap(page);
}

__rust_helper bool rust_helper_is_device_private_page(const struct page *page)
{
	return is_device_private_page(page);
}

__rust_helper bool rust_helper_is_zone_device_page(const struct page *page)
{
	return is_zone_device_page(page);
}

__rust_helper bool rust_helper_is_device_coherent_page(const struct page *page)
{
	return is_device_coherent_page(page);
}

__rust_helper void rust_helper_zone_device_folio_init(struct folio *folio,
						      struct dev_pagemap *pgmap,
						      unsigned int order)
{
	zone_device_folio_init(folio, pgmap, order);
}

/* The pagemap of a folio, and what it maps, for a part of it that was split off. */
__rust_helper void rust_helper_zone_device_folio_inherit(struct folio *folio,
							 const struct folio *from)
{
	folio->pgmap = from->pgmap;
	folio->page.mapping = from->page.mapping;
}

/*
 * include/linux/mm_types.h. The functions of memremap.h are for private memory
 * only.
 */

__rust_helper void *rust_helper_page_zone_device_data(const struct page *page)
{
	return page->zone_device_data;
}

__rust_helper void rust_helper_set_page_zone_device_data(struct page *page, void *data)
{
	page->zone_device_data = data;
}

/* include/linux/percpu-refcount.h */

__rust_helper bool rust_helper_percpu_ref_tryget_live(struct percpu_ref *ref)
{
	return percpu_ref_tryget_live(ref);
}

__rust_helper void rust_helper_percpu_ref_put(struct percpu_ref *ref)
{
	percpu_ref_put(ref);
}

/* include/linux/mm.h, include/linux/page-flags.h, include/linux/pagemap.h */

__rust_helper struct page *rust_helper_pfn_to_page(unsigned long pfn)
{
	return pfn_to_page(pfn);
}

__rust_helper unsigned long rust_helper_page_to_pfn(const struct page *page)
{
	return page_to_pfn(page);
}

__rust_helper bool rust_helper_get_page_unless_zero(struct page *page)
{
	return get_page_unless_zero(page);
}

__rust_helper struct folio *rust_helper_page_folio(struct page *page)
{
	return page_folio(page);
}

__rust_helper unsigned int rust_helper_folio_order(const struct folio *folio)
{
	return folio_order(folio);
}

/* In one, as each page that comes home asks for both. */
__rust_helper void rust_helper_folio_init_locked_dirty(struct folio *folio)
{
	__folio_set_locked(folio);
	folio_set_dirty(folio);
}

__rust_helper bool rust_helper_folio_trylock(struct folio *folio)
{
	return folio_trylock(folio);
}

__rust_helper void rust_helper_folio_put(struct folio *folio)
{
	folio_put(folio);
}

/* include/linux/huge_mm.h, include/linux/pgtable.h */

__rust_helper bool rust_helper_thp_migration_supported(void)
{
	return thp_migration_supported();
}

__rust_helper int rust_helper_split_huge_page(struct page *page)
{
	return split_huge_page(page);
}

__rust_helper int rust_helper_split_folio(struct folio *folio)
{
	return split_folio(folio);
}

__rust_helper unsigned int rust_helper_pmd_shift(void)
{
	return PMD_SHIFT;
}

__rust_helper unsigned int rust_helper_pud_shift(void)
{
	return PUD_SHIFT;
}

__rust_helper bool rust_helper_is_zero_pfn(unsigned long pfn)
{
	return is_zero_pfn(pfn);
}

/*
 * include/linux/gfp.h. The GFP masks for memory that a process owns are not
 * among the constants that Rust has, and these two are all that is needed.
 * Whoever asks for a large folio takes small ones if there is none.
 */

static inline gfp_t dpmem_movable(unsigned int order)
{
	return order ? GFP_TRANSHUGE | __GFP_NORETRY : GFP_HIGHUSER_MOVABLE;
}

__rust_helper struct folio *
rust_helper_vma_alloc_folio_movable(struct vm_area_struct *vma, unsigned long addr,
				    unsigned int order)
{
	return vma_alloc_folio(dpmem_movable(order), order, vma, addr);
}

__rust_helper struct folio *rust_helper_folio_alloc_movable(unsigned int order)
{
	return folio_alloc(dpmem_movable(order), order);
}

/* include/linux/highmem.h */

/* A length that the compiler knows is copied in words, and any other in bytes. */

__rust_helper void rust_helper_memcpy_from_whole_page(char *to, struct page *page)
{
	memcpy_from_page(to, page, 0, PAGE_SIZE);
}

__rust_helper void rust_helper_memcpy_to_whole_page(struct page *page, const char *from)
{
	memcpy_to_page(page, 0, from, PAGE_SIZE);
}

__rust_helper void rust_helper_copy_highpage(struct page *to, struct page *from)
{
	copy_highpage(to, from);
}

__rust_helper void rust_helper_clear_highpage(struct page *page)
{
	clear_highpage(page);
}

/* include/linux/migrate.h */

__rust_helper struct page *rust_helper_migrate_pfn_to_page(unsigned long mpfn)
{
	return migrate_pfn_to_page(mpfn);
}

/* In one, as it is asked for each page that goes anywhere. */
__rust_helper unsigned long rust_helper_page_to_migrate_pfn(const struct page *page)
{
	return migrate_pfn(page_to_pfn(page));
}

/* include/linux/hmm.h */

__rust_helper struct page *rust_helper_hmm_pfn_to_page(unsigned long hmm_pfn)
{
	return hmm_pfn_to_page(hmm_pfn);
}

__rust_helper unsigned int rust_helper_hmm_pfn_to_map_order(unsigned long hmm_pfn)
{
	return hmm_pfn_to_map_order(hmm_pfn);
}

/* include/linux/mmu_notifier.h */

__rust_helper void
rust_helper_mmu_interval_set_seq(struct mmu_interval_notifier *interval_sub,
				 unsigned long cur_seq)
{
	mmu_interval_set_seq(interval_sub, cur_seq);
}

__rust_helper bool
rust_helper_mmu_interval_read_retry(struct mmu_interval_notifier *interval_sub,
				    unsigned long seq)
{
	return mmu_interval_read_retry(interval_sub, seq);
}

__rust_helper bool
rust_helper_mmu_notifier_range_blockable(const struct mmu_notifier_range *range)
{
	return mmu_notifier_range_blockable(range);
}

/* include/linux/device.h, include/linux/nodemask.h */

__rust_helper int rust_helper_dev_to_node(struct device *dev)
{
	return dev_to_node(dev);
}

__rust_helper bool rust_helper_node_online(int nid)
{
	return node_online(nid);
}

/* include/linux/module.h */

__rust_helper bool rust_helper_try_module_get(struct module *module)
{
	return try_module_get(module);
}

__rust_helper void rust_helper_module_put(struct module *module)
{
	module_put(module);
}

/* include/linux/dma-mapping.h */

__rust_helper int rust_helper_dma_mapping_error(struct device *dev, dma_addr_t dma_addr)
{
	return dma_mapping_error(dev, dma_addr);
}

__rust_helper phys_addr_t rust_helper_page_to_phys(const struct page *page)
{
	return page_to_phys(page);
}

__rust_helper bool rust_helper_dma_use_iova(struct dma_iova_state *state)
{
	return dma_use_iova(state);
}

__rust_helper size_t rust_helper_dma_iova_size(struct dma_iova_state *state)
{
	return dma_iova_size(state);
}

#ifndef CONFIG_IOMMU_DMA
__rust_helper bool rust_helper_dma_iova_try_alloc(struct device *dev,
						  struct dma_iova_state *state,
						  phys_addr_t phys, size_t size)
{
	return dma_iova_try_alloc(dev, state, phys, size);
}

__rust_helper void rust_helper_dma_iova_free(struct device *dev,
					     struct dma_iova_state *state)
{
	dma_iova_free(dev, state);
}

__rust_helper void rust_helper_dma_iova_destroy(struct device *dev,
						struct dma_iova_state *state,
						size_t mapped_len,
						enum dma_data_direction dir,
						unsigned long attrs)
{
	dma_iova_destroy(dev, state, mapped_len, dir, attrs);
}

__rust_helper int rust_helper_dma_iova_sync(struct device *dev,
					    struct dma_iova_state *state,
					    size_t offset, size_t size)
{
	return dma_iova_sync(dev, state, offset, size);
}

__rust_helper int rust_helper_dma_iova_link(struct device *dev,
					    struct dma_iova_state *state,
					    phys_addr_t phys, size_t offset,
					    size_t size,
					    enum dma_data_direction dir,
					    unsigned long attrs)
{
	return dma_iova_link(dev, state, phys, offset, size, dir, attrs);
}
#endif

/* include/linux/spinlock.h */

__rust_helper unsigned long rust_helper_spin_lock_irqsave(spinlock_t *lock)
{
	unsigned long flags;

	spin_lock_irqsave(lock, flags);
	return flags;
}

__rust_helper bool rust_helper_spin_trylock_irqsave(spinlock_t *lock,
						    unsigned long *flags)
{
	return spin_trylock_irqsave(lock, *flags);
}

__rust_helper void rust_helper_spin_unlock_irqrestore(spinlock_t *lock,
						      unsigned long flags)
{
	spin_unlock_irqrestore(lock, flags);
}

#endif /* CONFIG_RUST_DPMEM */
