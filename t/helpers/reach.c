/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * reach CASE [ROUNDS]: how much of the memory of all other threads a drain by one thread
 * reaches. The library's own functions are looked up by name.
 *
 *   hot         one thread runs a loop of malloc and free, 60 fill their caches and sleep; ROUNDS
 *               (100) drains
 *   background  the same, drained only by the library's own thread (SLUICE_CONF has short times)
 *   live        the same; the sleepers free nothing, so there is nothing to purge
 *   refused     a drain where membarrier is forbidden, with malloc_stats before and after it
 *   bulk        64 threads cache 256 MiB and sleep; one drain
 */
#include "lib/check.h"

#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <sluice/sluice.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>

#include "lib/barrier.h"

enum { SLEEPERS = 60, OBJECTS = 1200, ROOM = 256, TOUCHED = 1000, PATIENCE_MS = 60000 };

static int (*drain_threads)(unsigned, struct sluice_drain_report *, struct sluice_thread_drain *,
			    size_t *);
static int (*drain)(unsigned, struct sluice_drain_report *);
static int (*stat_by_name)(const char *, uint64_t *);

static uint64_t stat_of(const char *name)
{
	uint64_t v = 0;

	CHECK(stat_by_name(name, &v) == 0, "sluice_stat(%s)", name);
	return v;
}

/* ---- threads that are told what to do, and else sleep ---------------------------------------- */

struct sleeper {
	pthread_t thread;
	sem_t go;
	uint32_t tid;
	size_t count;
	void *p[OBJECTS];
};

static unsigned rounds = 100;
static struct sleeper sleeper[64];
static unsigned sleepers;
static sem_t done;
static pthread_barrier_t peak;
static void (*job)(struct sleeper *s);

static void wait_for(sem_t *s)
{
	while (sem_wait(s) != 0)
		;
}

static void *sleeps(void *arg)
{
	struct sleeper *s = arg;

	s->tid = (uint32_t)syscall(SYS_gettid);
	for (;;) {
		wait_for(&s->go);
		job(s);
		sem_post(&done);
	}
	return NULL;
}

static void sleepers_start(unsigned n)
{
	sem_init(&done, 0, 0);
	pthread_barrier_init(&peak, NULL, n);
	sleepers = n;
	for (unsigned i = 0; i < n; i++) {
		sem_init(&sleeper[i].go, 0, 0);
		if (pthread_create(&sleeper[i].thread, NULL, sleeps, &sleeper[i]) != 0)
			abort();
	}
}

static void all_do(void (*what)(struct sleeper *s))
{
	job = what;
	for (unsigned i = 0; i < sleepers; i++)
		sem_post(&sleeper[i].go);
	for (unsigned i = 0; i < sleepers; i++)
		wait_for(&done);
}

static void fill(struct sleeper *s)
{
	uint64_t seed = s->tid;

	for (s->count = 0; s->count < OBJECTS; s->count++) {
		size_t n = s->count % 2 ? TOUCHED : 16 + helper_random(&seed) % 2000;

		s->p[s->count] = malloc(n);
		CHECK(s->p[s->count] != NULL, "malloc(%zu)", n);
		if (s->p[s->count] != NULL)
			memset(s->p[s->count], 1, n);
	}
}

/* All threads hold their memory at the same time, because a growing thread takes what others
 * cache. */
static void cache(struct sleeper *s)
{
	fill(s);
	pthread_barrier_wait(&peak);
	while (s->count)
		free(s->p[--s->count]);
}

/* ---- a thread that never sleeps -------------------------------------------------------------- */

static _Atomic int over;
static _Atomic unsigned long hot_calls;
static uint32_t hot_tid;

static void pin(unsigned cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof set, &set); /* one processor is enough */
}

static void *hot(void *arg)
{
	void *p[16] = { NULL };

	(void)arg;
	pin(0);
	hot_tid = (uint32_t)syscall(SYS_gettid);
	for (unsigned i = 0; i < 1000; i++)
		free(malloc(i % 512));
	for (unsigned long i = 0; !over; i++) {
		free(p[i % 16]);
		p[i % 16] = malloc(16 + i % 512);
		atomic_store_explicit(&hot_calls, i, memory_order_relaxed);
	}
	for (unsigned i = 0; i < 16; i++)
		free(p[i]);
	return NULL;
}

