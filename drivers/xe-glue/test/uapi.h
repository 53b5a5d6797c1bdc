/* SPDX-License-Identifier: GPL-2.0 */
/* What /dev/xe_card is asked. */
#ifndef __XE_CARD_UAPI_H__
#define __XE_CARD_UAPI_H__

#include <linux/ioctl.h>
#include <linux/types.h>

struct xe_card_range {
	__u64 addr;
	__u64 len;
	__u32 card;
	/* For so long the pages do not go home when a CPU touches them, in ms. */
	__u32 timeslice;
};

struct xe_card_set {
	__u32 card;
	__u32 what;
	__u64 value;
};

struct xe_card_state {
	__u64 nr_bos;
	__u64 nr_fences;
	__u64 nr_jobs;
	/* Pages that came from another card. */
	__u64 nr_peer_pages;
	__u64 nr_failed;
	__u64 nr_awake;
	/* How often a card has woken up because somebody needed it. */
	__u64 nr_woken;
	/* Whether both cards' memory has one owner. */
	__u64 one_owner;
};

/* What is set: of a card, or of all. */
enum {
	/* The nth one fails: 1 is the next, 0 is none. */
	XE_CARD_FAIL_BO,
	XE_CARD_FAIL_FENCE,
	XE_CARD_FAIL_JOB,
	XE_CARD_FAIL_CLEAR,
	/* The engine stops before its next job: these, or none. */
	XE_CARD_HELD,
	/* No buffer is in one piece. */
	XE_CARD_FRAGMENTED,
	/* The cards do not reach each other. */
	XE_CARD_APART,
	/* The card has so many bytes of memory, when its pagemap is made next. */
	XE_CARD_SIZE,
	/* Each job fails, and the card says that each one will. */
	XE_CARD_DEAD,
	/* A card reaches so many bytes of the other one's memory; 0 is all. */
	XE_CARD_WINDOW,
	/* So many jobs fail, and the card says nothing. */
	XE_CARD_FAILING,
	/* The card has no power, and loses what is in its memory, until somebody needs it. */
	XE_CARD_ASLEEP,
	XE_CARD_NR_WHATS,
};

/* Moves memory of the process to a card. */
#define XE_CARD_MIGRATE	_IOW('X', 0, struct xe_card_range)
/* The card flips each bit of the process's memory that it has. */
#define XE_CARD_FLIP	_IOW('X', 1, struct xe_card_range)
/* All buffers of a card are evicted, as before it sleeps, and when there is no room. */
#define XE_CARD_EVICT	_IO('X', 2)
/* The driver is unbound from a card, and bound again. */
#define XE_CARD_UNBIND	_IO('X', 3)
#define XE_CARD_BIND	_IO('X', 4)
#define XE_CARD_SET	_IOW('X', 5, struct xe_card_set)
#define XE_CARD_STATE	_IOR('X', 6, struct xe_card_state)
/* Waits until an engine has a job before which it stops. */
#define XE_CARD_AWAIT	_IO('X', 7)
/* Whether the card's memory is registered, though nobody may use it: 1, or 0. */
#define XE_CARD_KEPT	_IO('X', 8)

/* Which jobs are held. */
#define XE_CARD_HELD_COPIES	1
#define XE_CARD_HELD_CLEARS	2

#endif
