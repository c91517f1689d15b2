/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * idle.c - memory is filled and freed, then all threads sleep and none calls the allocator.
 */
#include "pressure.h"

enum freed_by { OWNER, MAIN, HALF };

static struct hoard *hoards;
static unsigned threads;
static enum freed_by freed_by;
static uint64_t each;

static void hoards_make(void)
{
	threads = (unsigned)param("threads");
	each = (param("mib") << 20) / threads;
	hoards = hoards_new(threads, each);
}

/* Bytes that the hoards of all threads hold. */
static uint64_t hoards_bytes(void)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < threads; i++)
		bytes += hoards[i].bytes;
	return bytes;
}

static void rest(uint64_t live)
{
	event("idle", live, threads);
	sleep_ms(param("ms"));
	event("rest", live, threads);
}

/* ---- freed by its owner, by main, or by both ---------------------------------------------- */

static void idle_thread(unsigned index)
{
	crew_sync();
	hoard_fill(&hoards[index], each);
	crew_sync();
	crew_sync();
	if (freed_by == OWNER)
		hoard_free(&hoards[index], 0, 1);
	else if (freed_by == HALF)
		hoard_free(&hoards[index], 0, 2);
	crew_sync();
}

static void idle_run(enum freed_by who)
{
	freed_by = who;
	hoards_make();
	crew_start(threads, idle_thread);
	probe_start();
	event("floor", 0, threads);
	crew_sync();
	crew_sync();
	event("peak", hoards_bytes(), threads);
	crew_sync();
	for (unsigned i = 0; i < threads && who != OWNER; i++)
		hoard_free(&hoards[i], who == MAIN ? 0 : 1, who == MAIN ? 1 : 2);
	crew_sync();
	rest(0);
}

static void idle_owner(void)
{
	idle_run(OWNER);
}

static void idle_main(void)
{
	idle_run(MAIN);
}

static void idle_half(void)
{
	idle_run(HALF);
}

/* ---- m2-handoff: few threads allocate, many free ------------------------------------------ */

static unsigned makers;

static void handoff_thread(unsigned index)
{
	crew_sync();
	if (index < makers)
		hoard_fill(&hoards[index], each);
	crew_sync();
	crew_sync();
	if (index >= makers) {
		unsigned freer = index - makers;
		unsigned freers = threads - makers;

		/* Each freeing thread takes from all makers, so that none frees a whole slab. */
		for (unsigned m = 0; m < makers; m++)
			hoard_free(&hoards[m], freer, freers);
	}
	crew_sync();
}

/* Many threads free the blocks of a few others. */
static void handoff(void)
{
	makers = (unsigned)param("makers");
	threads = makers + (unsigned)param("threads");
	each = (param("mib") << 20) / makers;
	hoards = hoards_new(makers, each);
	crew_start(threads, handoff_thread);
	probe_start();
	event("floor", 0, threads);
	crew_sync();
	crew_sync();
	event("peak", each * makers, threads);
	crew_sync();
	crew_sync();
	rest(0);
}

/* ---- a burst ------------------------------------------------------------------------------ */

#define KEPT_BYTES (UINT64_C(256) << 10)

static struct hoard *kept;

static void burst_thread(unsigned index)
{
	crew_sync();
	hoard_fill(&kept[index], KEPT_BYTES);
	/* A request is filled and freed before the next one; the last ones are large. */
	for (unsigned request = 0; request < 8; request++) {
		hoard_fill(&hoards[index], each / 8 * (request + 1));
		if (request < 7) {
			hoard_free(&hoards[index], 0, 1);
			hoards[index].count = 0;
			hoards[index].bytes = 0;
		}
	}
	crew_sync();
	crew_sync();
	hoard_free(&hoards[index], 0, 1);
	crew_sync();
}

/* A pool of workers, each of which keeps some memory, handles one burst and sleeps. */
static void burst(void)
{
	uint64_t live;

	hoards_make();
	kept = bench_map(threads * sizeof(*kept));
	for (unsigned i = 0; i < threads; i++)
		hoard_init(&kept[i], KEPT_BYTES, param("min"), param("max"), i + 1001);
	live = KEPT_BYTES * threads;
	crew_start(threads, burst_thread);
	probe_start();
	event("floor", 0, threads);
	crew_sync();
	crew_sync();
	event("peak", live + hoards_bytes(), threads);
	crew_sync();
	crew_sync();
	rest(live);
}

