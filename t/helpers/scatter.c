/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * scatter wait|busy|trim|stats|blocks [OBJECTS [SECONDS [PERCENT]]]: scattered survivors. Allocates
 * objects of 512 bytes, 1 KiB and 2 KiB alternately and frees all except one in twenty, chosen at
 * random. Then:
 *   wait    the process, with two threads, sleeps for SECONDS or until at most PERCENT of its peak
 *           is left
 *   busy    the same, but it allocates and frees objects of another size every 300 ms
 *   trim    one thread calls malloc_trim
 *   stats   as trim, and then malloc_stats and malloc_info
 *   blocks  one thread allocates as many bytes as were freed, in blocks of 1 MiB
 *
 * Prints KiB of RSS above the floor at the peak, after that, and when all objects exist again; and
 * how many bytes of live objects had changed at any time.
 */
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/statm.h"

#define KEEP_ONE_IN 20

static unsigned char **object;
static unsigned long count;
static long floor_kib;

static size_t size_of(unsigned long i)
{
	return (size_t)512 << (i % 3);
}

static void fill(void)
{
	for (unsigned long i = 0; i < count; i++) {
		if (object[i] != NULL)
			continue;
		object[i] = malloc(size_of(i));
		if (object[i] == NULL)
			abort();
		memset(object[i], (int)(i % 251), size_of(i));
	}
}

static void thin_out(void)
{
	uint64_t seed = 1;

	for (unsigned long i = 0; i < count; i++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		if ((seed >> 33) % KEEP_ONE_IN == 0)
			continue;
		free(object[i]);
		object[i] = NULL;
	}
}

static unsigned long changed(void)
{
	unsigned long n = 0;

	for (unsigned long i = 0; i < count; i++)
		for (size_t k = 0; object[i] != NULL && k < size_of(i); k++)
			n += object[i][k] != i % 251;
	return n;
}

static void take_blocks(void)
{
	size_t freed = 0;

	for (unsigned long i = 0; i < count; i++)
		freed += object[i] == NULL ? size_of(i) : 0;
	for (; freed >= (1 << 20); freed -= 1 << 20) {
		void *p = malloc(1 << 20);

		if (p == NULL)
			abort();
		memset(p, 1, 1 << 20);
	}
}

/* ms: the longest wait; most: KiB that end it */
static void rest_for(long ms, long most, bool busy)
{
	long pause = busy ? 300 : 100;

	for (; ms > 0 && statm_rss_kib() - floor_kib > most; ms -= pause) {
		for (unsigned k = 0; busy && k < 100; k++) {
			void *volatile p = malloc(64 + k);

			free(p);
		}
		usleep((unsigned)pause * 1000);
	}
}

static void *sleeper(void *arg)
{
	for (;;)
		pause();
	return arg;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	bool busy = strcmp(what, "busy") == 0;
	bool wait = busy || strcmp(what, "wait") == 0;
	bool stats = strcmp(what, "stats") == 0;
	bool blocks = strcmp(what, "blocks") == 0;
	long seconds = argc > 3 ? atol(argv[3]) : 10;
	long percent = argc > 4 ? atol(argv[4]) : -1;
	unsigned long wrong;
	pthread_t t;
	long peak;
	long rest;

	if (!wait && !stats && !blocks && strcmp(what, "trim") != 0) {
		fprintf(stderr, "usage: scatter wait|busy|trim|stats|blocks [OBJECTS [SECONDS "
				"[PERCENT]]]\n");
		return 2;
	}
	count = argc > 2 ? strtoul(argv[2], NULL, 10) : 300000;
	/* Mapped, so that the list itself is not the allocator's. */
	object = mmap(NULL, count * sizeof(*object), PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (object == MAP_FAILED || (wait && pthread_create(&t, NULL, sleeper, NULL) != 0))
		return 1;
	floor_kib = statm_rss_kib();
	fill();
	peak = statm_rss_kib() - floor_kib;
	thin_out();
	if (wait)
		rest_for(seconds * 1000, peak * percent / 100, busy);
	else if (blocks)
		take_blocks();
	else
		malloc_trim(0);
	rest = statm_rss_kib() - floor_kib;
	if (stats) {
		malloc_stats();
		malloc_info(0, stdout);
	}
	wrong = changed();
	if (!blocks) {
		fill();
		wrong += changed();
	}
	printf("peak %ld rest %ld again %ld changed %lu\n", peak, rest, statm_rss_kib() - floor_kib,
	       wrong);
	return 0;
}
