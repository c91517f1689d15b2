/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * drain.c - memory that goes back because the program asks for it: how long that takes, what it
 * costs other threads, and how many mappings remain.
 */
#include "pressure.h"

#include "../common/ticks.h"
#include "../common/hist.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct hoard *hoards;
static unsigned threads;
static uint64_t each;

static void hoards_make(uint64_t bytes_each)
{
	threads = (unsigned)param("threads");
	each = bytes_each;
	hoards = hoards_new(threads, each);
}

static void hoard_cycle(struct hoard *h)
{
	h->count = 0;
	h->bytes = 0;
	hoard_fill(h, each);
	hoard_free(h, 0, 1);
}

/* ---- one call against one madvise --------------------------------------------------------- */

static char *bare;

static void drain_thread(unsigned index)
{
	touch_pages(bare + index * each, each);
	crew_sync();
	crew_sync();
	hoard_fill(&hoards[index], each);
	crew_sync();
	crew_sync();
	hoard_free(&hoards[index], 0, 1);
	crew_sync();
}

static uint64_t thread_cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Wall time and CPU time of the calling thread since a point. */
struct span {
	uint64_t ns, cpu_ns;
};

static struct span span_begin(void)
{
	return (struct span){ .ns = clock_ns(), .cpu_ns = thread_cpu_ns() };
}

static struct span span_end(struct span begin)
{
	return (struct span){ .ns = clock_ns() - begin.ns,
			      .cpu_ns = thread_cpu_ns() - begin.cpu_ns };
}

/* Touched by the crew, each thread its part, so that its pages lie as those of an allocator. */
static struct span bare_madvise(void)
{
	struct span t;

	crew_sync();
	t = span_begin();
	madvise(bare, each * threads, MADV_DONTNEED);
	t = span_end(t);
	munmap(bare, each * threads);
	return t;
}

static void drain_one(void)
{
	give_back_function *give_back = give_back_find();
	uint64_t total = param("mib") << 20;
	struct span without, took;
	uint64_t before, after;
	double share;

	hoards_make(total / param("threads"));
	bare = mmap(NULL, each * threads, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		    0);
	if (bare == MAP_FAILED)
		bench_fail("cannot map %lu bytes", (unsigned long)(each * threads));
	crew_start(threads, drain_thread);
	without = bare_madvise();
	probe_start();
	event("floor", 0, threads);
	crew_sync();
	crew_sync();
	event("peak", total, threads);
	crew_sync();
	crew_sync();
	before = rss_kib();
	event("idle", 0, threads);
	took = span_begin();
	give_back();
	took = span_end(took);
	after = rss_kib();
	event("rest", 0, threads);
	bench_extra("drain_ns", (double)took.ns);
	bench_extra("drain_cpu_ns", (double)took.cpu_ns);
	bench_extra("barrier_ns", (double)give_back_barrier_ns());
	/* As many bytes as came back. */
	share = before > after ? (double)(before - after) * 1024 / (double)total : 0;
	bench_extra("madvise_ns", (double)without.ns * share);
	bench_extra("madvise_cpu_ns", (double)without.cpu_ns * share);
	bench_extra("back_kib", before > after ? (double)(before - after) : 0);
}

/* ---- m8-small-start: after a drain caches start small -------------------------------------- */

static _Atomic uint64_t before_ns, after_ns;

static void small_start_thread(unsigned index)
{
	struct hoard *h = &hoards[index];
	uint64_t t;

	crew_sync();
	for (unsigned i = 0; i < 3; i++)
		hoard_cycle(h);
	t = clock_ns();
	hoard_cycle(h);
	before_ns += clock_ns() - t;
	crew_sync();
	crew_sync();
	/* So little that a cache which starts small stays small. */
	for (unsigned i = 0; i < 8; i++)
		free(take(h->min + rng_below(&h->seed, h->max - h->min + 1)));
	crew_sync();
	crew_sync();
	t = clock_ns();
	hoard_cycle(h);
	after_ns += clock_ns() - t;
	crew_sync();
}

