// SPDX-License-Identifier: GPL-2.0
/*
 * The copy engine of the card: it understands the commands that are pushed, and
 * does them with the CPU, one after the other, in a workqueue.
 */
#define CONFIG_DRM_NOUVEAU_SVM 1
#include "card.h"

#include <linux/highmem.h>
#include <nvhw/class/cl906f.h>
#include <nvhw/class/cla0b5.h>
#include <nvhw/drf.h>

/* Words in the push buffer. */
#define PUSH_WORDS	(64 << 10)

/* Methods of the engine are below this. */
#define NR_METHODS	(0x800 / 4)

/* How long somebody waits at a time. */
#define FENCE_TIMEOUT	(HZ / 5)

struct card_work {
	struct work_struct work;
	struct card *card;
	struct nouveau_fence *fence;
	u32 nr;
	u32 words[] __counted_by(nr);
};

struct engine {
	struct card *card;
	u32 state[NR_METHODS];
};

static u32 get(struct engine *engine, u32 method)
{
	return engine->state[method / 4];
}

static u64 get_address(struct engine *engine, u32 upper)
{
	return (u64)get(engine, upper) << 32 | get(engine, upper + 4);
}

/* The page at @addr, of the card or of the machine. */
static struct page *engine_page(struct engine *engine, u32 mode, u64 addr)
{
	switch (get(engine, mode)) {
	case NVA0B5_SET_DST_PHYS_MODE_TARGET_LOCAL_FB:
		return card_vram(engine->card, addr);
	case NVA0B5_SET_DST_PHYS_MODE_TARGET_COHERENT_SYSMEM:
		/* There is no IOMMU in front of this card. */
		if (WARN(!pfn_valid(addr >> PAGE_SHIFT),
			 "no memory at %llx of the machine\n", addr))
			return NULL;
		return pfn_to_page(addr >> PAGE_SHIFT);
	default:
		WARN(1, "the engine does not know target %u\n", get(engine, mode));
		return NULL;
	}
}

static int engine_clear(struct engine *engine, u64 dst)
{
	/* Components of four bytes, two of them. */
	u64 bytes = 8ULL * get(engine, NVA0B5_LINE_LENGTH_IN);

	for (u64 done = 0; done < bytes; done += PAGE_SIZE) {
		struct page *page = engine_page(engine, NVA0B5_SET_DST_PHYS_MODE, dst + done);

		if (!page)
			return -EIO;
		clear_highpage(page);
	}
	return 0;
}

static int engine_copy(struct engine *engine, u64 dst, u64 src)
{
	u32 length = get(engine, NVA0B5_LINE_LENGTH_IN);

	if (WARN(length != PAGE_SIZE, "lines of %u bytes\n", length))
		return -EIO;
	for (u32 line = 0; line < get(engine, NVA0B5_LINE_COUNT); line++) {
		struct page *from, *to;

		from = engine_page(engine, NVA0B5_SET_SRC_PHYS_MODE,
				   src + (u64)line * get(engine, NVA0B5_PITCH_IN));
		to = engine_page(engine, NVA0B5_SET_DST_PHYS_MODE,
				 dst + (u64)line * get(engine, NVA0B5_PITCH_OUT));
		if (!from || !to)
			return -EIO;
		copy_highpage(to, from);
	}
	return 0;
}

static int engine_launch(struct engine *engine, u32 launch)
{
	u64 dst = get_address(engine, NVA0B5_OFFSET_OUT_UPPER);

	if (card_fails(engine->card, CARD_FAIL_JOB))
		return -EIO;
	atomic_long_inc(&engine->card->nr_jobs);
	if (NVDEF_TEST(launch, NVA0B5, LAUNCH_DMA, REMAP_ENABLE, ==, TRUE))
		return engine_clear(engine, dst);
	return engine_copy(engine, dst, get_address(engine, NVA0B5_OFFSET_IN_UPPER));
}

static int engine_method(struct engine *engine, u32 method, u32 data)
{
	if (WARN(method / 4 >= NR_METHODS, "the engine has no method %x\n", method))
		return -EIO;
	engine->state[method / 4] = data;
	return method == NVA0B5_LAUNCH_DMA ? engine_launch(engine, data) : 0;
}

static int engine_run(struct engine *engine, const u32 *words, u32 nr)
{
	u32 i = 0;
	int ret = 0;

	while (i < nr && !ret) {
		u32 head = words[i++];
		u32 method = NVVAL_GET(head, NV906F, DMA, METHOD_ADDRESS) * 4;
		u32 count = NVVAL_GET(head, NV906F, DMA, METHOD_COUNT);

		switch (NVVAL_GET(head, NV906F, DMA, SEC_OP)) {
		case NV906F_DMA_SEC_OP_IMMD_DATA_METHOD:
			ret = engine_method(engine, method, count);
			break;
		case NV906F_DMA_SEC_OP_INC_METHOD:
			for (; count && i < nr && !ret; count--, method += 4)
				ret = engine_method(engine, method, words[i++]);
			if (!WARN(count && !ret, "a method without its data\n"))
				break;
			fallthrough;
		default:
			WARN(!ret, "the engine does not understand %08x\n", head);
			ret = -EIO;
		}
	}
	return ret;
}