struct switches {
	long voluntary;
	long involuntary;
};

static long number_after(const char *text, const char *key)
{
	const char *at = strstr(text, key);

	return at != NULL ? atol(at + strlen(key)) : -1;
}

static struct switches switches_of(uint32_t tid)
{
	static char text[4096];
	struct switches s;
	ssize_t n;
	int fd;

	snprintf(text, sizeof text, "/proc/self/task/%u/status", tid);
	fd = open(text, O_RDONLY | O_CLOEXEC);
	n = read(fd, text, sizeof text - 1);
	close(fd);
	text[n > 0 ? n : 0] = 0;
	s.voluntary = number_after(text, "\nvoluntary_ctxt_switches:");
	s.involuntary = number_after(text, "\nnonvoluntary_ctxt_switches:");
	CHECK(s.voluntary >= 0 && s.involuntary >= 0, "thread %u is not in /proc", tid);
	return s;
}

static void mark(const char *text)
{
	if (write(-1, text, strlen(text)) >= 0)
		abort();
}

static unsigned emptied(const struct sluice_thread_drain *t, size_t n, uint64_t *bytes)
{
	unsigned found = 0;

	for (size_t i = 0; i < n && i < ROOM; i++)
		for (unsigned k = 0; k < sleepers; k++)
			if (t[i].tid == sleeper[k].tid) {
				CHECK(t[i].state == SLUICE_THREAD_EMPTIED, "thread %u: state %u",
				      t[i].tid, t[i].state);
				found += t[i].bytes_cached > 0;
				*bytes += t[i].bytes_drained;
			}
	return found;
}

/* Bytes that are not in the buddy core; only the hot thread has live objects. */
static uint64_t held(void)
{
	return stat_of("slab_bytes") + stat_of("pcp_bytes");
}

static int case_hot(void)
{
	struct sluice_thread_drain list[ROOM];
	struct sluice_drain_report r;
	pthread_t t;
	uint64_t worst = 100;
	uint64_t asked = 0;
	uint32_t me = (uint32_t)syscall(SYS_gettid);
	long waited = 0;
	long away = 0;

	pin(1); /* the sleepers as well */
	sleepers_start(SLEEPERS);
	if (pthread_create(&t, NULL, hot, NULL) != 0)
		abort();
	while (hot_calls == 0)
		sched_yield();
	CHECK(drain(SLUICE_DRAIN_CACHES, NULL) == 0, "drain");
	uint64_t floor = held();
	mark("drains begin");
	for (unsigned i = 0; i < rounds; i++) {
		size_t n = ROOM;
		uint64_t bytes = 0;

		all_do(cache);
		uint64_t barriers = stat_of("barriers_expedited");
		uint64_t before = held();
		struct switches own = switches_of(me);
		struct switches its = switches_of(hot_tid);
		CHECK(drain_threads(0, &r, list, &n) == 0, "drain %u", i);
		struct switches its_after = switches_of(hot_tid);
		bool preempted = switches_of(me).involuntary != own.involuntary;
		bool stopped = its_after.involuntary != its.involuntary;
		uint64_t after = held();
		asked += stat_of("barriers_expedited") - barriers;
		CHECK(n >= SLEEPERS + 2, "%zu threads are listed", n);
		bool taken = false;
		for (size_t k = 0; k < n && k < ROOM; k++)
			taken |= list[k].tid == hot_tid && list[k].state == SLUICE_THREAD_EMPTIED;
		/* While other programs had the thread's processor, its heap was drained like a
		 * sleeper's. While they had ours it may have waited for a lock. */
		away += taken;
		waited += its_after.voluntary != its.voluntary && !taken && !preempted;
		unsigned found = emptied(list, n, &bytes);
		CHECK(found == SLEEPERS, "%u of the sleepers had something", found);
		CHECK(r.caches_skipped == 0 || stopped, "%lu pcps skipped", r.caches_skipped);
		CHECK(before > floor + (SLEEPERS << 16) && bytes > (SLEEPERS << 16),
		      "%lu bytes, of sleepers %lu", before - floor, bytes);
		uint64_t percent = (before - after) * 100 / (before - floor);
		worst = percent < worst ? percent : worst;
	}
	mark("drains end");
	over = 1;
	pthread_join(t, NULL);
	CHECK(worst >= 90, "a drain gave back %lu %% of what the owners could", worst);
	/* And a few more if the process grows meanwhile. */
	CHECK(asked >= rounds && asked <= rounds + rounds / 10, "%lu barriers for %u drains", asked,
	      rounds);
	CHECK(waited == 0, "the hot thread waited in %ld drains", waited);
	fprintf(stderr,
		"the worst of %u drains gave back %lu %%; %lu calls of the hot thread, away %ld\n",
		rounds, worst, hot_calls, away);
	return helper_end();
}

