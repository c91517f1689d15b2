/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pressure.c - events, the crew, the probe and the hoards of sluice-pressure-work.
 */
#include "pressure.h"

#include "../common/ticks.h"
#include "../common/hist.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <sluice/sluice.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

const char bench_program[] = "sluice-pressure-work";

const struct workload *const bench_families[] = { idle_workloads, flow_workloads, drain_workloads,
						  eater_workloads, NULL };

static uint64_t clock_of(clockid_t clock)
{
	struct timespec ts;

	if (clock_gettime(clock, &ts) != 0)
		return 0;
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void sleep_ms(uint64_t ms)
{
	struct timespec ts = { .tv_sec = (time_t)(ms / 1000),
			       .tv_nsec = (long)(ms % 1000) * 1000000 };

	while (nanosleep(&ts, &ts) != 0 && errno == EINTR)
		;
}

uint64_t rss_kib(void)
{
	char text[128];
	int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	char *space;

	if (n <= 0)
		bench_fail("/proc/self/statm: %s", strerror(errno));
	close(fd);
	text[n] = '\0';
	space = strchr(text, ' ');
	return space ? strtoul(space, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE) / 1024 : 0;
}

/* Exact, from the page tables. /proc/self/statm may be off by some 100 KiB, because the kernel
 * counts the RSS per processor. */
static uint64_t rss_exact_kib(void)
{
	char text[2048];
	int fd = open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	char *rss;

	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = '\0';
	rss = strstr(text, "\nRss:");
	return rss ? strtoul(rss + 5, NULL, 10) : rss_kib();
}

/* ---- the probe ---------------------------------------------------------------------------- */

enum { BUSY, IDLE, PHASES };

/* phase: any thread, atomic. The rest: the probe's thread only, until it has ended. */
static struct {
	pthread_t thread;
	clockid_t clock;
	bool runs;
	atomic_bool stop;
	_Atomic unsigned phase;
	struct hist hist[PHASES];
	uint64_t ticks0, ns0;
} probe;

#define PROBE_OBJECTS 16u

static void *probe_life(void *arg)
{
	void *objects[PROBE_OBJECTS];
	uint64_t seed = 99;
	unsigned warm = 200;

	(void)arg;
	while (!atomic_load_explicit(&probe.stop, memory_order_relaxed)) {
		struct hist *h =
			&probe.hist[atomic_load_explicit(&probe.phase, memory_order_relaxed)];

		for (unsigned i = 0; i < PROBE_OBJECTS; i++) {
			size_t size = 16 + rng_below(&seed, 500);
			uint64_t t = ticks();

			objects[i] = malloc(size);
			t = ticks() - t;
			if (!warm)
				hist_add(h, t);
		}
		for (unsigned i = 0; i < PROBE_OBJECTS; i++) {
			uint64_t t = ticks();

			free(objects[i]);
			t = ticks() - t;
			if (!warm)
				hist_add(h, t);
		}
		if (warm)
			warm--;
		else
			usleep(200);
	}
	return NULL;
}

void probe_start(void)
{
	if (!param("probe"))
		return;
	probe.ticks0 = ticks();
	probe.ns0 = clock_ns();
	if (pthread_create(&probe.thread, NULL, probe_life, NULL) != 0 ||
	    pthread_getcpuclockid(probe.thread, &probe.clock) != 0)
		bench_fail("cannot create the probe's thread");
	probe.runs = true;
}

static uint64_t probe_cpu_ns(void)
{
	return probe.runs ? clock_of(probe.clock) : 0;
}

static void probe_end(void)
{
	static const char *const names[PHASES][2] = { { "busy_p9999_ns", "busy_max_ns" },
						      { "idle_p9999_ns", "idle_max_ns" } };
	double scale;

	if (!probe.runs)
		return;
	atomic_store_explicit(&probe.stop, true, memory_order_relaxed);
	pthread_join(probe.thread, NULL);
	probe.runs = false;
	scale = (double)(clock_ns() - probe.ns0) / (double)(ticks() - probe.ticks0);
	for (unsigned p = 0; p < PHASES; p++) {
		bench_extra(names[p][0], (double)hist_at(&probe.hist[p], 0.9999) * scale);
		bench_extra(names[p][1], (double)probe.hist[p].max * scale);
	}
}

/* ---- events ------------------------------------------------------------------------------- */

void event(const char *name, uint64_t live, unsigned threads)
{
	bool exact = strcmp(name, "floor") == 0 || strcmp(name, "rest") == 0;

	dprintf(STDOUT_FILENO,
		"{\"event\":\"%s\",\"at\":%lu,\"rss_kib\":%lu,\"cpu_ns\":%lu,\"probe_ns\":%lu,"
		"\"live\":%lu,\"threads\":%u}\n",
		name, (unsigned long)clock_ns(),
		(unsigned long)(exact ? rss_exact_kib() : rss_kib()),
		(unsigned long)clock_of(CLOCK_PROCESS_CPUTIME_ID), (unsigned long)probe_cpu_ns(),
		(unsigned long)live, threads);
	if (strcmp(name, "idle") == 0)
		atomic_store_explicit(&probe.phase, IDLE, memory_order_relaxed);
	else if (strcmp(name, "rest") == 0)
		probe_end();
}

/* ---- the crew ----------------------------------------------------------------------------- */

static struct {
	pthread_barrier_t barrier;
	void (*work)(unsigned index);
} crew;

static void *crew_life(void *arg)
{
	crew.work((unsigned)(uintptr_t)arg);
	for (;;)
		pause();
	return NULL;
}

void crew_start(unsigned n, void (*work)(unsigned index))
{
	pthread_attr_t attr;

	crew.work = work;
	pthread_barrier_init(&crew.barrier, NULL, n + 1);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 256 << 10);
	for (unsigned i = 0; i < n; i++) {
		pthread_t thread;

		if (pthread_create(&thread, &attr, crew_life, (void *)(uintptr_t)i) != 0)
			bench_fail("cannot create thread %u of %u", i + 1, n);
	}
}

