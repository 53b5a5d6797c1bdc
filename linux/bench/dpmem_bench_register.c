// SPDX-License-Identifier: GPL-2.0
/*
 * What it takes to register device-private memory: for each size, a line with
 * the time to register it and the memory that is in use then, and one with the
 * time to unregister it.  On a kernel as it is, that is a physical region and
 * struct pages for all of it.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cpumask.h>
#include <linux/ioport.h>
#include <linux/ktime.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/mmzone.h>
#include <linux/module.h>
#include <linux/nodemask.h>
#include <linux/numa.h>
#include <linux/percpu.h>
#include <linux/vmstat.h>

static unsigned long sizes[16];
static int nr_sizes;
module_param_array_named(gib, sizes, ulong, &nr_sizes, 0444);
MODULE_PARM_DESC(gib, "sizes to register, in GiB");

static bool odd;
module_param(odd, bool, 0444);
MODULE_PARM_DESC(odd, "one page more, which makes the number of pages odd");

static unsigned int maps = 1;
module_param(maps, uint, 0444);
MODULE_PARM_DESC(maps, "how many of a size there are at the same time (1 or 2)");

static unsigned int runs = 1;
module_param(runs, uint, 0444);
MODULE_PARM_DESC(runs, "how often all of it is done");

static struct dev_pagemap pgmaps[2];
static bool registered[ARRAY_SIZE(pgmaps)];

static void bench_folio_free(struct folio *folio)
{
}

static vm_fault_t bench_migrate_to_ram(struct vm_fault *vmf)
{
	return VM_FAULT_SIGBUS;
}

static const struct dev_pagemap_ops bench_ops = {
	.folio_free = bench_folio_free,
	.migrate_to_ram = bench_migrate_to_ram,
};

#ifdef DEVICE_PRIVATE_BY_SIZE
static int bench_register(struct dev_pagemap *pgmap, u64 size)
{
	pgmap->nr_pages = size >> PAGE_SHIFT;
	return memremap_device_private_pagemap(pgmap, NUMA_NO_NODE);
}

static void bench_unregister(struct dev_pagemap *pgmap)
{
	memunmap_device_private_pagemap(pgmap);
}
#else
static int bench_register(struct dev_pagemap *pgmap, u64 size)
{
	struct resource *res;
	void *addr;

	/* Whole sections of it, whatever the size is. */
	res = request_free_mem_region(&iomem_resource, size, "dpmem_bench");
	if (IS_ERR(res))
		return PTR_ERR(res);

	pgmap->range.start = res->start;
	pgmap->range.end = res->end;
	pgmap->nr_range = 1;
	addr = memremap_pages(pgmap, NUMA_NO_NODE);
	if (IS_ERR(addr)) {
		release_mem_region(res->start, resource_size(res));
		return PTR_ERR(addr);
	}
	return 0;
}

static void bench_unregister(struct dev_pagemap *pgmap)
{
	memunmap_pages(pgmap);
	release_mem_region(pgmap->range.start, range_len(&pgmap->range));
}
#endif

/*
 * Free pages.  Those on the lists of CPUs are among them, which may be some MiB,
 * and so is what CPUs have counted and not told yet: each can be more than what
 * is measured.
 */
static unsigned long bench_free_pages(void)
{
	unsigned long nr = 0;
	int nid, cpu;

	for_each_online_node(nid) {
		for (int i = 0; i < MAX_NR_ZONES; i++) {
			struct zone *zone = &NODE_DATA(nid)->node_zones[i];

			if (!populated_zone(zone))
				continue;
			nr += zone_page_state_snapshot(zone, NR_FREE_PAGES);
			for_each_online_cpu(cpu)
				nr += READ_ONCE(per_cpu_ptr(zone->per_cpu_pageset,
							    cpu)->count);
		}
	}
	return nr;
}

/* What a line is about: the size, and which one of how many it is. */
#define BENCH_LINE "gib=%lu odd=%d map=%u/%u "

static bool bench_register_one(unsigned long gib, unsigned int i)
{
	struct dev_pagemap *pgmap = &pgmaps[i];
	u64 size = ((u64)gib << 30) + (odd ? PAGE_SIZE : 0);
	unsigned long before, after;
	ktime_t start, there;
	int err;

	memset(pgmap, 0, sizeof(*pgmap));
	pgmap->type = MEMORY_DEVICE_PRIVATE;
	pgmap->ops = &bench_ops;
	pgmap->owner = pgmap;

	before = bench_free_pages();
	start = ktime_get();
	err = bench_register(pgmap, size);
	there = ktime_get();
	after = bench_free_pages();
	if (err) {
		pr_info(BENCH_LINE "err=%d\n", gib, odd, i + 1, maps, err);
		return false;
	}

	/* The memory in use can go down: somebody else frees some. */
	pr_info(BENCH_LINE "register_ns=%lld kib=%ld\n", gib, odd, i + 1, maps,
		ktime_to_ns(ktime_sub(there, start)),
		((long)before - (long)after) * (long)(PAGE_SIZE / 1024));
	return true;
}

static void bench_unregister_one(unsigned long gib, unsigned int i)
{
	ktime_t start, gone;

	start = ktime_get();
	bench_unregister(&pgmaps[i]);
	gone = ktime_get();
	pr_info(BENCH_LINE "unregister_ns=%lld\n", gib, odd, i + 1, maps,
		ktime_to_ns(ktime_sub(gone, start)));
}

/* One after the other, and the first goes while the others are there. */
static void bench_size(unsigned long gib)
{
	for (unsigned int i = 0; i < maps; i++)
		registered[i] = bench_register_one(gib, i);
	for (unsigned int i = 0; i < maps; i++)
		if (registered[i])
			bench_unregister_one(gib, i);
}

static int __init bench_init(void)
{
	if (!maps || maps > ARRAY_SIZE(pgmaps))
		return -EINVAL;

	for (unsigned int run = 0; run < runs; run++)
		for (int i = 0; i < nr_sizes; i++)
			bench_size(sizes[i]);
	return 0;
}
module_init(bench_init);

static void __exit bench_exit(void)
{
}
module_exit(bench_exit);

MODULE_DESCRIPTION("Measures the registration of device-private memory");
MODULE_LICENSE("GPL");
