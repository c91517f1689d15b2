/* SPDX-License-Identifier: BSD-2-Clause */
/* record.c - see record.h */
#include "record.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "base/atomics.h"

#define LENGTH ((size_t)256 << 10)
/* Mean number of replacements of each object before anything is measured. */
#define WARM 10u

static const char *const op_names[OPS] = { "malloc", "free", "period" };

static double ns_per_tick;
static pthread_once_t calibrated = PTHREAD_ONCE_INIT;

static void calibrate(void)
{
	uint64_t ns0 = clock_ns();
	uint64_t t0 = ticks();

	while (clock_ns() - ns0 < 20000000u)
		cpu_relax();
	ns_per_tick = (double)(clock_ns() - ns0) / (double)(ticks() - t0);
}

static uint64_t ticks_of(double ns)
{
	return (uint64_t)(ns / ns_per_tick);
}

/* ---- the operations ----------------------------------------------------------------------- */

static void *take_pages(size_t size)
{
	void *p = malloc(size);

	if (__builtin_expect(!p, 0))
		bench_fail("malloc(%zu): no memory", size);
	touch_pages(p, size);
	return p;
}

static void *take_nothing(size_t size)
{
	static char block;

	(void)size;
	return &block;
}

static void give_nothing(void *block)
{
	(void)block;
}

void pin(unsigned n)
{
	cpu_set_t allowed, one;
	int wanted;

	/* The thread inherited the affinity of its creator, which is that of the process. */
	if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0)
		bench_fail("sched_getaffinity: %s", strerror(errno));
	wanted = (int)((param("core") + n) % (uint64_t)CPU_COUNT(&allowed));
	for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &allowed) || wanted-- > 0)
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		if (sched_setaffinity(0, sizeof(one), &one) != 0)
			bench_fail("sched_setaffinity: %s", strerror(errno));
		return;
	}
}

struct recorder *recorder_new(enum touch touch, unsigned n)
{
	struct recorder *r = bench_map(sizeof(*r));

	pthread_once(&calibrated, calibrate);
	pin(n);
	r->look_at = ticks_of(1000);
	if (param("empty")) {
		r->take = take_nothing;
		r->give = give_nothing;
	} else {
		r->take = touch == TOUCH_PAGES ? take_pages : take;
		r->give = free;
	}
	recorder_begin(r);
	return r;
}

/* ---- recording ---------------------------------------------------------------------------- */

void recorder_begin(struct recorder *r)
{
	for (unsigned op = 0; op < OPS; op++)
		hist_clear(&r->hist[op]);
	memset(r->slowest, 0, sizeof(r->slowest));
	memset(r->preempted, 0, sizeof(r->preempted));
	memset(r->waited, 0, sizeof(r->waited));
	memset(r->faulted, 0, sizeof(r->faulted));
	getrusage(RUSAGE_THREAD, &r->first);
	r->last = r->first;
	r->begin = ticks();
}

void recorder_end(struct recorder *r)
{
	getrusage(RUSAGE_THREAD, &r->total);
	r->total.ru_minflt -= r->first.ru_minflt;
	r->total.ru_majflt -= r->first.ru_majflt;
	r->total.ru_nvcsw -= r->first.ru_nvcsw;
	r->total.ru_nivcsw -= r->first.ru_nivcsw;
}

static void keep(struct slow_call *slowest, const struct slow_call *call)
{
	struct slow_call *least = slowest;

	for (unsigned i = 1; i < SLOWEST; i++) {
		if (slowest[i].ticks < least->ticks)
			least = &slowest[i];
	}
	if (call->ticks > least->ticks)
		*least = *call;
}

void record_slow(struct recorder *r, enum op op, uint64_t t, size_t size)
{
	struct slow_call call = { .ticks = t, .at = ticks() - r->begin, .size = size };
	bool above_5us = t >= 5 * r->look_at;
	struct rusage now;
	bool preempted;

	getrusage(RUSAGE_THREAD, &now);
	call.minor = (unsigned)(now.ru_minflt - r->last.ru_minflt);
	call.waits = (unsigned)(now.ru_nvcsw - r->last.ru_nvcsw);
	preempted = now.ru_nivcsw != r->last.ru_nivcsw;
	r->last = now;
	if (!preempted)
		keep(r->slowest[op], &call);
	if (above_5us && preempted)
		r->preempted[op]++;
	else if (above_5us && call.waits)
		r->waited[op]++;
	else if (above_5us && call.minor)
		r->faulted[op]++;
}

void sleep_until(uint64_t ns)
{
	struct timespec at = { (time_t)(ns / 1000000000u), (long)(ns % 1000000000u) };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) != 0)
		;
}

void recorder_sleep(struct recorder *r, uint64_t until_ns)
{
	sleep_until(until_ns);
	getrusage(RUSAGE_THREAD, &r->last);
}

/* ---- the report --------------------------------------------------------------------------- */

static char *text;
static size_t length;

