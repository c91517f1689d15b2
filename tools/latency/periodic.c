/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * periodic.c - a task that wakes up once per period, replaces some of its objects and sleeps again,
 * as cyclictest does without allocating; under SCHED_FIFO where that is allowed. In addition to the
 * calls it times the whole period: from the time at which it should wake up until it is done.
 */
#include "../common/record.h"

#include <pthread.h>
#include <sched.h>

#define LIVE 2000u

static struct recorder *recorder;
static bool fifo;

/* Ticks since a time of clock_ns. */
static uint64_t ticks_since(uint64_t ns, double ticks_per_ns)
{
	return (uint64_t)((double)(clock_ns() - ns) * ticks_per_ns);
}

static void run(struct recorder *r, struct object *objects, struct mix *mix, uint64_t periods)
{
	uint64_t period = param("period_us") * 1000;
	uint64_t each = param("each");
	double ticks_per_ns = (double)r->look_at / 1000;
	uint64_t next = clock_ns();

	for (uint64_t i = 0; i < periods; i++) {
		next += period;
		recorder_sleep(r, next);
		for (uint64_t k = 0; k < each; k++)
			replace(r, objects, LIVE, mix);
		record(r, OP_PERIOD, ticks_since(next, ticks_per_ns), 0);
	}
}

static void periodic_thread(unsigned index, void *arg)
{
	struct sched_param priority = { .sched_priority = 50 };
	struct recorder *r = recorder_new(TOUCH_ENDS, index);
	struct mix mix = mix_make(71);
	struct object *objects = objects_make(r, LIVE, &mix);
	uint64_t periods = param("periods");

	(void)arg;
	recorder = r;
	fifo = pthread_setschedparam(pthread_self(), SCHED_FIFO, &priority) == 0;
	run(r, objects, &mix, periods / 10);
	team_ready();
	recorder_begin(r);
	run(r, objects, &mix, periods);
	recorder_end(r);
	team_done();
}

static void periodic(void)
{
	team_run(1, periodic_thread, NULL, param("periods"));
	bench_extra("fifo", fifo);
	recorder_report(&recorder, 1);
}

const struct workload periodic_workloads[] = {
	{ "periodic",
	  periodic,
	  "a period's work: so many objects replaced in each",
	  { { "period_us", 1000 },
	    { "periods", 2500 },
	    { "each", 50 },
	    { "min", 16 },
	    { "max", 2048 },
	    { "large", 100 },
	    { "core", 0 },
	    { "empty", 0 } } },
	{ 0 },
};
