/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What one thread can take back from all others. The library's own functions are looked up by name.
 *
 * usage: drain sleepers   64 threads fill their pcps and sleep in read(2) or on a futex
 *        drain trim       the same, given back by malloc_trim(0)
 *        drain busy       drains while four threads allocate and free
 *        drain disable    no page enters a pcp while the pcps are disabled; regions are unmapped
 *        drain bulk       requests more page blocks than exist (the script sets a limit)
 *
 * In "sleepers" two write(2) calls to descriptor -1 mark the drain for strace.
 */
#include "lib/check.h"
#include "lib/statm.h"

#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <semaphore.h>
#include <sluice/sluice.h>
#include <stdatomic.h>
#include <sys/syscall.h>

static struct {
	int (*drain)(unsigned, struct sluice_drain_report *);
	int (*pcp_disable)(void);
	void (*pcp_enable)(void);
	size_t (*page_size)(void);
	size_t (*alloc_bulk)(unsigned, size_t, void **);
	void (*free_bulk)(unsigned, size_t, void *const *);
	size_t (*alloc_list)(unsigned, size_t, struct sluice_page_list *);
	void (*free_list)(unsigned, struct sluice_page_list *);
	int (*stat)(const char *, uint64_t *);
} S;

static const struct {
	const char *name;
	void *slot;
} names[] = {
	{ "sluice_drain", &S.drain },
	{ "sluice_pcp_disable", &S.pcp_disable },
	{ "sluice_pcp_enable", &S.pcp_enable },
	{ "sluice_page_size", &S.page_size },
	{ "sluice_page_alloc_bulk", &S.alloc_bulk },
	{ "sluice_page_free_bulk", &S.free_bulk },
	{ "sluice_page_alloc_bulk_list", &S.alloc_list },
	{ "sluice_page_free_bulk_list", &S.free_list },
	{ "sluice_stat", &S.stat },
};

static uint64_t stat_of(const char *name)
{
	uint64_t v = 0;

	CHECK(S.stat(name, &v) == 0, "sluice_stat(%s)", name);
	return v;
}

/* ---- threads that have cached pages and then sleep ------------------------------------------- */

enum { SLEEPERS = 64, BLOCKS = 24 };

static pthread_t sleeper[SLEEPERS];
static long sleeper_tid[SLEEPERS];
static int wake_pipe[2];
static sem_t wake_sem, asleep;
static pthread_barrier_t peak;

static size_t least_kib = 16; /* blocks up to 32 KiB are in slabs, larger ones are not */

/* Blocks of up to 512 KiB, touched and freed by their owner. */
static void fill_cache(uint64_t seed)
{
	void *p[BLOCKS];

	for (int i = 0; i < BLOCKS; i++) {
		size_t n = (least_kib + helper_random(&seed) % (513 - least_kib)) * 1024;
		p[i] = malloc(n);
		CHECK(p[i] != NULL, "malloc(%zu)", n);
		if (p[i] != NULL)
			memset(p[i], 1, n);
	}
	/* all hold their blocks at the same time, so that no thread reuses what another one
	 * freed */
	pthread_barrier_wait(&peak);
	for (int i = 0; i < BLOCKS; i++)
		free(p[i]);
}

static void *sleeps(void *arg)
{
	intptr_t number = (intptr_t)arg;
	char c;

	sleeper_tid[number] = syscall(SYS_gettid);
	fill_cache((uint64_t)number * 1000 + 1);
	sem_post(&asleep);
	if (number % 2 == 0) {
		if (read(wake_pipe[0], &c, 1) != 1)
			abort();
	} else {
		while (sem_wait(&wake_sem) != 0)
			;
	}
	/* allocation continues */
	for (size_t n = 1; n < 300000; n = n * 2 + 3) {
		unsigned char *p = calloc(1, n);
		CHECK(p != NULL && p[0] == 0 && p[n - 1] == 0, "calloc(%zu) after the drain", n);
		free(p);
	}
	return NULL;
}

