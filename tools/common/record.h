/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * record.h - each call of malloc (with the first touch of its block) and of free, timed by itself.
 *
 * A thread has a recorder of its own, in memory that is in place before anything is measured;
 * recording calls nothing that allocates. Nothing is subtracted. The machine's own floor is the same
 * loop with an empty operation: the workloads' parameter empty=1 replaces malloc and free by functions
 * that do nothing.
 *
 * Calls above 1 us are looked at more closely, after they were timed: did the thread's page faults or
 * context switches (getrusage) grow since the last such look? The slowest of each kind are kept, but
 * for those in which the thread was preempted: these tell of the machine, not of the allocator.
 */
#ifndef SLUICE_RECORD_H
#define SLUICE_RECORD_H

#include <sys/resource.h>

#include "work.h"
#include "ticks.h"
#include "hist.h"

/* OP_PERIOD: from the time a thread was to wake up until its work is done. */
enum op { OP_MALLOC, OP_FREE, OP_PERIOD, OPS };

#define SLOWEST 16u

struct slow_call {
	uint64_t ticks;
	uint64_t at; /* ticks since the beginning */
	size_t size;
	unsigned minor;
	unsigned waits; /* voluntary context switches */
};

struct recorder {
	struct hist hist[OPS];
	struct slow_call slowest[OPS][SLOWEST]; /* in no order */
	/* Calls above 5 us, each counted once: the thread was preempted, slept, or had a page fault. */
	uint64_t preempted[OPS];
	uint64_t waited[OPS];
	uint64_t faulted[OPS];
	uint64_t begin;
	uint64_t look_at; /* ticks in 1 us */
	void *(*take)(size_t size);
	void (*give)(void *block);
	struct rusage first; /* when it began */
	struct rusage last;  /* at the last look */
	struct rusage total; /* from the beginning to the end */
};

/* What is touched of a new block. */
enum touch { TOUCH_ENDS, TOUCH_PAGES };

/*
 * For the calling thread, which is pinned to a processor: the n-th after the one that the parameter
 * core names, of those that the process may use.
 */
struct recorder *recorder_new(enum touch touch, unsigned n);

/* The same for a thread that is not measured. */
void pin(unsigned n);

/* What was recorded so far was warming up. */
void recorder_begin(struct recorder *r);
void recorder_end(struct recorder *r);

/* After all threads are done: what they recorded together, into the JSON line. */
void recorder_report(struct recorder *const *all, unsigned n);

void record_slow(struct recorder *r, enum op op, uint64_t t, size_t size);

static inline void record(struct recorder *r, enum op op, uint64_t t, size_t size)
{
	hist_add(&r->hist[op], t);
	if (__builtin_expect(t >= r->look_at, 0))
		record_slow(r, op, t, size);
}

static inline void *timed_take(struct recorder *r, size_t size)
{
	uint64_t begin = ticks();
	void *p = r->take(size);

	record(r, OP_MALLOC, ticks() - begin, size);
	return p;
}

static inline void timed_give(struct recorder *r, void *block, size_t size)
{
	uint64_t begin = ticks();

	r->give(block);
	record(r, OP_FREE, ticks() - begin, size);
}

/* Until the time of clock_ns. A thread that is measured sleeps by the second: what happens to it then
 * is no call's. */
void sleep_until(uint64_t ns);
void recorder_sleep(struct recorder *r, uint64_t until_ns);

/* A live object. */
struct object {
	void *block;
	size_t size;
};

/* Sizes from a table, one in `large` multiplied by up to 64. */
struct mix {
	const uint32_t *sizes;
	uint32_t large;
	uint64_t next;
	uint64_t seed;
};

/* By the parameters min, max and large. */
struct mix mix_make(uint64_t seed);

static inline size_t mix_size(struct mix *m)
{
	size_t size = size_at(m->sizes, m->next++);

	if (rng_below(&m->seed, m->large) == 0)
		size *= 1 + rng_below(&m->seed, 64);
	return size;
}

/* One of the objects is replaced by another. */
static inline void replace(struct recorder *r, struct object *objects, uint32_t live, struct mix *m)
{
	struct object *o = &objects[rng_below(&m->seed, live)];
	size_t size = mix_size(m);

	timed_give(r, o->block, o->size);
	o->size = size;
	o->block = timed_take(r, size);
}

/* Objects to begin with, replaced until the allocator has seen the pattern. */
struct object *objects_make(struct recorder *r, uint32_t live, struct mix *m);

#endif