static void small_start(void)
{
	give_back_function *give_back = give_back_find();

	hoards_make(param("kib") << 10);
	crew_start(threads, small_start_thread);
	probe_start();
	event("floor", 0, threads);
	crew_sync();
	crew_sync();
	event("peak", 0, threads);
	give_back();
	event("idle", 0, threads);
	crew_sync();
	crew_sync();
	event("rest", 0, threads);
	crew_sync();
	crew_sync();
	bench_extra("before_ns", (double)before_ns);
	bench_extra("after_ns", (double)after_ns);
}

/* ---- l2-drains: what a drain costs a hot thread --------------------------------------------- */

enum { WITHOUT, WITH, RUNS };

static struct {
	struct hist hist[RUNS];
	long voluntary[RUNS], involuntary[RUNS];
	uint64_t ns[RUNS];
	unsigned signals; /* how many different ones, in all runs */
	_Atomic int run;  /* RUNS means end */
	atomic_bool ready, done;
} hot;

static void pin(unsigned core)
{
	cpu_set_t all, one;
	unsigned seen = 0;

	sched_getaffinity(0, sizeof(all), &all);
	CPU_ZERO(&one);
	for (unsigned c = 0; c < CPU_SETSIZE; c++) {
		if (CPU_ISSET(c, &all) && (seen++ == core || seen == (unsigned)CPU_COUNT(&all))) {
			CPU_SET(c, &one);
			break;
		}
	}
	sched_setaffinity(0, sizeof(one), &one);
}

static void hot_loop(int run)
{
	void *objects[64];
	struct hist *h = &hot.hist[run];
	uint64_t seed = 7;
	struct rusage before, after;
	uint64_t begin = clock_ns();

	getrusage(RUSAGE_THREAD, &before);
	while (atomic_load_explicit(&hot.run, memory_order_relaxed) == run) {
		for (unsigned i = 0; i < 64; i++) {
			size_t size = 16 + rng_below(&seed, 1008);
			uint64_t t = ticks();

			objects[i] = malloc(size);
			t = ticks() - t;
			hist_add(h, t);
		}
		for (unsigned i = 0; i < 64; i++) {
			uint64_t t = ticks();

			free(objects[i]);
			t = ticks() - t;
			hist_add(h, t);
		}
	}
	getrusage(RUSAGE_THREAD, &after);
	hot.ns[run] = clock_ns() - begin;
	hot.voluntary[run] = after.ru_nvcsw - before.ru_nvcsw;
	hot.involuntary[run] = after.ru_nivcsw - before.ru_nivcsw;
}

/* Blocks all signals, those of the C library too: a signal to this thread stays pending and is
 * counted. */
static void block_signals(void)
{
	uint64_t all = UINT64_MAX;

	syscall(SYS_rt_sigprocmask, SIG_BLOCK, &all, NULL, sizeof(all));
}

