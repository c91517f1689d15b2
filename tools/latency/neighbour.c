/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * neighbour.c - the working set of steady.c while a thread on another processor allocates and frees
 * in a given number of bursts per second. With drain=1 that thread calls the allocator's function
 * for giving memory back after each burst.
 */
#include "../common/record.h"

#include <dlfcn.h>
#include <stdatomic.h>

#define LIVE 20000u
#define BURST 5000u

static struct recorder *recorder;
static _Atomic bool stop;
static uint64_t drains, drain_ns;

/* ---- how each allocator gives memory back -------------------------------------------------- */

static int (*sluice_drain_fn)(unsigned flags, void *report);
static int (*mallctl_fn)(const char *name, void *old, size_t *old_size, void *new, size_t new_size);
static void (*mi_collect_fn)(bool force);
static void (*release_fn)(void);
static int (*malloc_trim_fn)(size_t pad);

static void drain(void)
{
	if (sluice_drain_fn)
		sluice_drain_fn(0, NULL);
	else if (mallctl_fn)
		mallctl_fn("arena.4096.purge", NULL, NULL, NULL, 0); /* 4096: all arenas */
	else if (mi_collect_fn)
		mi_collect_fn(true);
	else if (release_fn)
		release_fn();
	else if (malloc_trim_fn)
		malloc_trim_fn(0);
}

static void find_drain(void)
{
	/* POSIX recommends this conversion of dlsym's result. */
	*(void **)&sluice_drain_fn = dlsym(RTLD_DEFAULT, "sluice_drain");
	*(void **)&mallctl_fn = dlsym(RTLD_DEFAULT, "mallctl");
	*(void **)&mi_collect_fn = dlsym(RTLD_DEFAULT, "mi_collect");
	*(void **)&release_fn = dlsym(RTLD_DEFAULT, "MallocExtension_ReleaseFreeMemory");
	*(void **)&malloc_trim_fn = dlsym(RTLD_DEFAULT, "malloc_trim");
}

/* ---- the threads --------------------------------------------------------------------------- */

static void measured(void)
{
	struct recorder *r = recorder_new(TOUCH_ENDS, 0);
	struct mix mix = mix_make(51);
	struct object *objects = objects_make(r, LIVE, &mix);
	uint64_t ops = param("ops");

	recorder = r;
	team_ready();
	recorder_begin(r);
	for (uint64_t i = 0; i < ops; i++)
		replace(r, objects, LIVE, &mix);
	recorder_end(r);
	atomic_store_explicit(&stop, true, memory_order_relaxed);
}

static void neighbour(void)
{
	struct mix mix = mix_make(61);
	void **blocks = bench_map(BURST * sizeof(*blocks));
	uint64_t period = 1000000000u / param("rate");
	bool drains_too = param("drain");
	uint64_t next;

	pin(1);
	team_ready();
	next = clock_ns();
	/* At least once, however short the other thread's work is. */
	do {
		for (uint32_t i = 0; i < BURST; i++)
			blocks[i] = take(mix_size(&mix));
		for (uint32_t i = 0; i < BURST; i++)
			free(blocks[i]);
		if (drains_too) {
			uint64_t begin = clock_ns();

			drain();
			drain_ns += clock_ns() - begin;
			drains++;
		}
		next += period;
		sleep_until(next);
	} while (!atomic_load_explicit(&stop, memory_order_relaxed));
}

static void neighbour_thread(unsigned index, void *arg)
{
	(void)arg;
	if (index == 0)
		measured();
	else
		neighbour();
	team_done();
}

static void neighbours(void)
{
	find_drain();
	team_run(2, neighbour_thread, NULL, param("ops"));
	if (param("drain")) {
		bench_extra("drains", (double)drains);
		bench_extra("drain_us", (double)drain_ns / 1e3 / (double)drains);
	}
	recorder_report(&recorder, 1);
}

const struct workload neighbour_workloads[] = {
	{ "neighbour",
	  neighbours,
	  "steady, beside a thread that allocates in bursts, and drains",
	  { { "rate", 50 },
	    { "drain", 0 },
	    { "min", 16 },
	    { "max", 2048 },
	    { "large", 100 },
	    { "ops", 4000000 },
	    { "core", 0 },
	    { "empty", 0 } } },
	{ 0 },
};