/* ---- survivors ---------------------------------------------------------------------------- */

static uint64_t objects;
static uint64_t one_in;
static bool powers; /* sizes min, 2 min, 4 min ... max; if false, any from min to max */
static _Atomic uint64_t filled_bytes;
static _Atomic uint64_t kept_bytes;

static size_t survivor_size(struct hoard *h)
{
	if (!powers)
		return h->min + rng_below(&h->seed, h->max - h->min + 1);
	return (size_t)h->min << rng_below(&h->seed, (uint32_t)__builtin_ctz(h->max / h->min) + 1);
}

static void survivors_thread(unsigned index)
{
	struct hoard *h = &hoards[index];
	uint32_t *sizes = bench_map(objects * sizeof(*sizes));

	crew_sync();
	for (uint64_t i = 0; i < objects; i++) {
		sizes[i] = (uint32_t)survivor_size(h);
		h->object[i] = take(sizes[i]);
		touch_pages(h->object[i], sizes[i]);
		filled_bytes += sizes[i];
	}
	crew_sync();
	crew_sync();
	for (uint64_t i = 0; i < objects; i++) {
		if (i % one_in == 0)
			kept_bytes += sizes[i];
		else
			free(h->object[i]);
	}
	crew_sync();
}

static void survivors_run(void)
{
	threads = (unsigned)param("threads");
	objects = param("objects") / threads;
	one_in = param("one-in");
	hoards = hoards_new(threads, objects * param("max"));
	crew_start(threads, survivors_thread);
	probe_start();
	event("floor", 0, threads);
	crew_sync();
	crew_sync();
	event("peak", filled_bytes, threads);
	crew_sync();
	crew_sync();
	rest(kept_bytes);
}

static void scattered(void)
{
	powers = true;
	survivors_run();
}

/* Small live objects between the freed ones. */
static void interleaved(void)
{
	survivors_run();
}

const struct workload idle_workloads[] = {
	{ "idle-owner",
	  idle_owner,
	  "each thread fills memory and frees it, all sleep",
	  { { "threads", 32 },
	    { "mib", 512 },
	    { "min", 16 },
	    { "max", 1024 },
	    { "ms", 3000 },
	    { "probe", 0 } } },
	{ "idle-main",
	  idle_main,
	  "each thread fills memory, main frees it, all sleep",
	  { { "threads", 32 },
	    { "mib", 512 },
	    { "min", 16 },
	    { "max", 1024 },
	    { "ms", 3000 },
	    { "probe", 0 } } },
	{ "idle-half",
	  idle_half,
	  "each thread fills memory, it and main free every other object, all sleep",
	  { { "threads", 32 },
	    { "mib", 512 },
	    { "min", 16 },
	    { "max", 1024 },
	    { "ms", 3000 },
	    { "probe", 0 } } },
	{ "handoff",
	  handoff,
	  "makers allocate blocks, other threads free them, all sleep",
	  { { "makers", 10 },
	    { "threads", 400 },
	    { "mib", 512 },
	    { "min", 2048 },
	    { "max", 32768 },
	    { "ms", 3000 },
	    { "probe", 0 } } },
	{ "burst",
	  burst,
	  "workers keep a little, handle requests that grow, and sleep",
	  { { "threads", 16 },
	    { "mib", 256 },
	    { "min", 16 },
	    { "max", 16384 },
	    { "ms", 3000 },
	    { "probe", 0 } } },
	{ "scattered",
	  scattered,
	  "objects of min, 2 min ... max bytes, of which one in some stays",
	  { { "threads", 4 },
	    { "objects", 300000 },
	    { "min", 512 },
	    { "max", 2048 },
	    { "one-in", 20 },
	    { "ms", 10000 },
	    { "probe", 0 } } },
	{ "interleaved",
	  interleaved,
	  "objects of min to max bytes, of which one in some stays",
	  { { "threads", 4 },
	    { "objects", 2000000 },
	    { "min", 16 },
	    { "max", 256 },
	    { "one-in", 16 },
	    { "ms", 3000 },
	    { "probe", 0 } } },
	{ 0 },
};