static unsigned pending_signals(void)
{
	char text[4096];
	int fd = open("/proc/thread-self/status", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	char *line;

	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = '\0';
	line = strstr(text, "\nSigPnd:");
	if (!line)
		bench_fail("/proc/thread-self/status: no SigPnd");
	return (unsigned)__builtin_popcountll(strtoull(line + 8, NULL, 16));
}

static void *hot_life(void *arg)
{
	(void)arg;
	pin(1);
	block_signals();
	hot.ready = true;
	hot_loop(WITHOUT);
	hot_loop(WITH);
	hot.signals = pending_signals();
	hot.done = true;
	return NULL;
}

static uint64_t drains;

static void sleeper_thread(unsigned index)
{
	crew_sync();
	for (uint64_t i = 0; i < 2 * drains; i++) {
		hoard_cycle(&hoards[index]);
		crew_sync();
		crew_sync();
	}
}

static void drains_run(void)
{
	give_back_function *give_back = give_back_find();
	uint64_t ticks0 = ticks();
	uint64_t ns0 = clock_ns();
	uint64_t floor_kib, spent = 0, left = 0, left_most = 0;
	pthread_t thread;
	double scale;

	pin(0);
	drains = param("drains");
	hoards_make(param("kib") << 10);
	crew_start(threads, sleeper_thread);
	event("floor", 0, threads);
	floor_kib = rss_kib();
	if (pthread_create(&thread, NULL, hot_life, NULL) != 0)
		bench_fail("cannot create a thread");
	while (!hot.ready)
		sleep_ms(1);
	crew_sync();
	for (uint64_t i = 0; i < 2 * drains; i++) {
		crew_sync();
		if (i == drains) {
			event("peak", 0, threads);
			event("idle", 0, threads);
			hot.run = WITH;
		}
		if (i >= drains) {
			uint64_t t = clock_ns();

			give_back();
			spent += clock_ns() - t;
			left += rss_kib();
			left_most = max_u64(left_most, rss_kib());
		}
		sleep_ms(5);
		crew_sync();
	}
	hot.run = RUNS;
	pthread_join(thread, NULL);
	event("rest", 0, threads);
	scale = (double)(clock_ns() - ns0) / (double)(ticks() - ticks0);
	bench_extra("without_p9999_ns", (double)hist_at(&hot.hist[WITHOUT], 0.9999) * scale);
	bench_extra("with_p9999_ns", (double)hist_at(&hot.hist[WITH], 0.9999) * scale);
	bench_extra("without_max_ns", (double)hot.hist[WITHOUT].max * scale);
	bench_extra("with_max_ns", (double)hot.hist[WITH].max * scale);
	bench_extra("without_voluntary", (double)hot.voluntary[WITHOUT]);
	bench_extra("with_voluntary", (double)hot.voluntary[WITH]);
	bench_extra("without_involuntary", (double)hot.involuntary[WITHOUT]);
	bench_extra("with_involuntary", (double)hot.involuntary[WITH]);
	bench_extra("signals", hot.signals);
	bench_extra("without_ms", (double)hot.ns[WITHOUT] / 1e6);
	bench_extra("with_ms", (double)hot.ns[WITH] / 1e6);
	bench_extra("drain_ns", (double)spent / (double)drains);
	/* RSS above the floor right after a drain: mean and maximum. */
	bench_extra("left_kib", (double)left / (double)drains - (double)floor_kib);
	bench_extra("left_most_kib", (double)left_most - (double)floor_kib);
}

/* ---- e3-maps: the number of mappings -------------------------------------------------------- */

static uint64_t rounds;

static void maps_thread(unsigned index)
{
	crew_sync();
	for (uint64_t i = 0; i < rounds; i++) {
		hoard_cycle(&hoards[index]);
		crew_sync();
		crew_sync();
	}
}

static unsigned long count_maps(void)
{
	char text[65536];
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	unsigned long lines = 0;
	ssize_t n;

	while (fd >= 0 && (n = read(fd, text, sizeof(text))) > 0) {
		for (ssize_t i = 0; i < n; i++)
			lines += text[i] == '\n';
	}
	close(fd);
	return lines;
}

static void maps(void)
{
	give_back_function *give_back = give_back_find();
	unsigned long start = 0;
	unsigned long most = 0;

	rounds = param("rounds");
	hoards_make(param("kib") << 10);
	crew_start(threads, maps_thread);
	probe_start();
	event("floor", 0, threads);
	crew_sync();
	event("peak", 0, threads);
	event("idle", 0, threads);
	for (uint64_t i = 0; i < rounds; i++) {
		crew_sync();
		give_back();
		if (i == 0)
			start = count_maps();
		if (i % 10 == 0 || i + 1 == rounds)
			most = max_u64(most, count_maps());
		crew_sync();
	}
	event("rest", 0, threads);
	bench_extra("maps_start", (double)start);
	bench_extra("maps_max", (double)most);
}

const struct workload drain_workloads[] = {
	{ "drain",
	  drain_one,
	  "what sleeping threads cache is given back by one call",
	  { { "threads", 64 }, { "mib", 1024 }, { "min", 16 }, { "max", 1024 }, { "probe", 0 } } },
	{ "small-start",
	  small_start,
	  "threads with full caches are drained, and then allocate a little",
	  { { "threads", 64 }, { "kib", 2048 }, { "min", 16 }, { "max", 4096 }, { "probe", 0 } } },
	{ "drains",
	  drains_run,
	  "a hot thread on a core of its own; drains of the others' caches",
	  {
		  { "threads", 60 },
		  { "kib", 256 },
		  { "min", 16 },
		  { "max", 1024 },
		  { "drains", 100 },
	  } },
	{ "maps",
	  maps,
	  "threads allocate and free, main gives all back, over and over",
	  { { "threads", 32 },
	    { "kib", 512 },
	    { "min", 4096 },
	    { "max", 131072 },
	    { "rounds", 1000 },
	    { "probe", 0 } } },
	{ 0 },
};
