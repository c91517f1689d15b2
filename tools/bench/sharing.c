/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sharing.c - does the allocator put objects of two threads on one cache line? After Berger et al.,
 * "Hoard: a scalable memory allocator for multithreaded applications" (2000).
 *
 * The time is that of writing to small objects; it multiplies when threads share cache lines. That
 * shows only with as many cores as threads.
 */
#include "../common/work.h"

#define OBJECTS 8u

struct sharing {
	size_t size;
	uint64_t each; /* rounds per thread */
	uint64_t writes;
	unsigned threads;
	void **handed; /* OBJECTS for each thread, one thread after the other; or NULL */
};

static void write_to_objects(const struct sharing *w, uint64_t rounds)
{
	volatile unsigned char *p[OBJECTS];

	for (uint64_t r = 0; r < rounds; r++) {
		for (unsigned i = 0; i < OBJECTS; i++)
			p[i] = take(w->size);
		for (uint64_t k = 0; k < w->writes; k++) {
			for (unsigned i = 0; i < OBJECTS; i++)
				p[i][0]++;
		}
		for (unsigned i = 0; i < OBJECTS; i++)
			free((void *)(uintptr_t)p[i]);
	}
}

static void sharing_thread(unsigned index, void *arg)
{
	const struct sharing *w = arg;

	for (unsigned i = 0; w->handed && i < OBJECTS; i++)
		free(w->handed[i * w->threads + index]);
	write_to_objects(w, w->each / 10 + 1);
	team_ready();
	write_to_objects(w, w->each);
	team_done();
}

static void sharing(bool passive)
{
	struct sharing w = { .size = param("size"), .writes = param("writes") };

	w.threads = (unsigned)param("threads");
	w.each = param("ops") / (w.writes * OBJECTS * w.threads) + 1;
	if (passive) {
		w.handed = bench_map(w.threads * OBJECTS * sizeof(void *));
		for (unsigned i = 0; i < w.threads * OBJECTS; i++)
			w.handed[i] = take(w.size);
	}
	team_run(w.threads, sharing_thread, &w, w.each * w.writes * OBJECTS * w.threads);
}

/* Each thread allocates: do different threads get neighbours on a line? */
static void active(void)
{
	sharing(false);
}

/* Each thread first frees an object beside those of others: does it get that object again? */
static void passive(void)
{
	sharing(true);
}

const struct workload sharing_workloads[] = {
	{ "active",
	  active,
	  "a write to an object of the thread's own",
	  { { "threads", 2 }, { "size", 8 }, { "writes", 1000 }, { "ops", 200000000 } } },
	{ "passive",
	  passive,
	  "the same, after a free of one that another thread had made",
	  { { "threads", 2 }, { "size", 8 }, { "writes", 1000 }, { "ops", 200000000 } } },
	{ 0 },
};
