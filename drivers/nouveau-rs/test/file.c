// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/nouveau_card: processes ask for what GPUs do with their memory, and for what goes wrong.
 */
#define CONFIG_DRM_NOUVEAU_SVM 1
#include "card.h"
#include "uapi.h"

#include <linux/miscdevice.h>
#include <linux/module.h>

/* One of those that put the card to sleep, or take its memory away, at a time. */
static DEFINE_MUTEX(power);

static int file_open(struct inode *inode, struct file *file)
{
	struct card_svmm *svmm;

	/* The card is there for as long as this file is. */
	if (!try_module_get(card->driver->owner))
		return -ENODEV;
	svmm = card_svmm_new(card);
	if (IS_ERR(svmm)) {
		module_put(card->driver->owner);
		return PTR_ERR(svmm);
	}
	file->private_data = svmm;
	return 0;
}

static int file_release(struct inode *inode, struct file *file)
{
	card_svmm_del(file->private_data);
	module_put(card->driver->owner);
	return 0;
}

/* As the ioctl of nouveau does, but that an error is one. */
static int file_migrate(struct card_svmm *svmm, const struct card_range *range)
{
	struct mm_struct *mm = current->mm;
	unsigned long addr = range->addr, end;
	int ret = 0;

	if (check_add_overflow(addr, range->len, &end) || !PAGE_ALIGNED(addr | range->len))
		return -EINVAL;
	mmap_read_lock(mm);
	while (addr < end && !ret) {
		struct vm_area_struct *vma = find_vma_intersection(mm, addr, end);
		unsigned long next;

		if (!vma)
			break;
		addr = max(addr, vma->vm_start);
		next = min(vma->vm_end, end);
		ret = card->driver->migrate_vma(&card->drm, &svmm->base, vma, addr, next);
		addr = next;
	}
	mmap_read_unlock(mm);
	return ret;
}

static int file_fail(const struct card_fail *fail)
{
	if (fail->what >= CARD_NR_FAILURES)
		return -EINVAL;
	if (fail->nth > INT_MAX && fail->nth != CARD_FAIL_ALL)
		return -EINVAL;
	atomic_set(&card->failures[fail->what], (int)fail->nth);
	if (fail->what == CARD_FAIL_ROOM && fail->nth)
		card_engine_fill(card);
	return 0;
}

static int file_hold(bool hold)
{
	if (hold)
		WRITE_ONCE(card->late, false);
	WRITE_ONCE(card->held, hold);
	wake_up_all(&card->engine_wait);
	return 0;
}

static int file_power(unsigned int cmd)
{
	guard(mutex)(&power);
	WRITE_ONCE(card->going, cmd == CARD_SUSPEND || cmd == CARD_FINI);
	wake_up_all(&card->engine_wait);
	switch (cmd) {
	case CARD_SUSPEND:
		card_svm_suspend(card);
		card->driver->suspend(&card->drm);
		break;
	case CARD_RESUME:
		card->driver->resume(&card->drm);
		card_svm_resume(card);
		break;
	case CARD_FINI:
		card_unbind(card);
		/* What is left there is lost, as when nouveau is unbound. */
		if (card->drm.dmem)
			atomic_long_inc(&card->nr_lost);
		card->drm.dmem = NULL;
		break;
	case CARD_INIT:
		card_bind(card);
		card_svm_resume(card);
		break;
	}
	return 0;
}

static long file_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct card_svmm *svmm = file->private_data;
	void __user *argp = (void __user *)arg;
	struct card_range range;
	struct card_state state;
	struct card_fail fail;

	switch (cmd) {
	case CARD_MIGRATE:
	case CARD_READ:
	case CARD_WRITE:
	case CARD_LOOK:
		if (copy_from_user(&range, argp, sizeof(range)))
			return -EFAULT;
		if (current->mm != svmm->base.notifier.mm)
			return -EINVAL;
		if (cmd == CARD_MIGRATE)
			return file_migrate(svmm, &range);
		if (cmd == CARD_LOOK)
			return card_svmm_look(svmm, range.addr);
		return card_svmm_access(svmm, range.addr, range.len,
					u64_to_user_ptr(range.buffer), cmd == CARD_WRITE);
	case CARD_LOOK_AWAY:
		card_svmm_look_away(svmm);
		return 0;
	case CARD_SUSPEND:
	case CARD_RESUME:
	case CARD_FINI:
	case CARD_INIT:
		return file_power(cmd);
	case CARD_HOLD:
	case CARD_RELEASE:
		return file_hold(cmd == CARD_HOLD);
	case CARD_PULL_OUT:
		/* Nothing is done any more, which is how nouveau finds out. */
		WRITE_ONCE(card->gone, true);
		atomic_set(&card->chan.killed, 1);
		return 0;
	case CARD_AWAIT:
		return wait_event_killable(card->engine_wait, READ_ONCE(card->waiting));
	case CARD_AWAIT_LATE:
		return wait_event_killable(card->engine_wait, READ_ONCE(card->late));
	case CARD_AWAIT_GOING:
		return wait_event_killable(card->engine_wait, READ_ONCE(card->going));
	case CARD_FAIL:
		if (copy_from_user(&fail, argp, sizeof(fail)))
			return -EFAULT;
		return file_fail(&fail);
	case CARD_STATE:
		/* What is on its way to be freed is not there any more. */
		rcu_barrier();
		state.nr_bos = atomic_read(&card->nr_bos);
		state.nr_fences = atomic_read(&card->nr_fences);
		state.nr_jobs = atomic_long_read(&card->nr_jobs);
		state.nr_failed = atomic_long_read(&card->nr_failed);
		state.nr_refused = atomic_long_read(&card->nr_refused);
		state.nr_bare = atomic_long_read(&card->nr_bare);
		state.nr_lost = atomic_long_read(&card->nr_lost);
		scoped_guard(mutex, &card->lock)
			state.nr_pinned = card->nr_pinned;
		return copy_to_user(argp, &state, sizeof(state)) ? -EFAULT : 0;
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
	.name	= "nouveau_card",
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
