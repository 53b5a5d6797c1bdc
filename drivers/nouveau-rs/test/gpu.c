// SPDX-License-Identifier: GPL-2.0
/*
 * The address space of a process as the GPU sees it: a page table of its own,
 * which faults fill, and notifiers empty. What nouveau_svm.c does, for a GPU
 * that is the CPU.
 */
#define CONFIG_DRM_NOUVEAU_SVM 1
#include "card.h"

#include <linux/hmm.h>
#include <linux/highmem.h>
#include <linux/poison.h>
#include <linux/sched/mm.h>
#include <linux/uaccess.h>
#include <nvif/if000c.h>

/* For how long a fault is tried again. */
#define FAULT_TIMEOUT	(HZ * 20)

/* Is added to the number of faults while none is served. */
#define FAULTS_OFF	(INT_MIN / 2)

struct card_notifier {
	struct mmu_interval_notifier base;
	struct card_svmm *svmm;
};

static struct card_svmm *to_card_svmm(struct nouveau_svmm *svmm)
{
	return container_of(svmm, struct card_svmm, base);
}

/* Called with the mutex held. */
void nouveau_svmm_invalidate(struct nouveau_svmm *svmm, u64 start, u64 limit)
{
	struct card_svmm *this = to_card_svmm(svmm);
	unsigned long index;
	void *entry;

	lockdep_assert_held(&svmm->mutex);
	if (limit <= start)
		return;
	xa_for_each_range(&this->ptes, index, entry, start >> PAGE_SHIFT,
			  (limit - 1) >> PAGE_SHIFT)
		xa_erase(&this->ptes, index);
}
EXPORT_SYMBOL_GPL(nouveau_svmm_invalidate);

static int invalidate_range_start(struct mmu_notifier *mn,
				  const struct mmu_notifier_range *range)
{
	struct nouveau_svmm *svmm = container_of(mn, struct nouveau_svmm, notifier);
	struct card *card = to_card_svmm(svmm)->card;

	if (!mmu_notifier_range_blockable(range))
		return -EAGAIN;
	if (card->driver->invalidates && range->event == MMU_NOTIFY_MIGRATE &&
	    range->owner == &card->dev)
		return 0;
	guard(mutex)(&svmm->mutex);
	nouveau_svmm_invalidate(svmm, range->start, range->end);
	return 0;
}

static void free_notifier(struct mmu_notifier *mn)
{
	struct nouveau_svmm *svmm = container_of(mn, struct nouveau_svmm, notifier);
	struct card_svmm *this = to_card_svmm(svmm);

	xa_destroy(&this->ptes);
	/* Whoever goes on using it shall not get away with it. */
	memset(this, POISON_FREE, sizeof(*this));
	barrier_data(this);
	kfree(this);
}

static const struct mmu_notifier_ops notifier_ops = {
	.invalidate_range_start	= invalidate_range_start,
	.free_notifier		= free_notifier,
};

/* Whether the GPU has pages of this size. */
static bool svmm_has_size(unsigned int shift)
{
	return shift == PAGE_SHIFT || shift == PMD_SHIFT;
}

/* Pages without the valid bit are taken out. */
static int svmm_map(struct card_svmm *svmm, unsigned long addr, const u64 *pfns,
		    unsigned long npages, unsigned int shift)
{
	unsigned long each;

	lockdep_assert_held(&svmm->base.mutex);
	if (!svmm_has_size(shift) || !IS_ALIGNED(addr, 1UL << shift))
		return -EINVAL;
	each = 1UL << (shift - PAGE_SHIFT);
	for (unsigned long i = 0; i < npages; i++) {
		for (unsigned long j = 0; j < each; j++) {
			unsigned long index = (addr >> PAGE_SHIFT) + i * each + j;
			u64 pte = pfns[i] + (j << PAGE_SHIFT);
			int ret = 0;

			if (pfns[i] & NVIF_VMM_PFNMAP_V0_V)
				ret = xa_err(xa_store(&svmm->ptes, index,
						      xa_mk_value(pte), GFP_NOWAIT));
			else
				xa_erase(&svmm->ptes, index);
			if (ret)
				return ret;
		}
	}
	return 0;
}

u64 *nouveau_pfns_alloc(unsigned long npages)
{
	return kcalloc(npages, sizeof(u64), GFP_KERNEL);
}
EXPORT_SYMBOL_GPL(nouveau_pfns_alloc);

void nouveau_pfns_free(u64 *pfns)
{
	kfree(pfns);
}
EXPORT_SYMBOL_GPL(nouveau_pfns_free);