static void sleepers_start(void)
{
	if (pipe(wake_pipe) != 0)
		abort();
	sem_init(&wake_sem, 0, 0);
	sem_init(&asleep, 0, 0);
	pthread_barrier_init(&peak, NULL, SLEEPERS);
	for (intptr_t i = 0; i < SLEEPERS; i++)
		if (pthread_create(&sleeper[i], NULL, sleeps, (void *)i) != 0)
			abort();
	for (int i = 0; i < SLEEPERS; i++)
		while (sem_wait(&asleep) != 0)
			;
	/* The time from the post to the system call in which they sleep. */
	for (int i = 0; i < SLEEPERS; i++)
		CHECK(helper_wait_asleep(sleeper_tid[i]), "thread %d does not fall asleep", i);
}

static void sleepers_end(void)
{
	for (int i = 0; i < SLEEPERS; i++) {
		if (write(wake_pipe[1], "w", 1) != 1)
			abort();
		sem_post(&wake_sem);
	}
	for (int i = 0; i < SLEEPERS; i++)
		pthread_join(sleeper[i], NULL);
}

/* A system call whose only effect is a line in strace's output. */
static void mark(const char *text)
{
	if (write(-1, text, strlen(text)) >= 0)
		abort();
}

static int sleepers(void)
{
	struct sluice_drain_report r;
	long before = helper_rss_kib();

	memset(&r, 0xEE, sizeof r);
	sleepers_start();
	long peak_rss = statm_rss_kib();
	uint64_t cached = stat_of("pcp_bytes");
	CHECK(cached >= (uint64_t)SLEEPERS * 128 * 1024, "only %lu bytes are in the caches",
	      cached);
	mark("drain begins");
	int e = S.drain(SLUICE_DRAIN_CACHES | SLUICE_DRAIN_PURGE, &r);
	mark("drain ends");
	uint64_t left = stat_of("pcp_bytes");
	struct sluice_drain_report heaps;
	CHECK(S.drain(SLUICE_DRAIN_IDLE | SLUICE_DRAIN_PURGE, &heaps) == 0, "the second drain");
	long after = helper_rss_kib();
	CHECK(e == 0, "sluice_drain = %d", e);
	CHECK(left == 0, "%lu of %lu bytes are still in the caches", left, cached);
	CHECK(r.caches_reached >= SLEEPERS, "%lu caches reached", r.caches_reached);
	CHECK(r.caches_skipped == 0, "%lu caches skipped", r.caches_skipped);
	CHECK(r.bytes_drained >= cached, "%lu bytes drained of %lu", r.bytes_drained, cached);
	CHECK(r.bytes_purged >= cached, "%lu bytes purged", r.bytes_purged);
	CHECK(r.time_ns > 0, "it took no time");
	CHECK(after - before < 16 * 1024, "RSS %ld KiB before, %ld with all asleep, %ld after",
	      before, peak_rss, after);
	fprintf(stderr,
		"cached %lu KiB, drained %lu KiB, purged %lu KiB in %lu us, RSS %ld -> %ld KiB\n",
		cached >> 10, r.bytes_drained >> 10, r.bytes_purged >> 10, r.time_ns / 1000,
		peak_rss, after);
	CHECK(S.drain(1u << 20, &r) == -1 && errno == EINVAL, "a flag that does not exist");
	CHECK(S.drain(0, NULL) == 0, "a drain without a report");
	sleepers_end();
	return helper_end();
}

static int trim(void)
{
	long before = helper_rss_kib();

	sleepers_start();
	long peak_rss = statm_rss_kib();
	int r = malloc_trim(0);
	int again = malloc_trim(0);
	long after = helper_rss_kib();
	CHECK(r == 1, "malloc_trim(0) = %d", r);
	CHECK(after - before < 16 * 1024, "RSS %ld KiB before, %ld with all asleep, %ld after",
	      before, peak_rss, after);
	CHECK(again == 0, "a second malloc_trim found something");
	sleepers_end();
	return helper_end();
}

/* ---- drains while threads allocate ----------------------------------------------------------- */

