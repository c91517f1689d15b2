/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * growth.c - a thread that allocates at a given pace, writes to each page and frees nothing, as a
 * server whose data grow. Each millisecond it allocates what is due and sleeps for the rest.
 */
#include "../common/record.h"

static struct recorder *recorder;
static uint64_t calls;

static uint64_t grow(struct recorder *r, struct mix *mix, uint64_t bytes, uint64_t pace)
{
	uint64_t begin = clock_ns();
	uint64_t taken = 0;
	uint64_t n = 0;

	for (uint64_t ms = 1; taken < bytes; ms++) {
		/* pace is in 10^6 bytes per second, each of which is 1,000 bytes per millisecond.
		 */
		for (; taken < ms * pace * 1000 && taken < bytes; n++) {
			size_t size = mix_size(mix);

			timed_take(r, size);
			taken += size;
		}
		recorder_sleep(r, begin + ms * 1000000u);
	}
	return n;
}

static void growth_thread(unsigned index, void *arg)
{
	struct recorder *r = recorder_new(TOUCH_PAGES, index);
	struct mix mix = mix_make(31);
	uint64_t pace = param("pace");

	(void)arg;
	recorder = r;
	grow(r, &mix, param("warm") * 1000000u, pace);
	team_ready();
	recorder_begin(r);
	calls = grow(r, &mix, param("mb") * 1000000u, pace);
	recorder_end(r);
	team_done();
}

static void growth(void)
{
	team_run(1, growth_thread, NULL, 1);
	bench_extra("blocks", (double)calls);
	recorder_report(&recorder, 1);
}

const struct workload growth_workloads[] = {
	{ "growth",
	  growth,
	  "mb megabytes (10^6 bytes) at a pace in megabytes a second, after warm megabytes",
	  { { "pace", 50 },
	    { "mb", 150 },
	    { "warm", 50 },
	    { "min", 16 },
	    { "max", 2048 },
	    { "large", 100 },
	    { "core", 0 },
	    { "empty", 0 } } },
	{ 0 },
};
