/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * record.h - times each call of malloc (with the first touch of its block) and of free.
 *
 * Each thread has its own recorder, in memory that is resident before the measurement; recording
 * calls nothing that allocates. Nothing is subtracted from a time. The machine's own floor is the
 * same loop with an empty operation: the workloads' parameter empty=1 replaces malloc and free by
 * functions that do nothing.
 *
 * After a call above 1 us was timed, getrusage tells whether the thread had page faults or context
 * switches since it was last asked. The slowest calls of each kind are kept, except those in which
 * the thread was preempted: the machine caused these, not the allocator.
 */
#ifndef SLUICE_RECORD_H
#define SLUICE_RECORD_H

#include <sys/resource.h>

#include "work.h"
#include "ticks.h"
#include "hist.h"

/* OP_PERIOD: from the time at which a thread should wake up until its work is done. */
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
	/* Calls above 5 us, each counted once: the thread was preempted, slept, or had a page
	 * fault. */
	uint64_t preempted[OPS];
	uint64_t waited[OPS];
	uint64_t faulted[OPS];
	uint64_t begin;
	uint64_t look_at; /* ticks per us */
	void *(*take)(size_t size);
	void (*give)(void *block);
	struct rusage first; /* when it began */
	struct rusage last;  /* when it was asked last */
	struct rusage total; /* from the beginning to the end */
};

/* Which part of a new block is touched. */
enum touch { TOUCH_ENDS, TOUCH_PAGES };

/*
 * Makes a recorder for the calling thread and pins the thread to a processor: of those that the
 * process may use, the n-th after the one that the parameter core names.
 */
struct recorder *recorder_new(enum touch touch, unsigned n);

/* Pins a thread that is not measured in the same way. */
void pin(unsigned n);

/* Discards what was recorded so far, while warming up. */
void recorder_begin(struct recorder *r);
void recorder_end(struct recorder *r);

/* Once all threads are done, puts what they recorded together into the JSON line. */
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

/* Both sleep until the given time of clock_ns. A measured thread uses the second one, so that no
 * call is charged for what happens in the sleep. */
void sleep_until(uint64_t ns);
void recorder_sleep(struct recorder *r, uint64_t until_ns);

/* A live object. */
struct object {
	void *block;
	size_t size;
};

/* Sizes from a table; one in `large` is multiplied by up to 64. */
struct mix {
	const uint32_t *sizes;
	uint32_t large;
	uint64_t next;
	uint64_t seed;
};

/* Takes the parameters min, max and large. */
struct mix mix_make(uint64_t seed);

static inline size_t mix_size(struct mix *m)
{
	size_t size = size_at(m->sizes, m->next++);

	if (rng_below(&m->seed, m->large) == 0)
		size *= 1 + rng_below(&m->seed, 64);
	return size;
}

/* Replaces a random object. */
static inline void replace(struct recorder *r, struct object *objects, uint32_t live, struct mix *m)
{
	struct object *o = &objects[rng_below(&m->seed, live)];
	size_t size = mix_size(m);

	timed_give(r, o->block, o->size);
	o->size = size;
	o->block = timed_take(r, size);
}

/* Allocates the first objects and replaces them until the allocator has seen the pattern. */
struct object *objects_make(struct recorder *r, uint32_t live, struct mix *m);

#endif