/* ---- nobody calls anything ------------------------------------------------------------------- */

/* Many slabs have room, so that no thread needs a new one to allocate an object. */
static void fill_most(struct sleeper *s)
{
	fill(s);
	for (size_t i = 1; i < s->count; i += 16)
		free(s->p[i]);
}

static void touch(struct sleeper *s)
{
	(void)s;
	pthread_barrier_wait(&peak);
	free(malloc(TOUCHED));
}

/* ms: the longest wait */
static uint64_t wait_drained(uint64_t from, unsigned heaps, unsigned ms)
{
	uint64_t n;

	while ((n = stat_of("heaps_drained") - from) < heaps && ms > 0) {
		usleep(10000);
		ms -= ms < 10 ? ms : 10;
	}
	return n;
}

static struct {
	uint64_t heaps;
	uint64_t global;
	uint64_t calls;
	uint64_t held;
} at_first;

/* Runs before the sleepers do anything: on a loaded machine the first one is idle for long when
 * the last is done. */
static void look_at_first(void)
{
	at_first.heaps = stat_of("heaps_drained");
	at_first.global = stat_of("barriers_global");
	at_first.calls = stat_of("purge_calls");
	at_first.held = held();
}

/* All freed memory is back at the kernel. */
static bool all_back(void)
{
	return held() < at_first.held + (1 << 20) && stat_of("purge_calls") > at_first.calls;
}

static int quietly(bool purges)
{
	uint64_t expedited = stat_of("barriers_expedited");

	mark("drains begin");
	uint64_t n = wait_drained(at_first.heaps, SLEEPERS, PATIENCE_MS);
	for (unsigned ms = 0; purges && !all_back() && ms < PATIENCE_MS; ms += 10)
		usleep(10000);
	usleep(200000);
	mark("drains end");
	CHECK(n >= SLEEPERS, "%lu of %u heaps were drained", n, SLEEPERS);
	CHECK(stat_of("barriers_global") > at_first.global, "no quiet barrier");
	CHECK(stat_of("barriers_expedited") == expedited, "%lu barriers by interrupt",
	      stat_of("barriers_expedited") - expedited);
	if (purges)
		CHECK(all_back(), "%lu bytes are held, %lu purges", held(),
		      stat_of("purge_calls") - at_first.calls);
	else
		CHECK(stat_of("purge_calls") == at_first.calls, "%lu purges",
		      stat_of("purge_calls") - at_first.calls);
	return helper_end();
}

static int case_background(void)
{
	sleepers_start(SLEEPERS);
	look_at_first();
	all_do(cache);
	return quietly(true);
}

static int case_live(void)
{
	sleepers_start(SLEEPERS);
	all_do(fill_most);
	/* Now no page is free and dirty; what they cache of slabs with live objects is no page. */
	CHECK(drain(0, NULL) == 0, "drain");
	look_at_first();
	all_do(touch);
	return quietly(false);
}

/* ---- much memory at once --------------------------------------------------------------------- */

enum { BULK_THREADS = 64, BULK_MIB = 256 };