void nouveau_pfns_map(struct nouveau_svmm *svmm, struct mm_struct *mm,
		      unsigned long addr, u64 *pfns, unsigned long npages,
		      unsigned int page_shift)
{
	guard(mutex)(&svmm->mutex);
	if (!svmm_has_size(page_shift))
		atomic_long_inc(&to_card_svmm(svmm)->card->nr_refused);
	else if (svmm_map(to_card_svmm(svmm), addr, pfns, npages, page_shift))
		pr_info("%lu pages are not mapped beforehand\n", npages);
}
EXPORT_SYMBOL_GPL(nouveau_pfns_map);

static bool interval_invalidate(struct mmu_interval_notifier *mni,
				const struct mmu_notifier_range *range, unsigned long seq)
{
	struct card_notifier *notifier = container_of(mni, struct card_notifier, base);

	if (!mmu_notifier_range_blockable(range))
		return false;
	guard(mutex)(&notifier->svmm->base.mutex);
	mmu_interval_set_seq(mni, seq);
	return true;
}

static const struct mmu_interval_notifier_ops interval_ops = {
	.invalidate = interval_invalidate,
};

static u64 pte_of(struct card *card, unsigned long pfn)
{
	struct page *page = hmm_pfn_to_page(pfn);
	u64 pte = NVIF_VMM_PFNMAP_V0_V;

	if (is_device_private_page(page))
		pte |= card->driver->page_addr(page) | NVIF_VMM_PFNMAP_V0_VRAM;
	else
		pte |= page_to_phys(page) | NVIF_VMM_PFNMAP_V0_HOST;
	if (pfn & HMM_PFN_WRITE)
		pte |= NVIF_VMM_PFNMAP_V0_W;
	return pte;
}

/* What nouveau_svm_suspend() does: no fault is served, nor being served, any more. */
void card_svm_suspend(struct card *card)
{
	if (atomic_read(&card->faults) < 0)
		return;
	atomic_add(FAULTS_OFF, &card->faults);
	wait_event(card->fault_wait, atomic_read(&card->faults) == FAULTS_OFF);
}

void card_svm_resume(struct card *card)
{
	if (atomic_read(&card->faults) >= 0)
		return;
	atomic_sub(FAULTS_OFF, &card->faults);
	wake_up_all(&card->fault_wait);
}

/* Has references to the page of @pfn for as long as somebody looks at it. */
static int svmm_look(struct card_svmm *svmm, unsigned long pfn)
{
	lockdep_assert_held(&svmm->base.mutex);
	/* -EBUSY is for who shall try again. */
	if (svmm->looked_at)
		return -EALREADY;
	svmm->looked_at = hmm_pfn_to_page(pfn);
	/*
	 * migrate_vma_check_page() allows a page of ZONE_DEVICE one too many,
	 * and what it lets through would be copied before it is refused.
	 */
	get_page(svmm->looked_at);
	get_page(svmm->looked_at);
	return 0;
}

/* Maps the page at @addr, or looks at it. It may be gone again when this returns. */
static int svmm_find(struct card_svmm *svmm, unsigned long addr, bool write, bool look)
{
	struct mm_struct *mm = svmm->base.notifier.mm;
	struct card_notifier notifier = { .svmm = svmm };
	unsigned long timeout = jiffies + FAULT_TIMEOUT;
	unsigned long pfn;
	struct hmm_range range = {
		.notifier = &notifier.base,
		.start = addr,
		.end = addr + PAGE_SIZE,
		.hmm_pfns = &pfn,
		.default_flags = HMM_PFN_REQ_FAULT | (write ? HMM_PFN_REQ_WRITE : 0),
		.dev_private_owner = &svmm->card->dev,
	};
	u64 pte;
	int ret;

	ret = mmu_interval_notifier_insert(&notifier.base, mm, addr, PAGE_SIZE, &interval_ops);
	if (ret)
		return ret;
	do {
		/* Notifiers take the mutex, so nothing is allocated under it. */
		ret = xa_reserve(&svmm->ptes, addr >> PAGE_SHIFT, GFP_KERNEL);
		if (ret)
			break;
		range.notifier_seq = mmu_interval_read_begin(&notifier.base);
		pfn = 0;
		mmap_read_lock(mm);
		ret = hmm_range_fault(&range);
		/*
		 * A page of the card that may not be written to is reported as
		 * such, whatever was asked for. nouveau would ask for ever.
		 */
		if (!ret && write && !(pfn & HMM_PFN_WRITE)) {
			ret = fixup_user_fault(mm, addr, FAULT_FLAG_WRITE, NULL);
			if (!ret)
				ret = -EBUSY;
		}
		mmap_read_unlock(mm);
		if (ret)
			continue;
		guard(mutex)(&svmm->base.mutex);
		ret = -EBUSY;
		if (!mmu_interval_read_retry(&notifier.base, range.notifier_seq)) {
			pte = pte_of(svmm->card, pfn);
			ret = look ? svmm_look(svmm, pfn) :
			      svmm_map(svmm, addr, &pte, 1, PAGE_SHIFT);
		}
	} while (ret == -EBUSY && time_before(jiffies, timeout));
	mmu_interval_notifier_remove(&notifier.base);
	return ret;
}