enum { BUSY = 4, LIVE = 64 };
static _Atomic int over;
static _Atomic(unsigned char *) passed[LIVE];

static void *busy(void *arg)
{
	uint64_t seed = (uint64_t)(intptr_t)arg;

	while (!over) {
		uint64_t r = helper_random(&seed);
		size_t n = 64 + (r & 3 ? r / 4 % 60000 : r / 4 % 600000);
		unsigned char *p = r >> 63 ? malloc(n) : calloc(1, n);

		CHECK(p != NULL, "%zu bytes", n);
		if (p == NULL)
			continue;
		memcpy(p, &n, sizeof n);
		p[8] = p[n / 2] = p[n - 1] = (unsigned char)n;
		p = atomic_exchange(&passed[(r >> 40) % LIVE], p);
		if (p == NULL)
			continue;
		memcpy(&n, p, sizeof n);
		CHECK(n < 700000 && p[n / 2] == (unsigned char)n && p[n - 1] == (unsigned char)n,
		      "a block of %zu was changed", n);
		free(p);
	}
	return NULL;
}

static int drain_busy(void)
{
	pthread_t t[BUSY];
	uint64_t drained = 0;

	for (intptr_t i = 0; i < BUSY; i++)
		if (pthread_create(&t[i], NULL, busy, (void *)(i + 1)) != 0)
			return 98;
	for (int i = 0; i < 150; i++) {
		struct sluice_drain_report r;
		unsigned flags = i % 3 == 0   ? SLUICE_DRAIN_CACHES
				 : i % 3 == 1 ? SLUICE_DRAIN_CACHES | SLUICE_DRAIN_PURGE
					      : SLUICE_DRAIN_CACHES | SLUICE_DRAIN_PURGE |
							SLUICE_DRAIN_REGIONS;

		CHECK(S.drain(flags, &r) == 0, "drain %d", i);
		drained += r.bytes_drained;
		if (i % 10 == 5 && S.pcp_disable() == 0) {
			usleep(1000);
			S.pcp_enable();
		}
		usleep(2000);
	}
	over = 1;
	for (int i = 0; i < BUSY; i++)
		pthread_join(t[i], NULL);
	for (int i = 0; i < LIVE; i++)
		free(passed[i]);
	CHECK(drained > 0, "nothing was ever drained");
	return helper_end();
}

/* ---- caches disabled ------------------------------------------------------------------------- */

static int disable(void)
{
	struct sluice_drain_report r;
	static void *p[3000];

	least_kib = 40; /* no sleeper's heap keeps a slab in a region */
	sleepers_start();
	/* a peak that needs regions of its own */
	for (int i = 0; i < 3000; i++) {
		p[i] = malloc(200000);
		if (p[i] != NULL)
			memset(p[i], 1, 200000);
	}
	for (int i = 0; i < 3000; i++)
		free(p[i]);
	uint64_t regions = stat_of("region_bytes");
	CHECK(regions >= 600000000, "region_bytes says %lu", regions);
	CHECK(stat_of("pcp_bytes") > 0, "nothing is in the caches");

	CHECK(S.pcp_disable() == 0, "sluice_pcp_disable: errno %d", errno);
	CHECK(S.drain(SLUICE_DRAIN_CACHES | SLUICE_DRAIN_PURGE | SLUICE_DRAIN_REGIONS, &r) == 0,
	      "drain");
	CHECK(stat_of("pcp_bytes") == 0, "%lu bytes are in the caches", stat_of("pcp_bytes"));
	CHECK(r.bytes_unmapped > 0, "%lu bytes unmapped", r.bytes_unmapped);
	CHECK(stat_of("region_bytes") <= 2 * (64 << 20), "of %lu bytes of regions %lu are left",
	      regions, stat_of("region_bytes"));
	/* 64 threads wake up, allocate, free and end; nothing may enter a cache */
	sleepers_end();
	for (int i = 0; i < 100; i++)
		p[i] = malloc(50000);
	for (int i = 0; i < 100; i++)
		free(p[i]);
	CHECK(stat_of("pcp_bytes") == 0, "%lu bytes entered the caches", stat_of("pcp_bytes"));
	/* calls nest */
	CHECK(S.pcp_disable() == 0, "a second sluice_pcp_disable");
	S.pcp_enable();
	free(malloc(100000));
	CHECK(stat_of("pcp_bytes") == 0, "enabled too early");
	S.pcp_enable();
	for (int i = 0; i < 10; i++)
		p[i] = malloc(100000);
	for (int i = 0; i < 10; i++)
		free(p[i]);
	CHECK(stat_of("pcp_bytes") > 0, "not enabled again");
	return helper_end();
}