static void bulk_fill(struct sleeper *s)
{
	size_t each = ((size_t)BULK_MIB << 20) / BULK_THREADS;
	size_t list = each / 16 * sizeof(void *);
	void **p = mmap(NULL, list, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint64_t seed = s->tid;
	size_t n = 0;

	if (p == MAP_FAILED)
		abort();
	for (size_t total = 0; total < each; n++) {
		size_t size = 16 + helper_random(&seed) % 1009;

		p[n] = malloc(size);
		if (p[n] == NULL)
			abort();
		memset(p[n], 1, size);
		total += size;
	}
	pthread_barrier_wait(&peak);
	while (n)
		free(p[--n]);
	munmap(p, list);
}

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int case_bulk(void)
{
	struct sluice_drain_report r;
	long floor = helper_rss_kib();

	sleepers_start(BULK_THREADS);
	all_do(bulk_fill);
	long before = helper_rss_kib();
	uint64_t calls = stat_of("purge_calls");
	CHECK(drain(0, &r) == 0, "drain");
	calls = stat_of("purge_calls") - calls;
	long after = helper_rss_kib();
	CHECK(before - floor >= BULK_MIB * 1024, "only %ld KiB were there", before - floor);
	CHECK(after - floor <= 24 * 1024, "%ld KiB are left of %ld", after - floor, before - floor);
	CHECK(r.heaps_skipped == 0 && r.heaps_emptied >= BULK_THREADS, "%lu heaps emptied, %lu not",
	      r.heaps_emptied, r.heaps_skipped);
	CHECK(calls << 20 <= r.bytes_purged, "%lu calls for %lu bytes", calls, r.bytes_purged);
	CHECK(r.barrier_ns < r.time_ns, "barrier %lu of %lu ns", r.barrier_ns, r.time_ns);

	char *bare = mmap(NULL, r.bytes_purged, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (bare == MAP_FAILED)
		abort();
	madvise(bare, r.bytes_purged, MADV_NOHUGEPAGE);
	memset(bare, 1, r.bytes_purged);
	double start = now_ms();
	madvise(bare, r.bytes_purged, MADV_DONTNEED);
	fprintf(stderr,
		"%lu MiB in %.1f ms, of which the barrier %.3f ms, %lu calls; one bare madvise "
		"%.1f ms\n",
		r.bytes_purged >> 20, (double)r.time_ns / 1e6, (double)r.barrier_ns / 1e6, calls,
		now_ms() - start);
	return helper_end();
}

/* ---- no membarrier --------------------------------------------------------------------------- */

static int case_refused(void)
{
	struct sluice_thread_drain list[ROOM];
	size_t n = ROOM;
	unsigned closed = 0;

	sleepers_start(SLEEPERS);
	all_do(cache);
	malloc_stats();
	if (!refuse_membarrier(true, EPERM))
		return 77;
	CHECK(drain_threads(0, NULL, list, &n) == 0, "drain");
	for (size_t i = 0; i < n && i < ROOM; i++)
		closed += list[i].state == SLUICE_THREAD_CLOSED;
	CHECK(closed >= SLEEPERS, "%u threads are said to be out of reach", closed);
	CHECK(stat_of("pcp_bytes") == 0, "%lu bytes are in pcps", stat_of("pcp_bytes"));
	CHECK(stat_of("membarrier_errno") == EPERM, "errno %lu", stat_of("membarrier_errno"));
	malloc_stats();
	return helper_end();
}

static const struct {
	const char *name;
	int (*run)(void);
} cases[] = {
	{ "hot", case_hot },   { "background", case_background }, { "live", case_live },
	{ "bulk", case_bulk }, { "refused", case_refused },
};

int main(int argc, char **argv)
{
	*(void **)&drain_threads = dlsym(RTLD_DEFAULT, "sluice_drain_threads");
	*(void **)&drain = dlsym(RTLD_DEFAULT, "sluice_drain");
	*(void **)&stat_by_name = dlsym(RTLD_DEFAULT, "sluice_stat");
	if (drain_threads == NULL || drain == NULL || stat_by_name == NULL) {
		helper_say("not the library");
		return 97;
	}
	if (argc == 3)
		rounds = (unsigned)atoi(argv[2]);
	for (size_t i = 0; argc >= 2 && i < sizeof cases / sizeof *cases; i++)
		if (strcmp(cases[i].name, argv[1]) == 0)
			return cases[i].run();
	fprintf(stderr, "usage: reach hot|background|live|bulk|refused [ROUNDS]\n");
	return 2;
}