/* Serves a fault, when the card is awake. */
static int svmm_fault(struct card_svmm *svmm, unsigned long addr, bool write)
{
	struct card *card = svmm->card;
	long ret;

	ret = wait_event_killable_timeout(card->fault_wait,
					  atomic_inc_unless_negative(&card->faults),
					  FAULT_TIMEOUT);
	if (ret <= 0)
		return ret ? -EINTR : -EBUSY;
	ret = svmm_find(svmm, addr, write, false);
	if (atomic_dec_return(&card->faults) < 0)
		wake_up_all(&card->fault_wait);
	return ret;
}

/* The page at @addr, as the GPU finds it, with the mutex held, or NULL if it has to ask for it. */
static struct page *svmm_page(struct card_svmm *svmm, unsigned long addr, bool write)
{
	u64 need = NVIF_VMM_PFNMAP_V0_V | (write ? NVIF_VMM_PFNMAP_V0_W : 0);
	void *entry = xa_load(&svmm->ptes, addr >> PAGE_SHIFT);
	u64 pte = entry ? xa_to_value(entry) : 0;

	if ((pte & need) != need)
		return NULL;
	if (pte & NVIF_VMM_PFNMAP_V0_VRAM)
		return card_vram(svmm->card, pte & NVIF_VMM_PFNMAP_V0_ADDR);
	return pfn_to_page(pte >> PAGE_SHIFT);
}

/* Lets the GPU copy @len bytes, from or to @buffer of the process that asks. */
int card_svmm_access(struct card_svmm *svmm, unsigned long addr, size_t len,
		     void __user *buffer, bool write)
{
	void *bounce = kmalloc(PAGE_SIZE, GFP_KERNEL);
	int ret = 0;

	if (!bounce)
		return -ENOMEM;
	if (!mmget_not_zero(svmm->base.notifier.mm)) {
		kfree(bounce);
		return -ESRCH;
	}
	while (len && !ret) {
		size_t offset = offset_in_page(addr);
		size_t part = min(len, PAGE_SIZE - offset);
		struct page *page;

		if (write && copy_from_user(bounce, buffer, part)) {
			ret = -EFAULT;
			break;
		}
		mutex_lock(&svmm->base.mutex);
		page = svmm_page(svmm, addr, write);
		if (page && write)
			memcpy_to_page(page, offset, bounce, part);
		else if (page)
			memcpy_from_page(bounce, page, offset, part);
		mutex_unlock(&svmm->base.mutex);
		if (!page) {
			ret = fatal_signal_pending(current) ? -EINTR :
			      svmm_fault(svmm, addr & PAGE_MASK, write);
			continue;
		}
		if (!write && copy_to_user(buffer, bounce, part))
			ret = -EFAULT;
		addr += part;
		buffer += part;
		len -= part;
	}
	mmput(svmm->base.notifier.mm);
	kfree(bounce);
	return ret;
}

int card_svmm_look(struct card_svmm *svmm, unsigned long addr)
{
	struct mm_struct *mm = svmm->base.notifier.mm;
	int ret;

	if (!mmget_not_zero(mm))
		return -ESRCH;
	ret = svmm_find(svmm, addr & PAGE_MASK, false, true);
	mmput(mm);
	return ret;
}

void card_svmm_look_away(struct card_svmm *svmm)
{
	struct page *page;

	scoped_guard(mutex, &svmm->base.mutex) {
		page = svmm->looked_at;
		svmm->looked_at = NULL;
	}
	if (!page)
		return;
	put_page(page);
	put_page(page);
}

struct card_svmm *card_svmm_new(struct card *card)
{
	struct card_svmm *svmm = kzalloc_obj(*svmm);
	int ret;

	if (!svmm)
		return ERR_PTR(-ENOMEM);
	svmm->card = card;
	mutex_init(&svmm->base.mutex);
	xa_init(&svmm->ptes);
	svmm->base.notifier.ops = &notifier_ops;
	ret = mmu_notifier_register(&svmm->base.notifier, current->mm);
	if (ret) {
		kfree(svmm);
		return ERR_PTR(ret);
	}
	/* For those who look at the address space later on. */
	mmgrab(current->mm);
	return svmm;
}

void card_svmm_del(struct card_svmm *svmm)
{
	struct mm_struct *mm = svmm->base.notifier.mm;

	card_svmm_look_away(svmm);
	mmu_notifier_put(&svmm->base.notifier);
	mmdrop(mm);
}