void crew_sync(void)
{
	pthread_barrier_wait(&crew.barrier);
}

/* ---- giving memory back at once ----------------------------------------------------------- */

static uint64_t barrier_ns;
static int (*sluice_drain_found)(unsigned, struct sluice_drain_report *);
static int (*mallctl_found)(const char *, void *, size_t *, void *, size_t);
static void (*collect_found)(bool);
static void (*release_found)(void);

static void by_sluice(void)
{
	struct sluice_drain_report report;

	if (sluice_drain_found(0, &report) == 0)
		barrier_ns = report.barrier_ns;
}

/* 4096: all arenas (MALLCTL_ARENAS_ALL). */
static void by_jemalloc(void)
{
	mallctl_found("arena.4096.purge", NULL, NULL, NULL, 0);
}

static void by_mimalloc(void)
{
	collect_found(true);
}

static void by_tcmalloc(void)
{
	release_found();
}

static void by_trim(void)
{
#ifdef __GLIBC__ /* musl has no such function */
	malloc_trim(0);
#endif
}

/* dlsym returns a data pointer for a function. */
static bool find_function(const char *name, void *slot)
{
	void *p = dlsym(RTLD_DEFAULT, name);

	memcpy(slot, &p, sizeof(p));
	return p != NULL;
}

give_back_function *give_back_find(void)
{
	if (find_function("sluice_drain", &sluice_drain_found))
		return by_sluice;
	if (find_function("mallctl", &mallctl_found))
		return by_jemalloc;
	if (find_function("mi_collect", &collect_found))
		return by_mimalloc;
	if (find_function("MallocExtension_ReleaseFreeMemory", &release_found))
		return by_tcmalloc;
	return by_trim;
}

uint64_t give_back_barrier_ns(void)
{
	return barrier_ns;
}

/* ---- hoards ------------------------------------------------------------------------------- */

void hoard_init(struct hoard *h, uint64_t bytes, uint64_t min, uint64_t max, uint64_t seed)
{
	if (min == 0 || max < min || max > UINT32_MAX / 2)
		bench_usage("min=%lu max=%lu: valid are min from 1, max from min to 2147483647",
			    (unsigned long)min, (unsigned long)max);
	h->min = (uint32_t)min;
	h->max = (uint32_t)max;
	h->seed = seed;
	h->room = bytes / ((min + max) / 2) * 5 / 4 + 64;
	h->object = bench_map(h->room * sizeof(*h->object));
}

struct hoard *hoards_new(unsigned n, uint64_t bytes)
{
	struct hoard *hoards = bench_map(n * sizeof(*hoards));

	for (unsigned i = 0; i < n; i++)
		hoard_init(&hoards[i], bytes, param("min"), param("max"), i + 1);
	return hoards;
}

void hoard_fill(struct hoard *h, uint64_t bytes)
{
	while (h->bytes < bytes && h->count < h->room) {
		size_t size = h->min + rng_below(&h->seed, h->max - h->min + 1);
		void *p = malloc(size);

		if (!p)
			bench_fail("malloc(%zu): no memory", size);
		memset(p, 1, size);
		h->object[h->count++] = p;
		h->bytes += size;
	}
}

void hoard_free(struct hoard *h, size_t first, size_t step)
{
	for (size_t i = first; i < h->count; i += step)
		free(h->object[i]);
}
