/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * latency.c - the distribution of single calls, where a mean hides what a caller waits for.
 *
 * Each malloc (with the first touch of the block's ends) and each free is timed by itself and counted
 * in a histogram of 16 steps a doubling. On x86-64 by the time stamp counter, which ticks at a fixed
 * rate and is compared with the clock over the whole run; elsewhere by the clock.
 */
#include "bench.h"

#include <stdatomic.h>
#include <time.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#define STEPS 16u
#define BUCKETS (64u * STEPS)

struct latency {
	uint32_t live;
	uint64_t each;
	uint64_t large; /* one in so many is up to 64 times as large */
	const uint32_t *sizes;
	_Atomic uint64_t counts[BUCKETS];
};

static uint64_t clock_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static inline uint64_t ticks(void)
{
#if defined(__x86_64__)
	unsigned processor;

	return __rdtscp(&processor);
#else
	return clock_now();
#endif
}

static unsigned bucket_of(uint64_t t)
{
	unsigned log;

	if (t < STEPS)
		return (unsigned)t;
	log = 63u - (unsigned)__builtin_clzll(t);
	return (log - 3) * STEPS + (unsigned)(t >> (log - 4) & (STEPS - 1));
}

/* The largest value of a bucket. */
static double bucket_top(unsigned b)
{
	unsigned log = b / STEPS + 3;

	if (b < STEPS)
		return b;
	return (double)((STEPS + b % STEPS + 1) * (UINT64_C(1) << (log - 4)) - 1);
}

static void latency_ops(struct latency *w, void **slots, uint64_t *counts, uint64_t ops,
			uint64_t *seed)
{
	for (uint64_t i = 0; i < ops; i++) {
		uint32_t slot = rng_below(seed, w->live);
		size_t size = size_at(w->sizes, i);
		uint64_t t0, t1, t2;

		if (rng_below(seed, (uint32_t)w->large) == 0)
			size *= 1 + rng_below(seed, 64);
		t0 = ticks();
		free(slots[slot]);
		t1 = ticks();
		slots[slot] = take(size);
		t2 = ticks();
		counts[bucket_of(t1 - t0)]++;
		counts[bucket_of(t2 - t1)]++;
	}
}

static void latency_thread(unsigned index, void *arg)
{
	struct latency *w = arg;
	void **slots = bench_map(w->live * sizeof(*slots));
	uint64_t *counts = bench_map(BUCKETS * sizeof(*counts));
	uint64_t seed = index + 22;

	latency_ops(w, slots, counts, w->live * (uint64_t)2, &seed);
	for (unsigned i = 0; i < BUCKETS; i++)
		counts[i] = 0;
	team_ready();
	latency_ops(w, slots, counts, w->each, &seed);
	team_done();
	for (unsigned i = 0; i < BUCKETS; i++)
		atomic_fetch_add_explicit(&w->counts[i], counts[i], memory_order_relaxed);
	for (uint32_t i = 0; i < w->live; i++)
		free(slots[i]);
}

static void latency_report(const struct latency *w, double ns_per_tick)
{
	static const struct {
		const char *name;
		double share;
	} wanted[] = { { "p50", 0.5 },     { "p90", 0.9 },       { "p99", 0.99 },
		       { "p99.9", 0.999 }, { "p99.99", 0.9999 }, { "p99.999", 0.99999 },
		       { "p100", 1.0 } };
	uint64_t total = 0;

	for (unsigned b = 0; b < BUCKETS; b++)
		total += w->counts[b];
	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		uint64_t seen = 0;
		unsigned b = 0;

		while (b < BUCKETS &&
		       (double)(seen += w->counts[b]) < wanted[i].share * (double)total)
			b++;
		bench_extra(wanted[i].name, bucket_top(b) * ns_per_tick);
	}
}

static void latency(void)
{
	unsigned threads = (unsigned)param("threads");
	struct latency *w = bench_map(sizeof(*w));
	uint64_t t0 = ticks();
	uint64_t ns0 = clock_now();

	w->live = (uint32_t)param("live");
	w->large = param("large");
	w->each = param("ops") / threads + 1;
	w->sizes = sizes_make((uint32_t)param("min"), (uint32_t)param("max"), 23);
	team_run(threads, latency_thread, w, w->each * threads);
	latency_report(w, (double)(clock_now() - ns0) / (double)(ticks() - t0));
}

const struct workload latency_workloads[] = {
	{ "latency",
	  latency,
	  "free and malloc of a random live object, each call timed",
	  { { "threads", 1 },
	    { "live", 20000 },
	    { "min", 16 },
	    { "max", 2048 },
	    { "large", 100 },
	    { "ops", 3000000 } } },
	{ 0 },
};
