/* SPDX-License-Identifier: GPL-2.0 */
/* What /dev/nouveau_card is asked. */
#ifndef __NOUVEAU_CARD_UAPI_H__
#define __NOUVEAU_CARD_UAPI_H__

#include <linux/ioctl.h>
#include <linux/types.h>

struct card_range {
	__u64 addr;
	__u64 len;
	__u64 buffer;
};

struct card_fail {
	__u32 what;
	/* Which one fails: 1 is the next, 0 is none; or all of them. */
	__u32 nth;
#define CARD_FAIL_ALL	0xffffffff
};

struct card_state {
	__u64 nr_bos;
	__u64 nr_fences;
	__u64 nr_jobs;
	__u64 nr_failed;
	/* Mappings that the GPU has no page size for. */
	__u64 nr_refused;
	/* What was sent while nobody had the mutex of the channel's client. */
	__u64 nr_bare;
	/* Pages of buffers that are pinned. */
	__u64 nr_pinned;
	/* How often the driver went, and left what it had for the card. */
	__u64 nr_lost;
};

/* Moves memory of the process to the card. */
#define CARD_MIGRATE	_IOW('N', 0, struct card_range)
/* The GPU reads, and writes, memory of the process. */
#define CARD_READ	_IOW('N', 1, struct card_range)
#define CARD_WRITE	_IOW('N', 2, struct card_range)
/* The card loses its power, and has it again. */
#define CARD_SUSPEND	_IO('N', 3)
#define CARD_RESUME	_IO('N', 4)
/* The engine stops before its next job, and goes on. */
#define CARD_HOLD	_IO('N', 5)
#define CARD_RELEASE	_IO('N', 6)
/* Waits until the engine has a job before which it stops. */
#define CARD_AWAIT	_IO('N', 7)
/* Something is to go wrong. */
#define CARD_FAIL	_IOW('N', 8, struct card_fail)
/* The memory of the card is taken away, and is there again. */
#define CARD_FINI	_IO('N', 9)
#define CARD_INIT	_IO('N', 10)
#define CARD_STATE	_IOR('N', 11, struct card_state)
/* Waits until somebody has waited for a job for so long that nouveau gives up. */
#define CARD_AWAIT_LATE	_IO('N', 12)
/* The card is pulled out; CARD_INIT puts one in again. */
#define CARD_PULL_OUT	_IO('N', 13)
/* Somebody looks at a page of the process, which cannot move until it is not looked at any more. */
#define CARD_LOOK	_IOW('N', 14, struct card_range)
#define CARD_LOOK_AWAY	_IO('N', 15)
/* Waits until somebody has begun to put the card to sleep, or to take its memory away. */
#define CARD_AWAIT_GOING	_IO('N', 16)

#endif
