/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How many cold cache lines a call touches (cold_count): a histogram for each of three kinds of
 * work, and the bounds that doc/latency.md states. Debug builds only.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <string.h>

#include "base/check.h"
#include "lib/core.h"
#include "lib/tap.h"
#include "shim/init.h"

#define OBJECTS 32768u
#define ROUNDS 6u
#define WARM 3u
#define SIZE_MOST 3800u

/* A hit that fails and stays in its critical section: of a malloc TAKE_NEAR objects and a change of
 * the slab; of a free FLUSH_MANY objects, each in a slab of its own. Any call: an ageing step, or
 * slabs that are made or freed by way of the buddy core. */
static const unsigned direct_most[] = { 8, 32 };
#define CALL_MOST 512u

enum { MALLOC, FREE, KINDS };
enum { HIT, DIRECT, SLOW, WAYS };

static const unsigned bounds[] = { 0, 1, 2, 4, 8, 16, 32, 64, 128, UINT32_MAX };
#define BUCKETS (sizeof(bounds) / sizeof(bounds[0]))

static uint64_t calls[KINDS][BUCKETS];
static unsigned most[KINDS][WAYS];
static void *object[OBJECTS];
static uint32_t order[OBJECTS];
static uint64_t seed = 88172645463325252u;

static uint32_t random_number(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 16);
}

/* The state of the heap and the page layer before a call. */
struct before {
	unsigned lines;
	uint32_t slow;
	uint64_t slabs;
};

static struct before begin(void)
{
	return (struct before){ cold_lines, heap_self->slow_calls,
				value("slabs_made") + value("slabs_freed") };
}

static void end(struct before b, unsigned kind)
{
	unsigned lines = cold_lines - b.lines;
	unsigned way = SLOW;
	unsigned i = 0;

	if (b.slow == heap_self->slow_calls &&
	    b.slabs == value("slabs_made") + value("slabs_freed"))
		way = lines ? DIRECT : HIT;
	while (lines > bounds[i])
		i++;
	calls[kind][i]++;
	if (most[kind][way] < lines)
		most[kind][way] = lines;
}

static void *timed_alloc(void)
{
	size_t size = 16 + random_number() % SIZE_MOST;
	struct before b = begin();
	void *p = heap_alloc(size);

	end(b, MALLOC);
	return p;
}

static void timed_free(void *p)
{
	struct before b = begin();

	heap_free(p);
	end(b, FREE);
}

static void fill_and_free(void)
{
	for (uint32_t i = 0; i < OBJECTS; i++)
		object[i] = timed_alloc();
	for (uint32_t i = 0; i < OBJECTS; i++)
		timed_free(object[order[i]]);
}

static void replace(void)
{
	for (uint32_t i = 0; i < OBJECTS; i++)
		object[i] = timed_alloc();
	for (uint32_t i = 0; i < 2 * OBJECTS; i++) {
		uint32_t k = random_number() % OBJECTS;

		timed_free(object[k]);
		object[k] = timed_alloc();
	}
	for (uint32_t i = 0; i < OBJECTS; i++)
		timed_free(object[i]);
}

static const char *const names[KINDS] = { "malloc", "free" };

static void report(const char *what)
{
	for (unsigned kind = 0; kind < KINDS; kind++) {
		uint64_t all = 0;

		for (unsigned i = 0; i < BUCKETS; i++)
			all += calls[kind][i];
		tap_diag("%s, %s: per million calls with at most so many lines", what, names[kind]);
		for (unsigned i = 0; i < BUCKETS; i++)
			if (calls[kind][i])
				tap_diag("  %10u  %8.0f", bounds[i],
					 (double)calls[kind][i] * 1e6 / (double)all);
		tap_diag("  most: direct %u, any %u", most[kind][DIRECT], most[kind][SLOW]);
	}
}

static void run(const char *what, void (*work)(void))
{
	for (unsigned i = 0; i < ROUNDS; i++) {
		if (i == WARM) {
			memset(calls, 0, sizeof(calls));
			memset(most, 0, sizeof(most));
		}
		work();
	}
	report(what);
	for (unsigned kind = 0; kind < KINDS; kind++) {
		ok(most[kind][DIRECT] <= direct_most[kind],
		   "%s: a %s that neither makes nor frees a slab touches at most %u cold lines",
		   what, names[kind], direct_most[kind]);
		ok(most[kind][SLOW] <= CALL_MOST, "%s: no %s touches more than %u", what,
		   names[kind], CALL_MOST);
	}
}

int main(void)
{
	if (!SLUICE_DEBUG)
		tap_skip_all("a build without --enable-debug counts nothing");
	sluice_init();
	heap_free(alloc(16));
	tap_plan(12);
	for (uint32_t i = 0; i < OBJECTS; i++)
		order[i] = i;
	run("filled and freed in order", fill_and_free);
	for (uint32_t i = OBJECTS - 1; i; i--) {
		uint32_t k = random_number() % (i + 1);
		uint32_t at = order[i];

		order[i] = order[k];
		order[k] = at;
	}
	run("filled and freed at random", fill_and_free);
	run("random replacement", replace);
	return tap_done();
}
