/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * steady.c - a working set of constant size: replaces random objects and times each call. Part of
 * sluice-latency-work and of sluice-bench-work.
 */
#include "record.h"

struct steady {
	uint32_t live;
	uint64_t each;
	struct recorder **recorders;
};

static void steady_thread(unsigned index, void *arg)
{
	struct steady *w = arg;
	struct recorder *r = recorder_new(TOUCH_ENDS, index);
	struct mix mix = mix_make(index + 22);
	struct object *objects = objects_make(r, w->live, &mix);

	w->recorders[index] = r;
	team_ready();
	recorder_begin(r);
	for (uint64_t i = 0; i < w->each; i++)
		replace(r, objects, w->live, &mix);
	recorder_end(r);
	team_done();
	for (uint32_t i = 0; i < w->live; i++)
		r->give(objects[i].block);
}

static void steady(void)
{
	unsigned threads = (unsigned)param("threads");
	struct steady w = {
		.live = (uint32_t)param("live"),
		.each = param("ops") / threads + 1,
		.recorders = bench_map(threads * sizeof(struct recorder *)),
	};

	team_run(threads, steady_thread, &w, w.each * threads);
	recorder_report(w.recorders, threads);
}

const struct workload steady_workloads[] = {
	{ "steady",
	  steady,
	  "free and malloc of a random live object, each call timed",
	  { { "threads", 1 },
	    { "live", 20000 },
	    { "min", 16 },
	    { "max", 2048 },
	    { "large", 100 },
	    { "ops", 2000000 },
	    { "core", 0 },
	    { "empty", 0 } } },
	{ 0 },
};
