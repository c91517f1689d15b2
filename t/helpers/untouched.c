/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * untouched CASE: how much a thread with short deadlines is affected when other threads give memory
 * back.
 *
 *   drain   sluice_drain gives back about 125 MiB, with slow calls to the kernel (SLUICE_DELAY has
 *           vm_purge). Meanwhile two threads continue: one with objects, one with blocks that no
 *           cache holds
 *   trim    the same by malloc_trim(0)
 *   steady  a thread has a steady working set; others are busy and then idle; SLUICE_CONF has short
 *           times: the thread gets no page fault and makes no system call
 */
#include "lib/check.h"

#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <sluice/sluice.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <time.h>

static int (*drain)(unsigned, struct sluice_drain_report *);
static int (*stat_by_name)(const char *, uint64_t *);

static uint64_t stat_of(const char *name)
{
	uint64_t v = 0;

	CHECK(stat_by_name(name, &v) == 0, "sluice_stat(%s)", name);
	return v;
}

static _Atomic bool over;

/* ---- beside a drain -------------------------------------------------------------------------- */

enum {
	FREED = 2000,
	FREED_BYTES = 65536,
	LIVE = 500,
	BLOCK = 5000000,
	PURGES = 1000,
	PER_PURGE = 10
};

/* Calls that ended after the nth purge began and before the next one. */
struct progress {
	_Atomic unsigned long all;
	unsigned beside[PURGES];
};

static struct progress objects;
static struct progress blocks;
static _Atomic bool measuring;
static uint64_t purges_before;

static void called(struct progress *p)
{
	uint64_t n;

	atomic_fetch_add_explicit(&p->all, 1, memory_order_relaxed);
	if (!measuring || stat_by_name("purge_calls", &n) != 0)
		return;
	n -= purges_before;
	if (n > 0 && n < PURGES)
		p->beside[n]++;
}

static unsigned purges_beside(const struct progress *p, uint64_t purges)
{
	unsigned n = 0;

	for (unsigned i = 1; i < PURGES && i <= purges; i++)
		n += p->beside[i] >= PER_PURGE;
	return n;
}

static void *use_objects(void *arg)
{
	void *p[LIVE] = { NULL };
	uint64_t seed = 5;

	(void)arg;
	while (!over) {
		uint64_t r = helper_random(&seed);

		free(p[r % LIVE]);
		p[r % LIVE] = malloc(16 + (r >> 32) % 30000);
		CHECK(p[r % LIVE] != NULL, "no memory");
		called(&objects);
	}
	for (unsigned i = 0; i < LIVE; i++)
		free(p[i]);
	return NULL;
}

/* Each block takes the lock of the buddy core twice. */
static void *use_blocks(void *arg)
{
	(void)arg;
	while (!over) {
		void *p = malloc(BLOCK);

		CHECK(p != NULL, "no memory");
		free(p);
		called(&blocks);
	}
	return NULL;
}

static int beside(bool trim)
{
	static void *p[FREED];
	pthread_t t[2];

	for (unsigned i = 0; i < FREED; i++) {
		p[i] = malloc(FREED_BYTES);
		if (p[i] == NULL)
			return 98;
		memset(p[i], 1, FREED_BYTES);
	}
	for (unsigned i = 0; i < FREED; i++)
		free(p[i]);
	if (pthread_create(&t[0], NULL, use_objects, NULL) != 0 ||
	    pthread_create(&t[1], NULL, use_blocks, NULL) != 0)
		return 98;
	while (objects.all < 1000 || blocks.all < 1000)
		usleep(1000);
	CHECK(drain(SLUICE_DRAIN_IDLE, NULL) == 0, "drain");
	uint64_t bytes = stat_of("purged_bytes");
	purges_before = stat_of("purge_calls");
	measuring = true;
	if (trim)
		CHECK(malloc_trim(0) == 1, "malloc_trim");
	else
		CHECK(drain(SLUICE_DRAIN_PURGE, NULL) == 0, "drain");
	measuring = false;
	uint64_t purges = stat_of("purge_calls") - purges_before;
	bytes = stat_of("purged_bytes") - bytes;
	over = true;
	pthread_join(t[0], NULL);
	pthread_join(t[1], NULL);
	unsigned by_objects = purges_beside(&objects, purges);
	unsigned by_blocks = purges_beside(&blocks, purges);
	CHECK(bytes > (uint64_t)FREED * FREED_BYTES / 4 * 3, "%lu bytes given back", bytes);
	CHECK(purges > 4 && purges < PURGES, "by %lu calls", purges);
	CHECK(by_objects * 2 > purges, "%u of %lu purges left others their objects", by_objects,
	      purges);
	CHECK(by_blocks * 2 > purges, "%u of %lu purges left others their blocks", by_blocks,
	      purges);
	fprintf(stderr, "%lu MiB in %lu purges; objects beside %u of them, blocks beside %u\n",
		bytes >> 20, purges, by_objects, by_blocks);
	return helper_end();
}

/* ---- steady state ---------------------------------------------------------------------------- */

