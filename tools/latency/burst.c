/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * burst.c - bursts of allocations, all freed before a pause: each burst has to fetch again what the
 * allocator gave back in the pause. The order of the frees is unrelated to that of the allocations.
 * The first burst warms up.
 */
#include "../common/record.h"

/* No number of objects is a multiple of it. */
#define STRIDE 15485863u

static struct recorder *recorder;

static void burst(struct recorder *r, struct object *objects, uint32_t n, struct mix *mix)
{
	for (uint32_t i = 0; i < n; i++) {
		objects[i].size = mix_size(mix);
		objects[i].block = timed_take(r, objects[i].size);
	}
	for (uint32_t i = 0; i < n; i++) {
		struct object *o = &objects[(uint64_t)i * STRIDE % n];

		timed_give(r, o->block, o->size);
	}
}

static void burst_thread(unsigned index, void *arg)
{
	struct recorder *r = recorder_new(TOUCH_ENDS, index);
	struct mix mix = mix_make(41);
	uint32_t n = (uint32_t)param("objects");
	struct object *objects = bench_map(n * sizeof(*objects));

	(void)arg;
	recorder = r;
	burst(r, objects, n, &mix);
	team_ready();
	recorder_begin(r);
	for (uint64_t i = 0; i < param("bursts"); i++) {
		recorder_sleep(r, clock_ns() + param("pause_ms") * 1000000u);
		burst(r, objects, n, &mix);
	}
	recorder_end(r);
	team_done();
}

static void bursts(void)
{
	team_run(1, burst_thread, NULL, param("objects") * param("bursts") * 2);
	recorder_report(&recorder, 1);
}

const struct workload burst_workloads[] = {
	{ "burst",
	  bursts,
	  "malloc and free in bursts of so many objects, with pauses",
	  { { "objects", 20000 },
	    { "bursts", 40 },
	    { "pause_ms", 50 },
	    { "min", 16 },
	    { "max", 2048 },
	    { "large", 100 },
	    { "core", 0 },
	    { "empty", 0 } } },
	{ 0 },
};