/* ---- page blocks in bulk --------------------------------------------------------------------- */

static int by_address(const void *a, const void *b)
{
	uintptr_t x = (uintptr_t) * (void *const *)a, y = (uintptr_t) * (void *const *)b;

	return x < y ? -1 : x > y;
}

static size_t take_bulk(unsigned order, void **array, size_t n)
{
	static char untouched;
	size_t bytes = S.page_size() << order;

	for (size_t i = 0; i < n; i++)
		array[i] = &untouched;
	errno = 0;
	size_t got = S.alloc_bulk(order, n, array);
	CHECK(got == n || errno == ENOMEM, "errno %d", errno);
	for (size_t i = got; i < n; i++)
		CHECK(array[i] == &untouched, "element %zu of %zu was changed", i, got);
	qsort(array, got, sizeof *array, by_address);
	for (size_t i = 0; i < got; i++) {
		CHECK(((uintptr_t)array[i] & (bytes - 1)) == 0, "%p of order %u", array[i], order);
		CHECK(i == 0 || (uintptr_t)array[i] - (uintptr_t)array[i - 1] >= bytes,
		      "blocks overlap");
		*(uintptr_t *)array[i] = i;
	}
	for (size_t i = 0; i < got; i++)
		CHECK(*(uintptr_t *)array[i] == i, "a block changed");
	return got;
}

static int bulk(void)
{
	enum { MANY = 20000 };
	static void *array[MANY];

	for (unsigned order = 0; order < 6; order++) {
		size_t ask = order == 0 ? MANY : (size_t)MANY >> (order - 1);
		size_t first = take_bulk(order, array, ask);
		size_t bytes = first * (S.page_size() << order);

		CHECK(first < ask, "all %zu blocks of order %u were there", ask, order);
		CHECK(bytes >= 150 << 20, "only %zu bytes by blocks of order %u", bytes, order);
		S.free_bulk(order, first, array);
		size_t again = take_bulk(order, array, ask);
		CHECK(again == first, "%zu blocks of order %u, then %zu", first, order, again);
		S.free_bulk(order, again, array);
		struct sluice_page_list list = { NULL, 0 };
		size_t listed = S.alloc_list(order, ask, &list);
		CHECK(listed == first && list.count == first, "%zu blocks of order %u, listed %zu",
		      first, order, listed);
		S.free_list(order, &list);
		CHECK(list.count == 0 && list.first == NULL, "the list is not empty");
	}
	errno = 0;
	CHECK(S.alloc_bulk(60, 4, array) == 0 && errno == EINVAL, "order 60: errno %d", errno);
	void *p = malloc(50 << 20);
	CHECK(p != NULL, "malloc after it all");
	free(p);
	return helper_end();
}

static const struct {
	const char *name;
	int (*run)(void);
} cases[] = {
	{ "sleepers", sleepers }, { "trim", trim }, { "busy", drain_busy },
	{ "disable", disable },   { "bulk", bulk },
};

int main(int argc, char **argv)
{
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		*(void **)names[i].slot = dlsym(RTLD_DEFAULT, names[i].name);
		if (*(void **)names[i].slot == NULL) {
			helper_say("%s is missing", names[i].name);
			return 97;
		}
	}
	for (size_t i = 0; argc == 2 && i < sizeof cases / sizeof *cases; i++)
		if (strcmp(cases[i].name, argv[1]) == 0)
			return cases[i].run();
	fprintf(stderr, "usage: drain CASE\n");
	return 2;
}