enum {
	OBJECTS = 4000,
	BLOCKS = 16,
	NEIGHBOURS = 4,
	BATCH = 32,
	WARM = 20000,
	ROUNDS = 100000,
	STRETCH = 250,
	SPARED = WARM / STRETCH, /* it warms up again */
	COUNTED = 20,
	AWAY_MS = 8, /* of a global barrier at least: a heap whose mark is older may be aged */
	DRAINS = 24
};

static void *neighbour(void *arg)
{
	static __thread void *p[300];
	uint64_t seed = (uint64_t)(intptr_t)arg;

	while (!over) {
		for (unsigned i = 0; i < 300; i++) {
			size_t n = 16 + helper_random(&seed) % 3000;

			p[i] = malloc(n);
			if (p[i] != NULL)
				memset(p[i], 1, n);
		}
		for (unsigned i = 0; i < 300; i++)
			free(p[i]);
		usleep(300000);
	}
	return NULL;
}

/* An object keeps its class: the working set is steady, except for BATCH objects. */
static size_t size_at(unsigned i)
{
	return i < OBJECTS ? 16 + i * 7 % 2000 : 40000 + i % 4 * 8000;
}

static void replace(void **p, uint64_t *seed)
{
	unsigned at[BATCH];

	for (unsigned k = 0; k < BATCH; k++) {
		uint64_t r = helper_random(seed) >> 16;

		at[k] = (unsigned)(k ? r % OBJECTS : OBJECTS + r % BLOCKS);
		free(p[at[k]]);
		p[at[k]] = NULL;
	}
	/* The block last: what is free for long is what a drain gets. */
	for (unsigned k = BATCH; k-- > 0;) {
		void **o = &p[at[k]];

		if (*o != NULL)
			continue; /* the same object was drawn twice */
		*o = malloc(size_at(at[k]));
		if (*o == NULL)
			abort();
		memset(*o, 1, size_at(at[k]));
	}
}

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void mark(const char *text)
{
	if (write(-1, text, strlen(text)) >= 0)
		abort();
}

/*
 * A process that is about to grow asks all its threads first for what they cache (it then makes a
 * barrier by interrupt): what that costs the steady one does not count. Nor do the stretches in
 * which it lost its processor, and those after it was away for long: its heap may have been aged or
 * emptied. A stretch is shorter than the time that a loaded machine gives a thread at once.
 */
static int steady(void)
{
	static void *p[OBJECTS + BLOCKS];
	pthread_t t[NEIGHBOURS];
	struct rusage before;
	struct rusage after;
	double start;
	uint64_t asked;
	uint64_t seed = 1;
	unsigned rounds = 0;
	unsigned spared = 0;
	unsigned counted = 0;
	long faults = 0;

	for (intptr_t i = 0; i < NEIGHBOURS; i++)
		if (pthread_create(&t[i], NULL, neighbour, (void *)(i + 1)) != 0)
			return 98;
	for (unsigned i = 0; i < WARM; i++)
		replace(p, &seed);
	uint64_t heaps = stat_of("heaps_drained");
	mark("steady begins");
	start = now_ms();
	asked = stat_of("barriers_expedited");
	getrusage(RUSAGE_THREAD, &before);
	while ((rounds < ROUNDS || stat_of("heaps_drained") < heaps + DRAINS ||
		counted < COUNTED) &&
	       rounds < 1000u * ROUNDS) {
		for (unsigned i = 0; i < STRETCH; i++)
			replace(p, &seed);
		getrusage(RUSAGE_THREAD, &after);
		rounds += STRETCH;
		uint64_t asked_now = stat_of("barriers_expedited");
		double now = now_ms();
		if (spared)
			spared--;
		else if (asked_now == asked && after.ru_nivcsw == before.ru_nivcsw) {
			faults += after.ru_minflt - before.ru_minflt;
			counted++;
		}
		if (asked_now != asked || now - start > AWAY_MS)
			spared = SPARED;
		/* The next one begins where this one ended: it may have been away in between
		 * too. */
		asked = asked_now;
		start = now;
		before = after;
	}
	mark("steady ends");
	heaps = stat_of("heaps_drained") - heaps;
	over = true;
	for (unsigned i = 0; i < NEIGHBOURS; i++)
		pthread_join(t[i], NULL);
	CHECK(heaps >= DRAINS, "nobody gave anything back meanwhile");
	CHECK(counted >= COUNTED, "it lost its processor all the time");
	CHECK(faults == 0, "%ld page faults", faults);
	fprintf(stderr,
		"%u rounds, %ld page faults in %u stretches; %lu times a neighbour's heap was "
		"emptied\n",
		rounds, faults, counted, heaps);
	return helper_end();
}

int main(int argc, char **argv)
{
	*(void **)&drain = dlsym(RTLD_DEFAULT, "sluice_drain");
	*(void **)&stat_by_name = dlsym(RTLD_DEFAULT, "sluice_stat");
	if (drain == NULL || stat_by_name == NULL) {
		helper_say("not the library");
		return 97;
	}
	if (argc == 2 && strcmp(argv[1], "drain") == 0)
		return beside(false);
	if (argc == 2 && strcmp(argv[1], "trim") == 0)
		return beside(true);
	if (argc == 2 && strcmp(argv[1], "steady") == 0)
		return steady();
	fprintf(stderr, "usage: untouched drain|trim|steady\n");
	return 2;
}