static void engine_work(struct work_struct *work)
{
	struct card_work *job = container_of(work, struct card_work, work);
	struct card *card = job->card;
	struct engine *engine;
	int ret = -ENOMEM;

	if (READ_ONCE(card->held)) {
		WRITE_ONCE(card->waiting, true);
		wake_up_all(&card->engine_wait);
		wait_event(card->engine_wait, !READ_ONCE(card->held));
		WRITE_ONCE(card->waiting, false);
	}
	if (READ_ONCE(card->gone)) {
		/* Nobody will ever signal it. */
		if (job->fence)
			dma_fence_put(&job->fence->base);
		kfree(job);
		return;
	}
	engine = kzalloc_obj(*engine, GFP_KERNEL | __GFP_NOFAIL);
	engine->card = card;
	ret = engine_run(engine, job->words, job->nr);
	kfree(engine);
	if (job->fence) {
		if (ret)
			dma_fence_set_error(&job->fence->base, ret);
		dma_fence_signal(&job->fence->base);
		dma_fence_put(&job->fence->base);
	}
	kfree(job);
}

/*
 * Sends what has been pushed since the last time. TTM pushes to the same
 * channel, and locks the client for that.
 */
static int engine_send(struct card *card, struct nouveau_fence *fence)
{
	struct nvif_push *push = &card->chan.chan.push;
	u32 nr = push->cur - push->bgn;
	struct card_work *job;

	if (!mutex_is_locked(&card->chan.cli->mutex))
		atomic_long_inc(&card->nr_bare);
	job = kzalloc(struct_size(job, words, nr), GFP_KERNEL);
	if (!job)
		return -ENOMEM;
	INIT_WORK(&job->work, engine_work);
	job->card = card;
	job->fence = fence;
	job->nr = nr;
	memcpy(job->words, push->bgn, nr * sizeof(u32));
	if (fence)
		dma_fence_get(&fence->base);
	queue_work(card->engine, &job->work);
	push->bgn = push->cur;
	return 0;
}

static int engine_wait(struct nvif_push *push, u32 size)
{
	int ret = 0;

	if (push->bgn != push->cur)
		ret = engine_send(card, NULL);
	if (ret)
		return ret;
	push->bgn = card->push;
	push->cur = card->push;
	push->end = card->push + PUSH_WORDS;
	if (!card_fails(card, CARD_FAIL_ROOM) && push->cur + size <= push->end)
		return 0;
	/* The next who pushes something asks again. */
	push->end = push->cur;
	return -ETIMEDOUT;
}

static const char *fence_name(struct dma_fence *fence)
{
	return "nouveau_card";
}

static void fence_release(struct dma_fence *fence)
{
	atomic_dec(&card->nr_fences);
	dma_fence_free(fence);
}

static const struct dma_fence_ops fence_ops = {
	.get_driver_name	= fence_name,
	.get_timeline_name	= fence_name,
	.release		= fence_release,
};

int nouveau_fence_new(struct nouveau_fence **pfence, struct nouveau_channel *chan)
{
	struct card *card = container_of(chan, struct card, chan);
	struct nouveau_fence *fence;
	int ret;

	if (card_fails(card, CARD_FAIL_FENCE))
		return -ENOMEM;
	fence = kzalloc_obj(*fence);
	if (!fence)
		return -ENOMEM;
	atomic_inc(&card->nr_fences);
	dma_fence_init(&fence->base, &fence_ops, &card->fence_lock,
		       card->fence_context, ++card->fence_seqno);
	ret = engine_send(card, fence);
	if (ret) {
		dma_fence_put(&fence->base);
		return ret;
	}
	*pfence = fence;
	return 0;
}
EXPORT_SYMBOL_GPL(nouveau_fence_new);

int nouveau_fence_wait(struct nouveau_fence *fence, bool lazy, bool intr)
{
	long ret = dma_fence_wait_timeout(&fence->base, intr, FENCE_TIMEOUT);

	if (ret < 0)
		return ret;
	if (ret)
		return 0;
	WRITE_ONCE(card->late, true);
	wake_up_all(&card->engine_wait);
	return -EBUSY;
}
EXPORT_SYMBOL_GPL(nouveau_fence_wait);

void nouveau_fence_unref(struct nouveau_fence **pfence)
{
	if (*pfence)
		dma_fence_put(&(*pfence)->base);
	*pfence = NULL;
}
EXPORT_SYMBOL_GPL(nouveau_fence_unref);

int card_engine_init(struct card *card)
{
	struct nvif_push *push = &card->chan.chan.push;

	spin_lock_init(&card->fence_lock);
	init_waitqueue_head(&card->engine_wait);
	card->fence_context = dma_fence_context_alloc(1);
	card->push = kvcalloc(PUSH_WORDS, sizeof(u32), GFP_KERNEL);
	card->engine = alloc_ordered_workqueue("nouveau_card", 0);
	if (!card->push || !card->engine)
		return -ENOMEM;
	push->wait = engine_wait;
	push->bgn = card->push;
	push->cur = card->push;
	push->end = card->push + PUSH_WORDS;
	return 0;
}

void card_engine_fill(struct card *card)
{
	guard(mutex)(&card->drm.client.mutex);
	card->chan.chan.push.end = card->chan.chan.push.cur;
}

void card_engine_fini(struct card *card)
{
	if (card->engine)
		destroy_workqueue(card->engine);
	kvfree(card->push);
	/* The last references to fences go away by RCU. */
	rcu_barrier();
}