static void put(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void put(const char *format, ...)
{
	va_list ap;
	int n;

	va_start(ap, format);
	n = vsnprintf(text + length, LENGTH - length, format, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= LENGTH - length)
		bench_fail("the report is longer than %zu bytes", LENGTH);
	length += (size_t)n;
}

/* Percentiles to draw: four for each halving of the rest above, as far as there are calls. */
static void put_curve(const struct hist *h)
{
	static const double quarter[] = { 1, 1.1892071, 1.4142136, 1.6817928 };

	put(",\"curve\":[");
	for (unsigned i = 0; i < 128; i++) {
		double x = (double)(UINT64_C(1) << (i / 4)) * quarter[i % 4];

		if (x > (double)h->count)
			break;
		put("%s[%.6g,%.1f]", i ? "," : "", x, (double)hist_at(h, 1 - 1 / x) * ns_per_tick);
	}
	put("]");
}

static int slower_first(const void *a, const void *b)
{
	const struct slow_call *x = a;
	const struct slow_call *y = b;

	return (x->ticks < y->ticks) - (x->ticks > y->ticks);
}

static void put_slowest(struct slow_call *slowest)
{
	qsort(slowest, SLOWEST, sizeof(*slowest), slower_first);
	put(",\"slowest\":[");
	for (unsigned i = 0; i < SLOWEST && slowest[i].ticks; i++) {
		const struct slow_call *c = &slowest[i];

		put("%s{\"ns\":%.0f,\"at_ms\":%.3f,\"size\":%zu,\"minor_faults\":%u,\"waits\":%u}",
		    i ? "," : "", (double)c->ticks * ns_per_tick, (double)c->at * ns_per_tick / 1e6,
		    c->size, c->minor, c->waits);
	}
	put("]");
}

static void put_op(struct recorder *r, enum op op)
{
	static const double shares[] = { 50, 90, 99, 99.9, 99.99, 99.999 };
	const struct hist *h = &r->hist[op];

	put("%s\"%s\":{\"count\":%lu", text[length - 1] == '{' ? "" : ",", op_names[op],
	    (unsigned long)h->count);
	for (unsigned i = 0; i < sizeof(shares) / sizeof(shares[0]); i++)
		put(",\"p%g\":%.1f", shares[i], (double)hist_at(h, shares[i] / 100) * ns_per_tick);
	put(",\"max\":%.1f", (double)h->max * ns_per_tick);
	put(",\"above_1us\":%lu,\"above_5us\":%lu,\"above_20us\":%lu",
	    (unsigned long)hist_above(h, ticks_of(1000)),
	    (unsigned long)hist_above(h, ticks_of(5000)),
	    (unsigned long)hist_above(h, ticks_of(20000)));
	put(",\"preempted\":%lu,\"waited\":%lu,\"faulted\":%lu", (unsigned long)r->preempted[op],
	    (unsigned long)r->waited[op], (unsigned long)r->faulted[op]);
	put_curve(h);
	put_slowest(r->slowest[op]);
	put("}");
}

static void merge(struct recorder *to, const struct recorder *from)
{
	for (unsigned op = 0; op < OPS; op++) {
		hist_merge(&to->hist[op], &from->hist[op]);
		for (unsigned i = 0; i < SLOWEST; i++)
			keep(to->slowest[op], &from->slowest[op][i]);
		to->preempted[op] += from->preempted[op];
		to->waited[op] += from->waited[op];
		to->faulted[op] += from->faulted[op];
	}
	to->total.ru_minflt += from->total.ru_minflt;
	to->total.ru_majflt += from->total.ru_majflt;
	to->total.ru_nvcsw += from->total.ru_nvcsw;
	to->total.ru_nivcsw += from->total.ru_nivcsw;
}

void recorder_report(struct recorder *const *all, unsigned n)
{
	struct recorder *sum = all[0];

	text = bench_map(LENGTH);
	for (unsigned i = 1; i < n; i++)
		merge(sum, all[i]);
	put("{");
	for (unsigned op = 0; op < OPS; op++) {
		if (sum->hist[op].count)
			put_op(sum, (enum op)op);
	}
	put("}");
	bench_json("calls", text);
	bench_extra("minor_faults", (double)sum->total.ru_minflt);
	bench_extra("major_faults", (double)sum->total.ru_majflt);
	bench_extra("voluntary_switches", (double)sum->total.ru_nvcsw);
	bench_extra("involuntary_switches", (double)sum->total.ru_nivcsw);
}

/* ---- objects ------------------------------------------------------------------------------ */

struct mix mix_make(uint64_t seed)
{
	return (struct mix){
		.sizes = sizes_make((uint32_t)param("min"), (uint32_t)param("max"), 23),
		.large = (uint32_t)param("large"),
		.seed = seed,
	};
}

struct object *objects_make(struct recorder *r, uint32_t live, struct mix *m)
{
	struct object *objects = bench_map(live * sizeof(*objects));

	for (uint32_t i = 0; i < live; i++) {
		objects[i].size = mix_size(m);
		objects[i].block = r->take(objects[i].size);
	}
	for (uint64_t i = 0; i < WARM * (uint64_t)live; i++)
		replace(r, objects, live, m);
	return objects;
}
