/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Many threads that need the same resource at the same moment.
 *
 *	storm start THREADS WAVES     all begin to allocate at once, and end; repeated WAVES times
 *	storm one THREADS WAVES       the same on one processor
 *	storm big THREADS             each allocates and frees 3,000,000 bytes repeatedly
 *	storm miss THREADS            each fills and empties its pcp repeatedly
 *
 * big and miss measure no time, they count the context switches for 1,000 operations. A lock that
 * is passed directly to a sleeping waiter costs one or two for each operation; a lock that any
 * running thread can take costs almost none.
 */
#include "lib/check.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <time.h>

enum {
	BLOCKS = 32,
	STACK = 128 << 10,
	BIG = 3000000,
	MISS = 65536,      /* bytes of a run */
	MISS_RUNS = 128,   /* 8 MiB: more than a pcp takes */
	CPU_S = 1,         /* of processor time of the whole program, for a count */
	SWITCHES_MAX = 50, /* for 1,000 operations */
};

static unsigned threads, waves;
static pthread_t *thread;
static pthread_barrier_t gate;
static _Atomic unsigned long failed, broken, done;
static _Atomic bool over;

/* A few sizes of each kind: cache bins, slabs, pages. */
static size_t size_of(uint64_t r)
{
	return 16 + (r >> 8) % (r % 32 == 0 ? 40000 : r % 4 == 0 ? 4000 : 400);
}

static void *works_briefly(void *arg)
{
	uint64_t random = (uintptr_t)arg | 1;
	unsigned char *p[BLOCKS];
	size_t n[BLOCKS];

	pthread_barrier_wait(&gate);
	for (unsigned i = 0; i < BLOCKS; i++) {
		n[i] = size_of(helper_random(&random));
		p[i] = malloc(n[i]);
		if (p[i] == NULL)
			failed++;
		else
			helper_fill(p[i], n[i], (uintptr_t)p[i]);
	}
	for (unsigned i = 0; i < BLOCKS; i++) {
		if (p[i] != NULL && helper_verify(p[i], n[i], (uintptr_t)p[i]) != n[i])
			broken++;
		free(p[i]);
	}
	return NULL;
}

static void *takes_big_blocks(void *arg)
{
	unsigned long n = 0;

	pthread_barrier_wait(&gate);
	for (; !atomic_load(&over); n++) {
		void *volatile p = malloc(BIG);

		failed += p == NULL;
		free(p);
	}
	done += n;
	return arg;
}

static void *misses_its_cache(void *arg)
{
	void *p[MISS_RUNS];
	unsigned long n = 0;

	pthread_barrier_wait(&gate);
	for (; !atomic_load(&over); n += MISS_RUNS) {
		for (unsigned i = 0; i < MISS_RUNS; i++) {
			p[i] = malloc(MISS);
			failed += p[i] == NULL;
		}
		for (unsigned i = 0; i < MISS_RUNS; i++)
			free(p[i]);
	}
	done += n;
	return arg;
}

/* Makes as many threads as the machine allows; its limit is not what is tested. */
static void start_all(void *(*f)(void *), unsigned number)
{
	pthread_attr_t attr;

	pthread_barrier_init(&gate, NULL, threads + 1);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK);
	for (unsigned i = 0; i < threads; i++) {
		int err = pthread_create(&thread[i], &attr, f,
					 (void *)((uintptr_t)number * 1000003 + i * 2 + 1));

		if (err != 0) {
			helper_say("thread %u: %s", i, strerror(err));
			_exit(77);
		}
	}
	pthread_attr_destroy(&attr);
}

static void join_all(void)
{
	for (unsigned i = 0; i < threads; i++)
		pthread_join(thread[i], NULL);
	pthread_barrier_destroy(&gate);
}

static void storm(bool on_one)
{
	cpu_set_t set;

	if (on_one) {
		int cpu = sched_getcpu();

		CPU_ZERO(&set);
		CPU_SET(cpu < 0 ? 0 : (unsigned)cpu, &set);
		CHECK(sched_setaffinity(0, sizeof set, &set) == 0, "errno %d", errno);
	}
	for (unsigned i = 0; i < waves; i++) {
		start_all(works_briefly, i);
		pthread_barrier_wait(&gate);
		join_all();
	}
	CHECK(failed == 0, "%lu calls failed", failed);
	CHECK(broken == 0, "%lu blocks were changed", broken);
}

static unsigned long switches(void)
{
	struct rusage use;

	getrusage(RUSAGE_SELF, &use);
	return (unsigned long)(use.ru_nvcsw + use.ru_nivcsw);
}

/* Counts for CPU_S of processor time, whatever else the machine does. */
static void count_switches(void *(*f)(void *))
{
	struct timespec used = { 0 };
	unsigned long n;

	start_all(f, 1);
	n = switches();
	pthread_barrier_wait(&gate);
	for (time_t since = 0; since < CPU_S; since = used.tv_sec) {
		usleep(20000);
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
	}
	atomic_store(&over, true);
	join_all();
	n = switches() - n;
	fprintf(stderr, "%lu switches for %lu operations\n", n, done);
	CHECK(failed == 0, "%lu calls failed", failed);
	CHECK(done > 0 && n <= done * SWITCHES_MAX / 1000, "%lu switches for %lu operations", n,
	      done);
}

int main(int argc, char **argv)
{
	const char *what = argc > 2 ? argv[1] : "";

	threads = argc > 2 ? (unsigned)atoi(argv[2]) : 0;
	waves = argc > 3 ? (unsigned)atoi(argv[3]) : 1;
	thread = calloc(threads, sizeof *thread);
	if (thread == NULL || threads == 0)
		return 2;
	if (strcmp(what, "start") == 0 || strcmp(what, "one") == 0)
		storm(strcmp(what, "one") == 0);
	else if (strcmp(what, "big") == 0)
		count_switches(takes_big_blocks);
	else if (strcmp(what, "miss") == 0)
		count_switches(misses_its_cache);
	else
		return 2;
	return helper_end();
}
