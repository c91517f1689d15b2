/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * drain.h - the walk over all heaps: what is done to each of them, and how much of it at a time.
 *
 * The table in reclaim.c says when which walk is made.
 */
#ifndef SLUICE_DRAIN_H
#define SLUICE_DRAIN_H

#include "heap/heap_thread.h"
#include "heap/heap_types.h"

/*
 * What a walk does with a heap. The first three need no claim. HEAP_MARK and its kin are called
 * with reclaim_control held, and the caller closes the epoch (claim_close). The others claim each
 * heap that was marked in the walk's epoch or an older one, and whose owner made no call since;
 * HEAP_OPEN and HEAP_AGE leave the mark, so that such a heap may be claimed again.
 */
enum heap_action {
	HEAP_PCP,        /* empty its pcp */
	HEAP_PCP_ASLEEP, /* the same if it is marked, or has no thread */
	HEAP_PCP_COLD,   /* the same, except what a thread at work may keep */
	HEAP_MARK,       /* mark it if it may hold something */
	HEAP_MARK_BINS,  /* the same, or if it has memory for its bins only */
	HEAP_MARK_PCP,   /* empty its pcp, and mark it */
	HEAP_OPEN,       /* take what was posted to its inbox */
	HEAP_AGE,        /* the same, and an ageing step for each of its cache bins */
	HEAP_EMPTY,      /* empty it: bins, outbox, inbox, slabs and pcp */
	HEAP_PURGE, /* the same, and if that gave pages, or it was empty before, give the memory of
			    its bins back to the kernel, which interrupts processors */
};

static inline bool heap_action_claims(enum heap_action action)
{
	return action >= HEAP_OPEN;
}

/*
 * A walk, in parts, from `at` over `left` heaps at most. A walk over pcps begins with the fallback
 * heap's. What is done on the way is limited by steps, which are counted down (heap_work.h): a part
 * ends when there are none, and the next one goes on where it ended, in the middle of a heap, too.
 */
struct heap_walk {
	enum heap_action action;
	uint64_t epoch;  /* of the marks that are accepted, see claim_try */
	struct heap *at; /* heaps are never taken off the list */
	uint32_t left;
	unsigned taken;   /* heaps, or pcps, emptied */
	unsigned marked;  /* heaps */
	unsigned skipped; /* pcps that were locked */
	uint64_t pages;   /* out of pcps (HEAP_PCP and its kin) */
};

static inline struct heap_walk heap_walk_all(enum heap_action action, uint64_t epoch)
{
	return (struct heap_walk){
		.action = action,
		.epoch = epoch,
		.at = action <= HEAP_PCP_COLD ? heap_fallback.heap : heap_first(),
		.left = UINT32_MAX,
	};
}

static inline bool heap_walk_ended(const struct heap_walk *w)
{
	return !w->at || !w->left;
}

/* One caller at a time (reclaim_control), unless the action needs no claim. */
void heap_walk_part(struct heap_walk *w, uint32_t *steps);

/*
 * The part that a growth may do for others (GROWTH_HEAPS, GROWTH_STEPS): it empties heaps that the
 * growth before has marked and whose threads made no call since; when all those are done it empties
 * the pcps of the next heaps, marks them, and opens their inboxes. The caller holds
 * reclaim_control. Returns false once all heaps were looked at since it last returned false.
 */
bool heap_growth_step(void);

/* Its two halves. heap_growth_take goes on with what the last heap_growth_mark marked, and returns
 * how many heaps it emptied. heap_growth_mark marks the next `heaps` heaps after its last call;
 * after the last heap it begins with the first one again. It returns whether some are marked. */
unsigned heap_growth_take(uint32_t *steps);
bool heap_growth_mark(uint32_t heaps, uint32_t *steps);

/* The epoch of the last growth's marks; 0: none. The caller holds reclaim_control. */
uint64_t heap_growth_epoch(void);

/* What came of a heap in a drain, apart from its pcp. */
enum heap_outcome {
	HEAP_EMPTIED, /* it holds nothing any more */
	HEAP_CALLING, /* its thread made a call since it was marked */
	HEAP_INSIDE,  /* its thread is inside a call, and was before the mark */
	HEAP_HELD,    /* a fork or another drain has it, or it was lost in a fork */
	HEAP_CLOSED,  /* there is no membarrier */
	HEAP_UNASKED, /* only its pcp was to be emptied */
};

/*
 * A thread is at work if it makes a call within HEAP_HOT_NS of the mark of a drain. What it uses
 * just then is its working set, which a drain leaves to it: its heap, HEAP_HOT_PAGES of its pcp
 * (1 MiB, those freed last), and HEAP_HOT_DIRTY dirty pages of the buddy core (4 MiB), where its
 * pcp takes runs and frees them. heap_in_doubt: whether there is a thread that may be at work, and
 * has made no call since it was marked.
 */
#define HEAP_HOT_NS UINT64_C(4000000)
#define HEAP_HOT_PAGES (1u << (20 - PG_SHIFT))
#define HEAP_HOT_DIRTY (4u << (20 - PG_SHIFT))
bool heap_in_doubt(void);

struct heap_drain {
	uint32_t tid; /* 0: no thread has it */
	enum heap_outcome outcome;
	bool hot;    /* its thread is at work, and keeps its working set */
	bool locked; /* its pcp was locked at each try, and is not empty */
	/* Bytes free in it before. If it was not emptied and counted: only those of its pcp. */
	uint64_t cached;
	uint64_t drained; /* bytes of pages that went to the buddy core */
	uint64_t kept;    /* bytes that stayed in its pcp because it is hot */
};

enum heap_drain_how {
	HEAP_COUNTS = 1, /* `cached` is wanted; to count what a heap has free walks its slabs */
	HEAP_SPARES = 2, /* a thread at work keeps its working set */
};

/* Whether there is anything to do in the heap of another thread. */
bool heap_drain_claims(const struct heap *h);

/*
 * Empty one heap, a marked one of others' or the caller's own, and its pcp; or its pcp alone
 * (HEAP_PCP). epoch: of the marks, 0 if marking was in vain. how: enum heap_drain_how. One caller
 * at a time (reclaim_control), except for HEAP_PCP.
 */
void heap_drain(struct heap *h, enum heap_action action, uint64_t epoch, unsigned how,
		struct heap_drain *d);

/* Its pcp again, which was locked. Sets d->locked. */
void heap_drain_pcp(struct heap *h, struct heap_drain *d);

/* Whether any heap except the caller's may hold something; or has memory for its bins. */
bool heap_idle_any(void);
bool heap_bins_any(void);

/* From now on heap_bins_bytes is kept. Before the second thread. */
void heap_bins_count_all(void);

#endif
